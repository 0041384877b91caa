//! What is measured: two sockets on one bus, the forwarder, canspan, and any other pair of commands.

use std::{collections::BTreeMap, fs, process::Command};

use crate::{
    forwarder,
    lab::{BOARD, Namespace, Pair, eventually},
    measure,
    process::{self, Process, SOON},
};

/// The PC's address.
const PC: &str = "10.0.0.2";
/// The port that is given to the commands of a pair.
const PORT: u16 = 28_600;

/// A pair of commands as they were given.
pub(crate) struct Template {
    pub(crate) name: String,
    pub(crate) serve: String,
    pub(crate) connect: String,
}

/// Something that carries frames from a bus to another, running, in namespaces of its own.
pub(crate) struct System {
    pub(crate) name: String,
    pair: Pair,
    processes: Vec<Process>,
}

/// All that the arguments ask for: the names that there are, and what starts each.
pub(crate) fn all(templates: Vec<Template>) -> Vec<(String, Box<dyn FnOnce() -> System>)> {
    let mut all: Vec<(String, Box<dyn FnOnce() -> System>)> = vec![
        ("sockets".into(), Box::new(|| System::new("sockets", Pair::new(), vec![]))),
        ("forwarder".into(), Box::new(start_forwarder)),
        ("canspan".into(), Box::new(|| start_canspan("canspan", &[]))),
    ];
    if knows_hold() {
        let start = || start_canspan("canspan-hold", &["--hold", "4ms"]);
        all.push(("canspan-hold".into(), Box::new(start)));
    }
    for template in templates {
        all.push((template.name.clone(), Box::new(move || start_pair(&template))));
    }
    all
}

/// Whether the binary can hold frames back for company.
fn knows_hold() -> bool {
    let help = Command::new(process::canspan()).args(["serve", "--help"]).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--hold"))
}

fn start_forwarder() -> System {
    let pair = Pair::new();
    let (listener, dialler) = forwarder::start(&pair, &[]);
    System::new("forwarder", pair, vec![listener, dialler])
}

fn start_canspan(name: &str, options: &[&str]) -> System {
    let pair = Pair::new();
    let arguments = [&["vcan0"], options].concat();
    let server = pair.serve(&arguments);
    let client = pair.connect(&arguments);
    System::new(name, pair, vec![server, client])
}

fn start_pair(template: &Template) -> System {
    let pair = Pair::new();
    let start = |namespace: &Namespace, command: &str| {
        let command = command
            .replace("{interface}", "vcan0")
            .replace("{address}", BOARD)
            .replace("{peer}", PC)
            .replace("{port}", &PORT.to_string());
        Process::start(namespace, "sh", &["-c", &format!("exec {command}")])
    };
    let mut server = start(&pair.board, &template.serve);
    let board = &pair.board;
    eventually(&format!("{} listens on port {PORT}", template.name), SOON, || {
        let ended = (!server.is_running()).then(|| server.err());
        assert!(ended.is_none(), "{}: `{}` ended: {ended:?}", template.name, template.serve);
        listens(board)
    });
    let client = start(&pair.pc, &template.connect);
    System::new(&template.name, pair, vec![server, client])
}

/// Whether something waits on the port in this namespace, by TCP or UDP.
fn listens(namespace: &Namespace) -> bool {
    let port = format!(":{PORT:04X}");
    namespace.run(move || {
        ["tcp", "tcp6", "udp", "udp6"].iter().any(|list| {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{list}"));
            text.unwrap_or_default().lines().any(|line| {
                line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port))
            })
        })
    })
}

impl System {
    fn new(name: &str, pair: Pair, processes: Vec<Process>) -> Self {
        let system = Self { name: name.to_owned(), pair, processes };
        system.carries_both_ways();
        system
    }

    /// Where the bus is.
    pub(crate) fn board(&self) -> &Namespace {
        &self.pair.board
    }

    /// Where the bus is carried to; two sockets are on one bus.
    pub(crate) fn pc(&self) -> &Namespace {
        if self.is_bare() { &self.pair.board } else { &self.pair.pc }
    }

    /// Whether there is nothing between the two sockets.
    pub(crate) fn is_bare(&self) -> bool {
        self.processes.is_empty()
    }

    fn carries_both_ways(&self) {
        for (from, to) in [(self.board(), self.pc()), (self.pc(), self.board())] {
            let arrives = measure::arrives(from, to, SOON).expect("the vcan takes frames");
            assert!(
                arrives,
                "{}: no frame from {} arrived in {}",
                self.name,
                from.name(),
                to.name()
            );
        }
    }

    /// Processor time of all its processes so far, in microseconds, where the kernel counts it.
    ///
    /// In User-Mode Linux it moves in steps of a tick, 10 ms.
    pub(crate) fn cpu_us(&self) -> Option<f64> {
        if self.is_bare() {
            return None;
        }
        let parents = parents();
        let ours: Vec<u32> = self.processes.iter().map(Process::pid).collect();
        let is_ours = |mut pid: u32| loop {
            if ours.contains(&pid) {
                return true;
            }
            match parents.get(&pid) {
                Some(parent) => pid = *parent,
                None => return false,
            }
        };
        parents.keys().filter(|pid| is_ours(**pid)).map(|pid| cpu_of(*pid)).sum()
    }

    /// Bytes that crossed the cable so far, both directions, with Ethernet, IP and TCP headers.
    pub(crate) fn wire_bytes(&self) -> Option<u64> {
        if self.is_bare() {
            return None;
        }
        self.board().run(|| {
            let text = fs::read_to_string("/proc/thread-self/net/dev").ok()?;
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix("wire:"))?;
            let numbers: Vec<u64> =
                line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            Some(numbers.first()? + numbers.get(8)?)
        })
    }

    /// Makes the cable worse, as `tc ... netem` understands it, in both directions; `None` mends it.
    pub(crate) fn cable(&self, netem: Option<&str>) {
        for namespace in [&self.pair.board, &self.pair.pc] {
            match netem {
                Some(netem) => namespace.tc(&format!("qdisc replace dev wire root netem {netem}")),
                None => namespace.tc("qdisc del dev wire root"),
            }
        }
    }
}

/// The parent of each process there is.
fn parents() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // After the name, which may hold anything: the state, the parent.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect()
}

/// Processor time of a process's threads in microseconds.
fn cpu_of(pid: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    threads
        .map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<f64>().ok()
        })
        .sum::<Option<f64>>()
        .map(|ns| ns / 1e3)
}
