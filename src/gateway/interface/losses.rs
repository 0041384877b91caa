//! What an interface loses without the bus' or a peer's doing, told to its hub as it is found out.

use core::time::Duration;

use super::super::memory::Heap;
use crate::bus::{CanInterface, Statistics};
use crate::protocol::Hub;
use crate::protocol::time::Instant;

/// Lines about the same loss of one interface: at most one in this time, with the sum.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the kernel's counters are read while frames come or go.
const ACCOUNT_EVERY: Duration = Duration::from_secs(1);

/// Frames lost since the interface was opened, as far as they were told.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// What the socket dropped.
    overflow: u64,
    /// What the kernel had counted when it was last asked.
    last: Option<Statistics>,
    /// Times the controller told of lost frames in an error frame, and in the kernel's counter. A
    /// driver does one of the two, or both for the same loss.
    overrun_frames: u64,
    overrun_count: u64,
    overrun: u64,
}

impl Losses {
    /// Begins for an interface just opened: what was lost before is nobody's here.
    pub(super) fn begin(can: &CanInterface) -> Self {
        Self { last: can.statistics().ok(), ..Self::default() }
    }

    /// The socket has dropped so many in all.
    pub(super) fn overflowed(&mut self, hub: &mut Hub<Heap>, total: u64) {
        hub.overflowed(total.saturating_sub(self.overflow));
        self.overflow = total.max(self.overflow);
    }

    /// The controller said in an error frame that it had no room.
    pub(super) fn overran(&mut self, hub: &mut Hub<Heap>) {
        self.overrun_frames += 1;
        self.tell_overrun(hub);
    }

    /// The kernel has counted so much by now. A driver may begin anew at any time.
    pub(super) fn counted(&mut self, hub: &mut Hub<Heap>, now: Statistics) {
        if let Some(last) = self.last.replace(now) {
            hub.dropped(now.rx_dropped.saturating_sub(last.rx_dropped));
            self.overrun_count += now.rx_over_errors.saturating_sub(last.rx_over_errors);
            self.tell_overrun(hub);
        }
    }

    fn tell_overrun(&mut self, hub: &mut Hub<Heap>) {
        let most = self.overrun_frames.max(self.overrun_count);
        if most > self.overrun {
            hub.overran(most - self.overrun);
            self.overrun = most;
        }
    }
}

/// What is to be looked at while frames come and go, and told when it is not as it should be.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// When to look.
    pub(super) due: Option<Instant>,
    /// Frames whose echo did not come.
    pub(super) unconfirmed: Sum,
    unconfirmed_before: u64,
    /// Times the controller was made to forget old frames.
    pub(super) flushes: Sum,
}

impl Account {
    /// Frames come or go.
    pub(super) fn soon(&mut self, now: Instant) {
        self.due.get_or_insert(now + ACCOUNT_EVERY);
    }

    /// So many frames are unconfirmed in all; fewer than before when a peer was forgotten.
    pub(super) fn unconfirmed_are(&mut self, count: u64) {
        self.unconfirmed.add(count.saturating_sub(self.unconfirmed_before));
        self.unconfirmed_before = count;
    }

    /// Whether there is something to be told later.
    pub(super) fn is_waiting(&self) -> bool {
        self.unconfirmed.is_waiting() || self.flushes.is_waiting()
    }
}

/// A sum that goes to the log now and then.
#[derive(Debug, Default)]
pub(super) struct Sum {
    count: u64,
    told_at: Option<Instant>,
}

impl Sum {
    pub(super) fn add(&mut self, count: u64) {
        self.count += count;
    }

    /// Whether there is something to be told, now or later.
    pub(super) fn is_waiting(&self) -> bool {
        self.count > 0
    }

    /// What is to be told now.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        let is_quiet = self.told_at.is_some_and(|at| now.since(at) < LINE_EVERY);
        if !self.is_waiting() || is_quiet {
            return None;
        }
        self.told_at = Some(now);
        Some(core::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::HeapSlots;
    use super::*;

    fn hub() -> Hub<Heap> {
        let memory = vec![0; 64 * 1024].into_boxed_slice();
        Hub::new("can0", 7, memory, HeapSlots::with_room(100)).expect("a hub")
    }

    fn counts(rx_dropped: u64, rx_over_errors: u64) -> Statistics {
        Statistics { rx_dropped, rx_over_errors }
    }

    #[test]
    fn overrun_told_twice_is_counted_once() {
        let (mut hub, mut losses) = (hub(), Losses::default());
        losses.counted(&mut hub, counts(0, 100));
        losses.overran(&mut hub);
        losses.overran(&mut hub);
        assert_eq!(hub.status().overrun, 2);
        losses.counted(&mut hub, counts(0, 102));
        assert_eq!(hub.status().overrun, 2);
        losses.counted(&mut hub, counts(0, 105));
        assert_eq!(hub.status().overrun, 5);
        losses.overran(&mut hub);
        assert_eq!(hub.status().overrun, 5);
    }

    #[test]
    fn backlog_drops_count_from_the_opening_on() {
        let (mut hub, mut losses) = (hub(), Losses::default());
        losses.counted(&mut hub, counts(40, 0));
        assert_eq!(hub.status().dropped, 0);
        for (now, expected) in [(43, 3), (43, 3), (5, 3), (6, 4)] {
            losses.counted(&mut hub, counts(now, 0));
            assert_eq!(hub.status().dropped, expected, "after a driver's {now}");
        }
    }

    #[test]
    fn overflow_is_told_as_a_difference() {
        let (mut hub, mut losses) = (hub(), Losses::default());
        for (total, expected) in [(0, 0), (7, 7), (7, 7), (5, 7), (8, 8)] {
            losses.overflowed(&mut hub, total);
            assert_eq!(hub.status().overflow, expected);
        }
    }

    #[test]
    fn sum_is_told_once_in_ten_seconds() {
        let at = |s: u64| Instant::from_micros(s * 1_000_000);
        let mut sum = Sum::default();
        assert_eq!(sum.take(at(1)), None);
        sum.add(3);
        assert_eq!(sum.take(at(1)), Some(3));
        sum.add(1);
        sum.add(1);
        assert_eq!((sum.take(at(10)), sum.is_waiting()), (None, true));
        assert_eq!((sum.take(at(11)), sum.is_waiting()), (Some(2), false));
    }
}
