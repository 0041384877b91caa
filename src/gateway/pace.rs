//! When to read a bus next.
//!
//! A frame leaves as soon as it is read. But at thousands of frames a second a wake-up and a packet
//! for each are a waste of processor and radio that ends in loss, so a busy bus is read in turns,
//! as a network card does with adaptive interrupt moderation: below [`BUSY_RATE`] at once, above
//! it every [`TURN`].

use core::time::Duration;

use crate::protocol::time::Instant;

/// Frames a second from which a bus counts as busy. Chosen: twice the rate at which latency is
/// promised, a quarter of a full 1 Mbit/s bus.
pub const BUSY_RATE: u64 = 2_000;
/// How long a turn is. Measured: at 8,000 frames/s 32 frames then share a packet, and a frame costs
/// at most 16 bytes on the wire with everything.
pub const TURN: Duration = Duration::from_millis(4);
/// Over how long the rate is measured.
const WINDOW: Duration = Duration::from_millis(16);

/// The pace at which one bus is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    since: Instant,
    frames: u64,
    is_busy: bool,
    next: Option<Instant>,
}

impl Pace {
    /// `frames` were read.
    pub fn read(&mut self, now: Instant, frames: usize) {
        let window = now.since(self.since);
        if window >= WINDOW {
            let busy =
                BUSY_RATE * u64::try_from(window.as_micros()).unwrap_or(u64::MAX) / 1_000_000;
            self.is_busy = self.frames > busy;
            self.frames = 0;
            self.since = now;
        }
        self.frames += frames as u64;
        self.next = self.is_busy.then(|| now + TURN);
    }

    /// Until when the bus is better not read; `None`: read it at once.
    #[must_use]
    pub fn not_before(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// When the next turn is due, until it was taken; `None`: there are no turns.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many reads a second of frames takes, each read taking what has come.
    fn reads(rate: u64) -> u64 {
        let (mut pace, mut reads, mut waiting) = (Pace::default(), 0, 0);
        for frame in 0..rate * 2 {
            let now = Instant::from_micros(5_000_000 + frame * 1_000_000 / rate);
            waiting += 1;
            if pace.not_before(now).is_none() {
                pace.read(now, waiting);
                waiting = 0;
                reads += u64::from(frame >= rate);
            }
        }
        reads
    }

    #[test]
    fn a_quiet_bus_is_read_at_once_and_a_busy_one_in_turns() {
        assert_eq!(reads(1_000), 1_000);
        assert!((230..=250).contains(&reads(8_000)), "{}", reads(8_000));
        assert!((230..=250).contains(&reads(20_000)), "{}", reads(20_000));
    }

    #[test]
    fn a_bus_that_falls_silent_is_not_busy_any_more() {
        let mut pace = Pace::default();
        for turn in 0..20 {
            pace.read(Instant::from_micros(turn * 4_000), 80);
        }
        let later = Instant::from_micros(10_000_000);
        pace.read(later, 1);
        pace.read(later + WINDOW, 1);
        assert_eq!(pace.not_before(later + WINDOW), None);
    }
}
