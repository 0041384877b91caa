//! What a peer's clock says in terms of ours.
//!
//! A frame's age must include the time it spent inside TCP: after a stall of two seconds a command
//! arrives two seconds old. The peer sends its monotonic clock with its greeting and every
//! heartbeat. When one arrives, it was sent before: the clocks' difference, ours minus the peer's,
//! is at most what they differ by then. Where a heartbeat also says which clock of ours the peer had
//! received before, and when, the difference is at least what they differed by when we sent that.
//!
//! ```text
//! ours    a ---------.               .--> d      at most d - c
//! theirs              `--> b ... c --'           at least a - b
//! ```
//!
//! Each round trip narrows the two bounds, and the truth is taken to be in the middle. As long as
//! they are wide apart nobody can tell a slow path from a greeting that TCP had to send again. Until
//! enough round trips say that the path is slow, frames are taken to be as old as they can be: a
//! command dropped is better than a stale one.

use core::time::Duration;

use super::time::Instant;

/// How long a bound is believed. Chosen: ten heartbeats find the shortest delay, and a sample that is
/// wrong, because this process was stopped at a bad moment, is forgotten soon.
const BELIEVED: Duration = Duration::from_secs(10);
/// Bounds closer than this (microseconds) need no more round trips. Chosen: a fifth of the usual age
/// limit, so that a tenth of it may be misjudged.
const CLOSE_US: i64 = 100_000;
/// So many round trips tell that a path is slow. Chosen: TCP sends again what is lost, and the next
/// round trip is short; losing four in a row is how a cable looks that is dead.
const TRIPS_ENOUGH: u32 = 4;

/// What is known of one period.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    most: Option<i64>,
    least: Option<i64>,
}

impl Bounds {
    fn and(self, other: Self) -> Self {
        let both = |a: Option<i64>, b: Option<i64>, choose: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(choose(a, b)),
            (a, b) => a.or(b),
        };
        Self {
            most: both(self.most, other.most, i64::min),
            least: both(self.least, other.least, i64::max),
        }
    }
}

/// The difference between our monotonic clock and a peer's: ours minus the peer's (microseconds).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerClock {
    now: Bounds,
    before: Bounds,
    since: Instant,
    /// Round trips so far.
    trips: u32,
}

impl PeerClock {
    /// The peer's clock said `clock_us` in something that arrived at `now`.
    pub(super) fn arrived(&mut self, now: Instant, clock_us: u64) {
        let most = Some(now.as_micros().wrapping_sub(clock_us).cast_signed());
        self.narrow(now, Bounds { most, least: None });
    }

    /// What we sent when our clock was `sent_us` had arrived when the peer's said `clock_us`.
    pub(super) fn answered(&mut self, now: Instant, sent_us: u64, clock_us: u64) {
        let least = Some(sent_us.wrapping_sub(clock_us).cast_signed());
        self.narrow(now, Bounds { most: None, least });
        self.trips = self.trips.saturating_add(1);
    }

    fn narrow(&mut self, now: Instant, bounds: Bounds) {
        if now.since(self.since) > BELIEVED {
            self.before = core::mem::take(&mut self.now);
            self.since = now;
        }
        self.now = self.now.and(bounds);
    }

    /// Whether more round trips would make a difference.
    pub(super) fn is_settled(&self) -> bool {
        self.trips >= TRIPS_ENOUGH || self.trips > 0 && self.width_us() <= CLOSE_US
    }

    fn width_us(&self) -> i64 {
        let Bounds { most, least } = self.now.and(self.before);
        most.unwrap_or(0).saturating_sub(least.unwrap_or(0))
    }

    /// The moment on our clock when the peer's said `clock_us`; never later than `now`, and not
    /// before our clock's start.
    pub(super) fn ours(&self, now: Instant, clock_us: u64) -> Instant {
        let difference = match self.now.and(self.before) {
            Bounds { most: Some(most), least: Some(least) } if least < most => {
                let half = if self.is_settled() { most.wrapping_sub(least) / 2 } else { 0 };
                least.wrapping_add(half)
            }
            // Clocks that drift apart can make the bounds meet.
            Bounds { most, least } => most.or(least).unwrap_or(0),
        };
        // What the peer saw before our clock began is old, not yet to come.
        Instant::from_wrapped_micros(clock_us.wrapping_add_signed(difference)).min(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn time_inside_the_network_counts_as_age() {
        let mut clock = PeerClock::default();
        clock.arrived(at(5_000_200), 1_000_000);
        clock.arrived(at(6_000_100), 2_000_000);
        clock.arrived(at(9_900_000), 3_000_000); // delayed by 2.9 s
        let now = at(9_900_000);
        assert_eq!(clock.ours(now, 3_000_000), at(7_000_100));
        assert_eq!(clock.ours(now, 9_000_000), now);
        assert_eq!(clock.ours(now, 0), at(4_000_100));
        // The peer's clock runs slow: the old difference is forgotten in the end.
        clock.arrived(at(20_000_500), 16_000_000);
        clock.arrived(at(31_000_900), 27_000_000);
        assert_eq!(clock.ours(at(31_000_900), 27_000_000), at(31_000_500));
    }

    /// Ours is 4 s ahead. We send, the peer answers at once; ways take so long.
    fn round_trip(clock: &mut PeerClock, sent_us: u64, there_us: u64, back_us: u64) -> Instant {
        let theirs = sent_us + there_us - 4_000_000;
        let now = at(sent_us + there_us + back_us);
        clock.arrived(now, theirs);
        clock.answered(now, sent_us, theirs);
        now
    }

    #[test]
    fn a_greeting_that_was_late_makes_nothing_look_younger_than_it_is() {
        let mut clock = PeerClock::default();
        // Sent again by TCP after a second, on the way back.
        let now = round_trip(&mut clock, 10_000_000, 1_000, 1_001_000);
        // A frame seen when the peer's clock said 6.5 s was seen when ours said 10.5 s.
        assert!(clock.ours(now, 6_500_000) <= at(10_500_000));
        assert!(!clock.is_settled());
        // The next round trip is as it should be, and tells.
        let now = round_trip(&mut clock, 11_100_000, 1_000, 1_000);
        assert!(clock.is_settled());
        assert_eq!(clock.ours(now, 7_000_000), at(11_000_000));
    }

    #[test]
    fn a_slow_path_is_told_from_a_late_greeting_after_some_round_trips() {
        let mut clock = PeerClock::default();
        let mut now = at(0);
        for trip in 0..u64::from(TRIPS_ENOUGH) {
            assert!(!clock.is_settled());
            now = round_trip(&mut clock, 10_000_000 + trip * 700_000, 300_000, 300_000);
        }
        assert!(clock.is_settled());
        assert_eq!(clock.ours(now, 7_000_000), at(11_000_000));
    }

    #[test]
    fn what_was_before_our_clock_began_is_old() {
        let mut clock = PeerClock::default();
        let now = Instant::from_micros(5_000_000);
        clock.arrived(now, 900_000_000_000);
        assert_eq!(clock.ours(now, 900_000_000_000 - 60_000_000), Instant::from_micros(0));
        assert_eq!(clock.ours(now, 0), Instant::from_micros(0));
    }
}
