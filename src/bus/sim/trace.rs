//! A candump log, read over and over with the memory of one line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{SECOND_US, SimError};
use crate::protocol::frame::Frame;
use crate::text::parse_log_line;

/// Longest line, in bytes. An FD frame of 64 bytes takes 180 with a long bus name; the rest is
/// room for spaces and comments.
const LINE_MAX: usize = 512;

/// A log in a loop, and the frame that comes next.
#[derive(Debug)]
pub(super) struct Trace {
    lines: Lines,
    /// From the last frame of one turn to the first of the next.
    loop_gap_us: u64,
    /// The next frame with its time stamp in the log; `None` after a failure.
    next: Option<(Frame, u64)>,
    /// When `next` is due; `None` before the start.
    due_us: Option<u64>,
    failure: Option<SimError>,
}

impl Trace {
    /// Opens a log and checks all of it.
    pub(super) fn open(path: &Path) -> Result<Self, SimError> {
        let mut lines = Lines::open(path)?;
        let mut last = None;
        let mut span_us = 0_u64;
        let mut gaps = 0_u64;
        while let Some((_, stamp_us)) = lines.next_frame()? {
            if let Some(last_us) = last {
                span_us = span_us.saturating_add(gap_us(last_us, stamp_us));
                gaps += 1;
            }
            last = Some(stamp_us);
        }
        lines.rewind()?;
        let next = Some(lines.next_frame()?.ok_or_else(|| SimError::NoFrames(path.to_owned()))?);
        // The log does not say what follows its end; its own mean distance disturbs least. One that
        // takes no time at all is played once a second, not as fast as the machine can.
        let loop_gap_us = match span_us.checked_div(gaps) {
            None | Some(0) => SECOND_US,
            Some(mean_us) => mean_us,
        };
        Ok(Self { lines, loop_gap_us, next, due_us: None, failure: None })
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.next.as_ref().map(|_| self.due_us.unwrap_or(0))
    }

    /// Starts the schedule at `now_us`, or moves it on. Returns by how much it was moved.
    pub(super) fn start_or_skip(&mut self, now_us: u64, skip_us: u64) -> u64 {
        let Some(due_us) = &mut self.due_us else {
            self.due_us = Some(now_us);
            return 0;
        };
        *due_us = due_us.saturating_add(skip_us);
        skip_us
    }

    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let (frame, stamp_us) = self.next.take()?;
        match self.read_next(stamp_us) {
            Ok((next, gap_us)) => {
                self.next = Some(next);
                self.due_us = self.due_us.map(|due_us| due_us.saturating_add(gap_us));
            }
            Err(error) => self.failure = Some(error),
        }
        Some(frame)
    }

    /// The next frame of the log, and how long after `stamp_us` it comes.
    fn read_next(&mut self, stamp_us: u64) -> Result<((Frame, u64), u64), SimError> {
        if let Some(next) = self.lines.next_frame()? {
            return Ok((next, gap_us(stamp_us, next.1)));
        }
        self.lines.rewind()?;
        let next = self.lines.next_frame()?;
        let next = next.ok_or_else(|| SimError::NoFrames(self.lines.path.clone()))?;
        Ok((next, self.loop_gap_us))
    }

    pub(super) fn take_failure(&mut self) -> Option<SimError> {
        self.failure.take()
    }
}

/// The time between two frames. Where the clock of the recorder was set back, there is none.
fn gap_us(from_us: u64, to_us: u64) -> u64 {
    to_us.saturating_sub(from_us)
}

/// The lines of a file, one at a time into a buffer that does not grow.
#[derive(Debug)]
struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    number: u64,
    buffer: heapless::Vec<u8, LINE_MAX>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, SimError> {
        // Asked before it is opened: to open a pipe without a writer would wait for ever.
        let metadata =
            std::fs::metadata(path).map_err(|error| SimError::unreadable(path, error))?;
        if !metadata.is_file() {
            return Err(SimError::NotAFile(path.to_owned()));
        }
        let file = File::open(path).map_err(|error| SimError::unreadable(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            number: 0,
            buffer: heapless::Vec::new(),
        })
    }

    fn rewind(&mut self) -> Result<(), SimError> {
        self.number = 0;
        let start = self.file.seek(SeekFrom::Start(0));
        start.map(drop).map_err(|error| SimError::unreadable(&self.path, error))
    }

    /// The next frame with its time stamp in microseconds, or `None` at the end of the file.
    fn next_frame(&mut self) -> Result<Option<(Frame, u64)>, SimError> {
        while self.read_line()? {
            // A line that is not UTF-8 is no candump line, so it may as well be an empty frame.
            let line = str::from_utf8(&self.buffer).unwrap_or("(");
            match parse_log_line(line) {
                Ok(Some(line)) => return Ok(Some((line.frame, line.stamp_us))),
                Ok(None) => {}
                Err(error) => return Err(SimError::Line(self.path.clone(), self.number, error)),
            }
        }
        Ok(None)
    }

    /// Reads a line into the buffer; `false` at the end of the file.
    fn read_line(&mut self) -> Result<bool, SimError> {
        self.buffer.clear();
        self.number += 1;
        let mut read_any = false;
        loop {
            let chunk = match self.file.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(SimError::unreadable(&self.path, error)),
            };
            if chunk.is_empty() {
                return Ok(read_any);
            }
            read_any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let line = end.and_then(|end| chunk.get(..end)).unwrap_or(chunk);
            if self.buffer.extend_from_slice(line).is_err() {
                return Err(SimError::LineTooLong(self.path.clone(), self.number, LINE_MAX));
            }
            let taken = line.len() + usize::from(end.is_some());
            self.file.consume(taken);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}
