//! The machine's two clocks: the monotonic one to wait by, the wall clock for stamps.
//!
//! The monotonic one goes on while the machine sleeps (`CLOCK_BOOTTIME`): a command from before is
//! old afterwards.

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::time::Instant;

/// A frame that seems to come from the future, or to have waited longer than this before it was
/// read, is a sign that the wall clock was set. Chosen: a read is late by milliseconds.
const PLAUSIBLE_US: i64 = 100_000;
/// What the monotonic clock shows when the machine is switched on. Not 0: a peer's frame may be older
/// than that, and must keep its age. Chosen: 25 days, longer than any age limit that makes sense.
const ORIGIN_US: u64 = 1 << 41;
/// How often the clocks are compared when nothing seems wrong. NTP slews at most 500 ppm, which
/// makes 0.5 ms in this time.
const COMPARE_EVERY_US: u64 = 1_000_000;

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000).wrapping_add(nanoseconds / 1_000)
}

/// Now, on the monotonic clock.
#[must_use]
pub fn now() -> Instant {
    let us = ORIGIN_US + read(ClockId::Boottime);
    #[cfg(feature = "kernel-tests")]
    let us = us.saturating_add_signed(shifted::by_us());
    Instant::from_micros(us)
}

/// A clock that a test moves: one that stood still, as a paused virtual machine's does, is behind from then on.
#[cfg(feature = "kernel-tests")]
mod shifted {
    use std::{fs::File, os::unix::fs::FileExt, sync::OnceLock};

    /// Names a file that holds microseconds, as text. It is read at each look at the clock.
    const VARIABLE: &str = "CANSPAN_TEST_CLOCK";
    static SHIFT: OnceLock<Option<File>> = OnceLock::new();

    pub(super) fn by_us() -> i64 {
        let open = || std::env::var_os(VARIABLE).and_then(|path| File::open(path).ok());
        let Some(file) = SHIFT.get_or_init(open) else { return 0 };
        let mut text = [0; 24];
        let length = file.read_at(&mut text, 0).unwrap_or(0);
        let text = core::str::from_utf8(text.get(..length).unwrap_or(&[])).unwrap_or("");
        text.trim().parse().unwrap_or(0)
    }
}

/// How far the wall clock is ahead of the monotonic one. Reading a clock is a system call on some
/// machines, so the two are compared now and then, and when a stamp makes no sense.
#[derive(Debug)]
pub struct WallClock {
    offset_us: i64,
    compared: Instant,
}

impl Default for WallClock {
    fn default() -> Self {
        let now = now();
        Self { offset_us: offset(now), compared: now }
    }
}

impl WallClock {
    /// Wall clock minus monotonic clock, in microseconds, as of about `now`.
    pub fn offset_us(&mut self, now: Instant) -> i64 {
        if now.as_micros() > self.compared.as_micros().saturating_add(COMPARE_EVERY_US) {
            self.compare();
        }
        self.offset_us
    }

    /// The same, for a frame stamped `stamp_us` and read about `now`.
    pub fn offset_for(&mut self, now: Instant, stamp_us: u64) -> i64 {
        let wall = now.as_micros().wrapping_add_signed(self.offset_us);
        let waited_us = wall.wrapping_sub(stamp_us).cast_signed();
        // Once a turn: a machine that is behind reads many old frames, and must not fall further
        // behind over each.
        if !(-PLAUSIBLE_US..PLAUSIBLE_US).contains(&waited_us) && now >= self.compared {
            self.compare();
        }
        self.offset_us(now)
    }

    /// What the wall clock says at `now`, in microseconds since the Unix epoch.
    pub fn stamp_us(&mut self, now: Instant) -> u64 {
        now.as_micros().wrapping_add_signed(self.offset_us(now))
    }

    fn compare(&mut self) {
        self.compared = now();
        self.offset_us = offset(self.compared);
    }
}

fn offset(now: Instant) -> i64 {
    read(ClockId::Realtime).wrapping_sub(now.as_micros()).cast_signed()
}
