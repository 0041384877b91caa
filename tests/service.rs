//! What a service manager is told by the binary, with a socket of our own in its place; and the files in
//! `systemd/`: every option they give or suggest is one the command line takes.
#![cfg(feature = "std")]

use core::time::Duration;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use canspan::cli::{self, Request};
use rustix::process::{Pid, Signal, kill_process};

/// How long what should happen at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn new(test: &str) -> Self {
        let name = format!("canspan-manager-{}-{test}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
        let socket = socket.unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, name: format!("@{name}") }
    }

    /// The next message's lines.
    fn heard(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a message in time");
        let text = core::str::from_utf8(&buffer[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// All lines up to one that `holds`, the others in the same message, too.
    fn until(&self, holds: impl Fn(&str) -> bool) -> Vec<String> {
        let end = Instant::now() + SOON;
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| holds(line)) {
            assert!(Instant::now() < end, "not told in time; told was {lines:?}");
            lines.extend(self.heard());
        }
        lines
    }
}

/// A running canspan; killed when dropped.
struct Running(Child);

impl Running {
    fn start(manager: &Manager, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_canspan"));
        command.args(arguments).env("NOTIFY_SOCKET", &manager.name).env_remove("RUST_LOG");
        command.env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().expect("the binary starts"))
    }

    /// Where it listens, as its log says. The rest of the log is let through.
    fn address(&mut self) -> String {
        let mut lines = BufReader::new(self.0.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("canspan: listening on ").map(str::to_owned));
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| eprintln!("{line}"))
        });
        address.expect("it listens")
    }

    fn end(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HUB: [&str; 4] = ["serve", "sim:hub", "--listen", "127.0.0.1:0"];

#[test]
fn ready_then_each_change_of_links_then_stopping() {
    let manager = Manager::new("links");
    let mut serve = Running::start(&manager, &HUB, &[]);
    let address = serve.address();
    assert_eq!(manager.heard(), ["READY=1", "STATUS=hub up, no links"]);
    let hub = format!("hub:{}", "sim:hub");
    let peer = Manager::new("peer");
    let mut connect = Running::start(&peer, &["connect", &address, &hub], &[]);
    assert_eq!(peer.heard()[0], "READY=1");
    let linked = format!("STATUS=hub up, linked to {address}");
    peer.until(|line| line == linked);
    manager.until(|line| line == "STATUS=hub up, 1 link");
    serve.end();
    let last = manager.until(|line| line == "STOPPING=1");
    assert!(!last.iter().any(|line| line == "READY=1"), "{last:?}");
    assert!(serve.0.wait().unwrap().success());
    let alone = format!("STATUS=hub up, no link to {address}");
    peer.until(|line| line == alone);
    connect.end();
    peer.until(|line| line == "STOPPING=1");
    assert!(connect.0.wait().unwrap().success());
}

#[test]
fn signs_of_life_come_at_half_the_time_while_nothing_happens() {
    let manager = Manager::new("life");
    let _serve = Running::start(&manager, &HUB, &[("WATCHDOG_USEC", "1000000")]);
    let is_sign = |line: &str| line == "WATCHDOG=1";
    assert!(manager.until(is_sign).contains(&"READY=1".to_owned()));
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(manager.until(is_sign), ["WATCHDOG=1"]);
    }
    // Not at every turn of the loop, and not at the last moment: four halves of a second.
    assert!(start.elapsed() > Duration::from_millis(1_900), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(3_900), "{:?}", start.elapsed());
}

#[test]
fn a_watchdog_for_another_process_gets_no_signs() {
    let manager = Manager::new("other");
    let environment = [("WATCHDOG_USEC", "200000"), ("WATCHDOG_PID", "1")];
    let mut serve = Running::start(&manager, &HUB, &environment);
    let address = serve.address();
    let mut lines = manager.heard();
    // A whole link's life passes meanwhile.
    let peer = Manager::new("others-peer");
    let _connect = Running::start(&peer, &["connect", &address, "hub:sim:hub"], &[]);
    lines.extend(manager.until(|line| line == "STATUS=hub up, 1 link"));
    serve.end();
    lines.extend(manager.until(|line| line == "STOPPING=1"));
    assert!(!lines.iter().any(|line| line.starts_with("WATCHDOG")), "{lines:?}");
}

#[test]
fn a_manager_that_cannot_be_reached_stops_nothing() {
    let manager = Manager::new("gone");
    let name = manager.name.clone();
    drop(manager.socket);
    let gone = Manager { socket: UnixDatagram::unbound().unwrap(), name };
    let mut serve = Running::start(&gone, &HUB, &[("WATCHDOG_USEC", "1000000")]);
    let address = serve.address();
    let status = Command::new(env!("CARGO_BIN_EXE_canspan")).args(["status", &address]).output();
    assert!(status.unwrap().status.success());
}

/// Lines `NAME="VALUE"` of a settings file, those that are commented out, too.
fn values<'f>(file: &'f str, name: &str) -> Vec<&'f str> {
    let value = |line: &'f str| {
        let line = line.strip_prefix('#').unwrap_or(line);
        line.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"')
    };
    file.lines().filter_map(value).collect()
}

#[test]
fn the_example_settings_are_command_lines() {
    let serve = include_str!("../systemd/canspan.conf.example");
    let connect = include_str!("../systemd/canspan-connect.conf.example");
    let mut count = 0;
    for (command, file, buses) in [("serve", serve, "can0"), ("connect board", connect, "")] {
        for options in values(file, "CANSPAN_ARGS") {
            count += 1;
            for buses in values(file, "CANSPAN_BUSES").into_iter().chain([buses]) {
                let line = format!("{command} {buses} {options}");
                let parsed = cli::parse(line.split_whitespace().map(Into::into));
                assert!(matches!(parsed, Ok(Request::Run { .. })), "{line}: {parsed:?}");
            }
        }
    }
    for peer in values(connect, "CANSPAN_PEER") {
        assert!(cli::parse(["connect", peer].map(Into::into)).is_ok(), "{peer}");
    }
    assert!(count >= 5, "only {count} lines of options in the examples");
}
