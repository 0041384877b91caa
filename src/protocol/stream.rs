//! The streams of frames between a hub and its peers: what they carry, and the receipts that close
//! the account of every frame. Where they begin and go on is in the module `resume`.
//!
//! Both sides keep the same [`Progress`] of a stream; `Start` says where it stands on a new link.

use core::time::Duration;

use super::entry::{self, ENTRY_MAX};
use super::frame::Frame;
use super::history::Entry;
use super::hub::{Hub, Memory};
use super::peer::{Counters, Outcome, Progress, count};
use super::queue::{Done, Times};
use super::time::Instant;
use super::wire::{FRAMES_MAX, Message, Ping, Refusal, Skip};

/// Most frames looked at for one record, so that skipping a long past does not hold up the bus.
/// Chosen: about a tenth of a millisecond's work on a small board.
const LOOK_MAX: usize = 4096;
/// Most pairs of outcome and count in one receipt.
const RUNS_MAX: usize = 32;
/// From how old on a frame that comes counts as late, so that a virtual bus is given it at a slow pace.
/// Chosen: a sound link and a busy computer make less of it.
const ON_TIME: Duration = Duration::from_millis(100);
/// What may come to it for not knowing the clocks' difference better, which a long way is the cause of.
const DOUBT_MAX: Duration = Duration::from_millis(100);
/// Longest receipt: an outcome and a count of at most 65,535 each.
const RECEIPT_MAX: usize = RUNS_MAX * 4;

/// What the two ends of a link remember to keep stamps short: the last one sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamps {
    pub(super) last_us: u64,
    /// The clock offset that holds; none was sent before the first frame.
    pub(super) offset_us: Option<i64>,
}

impl<M: Memory> Hub<M> {
    /// A peer's link has ended. `for_good`: it said that it will not come back.
    pub(super) fn leave(&mut self, now: Instant, number: usize, link: u32, for_good: bool) {
        self.note_news();
        self.settle(number);
        let Some(peer) = self.peer_mut(number).filter(|peer| peer.link == Some(link)) else {
            return;
        };
        peer.link = None;
        peer.last_used = now;
        if for_good {
            peer.may_resume = false;
            peer.outbound.wanted &= peer.dialled;
            // It waited for what it sent as long as it cared to; nobody would know of it now.
            self.queue.clear_lane(number, Outcome::Failed);
        }
    }

    /// The peer says where its stream stands. Returns how many frames were lost or stale since
    /// we last heard.
    pub(super) fn started(&mut self, number: usize, start: Progress) -> Result<u64, Refusal> {
        if !start.is_possible() {
            return Err(Refusal::PROTOCOL);
        }
        let inbound = self.peer(number).ok_or(Refusal::FULL)?.inbound;
        if inbound.started && !start.follows(&inbound.progress) {
            self.restart_inbound(number);
        }
        self.goes_on(number, start.frames)?;
        let inbound = &mut self.peer_mut(number).ok_or(Refusal::FULL)?.inbound;
        let known = inbound.progress;
        if start.frames != known.frames {
            return Err(Refusal::PROTOCOL);
        }
        inbound.started = true;
        inbound.progress = start;
        Ok(start.wanted().saturating_sub(known.wanted()))
    }

    /// The peer's position moves without frames.
    pub(super) fn skipped(&mut self, number: usize, skip: &Skip) -> Result<(), Refusal> {
        let peer = self.peer_mut(number).ok_or(Refusal::FULL)?;
        let add = |a: u64, b: u64| a.checked_add(b).ok_or(Refusal::PROTOCOL);
        let progress = peer.inbound.progress;
        let progress = Progress {
            position: add(progress.position, skip.positions)?,
            frames: progress.frames,
            lost: add(progress.lost, skip.lost)?,
            stale: add(progress.stale, skip.stale)?,
        };
        if !progress.is_possible() {
            return Err(Refusal::PROTOCOL);
        }
        peer.inbound.progress = progress;
        Ok(())
    }

    /// Frames from a peer, toward the bus: all of them, or none and an error. Their stamps are
    /// `offset_us` ahead of the peer's monotonic clock.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        number: usize,
        frames: &[u8],
        last_us: &mut u64,
        offset_us: i64,
    ) -> Result<(), Refusal> {
        let mut amount = 0;
        let mut rest = frames;
        while !rest.is_empty() {
            (_, _, rest) = entry::decode(rest).ok_or(Refusal::PROTOCOL)?;
            amount += 1;
        }
        if amount == 0 || self.queue.len(number) + amount > self.policy().window as usize {
            return Err(Refusal::PROTOCOL);
        }
        if self.queue.held(number) + amount > self.policy().window as usize {
            let dropped = self.queue.drop_orphans(number);
            if let Some(peer) = self.peer_mut(number) {
                let before = &mut peer.inbound.before;
                *before = before.plus(&Counters { done: dropped, ..Counters::default() });
            }
        }
        if !self.queue.has_room(amount) {
            return Err(Refusal::FULL);
        }
        let peer = self.peer_mut(number).ok_or(Refusal::FULL)?;
        let (clock, progress) = (peer.clock, &mut peer.inbound.progress);
        let position = progress.position.checked_add(amount as u64).ok_or(Refusal::PROTOCOL)?;
        progress.position = position;
        progress.frames += amount as u64;
        let patience = ON_TIME + clock.doubt().min(DOUBT_MAX);
        let mut rest = frames;
        while let Some((frame, delta_us, after)) = entry::decode(rest) {
            *last_us = last_us.wrapping_add(delta_us);
            let theirs_us = last_us.wrapping_add_signed(offset_us.wrapping_neg());
            let born = clock.ours(now, theirs_us);
            let times = Times { stamp_us: *last_us, born, is_late: born + patience < now };
            self.queue.push(number, frame, times, self.refusal_of(&frame));
            rest = after;
        }
        Ok(())
    }

    /// Why a frame from a peer is not for this bus, if so.
    fn refusal_of(&self, frame: &Frame) -> Option<Outcome> {
        let policy = self.policy();
        let is_denied = policy.read_only || !self.tx_filters.passes(frame);
        if is_denied || (frame.is_error() && !policy.is_virtual) {
            Some(Outcome::Refused)
        } else if frame.is_fd() && !policy.is_fd {
            Some(Outcome::Unsupported)
        } else {
            None
        }
    }

    pub(super) fn pop_done(&mut self, number: usize) -> Option<Outcome> {
        loop {
            let Done { outcome, orphan } = self.queue.pop_done(number)?;
            let peer = self.peer_mut(number)?;
            peer.note_carried(outcome);
            let inbound = &mut peer.inbound;
            if !orphan {
                count(&mut inbound.done, outcome, 1);
                return Some(outcome);
            }
            count(&mut inbound.before.done, outcome, 1);
        }
    }

    /// A link to a peer begins with its greeting.
    pub(super) fn clock_greeted(&mut self, now: Instant, number: usize, clock_us: u64) {
        if let Some(peer) = self.peer_mut(number) {
            peer.heard_us = peer.heard_us.max(clock_us);
            peer.clock.greeted(now, clock_us);
        }
    }

    /// A peer was restarted, and answers at `clock_us` what we said at `sent`. It cannot know of a time in which our
    /// clock stood before: what waits for it is as much older as that may have been.
    pub(super) fn clock_forgotten(
        &mut self,
        now: Instant,
        number: usize,
        sent: Instant,
        clock_us: u64,
    ) {
        let head = self.position();
        let Some(peer) = self.peer_mut(number) else { return };
        if let Some(stood) = peer.clock.may_have_stood(now, sent, clock_us) {
            let outbound = &mut peer.outbound;
            outbound.uncounted.add(outbound.cursor.position, head, stood);
        }
    }

    /// A peer says what its clock shows, and when it had heard of ours.
    pub(super) fn clock_heard(&mut self, now: Instant, number: usize, ping: &Ping) {
        let Some(peer) = self.peer_mut(number) else { return };
        peer.heard_us = peer.heard_us.max(ping.clock_us);
        let stood = peer.clock.arrived(now, ping.clock_us);
        if ping.echo_us > 0 {
            let was_there = ping.clock_us.saturating_sub(ping.held_us);
            peer.clock.answered(now, ping.echo_us, was_there);
        }
        // What waits is older than our clock makes it. Each peer says so of its own frames: none can make
        // those of another look old.
        if let Some(stood) = stood {
            self.queue.age(number, stood);
        }
    }

    /// Whether it is known well enough what a peer's clock says in terms of ours.
    pub(super) fn knows_clock(&self, number: usize) -> bool {
        self.peer(number).is_some_and(|peer| peer.clock.is_settled())
    }

    /// The link a peer has now.
    pub(super) fn link_of(&self, number: usize) -> Option<u32> {
        self.peer(number).and_then(|peer| peer.link)
    }

    /// The peer's bus has this age limit now (microseconds; 0: none).
    pub(super) fn peer_max_age(&mut self, number: usize, max_age_us: u64) {
        if let Some(peer) = self.peer_mut(number) {
            peer.outbound.max_age_us = max_age_us;
        }
    }

    /// Whether so much of the window waits for a receipt that the peer may have to wait.
    pub(super) fn receipt_presses(&self, number: usize) -> bool {
        self.queue.len(number) * 4 >= self.policy().window as usize
    }

    /// Whether outcomes wait to be told to the peer.
    pub(super) fn has_receipt(&self, number: usize) -> bool {
        self.queue.has_done(number)
    }

    /// Writes a receipt for a peer's frames as a message; 0 if there is none.
    pub(super) fn receipt(&mut self, number: usize, out: &mut [u8]) -> usize {
        let mut runs = [(Outcome::Sent, 0_u16); RUNS_MAX];
        let mut used = 0;
        while self.has_receipt(number) {
            if used == RUNS_MAX {
                break;
            }
            let Some(outcome) = self.pop_done(number) else { break };
            match runs.get_mut(used.saturating_sub(1)) {
                Some((last, amount)) if used > 0 && *last == outcome => *amount += 1,
                _ => {
                    if let Some(run) = runs.get_mut(used) {
                        *run = (outcome, 1);
                    }
                    used += 1;
                }
            }
        }
        let mut bytes = [0; RECEIPT_MAX];
        let mut length = 0;
        for run in runs.iter().take(used) {
            let room = bytes.get_mut(length..).unwrap_or(&mut []);
            length += postcard::to_slice(run, room).map_or(0, |written| written.len());
        }
        match bytes.get(..length) {
            Some(bytes) if length > 0 => write(&Message::Receipt(bytes), out),
            _ => 0,
        }
    }

    /// The peer says what became of frames we sent, in their order.
    pub(super) fn receipt_of(&mut self, number: usize, mut runs: &[u8]) -> Result<(), Refusal> {
        let peer = self.peer_mut(number).ok_or(Refusal::FULL)?;
        while !runs.is_empty() {
            let ((outcome, amount), rest) =
                postcard::take_from_bytes::<(Outcome, u16)>(runs).map_err(|_| Refusal::PROTOCOL)?;
            if u64::from(amount) > peer.outbound.outstanding() {
                return Err(Refusal::PROTOCOL);
            }
            if amount > 0 {
                peer.note_carried(outcome);
            }
            count(&mut peer.outbound.done, outcome, u64::from(amount));
            runs = rest;
        }
        Ok(())
    }

    /// Writes `Start` for a peer as a message; 0 if it wants no frames.
    pub(super) fn start(&mut self, number: usize, out: &mut [u8]) -> usize {
        self.settle(number);
        match self.peer_mut(number).map(|peer| &mut peer.outbound) {
            Some(outbound) if outbound.wanted => {
                outbound.told = outbound.progress;
                write(&Message::Start(outbound.progress), out)
            }
            _ => 0,
        }
    }

    /// Writes the next message of the stream to a peer; 0 if there is nothing to say now.
    pub(super) fn next_message(
        &mut self,
        now: Instant,
        number: usize,
        stamps: &mut Stamps,
        out: &mut [u8],
    ) -> usize {
        self.settle(number);
        let has_room = self.peer(number).is_some_and(|peer| peer.outbound.room() > 0);
        let Some(entry) = self.next_for(now, number).filter(|_| has_room) else {
            return self.skip(number, false, out);
        };
        let skip = self.skip(number, true, out);
        if skip > 0 {
            return skip;
        }
        let offset_us = self.peer(number).map(|peer| peer.outbound.offset_us(&entry));
        if let Some(offset_us) = offset_us.filter(|_| stamps.offset_us != offset_us) {
            stamps.offset_us = Some(offset_us);
            return write(&Message::Clock(offset_us), out);
        }
        self.batch(now, number, stamps, out)
    }

    /// The frame the peer is to be sent next, with the cursor at it; counts what is passed over.
    pub(super) fn next_for(&mut self, now: Instant, number: usize) -> Option<Entry> {
        self.peer_mut(number)?.outbound.looks_on = false;
        for _ in 0..LOOK_MAX {
            let outbound = self.peer(number)?.outbound;
            if !outbound.wanted {
                return None;
            }
            let mut cursor = outbound.cursor;
            let entry = self.history.next(&mut cursor)?;
            let is_for = self.is_for(number, &entry);
            if is_for && !outbound.is_stale(now, &entry) {
                return Some(entry);
            }
            let outbound = &mut self.peer_mut(number)?.outbound;
            outbound.cursor = cursor;
            outbound.progress.position = cursor.position;
            outbound.progress.stale += u64::from(is_for);
            if is_for && let Some(peer) = self.peer_mut(number) {
                peer.came_up.passes(entry.position);
            }
        }
        self.peer_mut(number)?.outbound.looks_on = true;
        None
    }

    /// Whether the search for the peer's next frame is to go on at once.
    pub(super) fn looks_on(&self, number: usize) -> bool {
        self.peer(number).is_some_and(|peer| peer.outbound.looks_on)
    }

    /// Writes what was passed over since the peer was last told; 0 if that is nothing, or only a
    /// position that can wait for the next frame.
    fn skip(&mut self, number: usize, frame_follows: bool, out: &mut [u8]) -> usize {
        let Some(peer) = self.peer_mut(number) else { return 0 };
        let (progress, told) = (peer.outbound.progress, peer.outbound.told);
        let skip = Skip {
            positions: progress.position.saturating_sub(told.position),
            lost: progress.lost.saturating_sub(told.lost),
            stale: progress.stale.saturating_sub(told.stale),
        };
        let positions_only = skip.lost == 0 && skip.stale == 0;
        if positions_only && (skip.positions == 0 || !frame_follows) {
            return 0;
        }
        peer.outbound.told = progress;
        write(&Message::Skip(skip), out)
    }

    /// Writes as many frames that follow each other as fit; joins only what is there already.
    fn batch(&mut self, now: Instant, number: usize, stamps: &mut Stamps, out: &mut [u8]) -> usize {
        let Some(peer) = self.peer(number) else { return 0 };
        let (mut outbound, mut came_up) = (peer.outbound, peer.came_up);
        let mut frames = [0; FRAMES_MAX];
        let mut used = 0;
        let most = FRAMES_MAX.min(out.len().saturating_sub(3));
        while used + ENTRY_MAX <= most && outbound.outstanding() < u64::from(outbound.window) {
            let mut cursor = outbound.cursor;
            let Some(entry) = self.history.next(&mut cursor) else { break };
            let goes = self.is_for(number, &entry)
                && !outbound.is_stale(now, &entry)
                && stamps.offset_us == Some(outbound.offset_us(&entry));
            let delta_us = entry.stamp_us.wrapping_sub(stamps.last_us);
            let room = frames.get_mut(used..).unwrap_or(&mut []);
            let Some(length) = goes.then(|| entry::encode(&entry.frame, delta_us, room)).flatten()
            else {
                break;
            };
            used += length;
            stamps.last_us = entry.stamp_us;
            outbound.cursor = cursor;
            outbound.progress.position = cursor.position;
            outbound.progress.frames += 1;
            came_up.passes(entry.position);
        }
        outbound.told = outbound.progress;
        if let Some(peer) = self.peer_mut(number) {
            (peer.outbound, peer.came_up) = (outbound, came_up);
        }
        frames.get(..used).map_or(0, |frames| write(&Message::Frames(frames), out))
    }

    /// Whether the peer has everything and has said what became of it.
    pub(super) fn is_delivered(&self, number: usize) -> bool {
        self.settled(number).is_none_or(|peer| {
            let outbound = &peer.outbound;
            let (now, told) = (outbound.progress, outbound.told);
            !outbound.wanted
                || (outbound.outstanding() == 0
                    && (now.lost, now.stale) == (told.lost, told.stale)
                    && outbound.cursor.position == self.position())
        })
    }
}

/// Writes a message; the buffers of this module are sized so that every one fits.
pub(super) fn write(message: &Message<'_>, out: &mut [u8]) -> usize {
    postcard::to_slice(message, out).map_or(0, |written| written.len())
}
