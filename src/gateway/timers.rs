//! When each link wants a turn without anything having happened.

use crate::protocol::time::Instant;

/// A moment for each link. Most turns look at one number; only when something is due all are looked at.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: Vec<Option<Instant>>,
    /// No moment is earlier; it may have been put off since.
    earliest: Option<Instant>,
}

impl Timers {
    /// Sets the moment of link `number`, in place of the one before.
    pub(super) fn set(&mut self, number: usize, at: Option<Instant>) {
        if self.due.len() <= number {
            self.due.resize(number + 1, None);
        }
        if let Some(due) = self.due.get_mut(number) {
            *due = at;
        }
        self.earliest = Instant::earliest(self.earliest, at);
    }

    /// When to look again at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.earliest
    }

    /// Calls `each` for every link that is due, which is none any more then.
    pub(super) fn take_due(&mut self, now: Instant, mut each: impl FnMut(usize)) {
        if self.earliest.is_none_or(|at| at > now) {
            return;
        }
        self.earliest = None;
        for (number, due) in self.due.iter_mut().enumerate() {
            if due.is_some_and(|at| at <= now) {
                *due = None;
                each(number);
            }
            self.earliest = Instant::earliest(self.earliest, *due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    fn due(timers: &mut Timers, now: u64) -> Vec<usize> {
        let mut all = Vec::new();
        timers.take_due(at(now), |number| all.push(number));
        all
    }

    #[test]
    fn link_is_due_once_at_its_latest_moment() {
        let mut timers = Timers::default();
        for (number, us) in [(5, 30), (0, 20), (2, 10)] {
            timers.set(number, Some(at(us)));
        }
        assert_eq!(timers.next(), Some(at(10)));
        timers.set(2, Some(at(25)));
        assert!(due(&mut timers, 15).is_empty());
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(due(&mut timers, 25), [0, 2]);
        timers.set(5, None);
        assert!(due(&mut timers, 40).is_empty());
        assert_eq!(timers.next(), None);
    }
}
