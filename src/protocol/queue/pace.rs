//! The pace at which frames are put on a virtual bus.
//!
//! After a cut thousands of frames arrive at once. A virtual bus takes them as fast as they are
//! given, and a program that reads it has room for some 280 (`net.core.rmem_default`, 212,992 bytes,
//! 768 for a frame): what is beyond it loses without a word. So frames are put on the bus in bursts of
//! [`BURST`] at most, and then
//!
//! | frames | at most so many a second | why |
//! |---|---|---|
//! | that are late | [`FACTOR`] times what their bus showed in a second, or [`LATE_RATE`] | whoever reads them as they come can read some more |
//! | others | [`LIVE_RATE`], or the same multiple | no real bus has more, so these never wait |
//!
//! What waits behind late frames of its lane is late, too, until the lane is empty.

use crate::protocol::time::Instant;

/// Frames that may be put on the bus at once. Chosen: a quarter of what a reader has room for, so that it
/// may be asleep for some milliseconds besides.
const BURST: u64 = 64;
/// How much faster than they came late frames may go on. Chosen: a cut is caught up with in half the
/// time it took.
const FACTOR: u64 = 3;
/// Late frames a second of a slow bus. Chosen: a quarter of a full bus at 1 Mbit/s.
const LATE_RATE: u64 = 2_000;
/// Frames a second of any real bus, and some more: the shortest frames at 1 Mbit/s are 21,277 (47 bits, ISO 11898-1).
const LIVE_RATE: u64 = 32_000;
/// Frames that a turn of the loop is worth.
const TURN: u64 = 16;
/// Microseconds over which a bus' frames are counted.
const COUNTED_US: u64 = 1_000_000;

/// A lane's frames by stamp: since when they are counted, how many, and how many in the time before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    since_us: u64,
    count: u64,
    before: u64,
}

impl Count {
    pub(super) const NONE: Self = Self { since_us: 0, count: 0, before: 0 };

    /// A frame with this stamp came.
    pub(super) fn note(&mut self, stamp_us: u64) {
        let passed_us = stamp_us.wrapping_sub(self.since_us);
        if passed_us >= COUNTED_US {
            // A clock that was set back, or a silent bus: the time before tells nothing.
            let is_next = passed_us < 2 * COUNTED_US;
            self.before = if is_next { self.count } else { 0 };
            (self.since_us, self.count) = (stamp_us, 0);
        }
        self.count += 1;
    }

    /// Nanoseconds between the lane's frames now; at least one.
    fn interval_ns(&self, is_late: bool) -> u64 {
        let least = if is_late { LATE_RATE } else { LIVE_RATE };
        let rate = self.count.max(self.before).saturating_mul(FACTOR).max(least);
        (1_000_000_000 / rate).max(1)
    }
}

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): the time at which a
/// stream of evenly spaced frames would be where this one is.
#[derive(Debug)]
pub(super) struct Pace {
    /// Live frames do not wait for the late ones of another lane.
    live_ns: u64,
    late_ns: u64,
    /// When more frames may go, where some were held back.
    pub(super) held_until: Option<Instant>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { live_ns: 0, late_ns: 0, held_until: None }
    }

    /// Whether a frame may go now.
    pub(super) fn may_go(&self, now: Instant, shown: &Count, is_late: bool) -> bool {
        let latest_ns = nanoseconds(now) + (BURST - 1) * shown.interval_ns(is_late);
        self.expected_ns(is_late) <= latest_ns
    }

    fn expected_ns(&self, is_late: bool) -> u64 {
        if is_late { self.late_ns } else { self.live_ns }
    }

    /// A frame goes.
    pub(super) fn goes(&mut self, now: Instant, shown: &Count, is_late: bool) {
        let interval_ns = shown.interval_ns(is_late);
        let expected_ns = if is_late { &mut self.late_ns } else { &mut self.live_ns };
        *expected_ns = (*expected_ns).max(nanoseconds(now)) + interval_ns;
    }

    /// A frame has to wait.
    pub(super) fn hold(&mut self, shown: &Count, is_late: bool) {
        let ahead_ns = (BURST - TURN) * shown.interval_ns(is_late);
        let at_ns = self.expected_ns(is_late).saturating_sub(ahead_ns);
        let at = Instant::from_micros(at_ns.div_ceil(1_000));
        self.held_until = Instant::earliest(self.held_until, Some(at));
    }
}

fn nanoseconds(now: Instant) -> u64 {
    now.as_micros().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a backlog of `count`, which was seen `gap_us` apart, have gone by each millisecond.
    fn drained(count: u64, gap_us: u64, is_late: bool) -> std::vec::Vec<u64> {
        let (mut pace, mut shown) = (Pace::new(), Count::NONE);
        (0..count).for_each(|frame| shown.note(5_000_000 + frame * gap_us));
        let (mut gone, mut all) = (0, std::vec::Vec::new());
        for millisecond in 0..60_000 {
            let now = Instant::from_micros(1_000_000 + millisecond * 1_000);
            while gone < count && pace.may_go(now, &shown, is_late) {
                pace.goes(now, &shown, is_late);
                gone += 1;
            }
            all.push(gone);
            if gone == count {
                break;
            }
        }
        all
    }

    #[test]
    fn a_reader_that_sleeps_holds_what_comes_meanwhile() {
        for gap_us in [1_000_000, 2_000, 500, 120] {
            let gone = drained(5_000, gap_us, true);
            let most = gone.windows(6).map(|window| window[5] - window[0]).max().unwrap();
            assert!(most + BURST <= 280, "{gap_us} us: {most} in 5 ms");
        }
    }

    #[test]
    fn a_backlog_is_caught_up_with() {
        assert!(drained(5_000, 1_000_000, true).len() < 2_600);
        assert!(drained(5_000, 120, true).len() < 400);
    }

    #[test]
    fn a_live_stream_is_never_held_up() {
        // A full bus at 1 Mbit/s, the shortest frames there are, and some more than that.
        for gap_us in [115, 47, 32] {
            let (mut pace, mut shown) = (Pace::new(), Count::NONE);
            for frame in 0..50_000 {
                let now = Instant::from_micros(5_000_000 + frame * gap_us);
                shown.note(now.as_micros());
                assert!(pace.may_go(now, &shown, false), "frame {frame}, {gap_us} us apart");
                pace.goes(now, &shown, false);
            }
        }
    }

    #[test]
    fn a_flood_of_a_virtual_bus_goes_on_as_it_came() {
        // 100,000 frames/s: after the first second nothing waits.
        let (mut pace, mut shown) = (Pace::new(), Count::NONE);
        let (mut waiting, mut most) = (0_u64, 0);
        for frame in 0..300_000 {
            let now = Instant::from_micros(5_000_000 + frame * 10);
            shown.note(now.as_micros());
            waiting += 1;
            while waiting > 0 && pace.may_go(now, &shown, false) {
                pace.goes(now, &shown, false);
                waiting -= 1;
            }
            most = most.max(waiting);
            assert!(frame < 100_000 || waiting == 0, "{waiting} wait at frame {frame}");
        }
        assert!(most < 20_000, "{most}");
    }
}
