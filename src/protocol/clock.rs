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
//! Each round trip narrows the two bounds. Where they are close the truth is taken to be in the middle.
//! Where they are wide apart nobody can tell which of the two ways is the slow one: a long queue before a
//! narrow uplink looks like a distant peer. There frames are taken to be as old as they can be: a command
//! dropped is better than a stale one.
//!
//! A clock may stand still: that of a virtual machine does while it is paused. Then the difference
//! makes a step that no drift explains. The bounds from before mean nothing any more, and what the
//! peer saw before the step keeps the age it had by the old difference, or it would look younger by as long
//! as the clock stood.
//!
//! A peer that was restarted does not know the old difference. Then only we can know that our own clock stood while
//! there was no link, and [`PeerClock::may_have_stood`] says for how long at most. Where the peer's machine was
//! switched off, too, nobody knows.

use core::time::Duration;

use super::time::Instant;

/// How long a bound is believed. Chosen: ten heartbeats find the shortest delay, and a sample that is
/// wrong, because this process was stopped at a bad moment, is forgotten soon.
const BELIEVED: Duration = Duration::from_secs(10);
/// Bounds closer than this (microseconds) are good enough. Chosen: a fifth of the usual age limit, so
/// that a tenth of it may be misjudged.
const CLOSE_US: i64 = 100_000;
/// Number of round trips after which more of them would not bring the bounds closer. Chosen: TCP sends again
/// what is lost, and the next round trip is short; losing four in a row is how a cable looks that is dead.
const TRIPS_ENOUGH: u32 = 4;

/// Bounds that contradict each other by more than this (microseconds) are a step. Chosen: twice what
/// clocks that NTP slews by its most, 500 ppm, drift apart in two times [`BELIEVED`].
const STEP_US: i64 = 20_000;
/// How much the difference may have grown since another link without a step (microseconds): what it
/// may be misjudged by, and a part of the time between for drift. Chosen: 200 ppm, the worst of cheap crystals.
const GROWTH_US: i64 = CLOSE_US / 2;
const GROWTH_PART: i64 = 5_000;
/// For how long a clock is taken to have stood of which nothing is known. Chosen: longer than any age limit
/// that makes sense.
const UNKNOWN: Duration = Duration::from_secs(24 * 3600);
/// Steps remembered.
const STEPS_MAX: usize = 4;

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

    fn width_us(self) -> i64 {
        self.most.unwrap_or(0).saturating_sub(self.least.unwrap_or(0))
    }
}

/// The difference was smaller before some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// The moment, on the peer's clock (microseconds). A step that is not there has 0.
    until_us: u64,
    difference: i64,
    /// When that was noticed, on our clock.
    at: Instant,
}

/// The difference between our monotonic clock and a peer's: ours minus the peer's (microseconds).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerClock {
    now: Bounds,
    before: Bounds,
    since: Instant,
    /// When the link began.
    begun: Instant,
    /// Round trips so far.
    trips: u32,
    /// Whether something came so late that the peer's clock may have stood still.
    is_suspect: bool,
    /// The difference was at most this at the last round trip of any link, and when that was.
    ceiling: Option<(i64, Instant)>,
    /// Oldest first.
    steps: [Step; STEPS_MAX],
}

impl PeerClock {
    /// For how long at most our own clock may have stood since the last round trip, where the peer answered at
    /// `clock_us` what we said at `sent`; `None`: no longer than a difference may be misjudged by.
    #[must_use]
    pub(super) fn may_have_stood(
        &self,
        now: Instant,
        sent: Instant,
        clock_us: u64,
    ) -> Option<Duration> {
        let (most, since) = self.ceiling?;
        let least = sent.as_micros().wrapping_sub(clock_us).cast_signed();
        let stood_us = most.saturating_sub(least);
        let waited_us = i64::try_from(now.since(since).as_micros()).unwrap_or(i64::MAX);
        let drift_us = waited_us / GROWTH_PART;
        if stood_us < -CLOSE_US.saturating_add(drift_us) {
            // The peer's clock has begun anew: nothing is known of ours.
            return Some(UNKNOWN);
        }
        let stood_us = stood_us.max(0).saturating_add(drift_us);
        let stood_us = Some(stood_us).filter(|stood_us| *stood_us > CLOSE_US)?;
        u64::try_from(stood_us).ok().map(Duration::from_micros)
    }

    /// A new link begins: the peer's clock said `clock_us` in a greeting that arrived at `now`. What the
    /// peer saw before that is not to look younger than it would have on the link before.
    pub(super) fn greeted(&mut self, now: Instant, clock_us: u64) {
        if self.trips == 0 && self.begun_steps().next().is_some() {
            // The link before had no round trip, so nobody knows what the difference was.
            for step in self.begun_steps() {
                (step.until_us, step.at) = (step.until_us.max(clock_us), now);
            }
        } else {
            self.keep_step(now, clock_us);
        }
        let (ceiling, steps) = (self.ceiling, self.steps);
        *self = Self { ceiling, steps, since: now, begun: now, ..Self::default() };
        let _ = self.arrived(now, clock_us);
    }

    /// The peer's clock said `clock_us` in something that arrived at `now`. Returns for how long our own
    /// clock has stood still, if it did.
    #[must_use]
    pub(super) fn arrived(&mut self, now: Instant, clock_us: u64) -> Option<Duration> {
        let most = now.as_micros().wrapping_sub(clock_us).cast_signed();
        let known = self.known();
        if known.least.is_some_and(|least| least.saturating_sub(most) > STEP_US) {
            return self.stood(now, most);
        }
        // Held up on its way, or the peer's clock has stood still: the next round trip tells.
        self.is_suspect |= known.most.is_some_and(|known| most.saturating_sub(known) > CLOSE_US);
        self.narrow(now, Bounds { most: Some(most), least: None });
        None
    }

    /// What we sent when our clock was `sent_us` had arrived when the peer's said `clock_us`.
    pub(super) fn answered(&mut self, now: Instant, sent_us: u64, clock_us: u64) {
        let least = sent_us.wrapping_sub(clock_us).cast_signed();
        let known = self.known();
        if known.most.is_some_and(|most| least.saturating_sub(most) > STEP_US) {
            self.keep_step(now, clock_us);
            self.forget(now);
        } else if self.trips == 0 {
            // Only now is it known what the difference is: the clock may have stood since the greeting, too.
            self.begun_steps().for_each(|step| step.until_us = step.until_us.max(clock_us));
        }
        self.narrow(now, Bounds { most: None, least: Some(least) });
        self.trips = self.trips.saturating_add(1);
        self.is_suspect = false;
        let known = self.known();
        self.ceiling = known.most.or(known.least).map(|most| (most, now));
        if self.is_settled() {
            self.drop_steps(now);
        }
    }

    /// Our own clock stood: the difference is at most this.
    fn stood(&mut self, now: Instant, most: i64) -> Option<Duration> {
        let before = self.difference()?;
        let width_us = self.known().width_us().max(0);
        self.forget(now);
        self.now = Bounds { most: Some(most), least: Some(most.saturating_sub(width_us)) };
        let stood_us = before.saturating_sub(self.difference()?);
        u64::try_from(stood_us).ok().map(Duration::from_micros)
    }

    /// What was kept when this link began.
    fn begun_steps(&mut self) -> impl Iterator<Item = &mut Step> {
        let begun = self.begun;
        self.steps.iter_mut().filter(move |step| step.until_us > 0 && step.at >= begun)
    }

    fn narrow(&mut self, now: Instant, bounds: Bounds) {
        if now.since(self.since) > BELIEVED {
            self.before = core::mem::take(&mut self.now);
            self.since = now;
        }
        self.now = self.now.and(bounds);
    }

    /// The bounds are not true any more.
    fn forget(&mut self, now: Instant) {
        let (ceiling, steps, begun) = (self.ceiling, self.steps, self.begun);
        *self = Self { ceiling, steps, since: now, begun, ..Self::default() };
    }

    /// Until the peer's clock said `until_us` the difference was what it is now, and it may be more from
    /// there on.
    fn keep_step(&mut self, now: Instant, until_us: u64) {
        let Some(difference) = self.difference() else { return };
        let step = Step { until_us: until_us.max(1), difference, at: now };
        // One that is as small and lasts longer says all that the others do.
        for old in &mut self.steps {
            if old.difference >= difference {
                *old = Step::default();
            }
        }
        self.steps.sort_unstable_by_key(|step| (step.until_us == 0, step.until_us));
        match self.steps.iter_mut().find(|step| step.until_us == 0) {
            Some(free) => *free = step,
            // The smaller difference holds for longer, which makes nothing look younger.
            None => {
                if let Some(last) = self.steps.last_mut() {
                    last.until_us = last.until_us.max(step.until_us);
                }
            }
        }
    }

    /// Where the difference is no greater than it was, there was no step.
    fn drop_steps(&mut self, now: Instant) {
        // As great as it can be: one that looks smaller for a slow way must not hide a step.
        let Some(difference) = self.known().most else { return };
        for step in &mut self.steps {
            let waited_us = i64::try_from(now.since(step.at).as_micros()).unwrap_or(i64::MAX);
            let most = GROWTH_US.saturating_add(waited_us / GROWTH_PART);
            if difference.saturating_sub(step.difference) <= most {
                *step = Step::default();
            }
        }
    }

    /// Whether more round trips would make a difference.
    pub(super) fn is_settled(&self) -> bool {
        let is_close = self.known().width_us() <= CLOSE_US;
        !self.is_suspect && (self.trips >= TRIPS_ENOUGH || self.trips > 0 && is_close)
    }

    /// How much the difference may be misjudged by: as long as the quickest round trip took.
    pub(super) fn doubt(&self) -> Duration {
        let width_us = self.known().width_us();
        Duration::from_micros(u64::try_from(width_us).unwrap_or(0))
    }

    fn known(&self) -> Bounds {
        self.now.and(self.before)
    }

    fn difference(&self) -> Option<i64> {
        match self.known() {
            Bounds { most: Some(most), least: Some(least) } if least < most => {
                let width_us = most.wrapping_sub(least);
                let is_close = width_us <= CLOSE_US && !self.is_suspect;
                Some(if is_close { least.wrapping_add(width_us / 2) } else { least })
            }
            // Clocks that drift apart can make the bounds meet.
            Bounds { most, least } => most.or(least),
        }
    }

    /// The moment on our clock when the peer's said `clock_us`; never later than `now`, and not
    /// before our clock's start.
    pub(super) fn ours(&self, now: Instant, clock_us: u64) -> Instant {
        let steps = self.steps.iter().filter(|step| clock_us < step.until_us);
        let difference = steps.map(|step| step.difference).chain(self.difference()).min();
        // What the peer saw before our clock began is old, not yet to come.
        Instant::from_wrapped_micros(clock_us.wrapping_add_signed(difference.unwrap_or(0))).min(now)
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
        let _ = clock.arrived(at(5_000_200), 1_000_000);
        let _ = clock.arrived(at(6_000_100), 2_000_000);
        let _ = clock.arrived(at(9_900_000), 3_000_000); // delayed by 2.9 s
        let now = at(9_900_000);
        assert_eq!(clock.ours(now, 3_000_000), at(7_000_100));
        assert_eq!(clock.ours(now, 9_000_000), now);
        assert_eq!(clock.ours(now, 0), at(4_000_100));
        // The peer's clock runs slow: the old difference is forgotten in the end.
        let _ = clock.arrived(at(20_000_500), 16_000_000);
        let _ = clock.arrived(at(31_000_900), 27_000_000);
        assert_eq!(clock.ours(at(31_000_900), 27_000_000), at(31_000_500));
    }

    /// Ours is 4 s ahead. We send, the peer answers at once; ways take so long.
    fn round_trip(clock: &mut PeerClock, sent_us: u64, there_us: u64, back_us: u64) -> Instant {
        let theirs = sent_us + there_us - 4_000_000;
        let now = at(sent_us + there_us + back_us);
        let _ = clock.arrived(now, theirs);
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
    fn frames_on_a_slow_path_look_as_old_as_they_can_be() {
        let mut clock = PeerClock::default();
        let mut now = at(0);
        for trip in 0..u64::from(TRIPS_ENOUGH) {
            assert!(!clock.is_settled());
            now = round_trip(&mut clock, 10_000_000 + trip * 700_000, 300_000, 300_000);
        }
        // Nothing is gained by asking more often.
        assert!(clock.is_settled());
        assert_eq!(clock.ours(now, 7_000_000), at(10_700_000));
    }

    #[test]
    fn what_was_before_our_clock_began_is_old() {
        let mut clock = PeerClock::default();
        let now = Instant::from_micros(5_000_000);
        let _ = clock.arrived(now, 900_000_000_000);
        assert_eq!(clock.ours(now, 900_000_000_000 - 60_000_000), Instant::from_micros(0));
        assert_eq!(clock.ours(now, 0), Instant::from_micros(0));
    }

    /// What a board thinks of a PC whose clock is `behind_us` behind its own, a ping each 0.9 s, 1 ms away.
    struct Pair {
        clock: PeerClock,
        now_us: u64,
        behind_us: u64,
    }

    impl Pair {
        fn new() -> Self {
            let (now_us, behind_us) = (1_000_000_000, 4_000_000);
            let mut clock = PeerClock::default();
            clock.greeted(at(now_us), now_us - 1_000 - behind_us);
            Self { clock, now_us, behind_us }
        }

        /// A ping of ours reaches the PC, and its next one says so.
        fn trip(&mut self) -> Option<Duration> {
            let sent_us = self.now_us;
            self.now_us += 2_000;
            let theirs_us = self.now_us - 1_000 - self.behind_us;
            let stood = self.clock.arrived(at(self.now_us), theirs_us);
            self.clock.answered(at(self.now_us), sent_us, theirs_us);
            stood
        }

        fn run(&mut self, trips: u64) {
            for _ in 0..trips {
                self.now_us += 898_000;
                assert_eq!(self.trip(), None);
            }
        }

        /// How old a frame looks that the PC sees now.
        fn age_us(&self) -> u64 {
            self.age_of(self.now_us - self.behind_us)
        }

        fn age_of(&self, stamp_us: u64) -> u64 {
            let now = at(self.now_us);
            now.since(self.clock.ours(now, stamp_us)).as_micros() as u64
        }
    }

    #[test]
    fn a_peer_clock_that_stood_is_noticed_after_one_trip() {
        let mut pair = Pair::new();
        pair.run(30);
        let seen_before_us = pair.now_us - pair.behind_us;
        let pause_us = 2_500_000;
        pair.now_us += pause_us;
        pair.behind_us += pause_us;
        // It looks as old as it can be until a round trip tells.
        assert!(pair.age_us() >= pause_us - 2_000);
        pair.trip();
        pair.trip();
        assert!(pair.age_us() < 2_000, "{}", pair.age_us());
        // What the PC saw before its clock stood has the age it has.
        assert!(pair.age_of(seen_before_us) >= pause_us);
        pair.run(30);
        assert!(pair.age_us() < 2_000 && pair.age_of(seen_before_us) >= pause_us + 26_000_000);
    }

    #[test]
    fn an_hour_long_pause_makes_no_old_frame_young() {
        let mut pair = Pair::new();
        pair.run(30);
        let seen_before_us = pair.now_us - pair.behind_us;
        let pause_us = 3_600_000_000;
        pair.now_us += pause_us;
        pair.behind_us += pause_us;
        // The link is over, and the next one begins.
        pair.now_us += 5_000;
        pair.clock.greeted(at(pair.now_us), pair.now_us - 1_000 - pair.behind_us);
        for _ in 0..3 {
            pair.trip();
            let age_us = pair.age_of(seen_before_us);
            assert!(age_us >= pause_us, "{age_us}");
        }
        pair.now_us += 10_000;
        assert!(pair.age_us() < 2_000, "{}", pair.age_us());
    }

    #[test]
    fn a_pause_between_greeting_and_ping_makes_nothing_younger() {
        let mut pair = Pair::new();
        pair.run(30);
        pair.now_us += 5_000;
        pair.clock.greeted(at(pair.now_us), pair.now_us - 1_000 - pair.behind_us);
        pair.now_us += 5_000;
        let seen_us = pair.now_us - pair.behind_us;
        let pause_us = 2_000_000;
        pair.now_us += pause_us + 5_000;
        pair.behind_us += pause_us;
        pair.trip();
        assert!(pair.age_of(seen_us) >= pause_us, "{}", pair.age_of(seen_us));
    }

    #[test]
    fn a_link_without_a_round_trip_proves_nothing() {
        let mut pair = Pair::new();
        pair.run(30);
        // The greeting is held up for two seconds, and the link is over before anything is answered.
        pair.now_us += 2_000_000;
        pair.clock.greeted(at(pair.now_us), pair.now_us - 2_000_000 - pair.behind_us);
        let seen_us = pair.now_us - pair.behind_us;
        let pause_us = 3_000_000;
        pair.now_us += pause_us + 5_000;
        pair.behind_us += pause_us;
        for _ in 0..3 {
            pair.clock.greeted(at(pair.now_us), pair.now_us - 1_000 - pair.behind_us);
            assert!(pair.age_of(seen_us) >= pause_us, "{}", pair.age_of(seen_us));
            pair.now_us += 500_000;
        }
        pair.trip();
        assert!(pair.age_of(seen_us) >= pause_us + 1_000_000, "{}", pair.age_of(seen_us));
        pair.now_us += 10_000;
        assert!(pair.age_us() < 2_000, "{}", pair.age_us());
    }

    #[test]
    fn a_new_link_without_a_pause_changes_no_age() {
        let mut pair = Pair::new();
        // Once it had stood for long, which is no matter afterwards.
        pair.run(10);
        pair.now_us += 3_600_000_000;
        pair.behind_us += 3_600_000_000;
        for _ in 0..20 {
            pair.clock.greeted(at(pair.now_us), pair.now_us - 1_000 - pair.behind_us);
            pair.run(10);
            pair.now_us += 60_000_000;
            let seen_us = pair.now_us - pair.behind_us;
            pair.now_us += 5_000;
            pair.clock.greeted(at(pair.now_us), pair.now_us - 1_000 - pair.behind_us);
            pair.trip();
            assert!(pair.age_of(seen_us) < 10_000, "{}", pair.age_of(seen_us));
        }
    }

    #[test]
    fn our_own_clock_that_stood_is_told() {
        let mut pair = Pair::new();
        pair.run(30);
        // Ours stood for a second: the peer's is further ahead now.
        pair.behind_us -= 1_000_000;
        let stood = pair.trip().unwrap();
        assert!((995..1_005).contains(&stood.as_millis()), "{stood:?}");
        assert!(pair.age_us() < 3_000, "{}", pair.age_us());
        pair.run(30);
    }
}
