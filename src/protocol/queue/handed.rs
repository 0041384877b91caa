//! The frames in the kernel's hands: how many there may be, and what ends them.
//!
//! A frame ends with its echo. An echo may never come: a controller in one-shot mode, an adapter
//! with a transmit error, a queue discipline or a filter may drop it without a word. So a frame is
//! given up by evidence:
//!
//! | evidence | on |
//! |---|---|
//! | the echo of a frame that was handed over clearly later, or of several while little is handed over | any bus; on a virtual one, of any later frame |
//! | no echo at all for [`ACTIVE_OVERDUE`], though the controller is error-active | a real bus |
//! | no echo for [`ECHO_OVERDUE`] | a virtual bus, which confirms at once; after the kernel dropped frames |
//! | no echo at all for [`OVERDUE_MAX`], while other nodes' frames come | a real bus whose controller is error-passive |
//! | no echo for [`ONE_SHOT_OVERDUE`] | a controller that tries each frame once |
//!
//! On a real bus nothing is given up by time alone while the controller is error-passive: a frame that
//! nobody acknowledges is tried for ever. And little is handed over until echoes come, since what the
//! kernel has cannot be recalled: it would be on the bus, however old, when an ECU is switched on.

use core::time::Duration;

use heapless::Deque;

use super::{HANDED_MAX, Lane, Outcome, Queue, Rules, Slot, State};
use crate::protocol::frame::Frame;
use crate::protocol::table::Table;
use crate::protocol::time::Instant;

/// How long an echo may be overdue before it counts as lost. Chosen: a frame waits for its turn on
/// a full bus for milliseconds, never a second.
pub const ECHO_OVERDUE: Duration = Duration::from_secs(1);
/// The same where the controller is error-active: nobody's error keeps it from sending. Chosen: shorter than the
/// usual age limit, so that what waits behind is not stale by then. A frame that waits for longer
/// behind others' of a higher priority is `unconfirmed`, and its echo is its own all the same.
const ACTIVE_OVERDUE: Duration = Duration::from_millis(300);
/// The same where the controller tries each frame once: a frame takes 27 ms at 5 kbit/s.
const ONE_SHOT_OVERDUE: Duration = Duration::from_millis(100);
/// Longest wait for an echo where none came for the frames before either. Chosen: each that is given up
/// lets one more frame into a controller that may be stuck, and a bus that heals is used again after so long.
const OVERDUE_MAX: Duration = Duration::from_secs(16);
/// Frames handed to a real bus until an echo comes: one on its way, and one that follows without a gap,
/// whose echo would prove the first one's lost.
const FIRST_HANDED: usize = 2;
/// From when the oldest frame in the kernel's hands says that the bus is stuck. Chosen: three frames at
/// 10 kbit/s, a hundred at 250 kbit/s.
const STUCK: Duration = Duration::from_millis(50);
/// After so long without a frame it is not known any more whether the bus takes some.
const FORGOTTEN: Duration = Duration::from_millis(100);
/// The echo of a frame handed over so much later proves that an older frame's is lost. Chosen: mailboxes
/// swap frames by priority for some milliseconds.
const CLEARLY_LATER: Duration = Duration::from_millis(200);
/// So do the echoes of so many that were handed over after it was [`STUCK`]: by then a controller has one
/// frame beside it at most, and a gap to send it in behind each.
const OVERTAKEN_MAX: u16 = 4;
/// Given-up frames whose echo is still recognised. Chosen: eight times what a real interface is handed.
const GHOSTS_MAX: usize = 128;

/// A frame that was given up; the kernel may still send it.
#[derive(Clone, Copy, Debug)]
struct Ghost {
    frame: Frame,
    lane: u16,
}

/// The frames in the kernel's hands, oldest first.
#[derive(Debug)]
pub(super) struct Handed {
    order: Deque<u32, HANDED_MAX>,
    /// How many there may be on a real bus.
    limit: usize,
    last_echo: Instant,
    /// The latest moment we were told of: an echo is read in the turn of the loop that follows.
    now: Instant,
    /// Since when the controller has been error-active again; `None`: since the next moment we are told of.
    active_since: Option<Instant>,
    /// When another node's frame was seen last.
    heard: Instant,
    /// How often a frame was given up by time since the last echo.
    given_up: u32,
    /// Set when the kernel dropped frames: echoes may be among them.
    echoes_lost: bool,
    ghosts: Deque<Ghost, GHOSTS_MAX>,
}

impl Handed {
    pub(super) const fn new() -> Self {
        Self {
            order: Deque::new(),
            limit: FIRST_HANDED,
            last_echo: Instant::from_micros(0),
            now: Instant::from_micros(0),
            active_since: Some(Instant::from_micros(0)),
            heard: Instant::from_micros(0),
            given_up: 0,
            echoes_lost: false,
            ghosts: Deque::new(),
        }
    }

    fn note(&mut self, now: Instant) {
        self.now = now;
        self.active_since.get_or_insert(now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl<S: Table<Slot>, L: Table<Lane> + Default> Queue<S, L> {
    /// How many more frames the kernel may be given now.
    pub(super) fn handed_room(&mut self, now: Instant, rules: Rules) -> usize {
        self.handed.note(now);
        let most = rules.handed_max.min(HANDED_MAX);
        if rules.is_virtual {
            return most.saturating_sub(self.handed.order.len());
        }
        let is_forgotten =
            self.handed.order.is_empty() && now.since(self.handed.last_echo) > FORGOTTEN;
        if is_forgotten || self.oldest_handed().is_some_and(|(at, _)| now.since(at) > STUCK) {
            self.handed.limit = FIRST_HANDED;
        }
        most.min(self.handed.limit).saturating_sub(self.handed.order.len())
    }

    /// The kernel took this frame.
    pub(super) fn hand_over(&mut self, now: Instant, number: u32) {
        if let Some(slot) = self.slots.as_mut().get_mut(number as usize) {
            slot.state = State::Handed { at: now, overtaken: 0 };
        }
        let _ = self.handed.order.push_back(number);
    }

    /// The bus showed a frame of ours, which ends it so. Returns the lane it came by.
    pub(in crate::protocol) fn confirm(
        &mut self,
        frame: &Frame,
        outcome: Outcome,
        rules: Rules,
    ) -> Option<usize> {
        let same = |number: &u32| {
            self.slot(*number).and_then(|s| s.frame.as_ref()).is_some_and(|f| f.is_echoed_by(frame))
        };
        let Some(index) = self.handed.order.iter().position(same) else {
            return self.take_ghost(frame);
        };
        self.handed.last_echo = self.handed.now;
        self.handed.given_up = 0;
        self.handed.limit = (self.handed.limit + 1).min(HANDED_MAX);
        let number = self.take_handed(index)?;
        let slot = self.slots.as_mut().get_mut(number as usize)?;
        let State::Handed { at, .. } = slot.state else { return None };
        slot.state = State::Done(outcome);
        let lane = usize::from(slot.lane);
        self.pass(index, at, rules);
        if self.handed.order.is_empty() {
            self.handed.echoes_lost = false;
        }
        Some(lane)
    }

    /// The first `count` frames were overtaken by one that was handed over at `later`.
    fn pass(&mut self, count: usize, later: Instant, rules: Rules) {
        let mut index = 0;
        self.end_handed(Outcome::Unconfirmed, |at, overtaken| {
            index += 1;
            if index > count {
                return false;
            }
            let waited = later.since(at);
            *overtaken = overtaken.saturating_add(u16::from(waited >= STUCK));
            rules.is_virtual || waited >= CLEARLY_LATER || *overtaken >= OVERTAKEN_MAX
        });
    }

    /// Ends the frames in the kernel's hands for which `is_over` holds. Their echo may still come.
    fn end_handed(&mut self, outcome: Outcome, mut is_over: impl FnMut(Instant, &mut u16) -> bool) {
        let Self { slots, unconfirmed, handed: Handed { order, ghosts, .. }, .. } = self;
        let slots = slots.as_mut();
        order.retain(|number| {
            let Some(slot) = slots.get_mut(*number as usize) else { return false };
            let State::Handed { at, overtaken } = &mut slot.state else { return false };
            if !is_over(*at, overtaken) {
                return true;
            }
            slot.state = State::Done(outcome);
            *unconfirmed += u64::from(outcome == Outcome::Unconfirmed);
            if let Some(frame) = slot.frame {
                if ghosts.is_full() {
                    ghosts.pop_front();
                }
                let _ = ghosts.push_back(Ghost { frame, lane: slot.lane });
            }
            false
        });
    }

    /// The bus showed a frame that was given up. It is its lane's all the same, and must not go back
    /// there.
    fn take_ghost(&mut self, frame: &Frame) -> Option<usize> {
        let ghosts = &mut self.handed.ghosts;
        let index = ghosts.iter().position(|ghost| ghost.frame.is_echoed_by(frame))?;
        let mut lane = None;
        let mut at = 0;
        ghosts.retain(|ghost| {
            let is_it = at == index;
            at += 1;
            if is_it {
                lane = Some(usize::from(ghost.lane));
            }
            !is_it
        });
        lane
    }

    /// The lane is another peer's from now on.
    pub(in crate::protocol) fn forget_ghosts(&mut self, lane: usize) {
        self.handed.ghosts.retain(|ghost| usize::from(ghost.lane) != lane);
    }

    /// Whether the kernel or the queue has frames of ours.
    pub(in crate::protocol) fn is_busy(&self) -> bool {
        !self.handed.is_empty() || self.waiting > 0
    }

    /// Frames that ended unconfirmed so far.
    pub(in crate::protocol) fn unconfirmed(&self) -> u64 {
        self.unconfirmed
    }

    /// The kernel dropped frames before we read them: echoes may be among them.
    pub(in crate::protocol) fn echoes_lost(&mut self) {
        self.handed.echoes_lost |= !self.handed.is_empty();
    }

    /// When the oldest frame and its birth were handed over.
    fn oldest_handed(&self) -> Option<(Instant, Instant)> {
        let slot = self.slot(*self.handed.order.front()?)?;
        match slot.state {
            State::Handed { at, .. } => Some((at, slot.born)),
            _ => None,
        }
    }

    /// When the oldest frame in the kernel's hands was seen by its bus' owner.
    pub(in crate::protocol) fn oldest_handed_born(&self) -> Option<Instant> {
        self.oldest_handed().map(|(_, born)| born)
    }

    /// When the oldest frame in the kernel's hands is given up for want of an echo; `None`: not by time.
    pub(in crate::protocol) fn overdue_at(&self, rules: Rules) -> Option<Instant> {
        let (at, _) = self.oldest_handed()?;
        if rules.is_virtual || self.handed.echoes_lost {
            return Some(at + ECHO_OVERDUE);
        }
        let since = at.max(self.handed.last_echo);
        if rules.one_shot {
            return Some(since + ONE_SHOT_OVERDUE);
        }
        if !rules.is_active {
            // Whoever sends for so long also acknowledges.
            let is_alive = self.handed.heard.since(since) >= OVERDUE_MAX;
            return is_alive.then(|| since + OVERDUE_MAX);
        }
        let wait = ACTIVE_OVERDUE.saturating_mul(1 << self.handed.given_up.min(10));
        Some(since.max(self.handed.active_since?) + wait.min(OVERDUE_MAX))
    }

    /// The bus showed a frame of another node's.
    pub(in crate::protocol) fn heard(&mut self) {
        self.handed.heard = self.handed.now;
    }

    /// The controller is error-active again: what it could not send meanwhile it sends now.
    pub(in crate::protocol) fn active_again(&mut self) {
        self.handed.active_since = None;
    }

    /// Gives up on echoes that are overdue.
    pub(in crate::protocol) fn give_up_echoes(&mut self, now: Instant, rules: Rules) {
        self.handed.note(now);
        self.pace.held_until.take_if(|at| *at <= now);
        while self.overdue_at(rules).is_some_and(|at| at <= now) {
            let is_by_evidence = rules.is_virtual || self.handed.echoes_lost;
            let mut is_first = true;
            self.end_handed(Outcome::Unconfirmed, |_, _| core::mem::take(&mut is_first));
            if !is_by_evidence {
                // What was handed over together is given up together.
                self.give_up_as_old(now, rules);
                self.handed.given_up = self.handed.given_up.saturating_add(1);
            }
            if self.handed.order.is_empty() {
                self.handed.echoes_lost = false;
            }
        }
    }

    /// Gives up every frame that has waited for its echo as long as the first may.
    fn give_up_as_old(&mut self, now: Instant, rules: Rules) {
        let first = if rules.one_shot { ONE_SHOT_OVERDUE } else { ACTIVE_OVERDUE };
        self.end_handed(Outcome::Unconfirmed, |at, _| now.since(at) >= first);
    }

    /// Every frame in the kernel's hands ended so: the interface dropped them, as far as we know.
    pub(in crate::protocol) fn fail_handed(&mut self, outcome: Outcome) {
        self.withdraw(0);
        self.end_handed(outcome, |_, _| true);
        self.handed.limit = FIRST_HANDED;
        self.handed.echoes_lost = false;
        self.handed.given_up = 0;
    }

    fn take_handed(&mut self, index: usize) -> Option<u32> {
        let order = &mut self.handed.order;
        // In order nearly always.
        if index == 0 {
            return order.pop_front();
        }
        let number = order.iter().nth(index).copied()?;
        order.retain(|other| *other != number);
        Some(number)
    }
}
