//! What is remembered of a peer, over all its links: how far each side got, and what became of
//! every frame.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::PeerClock;
use super::dropped::ALL;
use super::history::{Cursor, Entry};
use super::ring::{Budget, PROBE_WAIT};
use super::time::Instant;

/// A peer's place in its hub's table.
pub type PeerNumber = usize;

/// What became of a frame toward a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Outcome {
    /// The bus took it: its controller confirmed it.
    Sent,
    /// It was older than the limit before the bus could take it.
    Stale,
    /// The bus' owner does not let this peer send it.
    Refused,
    /// The interface cannot send such a frame: CAN FD on a classic one.
    Unsupported,
    /// The interface went away, down or bus-off with the frame in its hands.
    Failed,
    /// Nobody can tell: the confirmation was lost.
    Unconfirmed,
    /// The interface took it, and cannot confirm that it reached the bus: its driver has no echo.
    Taken,
}

impl Outcome {
    /// How many outcomes there are.
    pub const COUNT: usize = 7;
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Sent,
        Self::Stale,
        Self::Refused,
        Self::Unsupported,
        Self::Failed,
        Self::Unconfirmed,
        Self::Taken,
    ];

    /// Its name in counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
            Self::Unconfirmed => "unconfirmed",
            Self::Taken => "taken",
        }
    }

    /// Its place in an array of counters.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// One sentence for whoever sent the frame.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Sent => "it was sent",
            Self::Stale => {
                "it grew older than the bus' age limit while it waited; is the bus up and does another node acknowledge?"
            }
            Self::Refused => "the bus' owner does not let this peer send it",
            Self::Unsupported => {
                "the interface has no CAN FD; set its MTU to 72, or send a classic frame"
            }
            Self::Failed => "the interface went down, away or bus-off while it had the frame",
            Self::Unconfirmed => "no confirmation came; the frame may or may not have been sent",
            Self::Taken => {
                "the interface took it, but its driver cannot confirm that it reached the bus"
            }
        }
    }
}

/// How far a stream of frames from a history to a peer has come. Both sides keep it, and agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Position of the next frame.
    pub position: u64,
    /// Frames sent, since the two histories met.
    pub frames: u64,
    /// Frames overwritten before they could be sent.
    pub lost: u64,
    /// Frames older than the receiver's limit before they could be sent.
    pub stale: u64,
}

impl Progress {
    /// Frames meant for the peer up to here, whatever became of them.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.frames.saturating_add(self.lost).saturating_add(self.stale)
    }

    /// Whether such a stream can be: every frame meant for the peer has a position before this one.
    /// Holds for all that is kept, so that sums of what a peer said cannot overflow.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let others = self.lost.checked_add(self.stale);
        others.and_then(|sum| sum.checked_add(self.frames)).is_some_and(|sum| sum <= self.position)
    }

    /// Whether a peer can have said this after `earlier`.
    #[must_use]
    pub fn follows(&self, earlier: &Self) -> bool {
        let grown = |new: u64, old: u64| new >= old;
        grown(self.position, earlier.position)
            && self.frames == earlier.frames
            && grown(self.lost, earlier.lost)
            && grown(self.stale, earlier.stale)
    }
}

/// Counters of a finished stream and the current one together, as an operator reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames the stream carried.
    pub frames: u64,
    /// Frames overwritten in the history before they could be carried.
    pub lost: u64,
    /// What became of the frames; [`Outcome::Stale`] includes those that never left.
    pub done: [u64; Outcome::COUNT],
}

impl Counters {
    /// How many ended so.
    #[must_use]
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.done.get(outcome.index()).copied().unwrap_or(0)
    }

    /// Every frame accounted for.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        total(&self.done).saturating_add(self.lost)
    }

    pub(super) fn of_stream(progress: &Progress, done: &[u64; Outcome::COUNT]) -> Self {
        let mut counters = Self { frames: progress.frames, lost: progress.lost, done: *done };
        count(&mut counters.done, Outcome::Stale, progress.stale);
        counters
    }

    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.frames = self.frames.saturating_add(other.frames);
        self.lost = self.lost.saturating_add(other.lost);
        for outcome in Outcome::ALL {
            count(&mut self.done, outcome, other.of(outcome));
        }
        self
    }
}

pub(super) fn count(done: &mut [u64; Outcome::COUNT], outcome: Outcome, by: u64) {
    if let Some(counter) = done.get_mut(outcome.index()) {
        *counter = counter.saturating_add(by);
    }
}

/// All outcomes together; a peer may have said anything.
pub(super) fn total(done: &[u64; Outcome::COUNT]) -> u64 {
    done.iter().fold(0, |sum: u64, each| sum.saturating_add(*each))
}

/// The stream from a peer: its frames toward our bus.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inbound {
    /// Whether the peer ever said where its stream stands.
    pub(super) started: bool,
    pub(super) progress: Progress,
    pub(super) done: [u64; Outcome::COUNT],
    /// Of streams from the peer's earlier histories.
    pub(super) before: Counters,
}

/// Most that is added to the age of a frame. Chosen: 35 years, which no sum of a clock overflows by.
const UNCOUNTED_MAX_US: u64 = 1 << 50;

/// The time in which our own clock stood, as far as a peer cannot know it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uncounted {
    /// Frames before this position are older by that.
    before: u64,
    by_us: u64,
}

impl Uncounted {
    /// Our clock stood for so long after the frames before `before` were seen; those before `gone` are not sent any
    /// more.
    pub(super) fn add(&mut self, gone: u64, before: u64, stood: Duration) {
        let by_us = if self.before > gone { self.by_us } else { 0 };
        self.by_us = by_us.saturating_add(super::time::micros(stood)).min(UNCOUNTED_MAX_US);
        self.before = before;
    }

    /// By how much a frame is older than our clock says (microseconds).
    pub(super) fn of(&self, position: u64) -> u64 {
        if position < self.before { self.by_us } else { 0 }
    }
}

/// The stream to a peer: our bus' frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outbound {
    /// Whether the peer wants frames at all.
    pub(super) wanted: bool,
    pub(super) cursor: Cursor,
    /// Where the stream began, and the outcomes known by then.
    pub(super) begun: Progress,
    pub(super) begun_done: [u64; Outcome::COUNT],
    pub(super) progress: Progress,
    /// What the peer was told: [`Progress`] when the last `Start`, `Skip` or `Frames` was made.
    pub(super) told: Progress,
    pub(super) done: [u64; Outcome::COUNT],
    pub(super) window: u32,
    /// Whether frames were passed over and there may be more to pass over.
    pub(super) looks_on: bool,
    /// 0: no limit.
    pub(super) max_age_us: u64,
    /// What our own clock did not count of some frames' age.
    pub(super) uncounted: Uncounted,
    /// Frames meant for the peer before the oldest one the history holds, whatever became of them: the
    /// stream's [`Progress::wanted`] there. As of the last [`Peer::settle`], as are the next two.
    pub(super) dropped: u64,
    /// How many dropped frames had passed the peer's filters then; `None`: the stream begins later.
    pub(super) counted: Option<u64>,
    /// Dropped frames that did so since, and were the peer's own.
    pub(super) dropped_own: u64,
    /// Of streams to the peer's earlier histories.
    pub(super) before: Counters,
}

impl Outbound {
    /// Whether a frame is older than the peer's limit.
    pub(super) fn is_stale(&self, now: Instant, entry: &Entry) -> bool {
        let age_us = now.as_micros().saturating_sub(entry.seen().as_micros());
        let age_us = age_us.saturating_add(self.uncounted.of(entry.position));
        self.max_age_us > 0 && age_us > self.max_age_us
    }

    /// How far the wall clock was ahead of ours when a frame was seen, had ours never stood.
    pub(super) fn offset_us(&self, entry: &Entry) -> i64 {
        entry.offset_us.wrapping_add_unsigned(self.uncounted.of(entry.position))
    }

    /// Frames sent whose outcome is not known yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.progress.frames.saturating_sub(total(&self.done))
    }

    /// How many more frames the peer's window has room for.
    pub(super) fn room(&self) -> u64 {
        u64::from(self.window).saturating_sub(self.outstanding())
    }

    /// Begins a stream at `cursor`; `lost` frames that were meant for it came before.
    pub(super) fn begin(&mut self, cursor: Cursor, lost: u64) {
        let progress = Progress { position: cursor.position, lost, ..Progress::default() };
        self.begin_after(cursor, progress, [0; Outcome::COUNT]);
    }

    /// Begins a stream at `cursor` with the account of one before it.
    pub(super) fn begin_after(
        &mut self,
        cursor: Cursor,
        progress: Progress,
        done: [u64; Outcome::COUNT],
    ) {
        self.cursor = cursor;
        (self.begun, self.progress) = (progress, progress);
        (self.begun_done, self.done) = (done, done);
        self.dropped = progress.wanted();
        self.counted = None;
    }

    /// Closes the account with a receiver that is gone for good: nobody can tell what became of
    /// what it had not confirmed, and none of it is sent again.
    pub(super) fn receiver_lost(&mut self) {
        let open = self.outstanding();
        count(&mut self.done, Outcome::Unconfirmed, open);
        self.before = self.before.plus(&Counters::of_stream(&self.progress, &self.done));
        self.begin(self.cursor, 0);
    }
}

/// How the stream to a peer stood when a link came up, and what of that has ended since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CameUp {
    pub(super) progress: Progress,
    /// Where the history stood.
    pub(super) head: u64,
    /// Frames that waited then and do not any more.
    pub(super) passed: u64,
}

impl CameUp {
    /// A frame meant for the peer was carried or dropped.
    pub(super) fn passes(&mut self, position: u64) {
        self.passes_all(position, 1);
    }

    /// So many frames were, all before or all after the link came up.
    pub(super) fn passes_all(&mut self, position: u64, frames: u64) {
        self.passed += if position < self.head { frames } else { 0 };
    }
}

/// What is remembered of a peer, which is known by the id of its history. For [`Memory`](super::Memory) only.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its history's id; 0 while it never answered.
    pub(super) history: u64,
    /// Where our history stood when that id became known.
    pub(super) named: u64,
    /// The next record with the same history, round to the first; itself where there is no other.
    pub(super) next_name: u16,
    /// The link it has now.
    pub(super) link: Option<u32>,
    /// Whether we dial it: then its record is never given away.
    pub(super) dialled: bool,
    pub(super) last_used: Instant,
    /// Whether it may come back for what it has missed: it did not say goodbye, and wants frames.
    pub(super) may_resume: bool,
    /// The latest moment on its clock that we heard of (microseconds).
    pub(super) heard_us: u64,
    /// What its clock says in terms of ours, over all its links.
    pub(super) clock: PeerClock,
    /// Frames in our history before this position are not its own, whatever their origin says.
    pub(super) joined: u64,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    /// How often its history was a new one.
    pub(super) restarts: u64,
    pub(super) links: u64,
    /// Which of our frames it asks for: which of the hub's sets of filters.
    pub(super) filter_use: u16,
    /// Whether a frame of it was on our bus, or one of ours on its.
    carried: bool,
    /// Whether something else joins the two buses: a link was refused for it, and none carried frames since.
    pub(super) displaced: bool,
    /// How it stood when the last link came up.
    pub(super) came_up: CameUp,
    /// What its last greeting said of it.
    pub(super) features: u32,
    /// How long a new link waits to see that it closes no ring.
    pub(super) probe_wait: Duration,
    pub(super) probe_budget: Budget,
}

impl Peer {
    /// Whether this record and another are of one peer: it has two names, or dials us as well as we it. What came by
    /// the other at this position is then its own, too.
    pub(super) fn has_brought(&self, other: &Self, position: u64) -> bool {
        self.history != 0
            && self.history == other.history
            && position >= self.named.max(other.named)
    }

    /// Where the tail of the history must not pass before the peer is settled: where its stream begins, if that is
    /// to come, and where the history stood when its link came up.
    pub(super) fn marks(&self) -> (u64, u64) {
        let begins = self.outbound.begun.position;
        (if self.outbound.counted.is_none() { begins } else { 0 }, self.came_up.head)
    }

    /// Whether it ever sent a frame, or confirmed one of ours. Who only greets has not.
    pub(super) fn has_carried(&self) -> bool {
        self.carried
    }

    /// What became of frames either way was learnt on a link: what a greeting claims proves nothing.
    pub(super) fn note_carried(&mut self, outcome: Outcome) {
        self.carried |= matches!(outcome, Outcome::Sent | Outcome::Taken);
    }

    /// Whether its frames go another way, as far as we know, and there is no link that may take over.
    pub(super) fn is_standby(&self) -> bool {
        self.displaced && self.link.is_none()
    }

    pub(super) fn new(number: u16, now: Instant, joined: u64) -> Self {
        Self {
            history: 0,
            named: joined,
            next_name: number,
            link: None,
            dialled: false,
            last_used: now,
            may_resume: true,
            heard_us: 0,
            clock: PeerClock::default(),
            joined,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            restarts: 0,
            links: 0,
            filter_use: ALL,
            carried: false,
            displaced: false,
            came_up: CameUp::default(),
            features: 0,
            probe_wait: PROBE_WAIT,
            probe_budget: Budget::default(),
        }
    }
}
