//! The traffic of a simulated bus: nothing, a candump log in a loop, or a steady rate.
//!
//! A [`Source`] never looks at a clock. The caller asks [`Source::next_due`] when to come back,
//! and then calls [`Source::poll`] with the time until it has no more. Memory is fixed when it is
//! opened, however long the log is.
//!
//! A source that is called late catches up, but by no more than [`CATCH_UP_MAX_US`]: a process
//! that was stopped for an hour must not answer with an hour of traffic at once. What is left out
//! is time, not frames: the log goes on where it was and the counter of the steady rate has no
//! gap, so a gap someone sees in either is a loss and nothing else.

mod trace;

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::frame::{Frame, Id};
use crate::text::ParseLogError;
use trace::Trace;

/// How late a frame may come before the schedule is moved instead, in microseconds. Chosen above
/// what a loaded machine delays a process by, and below what a reader takes for a burst.
pub const CATCH_UP_MAX_US: u64 = 100_000;
/// Highest steady rate, in frames per second; several times what any CAN bus carries.
pub const RATE_MAX: u32 = 1_000_000;
/// Microseconds in a second.
const SECOND_US: u64 = 1_000_000;
/// The identifiers of a steady rate, in turn: like a vehicle's, of both widths and all priorities.
const RATE_IDS: [Id; 4] = [
    Id::Standard(0x0C9),
    Id::Extended(0x18FE_F100),
    Id::Standard(0x3D1),
    Id::Extended(0x0CF0_0400),
];

/// What traffic a simulated bus makes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SimSource {
    /// None: the bus is a hub for its clients.
    #[default]
    Silent,
    /// The frames of a candump log, over and over, at the pace of its time stamps. All its frames
    /// are taken, whichever bus they name.
    Trace(PathBuf),
    /// This many classic frames per second, 1 to [`RATE_MAX`], evenly spaced. Their eight bytes
    /// count the frames from 0, big-endian.
    Rate(u32),
}

/// A simulated bus's traffic while it runs.
#[derive(Debug)]
pub struct Source {
    traffic: Traffic,
    skipped_us: u64,
}

#[derive(Debug)]
enum Traffic {
    Silent,
    Trace(Box<Trace>),
    Rate(Rate),
}

impl Source {
    /// Makes a source ready; a trace is read once from end to end, so that a mistake in its last
    /// line is told now and not in a week.
    pub fn open(source: &SimSource) -> Result<Self, SimError> {
        let traffic = match source {
            SimSource::Silent => Traffic::Silent,
            SimSource::Trace(path) => Traffic::Trace(Box::new(Trace::open(path)?)),
            SimSource::Rate(0) => return Err(SimError::RateZero),
            SimSource::Rate(rate) => Traffic::Rate(Rate::new((*rate).min(RATE_MAX))),
        };
        Ok(Self { traffic, skipped_us: 0 })
    }

    /// When the next frame is due, in microseconds of the clock given to [`Self::poll`]; `None` if
    /// there is never one. Before the first `poll` it is 0: at once.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        match &self.traffic {
            Traffic::Silent => None,
            Traffic::Trace(trace) => trace.next_due(),
            Traffic::Rate(rate) => Some(rate.next_due()),
        }
    }

    /// The next frame that is due at `now_us`, microseconds of a monotonic clock. To be called
    /// until it returns `None`.
    pub fn poll(&mut self, now_us: u64) -> Option<Frame> {
        let late_us = now_us.checked_sub(self.next_due()?)?;
        let skip_us = if late_us > CATCH_UP_MAX_US { late_us } else { 0 };
        match &mut self.traffic {
            Traffic::Silent => None,
            Traffic::Trace(trace) => {
                self.skipped_us += trace.start_or_skip(now_us, skip_us);
                trace.next_frame()
            }
            Traffic::Rate(rate) => {
                self.skipped_us += rate.start_or_skip(now_us, skip_us);
                rate.next_frame()
            }
        }
    }

    /// How much of its schedule the source has left out because it was called too late, in
    /// microseconds.
    #[must_use]
    pub fn skipped_us(&self) -> u64 {
        self.skipped_us
    }

    /// Why the source has come to an end it should not have, once: the trace was good when it was
    /// opened, and has since been changed or become unreadable.
    pub fn take_failure(&mut self) -> Option<SimError> {
        match &mut self.traffic {
            Traffic::Trace(trace) => trace.take_failure(),
            Traffic::Silent | Traffic::Rate(_) => None,
        }
    }
}

/// Frames at even distances. The schedule starts anew with every second, which keeps it exact
/// without a number that grows.
#[derive(Debug)]
struct Rate {
    per_second: u32,
    second_us: Option<u64>,
    sent_in_second: u32,
    counter: u64,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        Self { per_second, second_us: None, sent_in_second: 0, counter: 0 }
    }

    fn next_due(&self) -> u64 {
        let Some(second_us) = self.second_us else { return 0 };
        let in_second = u64::from(self.sent_in_second) * SECOND_US / u64::from(self.per_second);
        second_us.saturating_add(in_second)
    }

    fn start_or_skip(&mut self, now_us: u64, skip_us: u64) -> u64 {
        let started = self.second_us.is_some();
        let second_us = self.second_us.get_or_insert(now_us);
        if !started {
            return 0;
        }
        *second_us = second_us.saturating_add(skip_us);
        skip_us
    }

    fn next_frame(&mut self) -> Option<Frame> {
        let ids = u64::try_from(RATE_IDS.len()).ok()?;
        let id = RATE_IDS.get(usize::try_from(self.counter % ids).ok()?)?;
        let frame = Frame::data_frame(*id, &self.counter.to_be_bytes())?;
        self.counter = self.counter.wrapping_add(1);
        self.sent_in_second += 1;
        if self.sent_in_second >= self.per_second {
            self.sent_in_second = 0;
            self.second_us = self.second_us.map(|second_us| second_us.saturating_add(SECOND_US));
        }
        Some(frame)
    }
}

/// Why a simulated bus makes no traffic. Displays as a sentence.
#[derive(Debug)]
pub enum SimError {
    /// A rate of no frames.
    RateZero,
    /// The trace cannot be opened or read.
    Unreadable(PathBuf, io::Error),
    /// The trace is a directory, a pipe or a device, which cannot be read in a loop.
    NotAFile(PathBuf),
    /// The trace has no frame.
    NoFrames(PathBuf),
    /// A line of the trace, counted from 1, is none of a candump log.
    Line(PathBuf, u64, ParseLogError),
    /// A line of the trace, counted from 1, is longer than this many bytes.
    LineTooLong(PathBuf, u64, usize),
}

impl SimError {
    fn unreadable(path: &Path, error: io::Error) -> Self {
        Self::Unreadable(path.to_owned(), error)
    }
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateZero => f.write_str(
                "a rate of 0 frames per second is no traffic; a simulated bus without a rate has \
                 none",
            ),
            Self::Unreadable(path, error) => {
                write!(f, "the trace {} cannot be read: {error}", path.display())
            }
            Self::NotAFile(path) => write!(
                f,
                "the trace {} is not a regular file, and only such a one can be read in a loop",
                path.display()
            ),
            Self::NoFrames(path) => write!(
                f,
                "the trace {} has no frame; `candump -L can0` prints what is expected in it",
                path.display()
            ),
            Self::Line(path, line, error) => {
                write!(f, "line {line} of the trace {} is wrong: {error}", path.display())
            }
            Self::LineTooLong(path, line, max) => write!(
                f,
                "line {line} of the trace {} is longer than {max} bytes, which no line of a \
                 candump log is",
                path.display()
            ),
        }
    }
}

impl core::error::Error for SimError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::Line(_, _, error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
