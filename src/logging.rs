//! The log: one line per message on standard error, for a terminal or for the journal.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Sends log messages to standard error as `canspan: message`.
///
/// The level is info, or debug with `verbose`; what the environment variable `RUST_LOG` says goes
/// before both. Under systemd each line carries its priority, so that `journalctl -p warning`
/// finds what matters. A second call changes nothing.
pub fn init_logging(verbose: bool) {
    let in_journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let level = if verbose { "debug" } else { "info" };
    // Of other crates only what has gone wrong: their debug messages are not about CAN.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| format!("warn,canspan={level}"));
    let outcome = env_logger::Builder::new()
        .parse_filters(&filter)
        .target(env_logger::Target::Pipe(Box::new(Unhurried::default())))
        .format(move |out, record| {
            writeln!(out, "{}canspan: {}", prefix(record.level(), in_journal), record.args())
        })
        .try_init();
    if outcome.is_err() {
        log::debug!("the log was set up before");
    }
}

/// Standard error for one who cannot wait: where its reader is stuck, lines are dropped, and their
/// number is told once it reads again. A log must not stop a bus.
#[derive(Debug, Default)]
struct Unhurried {
    dropped: u64,
}

impl Write for Unhurried {
    /// Takes whole lines. A pipe that is ready takes `PIPE_BUF` bytes without blocking, which is more
    /// than a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut fds = [PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::OUT)];
        let is_ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1);
        if !is_ready {
            self.dropped += 1;
            return Ok(line.len());
        }
        if self.dropped > 0 {
            let note = format!("canspan: {} lines of the log could not be written\n", self.dropped);
            self.dropped = 0;
            io::stderr().write_all(note.as_bytes())?;
        }
        io::stderr().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether standard error is the stream `JOURNAL_STREAM` names. The variable alone proves nothing:
/// a shell started by a service inherits it, and its user redirects where he likes.
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let Ok(stderr) = std::io::stderr().as_fd().try_clone_to_owned() else { return false };
    std::fs::File::from(stderr)
        .metadata()
        .is_ok_and(|stderr| device.parse() == Ok(stderr.dev()) && inode.parse() == Ok(stderr.ino()))
}

/// A syslog priority as sd-daemon(3) reads it at the start of a line.
fn prefix(level: Level, in_journal: bool) -> &'static str {
    match level {
        _ if !in_journal => "",
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_journal_gets_priorities() {
        assert_eq!(prefix(Level::Error, false), "");
        assert_eq!(prefix(Level::Error, true), "<3>");
        assert_eq!(prefix(Level::Info, true), "<6>");
    }

    #[test]
    fn the_variable_must_name_this_very_stream() {
        assert!(!is_journal(None));
        assert!(!is_journal(Some("")));
        assert!(!is_journal(Some("x:y")));
        assert!(!is_journal(Some("0:0")));
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        let stderr = std::fs::File::from(stderr).metadata().unwrap();
        assert!(is_journal(Some(&format!("{}:{}", stderr.dev(), stderr.ino()))));
    }
}
