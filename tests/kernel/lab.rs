//! The field set-up: a board and a PC as network namespaces, a CAN interface in each, a cable between them.

use core::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use crate::{
    process::{Process, SOON},
    sys::{self, CanSocket},
};

/// Waits for a condition; panics when the time is up.
pub(crate) fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lab's scratch folder in memory. Outside the lab there is none, and no test may run.
pub(crate) fn scratch() -> PathBuf {
    let lab = std::env::var("CANSPAN_LAB").expect("these tests run in the lab: tests/run kernel");
    PathBuf::from(lab)
}

/// Runs `ip` with the words of `line`.
pub(crate) fn ip(line: &str) {
    let run =
        Command::new("ip").args(line.split_whitespace()).output().expect("ip (package iproute2)");
    assert!(run.status.success(), "ip {line}: {}", String::from_utf8_lossy(&run.stderr));
}

/// A network namespace with its loopback up; removed when dropped.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one. `role` is the beginning of its name.
    pub(crate) fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        drop(scratch());
        let name = format!("{role}{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, line: &str) {
        ip(&format!("-n {} {line}", self.name));
    }

    /// Runs `tc` in it: faults of the cable.
    pub(crate) fn tc(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.run_program("tc", &words);
    }

    /// Adds a virtual CAN interface that is up. An `mtu` of 72 is FD, 16 classic only.
    pub(crate) fn add_vcan(&self, interface: &str, mtu: u32) {
        self.ip(&format!("link add {interface} mtu {mtu} type vcan"));
        self.ip(&format!("link set {interface} up"));
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        sys::inside(&Path::new("/run/netns").join(&self.name), work)
    }

    /// Runs `work` inside the namespace and waits for its result.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A raw socket on one of its CAN interfaces.
    pub(crate) fn can(&self, interface: &str) -> CanSocket {
        let name = interface.to_owned();
        self.run(move || CanSocket::open_here(&name)).unwrap_or_else(|e| panic!("{interface}: {e}"))
    }

    /// A raw socket that receives only frames with this id.
    pub(crate) fn can_only(&self, interface: &str, id: u32) -> CanSocket {
        let socket = self.can(interface);
        socket.only(id).unwrap();
        socket
    }

    /// A raw socket that only sends: what it received would pile up unread.
    pub(crate) fn can_sender(&self, interface: &str) -> CanSocket {
        let socket = self.can(interface);
        socket.mute().unwrap();
        socket
    }

    /// How many CAN receivers are open in it.
    pub(crate) fn listeners(&self) -> usize {
        self.run(|| {
            ["all", "err", "fil", "inv", "sff", "eff"]
                .iter()
                .map(|list| fs::read_to_string(format!("/proc/thread-self/net/can/rcvlist_{list}")))
                .map(|list| {
                    list.map_or(0, |text| {
                        text.lines().filter(|line| line.trim_end().ends_with("raw")).count()
                    })
                })
                .sum()
        })
    }

    /// A number the kernel keeps of an interface, such as `rx_bytes`.
    pub(crate) fn statistic(&self, interface: &str, name: &str) -> u64 {
        let text =
            self.run_program("cat", &[&format!("/sys/class/net/{interface}/statistics/{name}")]);
        text.trim().parse().unwrap()
    }

    /// Whether it has this interface.
    pub(crate) fn has(&self, interface: &str) -> bool {
        Command::new("ip")
            .args(["-n", &self.name, "link", "show", interface])
            .output()
            .is_ok_and(|run| run.status.success())
    }

    /// Runs a program in it to its successful end; its standard output.
    pub(crate) fn run_program(&self, program: &str, arguments: &[&str]) -> String {
        Process::start(self, program, arguments).finish(SOON).succeeded().out
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// The board's address.
pub(crate) const BOARD: &str = "10.0.0.1";

/// A board and a PC, each with an FD `vcan0`, joined by a cable called `wire` at both ends.
pub(crate) struct Pair {
    /// 10.0.0.1 and fd00::1.
    pub(crate) board: Namespace,
    /// 10.0.0.2 and fd00::2.
    pub(crate) pc: Namespace,
}

impl Pair {
    /// Both with a `vcan0`.
    pub(crate) fn new() -> Self {
        let pair = Self::without_can();
        pair.board.add_vcan("vcan0", 72);
        pair.pc.add_vcan("vcan0", 72);
        pair
    }

    /// Without any CAN interface.
    pub(crate) fn without_can() -> Self {
        let pair = Self { board: Namespace::new("board"), pc: Namespace::new("pc") };
        let (board, pc) = (pair.board.name(), pair.pc.name());
        ip(&format!("link add wire netns {board} type veth peer name wire netns {pc}"));
        for (namespace, last) in [(&pair.board, 1), (&pair.pc, 2)] {
            namespace.ip(&format!("addr add 10.0.0.{last}/24 dev wire"));
            namespace.ip(&format!("addr add fd00::{last}/64 dev wire nodad"));
            namespace.ip("link set wire up");
        }
        pair
    }

    /// Pulls the cable, or puts it back.
    pub(crate) fn plug(&self, is_in: bool) {
        self.board.ip(if is_in { "link set wire up" } else { "link set wire down" });
        if is_in {
            // An interface that goes down loses its IPv6 addresses.
            let _ = Command::new("ip")
                .args([
                    "-n",
                    self.board.name(),
                    "addr",
                    "add",
                    "fd00::1/64",
                    "dev",
                    "wire",
                    "nodad",
                ])
                .output();
        }
    }

    /// Gives TCP little room: it would else take megabytes before the history feels anything.
    pub(crate) fn small_tcp_buffers(&self) {
        for namespace in [&self.board, &self.pc] {
            for name in ["tcp_rmem", "tcp_wmem"] {
                let small = format!("echo 4096 16384 65536 >/proc/sys/net/ipv4/{name}");
                namespace.run_program("sh", &["-c", &small]);
            }
        }
    }

    /// `canspan serve` on the board, listening to the PC; returns once it listens. A `vcan` is
    /// without an age limit, unless one is given: most tests are about what no cut may lose.
    pub(crate) fn serve(&self, buses: &[&str]) -> Process {
        let is_unlimited =
            buses.iter().any(|bus| bus.starts_with("vcan")) && !buses.contains(&"--max-age");
        let no_limit: &[&str] = if is_unlimited { &["--max-age", "none"] } else { &[] };
        let arguments = [&["serve"], buses, no_limit, &["--listen", BOARD, "--insecure"]].concat();
        let server = Process::canspan(&self.board, &arguments);
        server.says("listening on 10.0.0.1:22677");
        server
    }

    /// `canspan connect` on the PC; returns once the link is up.
    pub(crate) fn connect(&self, arguments: &[&str]) -> Process {
        let client = Process::canspan(&self.pc, &[&["connect", BOARD], arguments].concat());
        client.says("link up");
        client
    }

    /// The everyday case: `vcan0` of the board on the PC's `vcan0`.
    pub(crate) fn joined(&self) -> (Process, Process) {
        let server = self.serve(&["vcan0"]);
        let client = self.connect(&["vcan0"]);
        (server, client)
    }
}

/// `canspan status --json`, asked there of whoever listens at `address`.
pub(crate) fn status(namespace: &Namespace, address: &str) -> serde_json::Value {
    let asked = Process::canspan(namespace, &["status", address, "--json"]).finish(SOON);
    serde_json::from_str(&asked.succeeded().out).expect("JSON")
}

/// The last line of counters in a log, as `name=number` pairs.
///
/// One link's counters are one line: `link ... lost=0 stale=0 refused=0 ...`.
pub(crate) fn counters(log: &str) -> Counters {
    let line = log
        .lines()
        .rev()
        .find(|line| line.contains("link ") && line.contains("lost="))
        .unwrap_or_else(|| panic!("no line of counters in:\n{log}"));
    Counters { line: line.to_owned() }
}

/// A link's counters.
#[derive(Debug)]
pub(crate) struct Counters {
    line: String,
}

impl Counters {
    /// One counter.
    pub(crate) fn get(&self, name: &str) -> u64 {
        let key = format!("{name}=");
        self.line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(&key))
            .and_then(|number| number.trim_end_matches([',', ';', ')']).parse().ok())
            .unwrap_or_else(|| panic!("no number {name}= in: {}", self.line))
    }

    /// Asserts that nothing was lost, stale or refused.
    pub(crate) fn all_zero(&self) {
        for name in ["lost", "stale", "refused"] {
            assert_eq!(self.get(name), 0, "{name}: {}", self.line);
        }
    }
}
