//! How long to wait before dialling again.

use core::time::Duration;

/// Longest first pause.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause of all.
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses that double from at most 100 ms to at most 5 s, each between half and all of that: a
/// hundred PCs that lose one board do not come back at the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest / 2 + longest.mul_f64(fastrand::f64() / 2.0)
    }

    /// The peer was reached: the next pause is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pause_is_short_and_none_is_longer_than_five_seconds() {
        for _ in 0..100 {
            let mut backoff = Backoff::default();
            assert!(backoff.pause() <= FIRST);
            let pauses: Vec<_> = (0..50).map(|_| backoff.pause()).collect();
            assert!(pauses.iter().all(|pause| *pause <= LONGEST));
            assert!(pauses.last().is_some_and(|pause| *pause >= LONGEST / 2));
            backoff.reset();
            assert!(backoff.pause() <= FIRST);
        }
    }
}
