//! How long to wait before dialling again.

use core::time::Duration;

/// Longest first pause.
const FIRST: Duration = Duration::from_millis(100);

/// Pauses that double from at most 100 ms to a longest one, each between half and all of that: a
/// hundred PCs that lose one board do not come back at the same moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next attempt, `longest` at most.
    pub fn pause(&mut self, longest: Duration) -> Duration {
        let most = FIRST.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures = self.failures.saturating_add(1);
        most / 2 + most.mul_f64(fastrand::f64() / 2.0)
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
    fn the_first_pause_is_short_and_none_is_longer_than_the_longest() {
        let longest = Duration::from_secs(2);
        for _ in 0..100 {
            let mut backoff = Backoff::default();
            assert!(backoff.pause(longest) <= FIRST);
            let pauses: Vec<_> = (0..50).map(|_| backoff.pause(longest)).collect();
            assert!(pauses.iter().all(|pause| *pause <= longest));
            assert!(pauses.last().is_some_and(|pause| *pause >= longest / 2));
            backoff.reset();
            assert!(backoff.pause(longest) <= FIRST);
        }
    }
}
