//! Frames as lines on standard output, without ever waiting for who reads them.

use std::io;

use crate::protocol::Frame;
use crate::text;

/// Bytes that wait at most. Chosen: some hundred lines; the frames behind them wait in the peer's
/// history.
const WAITING_MAX: usize = 32 * 1024;
/// Longest line: a stamp of 26 bytes, a name of 15, an id of 8, and 64 bytes of data in hex.
const LINE_MAX: usize = 256;
/// Bytes written at once: a pipe that is ready takes so many without blocking (`PIPE_BUF` in
/// `linux/limits.h`).
const WRITE_MAX: usize = 4096;

/// Lines on their way to standard output.
#[derive(Debug)]
pub struct Printer {
    waiting: Vec<u8>,
    line: String,
    is_closed: bool,
}

impl Default for Printer {
    fn default() -> Self {
        let (waiting, line) = (Vec::with_capacity(WAITING_MAX), String::with_capacity(LINE_MAX));
        Self { waiting, line, is_closed: false }
    }
}

impl Printer {
    /// Adds a line in the format of `candump -L`; `false` if there is no room now.
    pub fn line(&mut self, stamp_us: u64, bus: &str, frame: &Frame) -> bool {
        if self.is_closed {
            // Nobody reads it: it must not keep the end waiting.
            return true;
        }
        if self.waiting.len() + LINE_MAX > WAITING_MAX {
            return false;
        }
        self.line.clear();
        // Writing to a string does not fail.
        let _ = text::write_log_line(&mut self.line, stamp_us, bus, frame);
        self.waiting.extend_from_slice(self.line.as_bytes());
        self.waiting.push(b'\n');
        true
    }

    /// Whether there is something to write.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() && !self.is_closed
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Writes what can be written without waiting; standard output must be ready.
    pub fn write(&mut self) -> io::Result<()> {
        let now = self.waiting.len().min(WRITE_MAX);
        let bytes = self.waiting.get(..now).unwrap_or(&[]);
        let written = rustix::io::write(rustix::stdio::stdout(), bytes);
        match written.map_err(io::Error::from) {
            Ok(written) => {
                self.waiting.drain(..written);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
