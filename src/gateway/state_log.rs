//! Tells the operator how a bus is, each time that changes, but never in a flood: a bad plug makes
//! a bus change its state a hundred times a second.

use core::fmt::Display;

use super::rate_limit::RateLimit;
use super::report;
use crate::bus::Health;
use crate::protocol::time::Instant;

/// Lines for one bus in one [`SPAN`](super::rate_limit::SPAN). Chosen: an adapter pulled and put back
/// three times in a row makes nine.
const LINES_MAX: u32 = 20;

/// What was told of one bus lately.
#[derive(Debug)]
pub(super) struct StateLog {
    limit: RateLimit,
    /// The newest of what was not told.
    untold: Option<Health>,
}

impl Default for StateLog {
    fn default() -> Self {
        Self { limit: RateLimit::new(LINES_MAX), untold: None }
    }
}

impl StateLog {
    /// The bus has another state. `whose` begins the line.
    pub(super) fn changed(&mut self, now: Instant, whose: impl Display, health: Health) {
        // Nothing new before a flood is settled: its last state is told first.
        self.catch_up(now, &whose);
        if let Some(line) = self.line(now, health) {
            log::info!("{whose}{line}");
        }
    }

    /// When [`StateLog::catch_up`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.limit.poll_timeout()
    }

    /// Tells how it stands after a flood.
    pub(super) fn catch_up(&mut self, now: Instant, whose: impl Display) {
        if let Some((health, times)) = self.untold.zip(self.limit.catch_up(now)) {
            let line = report::health(health);
            log::info!("{whose}{line}, after {times} changes that were not told");
            self.untold = None;
        }
    }

    fn line(&mut self, now: Instant, health: Health) -> Option<String> {
        if self.limit.allow(now, 1).is_none() {
            self.untold = Some(health);
            return None;
        }
        let last = self.limit.is_used_up();
        let note = if last { "; changes are not told one by one for a while" } else { "" };
        Some(report::health(health) + note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::rate_limit::SPAN;
    use crate::protocol::wire::BusState;

    #[test]
    fn a_flood_is_told_in_few_lines_and_its_end_is_known() {
        let mut log = StateLog::default();
        let start = Instant::from_micros(1_000_000);
        let (up, off) = (Health::unknown(BusState::Up), Health::unknown(BusState::BusOff));
        let mut told = 0;
        for n in 0..1000 {
            told += u32::from(log.line(start, if n % 2 == 0 { off } else { up }).is_some());
        }
        assert_eq!((told, log.untold), (LINES_MAX, Some(up)));
        assert_eq!({ log.limit }.catch_up(start + SPAN), Some(980));
        assert_eq!(log.poll_timeout(), Some(start + SPAN));
        log.catch_up(start + SPAN, "can0: ");
        assert_eq!((log.untold, log.poll_timeout()), (None, None));
        assert_eq!(log.line(start + SPAN, up).as_deref(), Some("up"));
    }
}
