//! Tells the operator how a bus is, each time that changes, but never in a flood: a bad plug makes
//! a bus change its state a hundred times a second.

use core::fmt::Display;
use core::time::Duration;

use super::report;
use crate::bus::Health;
use crate::protocol::time::Instant;

/// Lines for one bus in one [`SPAN`]. Chosen: an adapter pulled and put back three times in a row
/// makes nine.
const LINES_MAX: u32 = 20;
/// The time they are counted over.
const SPAN: Duration = Duration::from_secs(10);

/// What was told of one bus lately.
#[derive(Debug, Default)]
pub(super) struct StateLog {
    span_end: Option<Instant>,
    lines: u32,
    /// What was not told, and how often.
    untold: Option<(Health, u64)>,
}

impl StateLog {
    /// The bus has another state. `whose` begins the line.
    pub(super) fn changed(&mut self, now: Instant, whose: impl Display, health: Health) {
        if let Some(line) = self.line(now, health) {
            log::info!("{whose}{line}");
        }
    }

    /// When [`StateLog::catch_up`] is to be called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.span_end.filter(|_| self.untold.is_some())
    }

    /// Tells how it stands after a flood.
    pub(super) fn catch_up(&mut self, now: Instant, whose: impl Display) {
        if self.poll_timeout().is_some_and(|at| at <= now)
            && let Some((health, times)) = self.untold.take()
        {
            let line = self.line(now, health).unwrap_or_default();
            log::info!("{whose}{line}, after {times} changes that were not told");
        }
    }

    fn line(&mut self, now: Instant, health: Health) -> Option<String> {
        if self.span_end.is_none_or(|end| end <= now) && self.untold.is_none() {
            self.span_end = Some(now + SPAN);
            self.lines = 0;
        }
        self.lines += 1;
        if self.lines > LINES_MAX {
            let times = self.untold.map_or(1, |(_, times)| times + 1);
            self.untold = Some((health, times));
            return None;
        }
        let last = self.lines == LINES_MAX;
        let note = if last { "; changes are not told one by one for a while" } else { "" };
        Some(report::health(health) + note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!((told, log.untold), (LINES_MAX, Some((up, 980))));
        assert_eq!(log.poll_timeout(), Some(start + SPAN));
        // Nothing new may come before the flood is settled.
        assert_eq!(log.line(start + SPAN, off), None);
        log.catch_up(start + SPAN, "can0: ");
        assert_eq!((log.untold, log.poll_timeout()), (None, None));
        assert_eq!(log.line(start + SPAN, up).as_deref(), Some("up"));
    }
}
