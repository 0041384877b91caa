//! What a peer's clock says in terms of ours.
//!
//! A frame's age must include the time it spent inside TCP: after a stall of two seconds a command
//! arrives two seconds old. The peer sends its monotonic clock with its greeting and every
//! heartbeat; the smallest difference to ours, over a while, is the clocks' difference plus the
//! path's shortest delay. A frame that took longer than that has waited somewhere.

use core::time::Duration;

use super::time::Instant;

/// How long a smallest difference is believed. Chosen: ten heartbeats find the shortest delay, and a
/// sample that is wrong, because this process was stopped at a bad moment, is forgotten soon.
const BELIEVED: Duration = Duration::from_secs(10);

/// The difference between our monotonic clock and a peer's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerClock {
    /// Ours minus the peer's (microseconds): the smallest of this period and of the one before.
    now: Option<i64>,
    before: Option<i64>,
    since: Instant,
}

impl PeerClock {
    /// The peer's clock said `clock_us` in something that arrived at `now`.
    pub(super) fn sample(&mut self, now: Instant, clock_us: u64) {
        let difference = now.as_micros().wrapping_sub(clock_us).cast_signed();
        if now.since(self.since) > BELIEVED {
            self.before = self.now.take();
            self.since = now;
        }
        self.now = Some(self.now.map_or(difference, |smallest| smallest.min(difference)));
    }

    /// The moment on our clock when the peer's said `clock_us`; never later than `now`.
    pub(super) fn ours(&self, now: Instant, clock_us: u64) -> Instant {
        let smallest = match (self.now, self.before) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b).unwrap_or(0),
        };
        Instant::from_micros(clock_us.wrapping_add_signed(smallest)).min(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_inside_the_network_counts_as_age() {
        let mut clock = PeerClock::default();
        let at = |micros| Instant::from_micros(micros);
        clock.sample(at(5_000_200), 1_000_000);
        clock.sample(at(6_000_100), 2_000_000);
        clock.sample(at(9_900_000), 3_000_000); // delayed by 2.9 s
        let now = at(9_900_000);
        assert_eq!(clock.ours(now, 3_000_000), at(7_000_100));
        assert_eq!(clock.ours(now, 9_000_000), now);
        // The peer's clock runs slow: the old difference is forgotten in the end.
        clock.sample(at(20_000_500), 16_000_000);
        clock.sample(at(31_000_900), 27_000_000);
        assert_eq!(clock.ours(at(31_000_900), 27_000_000), at(31_000_500));
    }
}
