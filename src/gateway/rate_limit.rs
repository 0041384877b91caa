//! Keeps what may come in floods from filling a journal or an SD card: some lines in a span of
//! time, then one with the sum of what was left out.

use core::time::Duration;

use crate::protocol::time::Instant;

/// The time lines are counted over. Chosen: short enough that an operator who looks sees the flood,
/// and a whole night of it stays below a megabyte.
pub(super) const SPAN: Duration = Duration::from_secs(10);

/// What was logged of one cause lately.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    lines_max: u32,
    span: Duration,
    span_end: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl RateLimit {
    /// Lets `lines_max` lines pass in each [`SPAN`].
    pub(super) const fn new(lines_max: u32) -> Self {
        Self::over(SPAN, lines_max)
    }

    /// Lets `lines_max` lines pass in each `span`.
    pub(super) const fn over(span: Duration, lines_max: u32) -> Self {
        Self { lines_max, span, span_end: None, lines: 0, left_out: 0 }
    }

    /// Whether something that counts `amount` may be logged now: the sum of `amount` and of what was
    /// left out before. `None`: it is left out, and [`RateLimit::catch_up`] tells it later.
    pub(super) fn allow(&mut self, now: Instant, amount: u64) -> Option<u64> {
        if self.span_end.is_none_or(|end| end <= now) {
            self.span_end = Some(now + self.span);
            self.lines = 0;
        }
        if self.lines >= self.lines_max {
            self.left_out = self.left_out.saturating_add(amount);
            return None;
        }
        self.lines += 1;
        Some(core::mem::take(&mut self.left_out).saturating_add(amount))
    }

    /// Whether the line that was just allowed is the last one of this span.
    pub(super) fn is_used_up(&self) -> bool {
        self.lines == self.lines_max
    }

    /// When to call [`RateLimit::catch_up`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.span_end.filter(|_| self.left_out > 0)
    }

    /// The sum of what was left out, once the span is over; to be logged.
    pub(super) fn catch_up(&mut self, now: Instant) -> Option<u64> {
        let is_due = self.poll_timeout().is_some_and(|at| at <= now);
        if is_due { self.allow(now, 0) } else { None }
    }

    /// The same at any time: nothing more is to come.
    pub(super) fn settle(&mut self) -> Option<u64> {
        Some(core::mem::take(&mut self.left_out)).filter(|left_out| *left_out > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000);

    #[test]
    fn flood_is_one_line_then_its_sum() {
        let mut limit = RateLimit::new(1);
        assert_eq!(limit.allow(START, 5), Some(5));
        for step in 1..1000 {
            assert_eq!(limit.allow(START + Duration::from_millis(step), 2), None);
        }
        assert_eq!(limit.catch_up(START + SPAN - Duration::from_micros(1)), None);
        assert_eq!(limit.poll_timeout(), Some(START + SPAN));
        assert_eq!(limit.catch_up(START + SPAN), Some(1998));
        assert_eq!((limit.catch_up(START + SPAN), limit.poll_timeout()), (None, None));
        // The sum was the line of this span.
        assert_eq!(limit.allow(START + SPAN, 1), None);
        assert_eq!((limit.settle(), limit.settle()), (Some(1), None));
    }

    #[test]
    fn next_line_after_the_span_has_the_sum() {
        let mut limit = RateLimit::new(2);
        assert_eq!((limit.allow(START, 1), limit.is_used_up()), (Some(1), false));
        assert_eq!((limit.allow(START, 1), limit.is_used_up()), (Some(1), true));
        assert_eq!(limit.allow(START, 1), None);
        assert_eq!(limit.allow(START + SPAN, 1), Some(2));
    }
}
