//! The transmit queue: frames from peers on their way to the bus.
//!
//! Every peer has a lane of its own and the bus takes one frame of each in turn, so a peer that
//! floods its lane delays nobody else. A frame is *waiting*, then *offered* to the shell, then
//! *handed* to the kernel, then *done*; outcomes leave a lane in the order the frames came.
//!
//! Frames in the kernel's hands are confirmed by their echo (`MSG_CONFIRM`), mostly in order, but a
//! controller with several mailboxes may swap some: an echo confirms the first frame equal to it.

mod handed;
mod lane_set;
mod pace;
mod slot;

use core::time::Duration;

use heapless::Vec;

pub use handed::ECHO_OVERDUE;
use handed::Handed;
use lane_set::LaneSet;
use pace::{Count, Pace};
pub use slot::{Lane, Slot};
use slot::{NONE, State};

use super::frame::Frame;
use super::limits::{PEERS_MAX, SLOTS_PER_PEER};
use super::peer::{Outcome, count};
use super::table::Table;
use super::time::{Instant, micros};

/// Most frames in the kernel's hands at once. Chosen: a virtual bus confirms at once, and four
/// system calls' worth of frames keep it busy; a real one is bounded by its own, shorter, transmit queue.
pub const HANDED_MAX: usize = 256;
/// Most frames offered at once: one system call's worth.
pub const OFFER_MAX: usize = 64;

/// When a frame was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// By its bus' owner, in microseconds since the Unix epoch.
    pub(super) stamp_us: u64,
    /// The same on our clock.
    pub(super) born: Instant,
    /// Whether it had waited for more than its way when it came.
    pub(super) is_late: bool,
}

/// What holds for frames toward this bus.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Frames older than this are dropped.
    pub(super) max_age: Option<Duration>,
    /// Most frames in the kernel's hands.
    pub(super) handed_max: usize,
    /// Whether there is no real bus, so that echoes come at once.
    pub(super) is_virtual: bool,
    /// Whether the controller tries each frame once.
    pub(super) one_shot: bool,
    /// Whether the controller, if any, is not error-passive.
    pub(super) is_active: bool,
    /// Whether frames are put on the bus at a [pace](Pace).
    pub(super) paced: bool,
}

/// A frame's end, as it leaves its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) orphan: bool,
}

/// The frames on their way to one bus. `S` and `L` are its memory: a slot for each frame of each window, and
/// a lane for each peer.
#[derive(Debug)]
pub(super) struct Queue<S, L> {
    slots: S,
    free: u32,
    lanes: L,
    /// The lanes in which frames wait.
    ready: LaneSet,
    /// Which of them is to be asked next.
    turn: usize,
    waiting: u32,
    offered: Vec<u32, OFFER_MAX>,
    handed: Handed,
    /// Frames that ended unconfirmed so far.
    unconfirmed: u64,
    pace: Pace,
}

impl<S: Table<Slot>, L: Table<Lane> + Default> Queue<S, L> {
    /// An empty queue. `slots` must be empty: they are added as they are needed.
    pub(super) fn new(slots: S) -> Self {
        Self {
            slots,
            free: NONE,
            lanes: L::default(),
            ready: LaneSet::EMPTY,
            turn: 0,
            waiting: 0,
            offered: Vec::new(),
            handed: Handed::new(),
            unconfirmed: 0,
            pace: Pace::new(),
        }
    }

    /// Makes sure that there are so many lanes, each with room for what its peer may have under way with such a
    /// window; `false` if there is no memory for them.
    pub(super) fn make_lanes(&mut self, amount: usize, window: u32) -> bool {
        self.lanes.reserve(amount);
        while self.lanes.as_ref().len() < amount {
            if amount > PEERS_MAX || !self.lanes.add(Lane::EMPTY) {
                return false;
            }
        }
        self.slots.reserve(amount * SLOTS_PER_PEER.min(window as usize));
        true
    }

    fn lane(&self, lane: usize) -> Option<&Lane> {
        self.lanes.as_ref().get(lane)
    }

    fn lane_mut(&mut self, lane: usize) -> Option<&mut Lane> {
        self.lanes.as_mut().get_mut(lane)
    }

    /// Adds a frame to a lane: waiting, or done before it began. `false` if there is no room.
    pub(super) fn push(
        &mut self,
        lane: usize,
        frame: Frame,
        times: Times,
        outcome: Option<Outcome>,
    ) -> bool {
        let Times { stamp_us, born, is_late } = times;
        // What waits behind late frames is part of the backlog by the time it goes.
        let is_late = is_late || self.ends_late(lane);
        let number = self.free_slot();
        let (Some(slot), Some(queue)) =
            (self.slots.as_mut().get_mut(number as usize), self.lanes.as_mut().get_mut(lane))
        else {
            return false;
        };
        queue.shown.note(stamp_us);
        self.free = slot.next;
        let state = outcome.map_or(State::Waiting, State::Done);
        let lane_number = lane as u16;
        let frame = Some(frame);
        *slot = Slot { frame, stamp_us, born, is_late, state, lane: lane_number, next: NONE };
        let last = queue.tail;
        queue.tail = number;
        queue.len += 1;
        if queue.head == NONE {
            queue.head = number;
        }
        if state == State::Waiting {
            self.waiting += 1;
            if queue.waiting == NONE {
                queue.waiting = number;
                self.ready.set(lane, true);
            }
        }
        if let Some(last) = self.slots.as_mut().get_mut(last as usize) {
            last.next = number;
        }
        true
    }

    /// Whether the last frame of a lane is late, and waits.
    fn ends_late(&self, lane: usize) -> bool {
        let last = self.lane(lane).and_then(|queue| self.slot(queue.tail));
        last.is_some_and(|slot| slot.is_late && slot.state == State::Waiting)
    }

    /// Takes the next outcome from a lane, in the order its frames came.
    pub(super) fn pop_done(&mut self, lane: usize) -> Option<Done> {
        let queue = self.lanes.as_mut().get_mut(lane)?;
        let number = queue.head;
        let slot = self.slots.as_mut().get_mut(number as usize)?;
        let State::Done(outcome) = slot.state else { return None };
        queue.head = slot.next;
        if queue.head == NONE {
            queue.tail = NONE;
        }
        queue.len -= 1;
        let orphan = queue.orphans > 0;
        queue.orphans = queue.orphans.saturating_sub(1);
        *slot = Slot { next: self.free, ..Slot::EMPTY };
        self.free = number;
        Some(Done { outcome, orphan })
    }

    /// A slot that is free, one more if need be; [`NONE`] if there is no room.
    fn free_slot(&mut self) -> u32 {
        let count = self.slots.as_ref().len();
        if self.free == NONE && count < NONE as usize && self.slots.add(Slot::EMPTY) {
            self.free = count as u32;
        }
        self.free
    }

    /// Whether there is room for `amount` more frames; makes it.
    pub(super) fn has_room(&mut self, amount: usize) -> bool {
        let mut number = self.free;
        for _ in 0..amount {
            match self.slot(number) {
                Some(slot) => number = slot.next,
                None => {
                    // The free ones are counted: each of the others must be a new one.
                    let new = self.slots.as_ref().len();
                    if new >= NONE as usize || !self.slots.add(Slot::EMPTY) {
                        return false;
                    }
                    if let Some(slot) = self.slots.as_mut().last_mut() {
                        slot.next = self.free;
                    }
                    self.free = new as u32;
                }
            }
        }
        true
    }

    /// Frames that wait, of all lanes, those offered not among them.
    pub(super) fn count_waiting(&self) -> usize {
        self.waiting as usize
    }

    /// Whether a lane's next outcome is known.
    pub(super) fn has_done(&self, lane: usize) -> bool {
        let head = self.lane(lane).map_or(NONE, |queue| queue.head);
        self.slot(head).is_some_and(|slot| matches!(slot.state, State::Done(_)))
    }

    /// Frames in a lane, done ones included, that belong to the current stream.
    pub(super) fn len(&self, lane: usize) -> usize {
        self.lane(lane).map_or(0, |queue| (queue.len - queue.orphans) as usize)
    }

    /// Whether a lane holds nothing at all.
    pub(super) fn is_empty(&self, lane: usize) -> bool {
        self.lane(lane).is_none_or(|queue| queue.len == 0)
    }

    /// Nobody waits any more for the outcomes of what a lane holds now.
    pub(super) fn orphan(&mut self, lane: usize) {
        if let Some(queue) = self.lane_mut(lane) {
            queue.orphans = queue.len;
        }
    }

    /// Frames in a lane, whatever stream they belong to.
    pub(super) fn held(&self, lane: usize) -> usize {
        self.lane(lane).map_or(0, |queue| queue.len as usize)
    }

    /// Frees what a lane holds of streams that are over, except what is in the kernel's hands: a
    /// peer that begins again and again must not take the room of others. Returns the outcomes.
    pub(super) fn drop_orphans(&mut self, lane: usize) -> [u64; Outcome::COUNT] {
        let mut done = [0; Outcome::COUNT];
        let Some(mut queue) = self.lane(lane).copied() else { return done };
        let (mut number, mut before) = (queue.head, NONE);
        for _ in 0..queue.orphans {
            let Some(slot) = self.slot(number).copied() else { break };
            let outcome = match slot.state {
                State::Done(outcome) => outcome,
                State::Waiting => {
                    self.waiting -= 1;
                    Outcome::Stale
                }
                _ => {
                    before = number;
                    number = slot.next;
                    continue;
                }
            };
            count(&mut done, outcome, 1);
            if let Some(free) = self.slots.as_mut().get_mut(number as usize) {
                *free = Slot { next: self.free, ..Slot::EMPTY };
            }
            self.free = number;
            match self.slots.as_mut().get_mut(before as usize) {
                Some(previous) => previous.next = slot.next,
                None => queue.head = slot.next,
            }
            if queue.tail == number {
                queue.tail = before;
            }
            queue.len -= 1;
            queue.orphans -= 1;
            number = slot.next;
        }
        // All orphans that waited are gone: what waits now came after them.
        let mut first = queue.head;
        while let Some(slot) = self.slot(first).filter(|slot| slot.state != State::Waiting) {
            first = slot.next;
        }
        queue.waiting = first;
        self.ready.set(lane, first != NONE);
        if let Some(lane) = self.lane_mut(lane) {
            *lane = queue;
        }
        done
    }

    /// Outcomes in a lane that were not popped yet and belong to the current stream.
    pub(super) fn unreported(&self, lane: usize, mut each: impl FnMut(Outcome)) {
        let Some(queue) = self.lane(lane) else { return };
        let (mut number, mut orphans) = (queue.head, queue.orphans);
        while let Some(slot) = self.slot(number) {
            if let (State::Done(outcome), 0) = (slot.state, orphans) {
                each(outcome);
            }
            orphans = orphans.saturating_sub(1);
            number = slot.next;
        }
    }

    /// Copies the next frames for the bus to `out`, one of each lane in turn, dropping what is too
    /// old. Must be followed by [`Queue::taken`].
    pub(super) fn offer(&mut self, now: Instant, rules: Rules, out: &mut [Frame]) -> usize {
        self.withdraw(0);
        let most = self.handed_room(now, rules).min(out.len()).min(OFFER_MAX);
        self.pace.held_until = None;
        let mut held = 0;
        while self.offered.len() < most && held < self.ready.len() {
            let next = self.ready.from(self.turn).or_else(|| self.ready.from(0));
            let Some(lane) = next else { break };
            self.turn = lane + 1;
            self.drop_stale(lane, now, rules.max_age);
            let Some(first) = self.first_waiting(lane) else { continue };
            let is_late = first.is_late;
            let shown = self.lane(lane).map_or(Count::NONE, |lane| lane.shown);
            if rules.paced && !self.pace.may_go(now, &shown, is_late) {
                self.pace.hold(&shown, is_late);
                held += 1;
                continue;
            }
            if let Some((number, frame)) = self.take_waiting(lane, State::Offered) {
                if let Some(place) = out.get_mut(self.offered.len()) {
                    *place = frame;
                }
                let _ = self.offered.push(number);
                if rules.paced {
                    self.pace.goes(now, &shown, is_late);
                }
                held = 0;
            }
        }
        self.offered.len()
    }

    fn first_waiting(&self, lane: usize) -> Option<&Slot> {
        self.slot(self.lane(lane)?.waiting)
    }

    /// The stamp that came with the `index`-th frame offered, in microseconds since the Unix epoch.
    pub(super) fn offered_stamp(&self, index: usize) -> u64 {
        self.offered.get(index).and_then(|number| self.slot(*number)).map_or(0, |s| s.stamp_us)
    }

    /// When that was on our clock.
    pub(super) fn offered_born(&self, index: usize) -> Instant {
        let slot = self.offered.get(index).and_then(|number| self.slot(*number));
        slot.map_or_else(Instant::default, |slot| slot.born)
    }

    /// The kernel took the first `count` frames offered; the others wait on.
    pub(super) fn taken(&mut self, now: Instant, count: usize) {
        for index in 0..count {
            let Some(number) = self.offered.get(index).copied() else { break };
            self.hand_over(now, number);
        }
        self.withdraw(count);
    }

    /// The first `taken` frames offered were taken and the next one can never be sent.
    pub(super) fn rejected(&mut self, now: Instant, taken: usize, outcome: Outcome) {
        let refused = self.offered.get(taken).copied();
        self.taken(now, taken);
        // Withdrawing has put it back at the front of what its lane waits with.
        let Some(lane) = refused.and_then(|number| self.slot(number)).map(|s| s.lane) else {
            return;
        };
        self.take_waiting(usize::from(lane), State::Done(outcome));
    }

    /// The frames offered from `keep` on go back to the front of their lanes.
    fn withdraw(&mut self, keep: usize) {
        while self.offered.len() > keep {
            let Some(number) = self.offered.pop() else { break };
            if let Some(slot) = self.slots.as_mut().get_mut(number as usize) {
                slot.state = State::Waiting;
                self.waiting += 1;
                let lane = usize::from(slot.lane);
                self.set_waiting(lane, number);
            }
        }
        self.offered.clear();
    }

    /// Every frame of a lane is so much older than was thought.
    pub(super) fn age(&mut self, lane: usize, by: Duration) {
        let mut number = self.lane(lane).map_or(NONE, |queue| queue.head);
        while let Some(slot) = self.slots.as_mut().get_mut(number as usize) {
            slot.born = slot.born - by;
            number = slot.next;
        }
    }

    /// Every frame still waiting ends so.
    pub(super) fn clear(&mut self, outcome: Outcome) {
        self.withdraw(0);
        while let Some(lane) = self.ready.from(0) {
            self.clear_lane(lane, outcome);
        }
    }

    /// Every frame of a lane that still waits ends so.
    pub(super) fn clear_lane(&mut self, lane: usize, outcome: Outcome) {
        self.withdraw(0);
        while self.take_waiting(lane, State::Done(outcome)).is_some() {}
    }

    /// Drops what is older than `max_age` in every lane.
    pub(super) fn drop_all_stale(&mut self, now: Instant, max_age: Option<Duration>) {
        let mut next = self.ready.from(0);
        while let Some(lane) = next {
            self.drop_stale(lane, now, max_age);
            next = self.ready.from(lane + 1);
        }
    }

    /// When the next frame grows too old, an echo is overdue, or late frames may go on.
    pub(super) fn next_timeout(&self, rules: Rules) -> Option<Instant> {
        let next = Instant::earliest(self.overdue_at(rules), self.pace.held_until);
        let Some(max_age) = rules.max_age.filter(|_| self.waiting > 0) else { return next };
        let oldest =
            self.ready.iter().filter_map(|lane| self.first_waiting(lane)).map(|slot| slot.born);
        Instant::earliest(oldest.min().map(|born| born + max_age + Duration::from_micros(1)), next)
    }

    fn drop_stale(&mut self, lane: usize, now: Instant, max_age: Option<Duration>) {
        let Some(max_age) = max_age else { return };
        loop {
            let first = self.lane(lane).map_or(NONE, |queue| queue.waiting);
            match self.slot(first) {
                Some(slot) if micros(now.since(slot.born)) > micros(max_age) => {}
                _ => return,
            }
            self.take_waiting(lane, State::Done(Outcome::Stale));
        }
    }

    /// Gives a lane's first waiting frame another state.
    fn take_waiting(&mut self, lane: usize, state: State) -> Option<(u32, Frame)> {
        let number = self.lane(lane)?.waiting;
        let slot = self.slots.as_mut().get_mut(number as usize)?;
        slot.state = state;
        let frame = slot.frame?;
        let mut next = slot.next;
        while let Some(slot) = self.slot(next).filter(|slot| slot.state != State::Waiting) {
            next = slot.next;
        }
        self.set_waiting(lane, next);
        self.waiting -= 1;
        Some((number, frame))
    }

    /// From this frame on a lane's frames wait; [`NONE`]: none does.
    fn set_waiting(&mut self, lane: usize, number: u32) {
        if let Some(queue) = self.lane_mut(lane) {
            queue.waiting = number;
            self.ready.set(lane, number != NONE);
        }
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.as_ref().get(number as usize)
    }
}

#[cfg(test)]
mod tests;
