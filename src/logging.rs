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
    let default = format!("warn,canspan={level}");
    let wanted = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let (filter, problem) = match wanted {
        Some(filter) => match problem_with(&filter) {
            None => (filter, None),
            Some(problem) => (default, Some(problem)),
        },
        None => (default, None),
    };
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
    if let Some(problem) = problem {
        log::warn!("{problem}");
    }
}

/// What is wrong with the value of `RUST_LOG`. The library takes a word it does not know for the
/// name of a crate, and then logs nothing of this one.
fn problem_with(filter: &str) -> Option<String> {
    let (directives, _) = filter.split_once('/').unwrap_or((filter, ""));
    for directive in directives.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let (target, level) = directive.split_once('=').unwrap_or(("", directive));
        // A target alone stands for all of its levels.
        let is_known = |text: &str| text.parse::<log::LevelFilter>().is_ok() || text.is_empty();
        let is_target = target.is_empty() && level.split("::").next() == Some("canspan");
        if !is_known(level.trim()) && !is_target {
            return Some(format!(
                "RUST_LOG={filter} is ignored: {directive} is no level; the levels are error, \
                 warn, info, debug, trace and off"
            ));
        }
    }
    None
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
    fn unknown_level_is_reported_with_those_there_are() {
        for good in ["info", "warn,canspan=debug", "canspan", "canspan::net=trace", "off", "INFO,"]
        {
            assert_eq!(problem_with(good), None, "{good}");
        }
        for bad in ["foo", "canspan=loud", "inof", "warn,foo"] {
            let problem = problem_with(bad).unwrap();
            assert!(problem.contains("is no level") && problem.contains("debug"), "{problem}");
        }
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
