//! The service manager: told that the program is ready, how it stands, that its loop still turns,
//! and that it stops. The protocol is the one of sd_notify(3): datagrams of `NAME=VALUE` lines, to
//! the socket that the environment names.
//!
//! Nothing here waits. What the manager cannot take now is kept and sent again, and of each kind
//! only the newest.

use core::fmt::Write as _;
use core::time::Duration;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::protocol::time::Instant;

/// How long two status lines are apart at least. Chosen: a person reads them, and each is a
/// message on the manager's own bus.
pub const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How soon what the manager could not take is sent again. Chosen: a tenth of the shortest
/// watchdog time that makes sense on a small board.
const RETRY: Duration = Duration::from_millis(100);

/// Shortest pause between two signs of life. Chosen: a loop that does nothing else must not keep a
/// processor busy, and no manager's own clock is finer.
const PULSE_MIN: Duration = Duration::from_millis(10);

/// A service manager that wants to be told.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Pause between two signs of life: half of what the manager allows.
    pulse: Option<Duration>,
    alive_at: Option<Instant>,
    owed: Owed,
    /// The last status, told or owed.
    status: String,
    status_at: Instant,
    retry_at: Option<Instant>,
    is_deaf: bool,
}

/// What the manager was not told yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owed {
    ready: bool,
    stopping: bool,
    status: bool,
    alive: bool,
}

impl Manager {
    /// The manager that has started this process and wants to be told; `None`: there is none.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())?;
        let of = |name| std::env::var(name).ok();
        let pulse = pulse(of("WATCHDOG_USEC"), of("WATCHDOG_PID"), std::process::id());
        match Self::at(&socket, pulse) {
            Ok(manager) => Some(manager),
            Err(problem) => {
                let socket = socket.display();
                log::warn!("cannot tell the service manager (NOTIFY_SOCKET={socket}): {problem}");
                None
            }
        }
    }

    /// The manager that listens at `socket`, a path or, after an `@`, a name of the kernel's;
    /// `pulse`: pause between two signs of life, if it wants any.
    pub fn at(socket: &OsStr, pulse: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(socket)?,
            _ => {
                let problem = "it is neither a path nor a name after an @";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address,
            pulse,
            alive_at: None,
            owed: Owed::default(),
            status: String::new(),
            status_at: Instant::default(),
            retry_at: None,
            is_deaf: false,
        })
    }

    /// Everything is set up. Signs of life begin.
    pub fn ready(&mut self, now: Instant) {
        self.owed.ready = true;
        self.alive_at = self.pulse.map(|_| now);
    }

    /// The end has begun.
    pub fn stopping(&mut self) {
        self.owed.stopping = true;
    }

    /// When a new status may be told.
    #[must_use]
    pub fn status_at(&self) -> Instant {
        self.status_at
    }

    /// How it stands now; the same as before is not told again.
    pub fn status(&mut self, now: Instant, status: &str) {
        self.status_at = now + STATUS_EVERY;
        // A line feed would begin another message.
        let status = status.replace(char::is_control, "?");
        if status != self.status {
            self.status = status;
            self.owed.status = true;
        }
    }

    /// To be called at every turn of the loop, and when [`Manager::poll_timeout`] says so: sends what
    /// is due. Nearly always it only compares times.
    pub fn turn(&mut self, now: Instant) {
        if self.alive_at.is_some_and(|at| at <= now) {
            self.owed.alive = true;
            self.alive_at = self.pulse.map(|pulse| now + pulse);
        }
        if self.owed == Owed::default() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        match self.socket.send_to_addr(self.message().as_bytes(), &self.address) {
            Ok(_) => {
                self.owed = Owed::default();
                self.retry_at = None;
                self.is_deaf = false;
            }
            Err(error) => {
                self.retry_at = Some(now + RETRY);
                if !self.is_deaf {
                    log::warn!("cannot tell the service manager how it stands: {error}; retrying");
                }
                self.is_deaf = true;
            }
        }
    }

    /// When [`Manager::turn`] is to be called without anything having happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earliest(self.alive_at, self.retry_at)
    }

    fn message(&self) -> String {
        let Owed { ready, stopping, status, alive } = self.owed;
        let mut text = String::new();
        for (is_owed, line) in [(ready, "READY=1\n"), (stopping, "STOPPING=1\n")] {
            text.push_str(if is_owed { line } else { "" });
        }
        if status {
            let _ = writeln!(text, "STATUS={}", self.status);
        }
        text.push_str(if alive { "WATCHDOG=1\n" } else { "" });
        text
    }
}

/// How often a sign of life is due: at half the time the manager allows, in microseconds, as
/// sd_watchdog_enabled(3) advises. `pid` must be whom it means, if it says whom.
fn pulse(usec: Option<String>, whose: Option<String>, pid: u32) -> Option<Duration> {
    if whose.is_some_and(|whose| whose.parse() != Ok(pid)) {
        return None;
    }
    let usec = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some((Duration::from_micros(usec) / 2).max(PULSE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager that listens at a name of the kernel's, and the socket where it does.
    fn manager(name: &str, pulse: Option<Duration>) -> (Manager, UnixDatagram) {
        let name = format!("canspan-test-{}-{name}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        (Manager::at(OsStr::new(&format!("@{name}")), pulse).unwrap(), socket)
    }

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    const START: Instant = Instant::from_micros(5_000_000);

    #[test]
    fn ready_status_and_stopping_are_told_once() {
        let (mut manager, socket) = manager("order", None);
        manager.turn(START);
        assert_eq!(heard(&socket), None);
        manager.ready(START);
        manager.status(START, "can0 absent");
        manager.turn(START);
        assert_eq!(heard(&socket).as_deref(), Some("READY=1\nSTATUS=can0 absent\n"));
        assert_eq!((manager.poll_timeout(), manager.status_at()), (None, START + STATUS_EVERY));
        manager.status(START + STATUS_EVERY, "can0 absent");
        manager.turn(START + STATUS_EVERY);
        assert_eq!(heard(&socket), None);
        manager.stopping();
        manager.turn(START + STATUS_EVERY);
        assert_eq!(heard(&socket).as_deref(), Some("STOPPING=1\n"));
    }

    #[test]
    fn signs_of_life_come_at_their_pulse_and_only_from_turns() {
        let pulse = Duration::from_secs(5);
        let (mut manager, socket) = manager("pulse", Some(pulse));
        manager.turn(START);
        assert_eq!((heard(&socket), manager.poll_timeout()), (None, None));
        manager.ready(START);
        manager.turn(START);
        assert_eq!(heard(&socket).as_deref(), Some("READY=1\nWATCHDOG=1\n"));
        assert_eq!(manager.poll_timeout(), Some(START + pulse));
        manager.turn(START + pulse / 2);
        assert_eq!(heard(&socket), None);
        // A loop that was held up gives one sign, not those it has missed.
        manager.turn(START + pulse * 4);
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1\n"));
        assert_eq!((heard(&socket), manager.poll_timeout()), (None, Some(START + pulse * 5)));
    }

    #[test]
    fn a_manager_that_does_not_read_is_told_later_and_only_the_newest() {
        let (mut manager, socket) = manager("full", None);
        let mut sent = 0;
        let mut now = START;
        while manager.poll_timeout().is_none() {
            sent += 1;
            now = now + STATUS_EVERY;
            manager.status(now, &format!("{sent}"));
            manager.turn(now);
            assert!(sent < 100_000, "a socket that nobody reads takes everything");
        }
        manager.status(now + STATUS_EVERY, "the newest");
        manager.stopping();
        let retry = manager.poll_timeout().unwrap();
        while heard(&socket).is_some_and(|text| text != format!("STATUS={}\n", sent - 1)) {}
        manager.turn(now);
        assert_eq!(heard(&socket), None, "before its time");
        manager.turn(retry);
        assert_eq!(heard(&socket).as_deref(), Some("STOPPING=1\nSTATUS=the newest\n"));
        assert_eq!(manager.poll_timeout(), None);
    }

    #[test]
    fn a_status_is_one_line() {
        let (mut manager, socket) = manager("line", None);
        manager.status(START, "can0\nSTOPPING=1");
        manager.turn(START);
        assert_eq!(heard(&socket).as_deref(), Some("STATUS=can0?STOPPING=1\n"));
    }

    #[test]
    fn a_path_is_a_socket_too_and_other_addresses_are_refused() {
        let path = std::env::temp_dir().join(format!("canspan-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut manager = Manager::at(path.as_os_str(), None).unwrap();
        manager.ready(START);
        manager.turn(START);
        assert_eq!(heard(&socket).as_deref(), Some("READY=1\n"));
        std::fs::remove_file(&path).unwrap();
        assert!(Manager::at(OsStr::new("vsock:2:1234"), None).is_err());
        assert!(Manager::at(OsStr::new("run/notify"), None).is_err());
    }

    #[test]
    fn the_watchdog_is_ours_only_if_the_manager_says_so() {
        let of = |usec: &str, whose: Option<&str>| {
            pulse(Some(usec.to_owned()), whose.map(str::to_owned), 42)
        };
        assert_eq!(of("10000000", None), Some(Duration::from_secs(5)));
        assert_eq!(of("10000000", Some("42")), Some(Duration::from_secs(5)));
        assert_eq!(of("10000000", Some("43")), None);
        assert_eq!(of("10000000", Some("")), None);
        assert_eq!(of("1", None), Some(PULSE_MIN), "the loop would spin");
        assert_eq!(of("0", None), None);
        assert_eq!(of("soon", None), None);
        assert_eq!(pulse(None, None, 42), None);
    }
}
