//! The pace at which a backlog is put on a virtual bus.
//!
//! After a cut thousands of frames arrive at once. A virtual bus takes them as fast as they are
//! given, and a program that reads it has room for some 280 (`net.core.rmem_default`, 212,992 bytes,
//! 768 for a frame): what is beyond it loses without a word. So frames that are late are put on the bus
//! in bursts of [`BURST`] at most, and no faster than [`FACTOR`] times the pace at which their own bus
//! showed them, or [`FLOOR_INTERVAL_NS`], whichever is faster. Frames that are not late are not held up,
//! but by the late ones before them.

use crate::protocol::time::Instant;

/// Frames that may be put on the bus at once. Chosen: a quarter of what a reader has room for, so that it
/// may be asleep for some milliseconds besides.
const BURST: u64 = 64;
/// How much faster than they came late frames may go on. Chosen: a cut of a minute is caught up with in 20 s.
const FACTOR: u64 = 4;
/// Nanoseconds between late frames of a slow bus. Chosen: half a full bus at 1 Mbit/s; what reads
/// that must be able to read this.
const FLOOR_INTERVAL_NS: u64 = 250_000;
/// Longest time between two frames that counts for the pace, in nanoseconds.
const GAP_MAX_NS: u64 = 20_000_000;
/// Frames over which the pace is averaged. Chosen: cyclic messages come in groups, and a reader has
/// room for so many.
const AVERAGED: u64 = 256;
/// Late frames that a turn of the loop is worth.
const TURN: u64 = 16;

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): the time at which a
/// stream of evenly spaced frames would be where this one is.
#[derive(Debug)]
pub(super) struct Pace {
    mean_ns: u64,
    last_stamp_us: u64,
    expected_ns: u64,
    /// When more late frames may go, where some were held back.
    pub(super) held_until: Option<Instant>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { mean_ns: GAP_MAX_NS, last_stamp_us: 0, expected_ns: 0, held_until: None }
    }

    /// A frame with this stamp came.
    pub(super) fn note(&mut self, stamp_us: u64) {
        let gap_us = stamp_us.wrapping_sub(self.last_stamp_us).cast_signed();
        let gap_ns = gap_us.max(0).cast_unsigned().saturating_mul(1_000).min(GAP_MAX_NS);
        self.last_stamp_us = stamp_us;
        self.mean_ns = (self.mean_ns * (AVERAGED - 1) + gap_ns) / AVERAGED;
    }

    /// Nanoseconds between late frames now; at least one.
    fn interval_ns(&self) -> u64 {
        (self.mean_ns / FACTOR).clamp(1, FLOOR_INTERVAL_NS)
    }

    /// How many late frames may go now.
    pub(super) fn room(&self, now: Instant) -> u64 {
        let interval_ns = self.interval_ns();
        let latest_ns = nanoseconds(now) + BURST * interval_ns;
        (latest_ns.saturating_sub(self.expected_ns) / interval_ns).min(BURST)
    }

    /// So many late frames go.
    pub(super) fn take(&mut self, now: Instant, frames: u64) {
        self.expected_ns = self.expected_ns.max(nanoseconds(now)) + frames * self.interval_ns();
    }

    /// Some late frames have to wait.
    pub(super) fn hold(&mut self) {
        let interval_ns = self.interval_ns();
        let at_ns = self.expected_ns.saturating_sub((BURST - TURN) * interval_ns);
        self.held_until = Some(Instant::from_micros(at_ns.div_ceil(1_000)));
    }
}

fn nanoseconds(now: Instant) -> u64 {
    now.as_micros().saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that have gone by each millisecond, of a backlog of `count` that was seen `gap_us` apart.
    fn drained(count: u64, gap_us: u64) -> std::vec::Vec<u64> {
        let mut pace = Pace::new();
        (0..count).for_each(|frame| pace.note(frame * gap_us));
        let (mut gone, mut all) = (0, std::vec::Vec::new());
        for millisecond in 0..60_000 {
            let now = Instant::from_micros(1_000_000 + millisecond * 1_000);
            let frames = pace.room(now).min(count - gone);
            pace.take(now, frames);
            gone += frames;
            all.push(gone);
            if gone == count {
                break;
            }
        }
        all
    }

    #[test]
    fn a_slow_bus_backlog_goes_in_bursts_a_reader_holds() {
        // A reader that sleeps for 5 ms, whenever, holds what comes meanwhile.
        for gap_us in [1_000_000, 2_000, 500, 120] {
            let gone = drained(5_000, gap_us);
            let most = gone.windows(6).map(|window| window[5] - window[0]).max().unwrap();
            assert!(most + BURST <= 280, "{gap_us} us: {most} in 5 ms");
        }
    }

    #[test]
    fn a_backlog_is_caught_up_with() {
        assert!(drained(5_000, 1_000_000).len() < 1_300);
        assert!(drained(5_000, 120).len() < 200);
    }

    #[test]
    fn what_came_at_once_goes_at_once() {
        assert!(drained(5_000, 0).len() < 80);
    }
}
