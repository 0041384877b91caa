//! Every arrangement that the documentation shows, with a cut and a standstill on every hop: no old command reaches the
//! far bus, a new one does soon, and nothing of that bus is missing in the lab.
//!
//! Each arrangement is built once for each fault, and all of them fail at the same time.

use core::time::Duration;
use std::{
    collections::{HashMap, HashSet},
    thread,
    time::Instant,
};

use crate::{
    lab::{Namespace, ip},
    process::Process,
    sys::{CanSocket, Frame},
};

const COMMAND: u32 = 0x200;
const REPORT: u32 = 0x100;
/// The age limit of the board's bus, and what an age may be misjudged by: each hop measures its clock's difference on a
/// machine that runs a hundred processes.
const LIMIT_US: u64 = 500_000;
const SLACK_US: u64 = 150_000;
/// How long a fault lasts.
const FAULT: Duration = Duration::from_secs(8);
/// How long everything may take to be joined, or to heal.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// This process stands still.
    Stop(usize),
    /// The cable behind this machine is pulled.
    Cut(usize),
    /// This interface of this machine is down.
    Down(usize, &'static str),
}

/// How machines in a row are joined. The first has the bus `vb`, the last the lab's `vl`; cable N leads from machine N - 1
/// (10.0.N.1) to machine N (10.0.N.2).
struct Arrangement {
    name: &'static str,
    machines: usize,
    /// Interfaces beside the two.
    interfaces: &'static [(usize, &'static str)],
    /// On which machine, and the command line.
    processes: &'static [(usize, &'static str)],
}

const DIRECT: Arrangement = Arrangement {
    name: "board, lab",
    machines: 2,
    interfaces: &[],
    processes: &[
        (0, "serve vb --max-age 500ms --listen 10.0.1.1 --insecure"),
        (1, "connect 10.0.1.1 vb:vl"),
    ],
};
const BOARD_DIALS: Arrangement = Arrangement {
    name: "board dials the lab",
    machines: 2,
    interfaces: &[],
    processes: &[
        (0, "serve vb --max-age 500ms --dial 10.0.1.2"),
        (1, "connect --listen 10.0.1.2 --insecure vb:vl"),
    ],
};
const RELAY: Arrangement = Arrangement {
    name: "both dial a relay",
    machines: 3,
    interfaces: &[],
    processes: &[
        (0, "serve vb --max-age 500ms --dial 10.0.1.2"),
        (1, "serve sim:vb --listen 0.0.0.0 --insecure"),
        (2, "connect 10.0.2.1 vb:vl"),
    ],
};
const TWO_HOPS: Arrangement = Arrangement {
    name: "board, near, lab",
    machines: 3,
    interfaces: &[],
    processes: &[
        (0, "serve vb --max-age 500ms --listen 10.0.1.1 --insecure"),
        (1, "serve sim:vb --dial 10.0.1.1 --listen 10.0.2.1 --insecure"),
        (2, "connect 10.0.2.1 vb:vl"),
    ],
};
const THREE_HOPS: Arrangement = Arrangement {
    name: "board, near, far, lab",
    machines: 4,
    interfaces: &[],
    processes: &[
        (0, "serve vb --max-age 500ms --listen 10.0.1.1 --insecure"),
        (1, "serve sim:vb --dial 10.0.1.1 --listen 10.0.2.1 --insecure"),
        (2, "serve sim:vb --dial 10.0.2.1 --listen 10.0.3.1 --insecure"),
        (3, "connect 10.0.3.1 vb:vl"),
    ],
};
/// A chain as it was shown before: two processes on the machine between, and a bus of its own between those.
const OVER_A_VCAN: Arrangement = Arrangement {
    name: "over a virtual bus between",
    machines: 3,
    interfaces: &[(1, "vn")],
    processes: &[
        (0, "serve vb --max-age 500ms --listen 10.0.1.1 --insecure"),
        (1, "connect 10.0.1.1 vb:vn"),
        (1, "serve vn --listen 10.0.2.1 --insecure"),
        (2, "connect 10.0.2.1 vn:vl"),
    ],
};

impl Arrangement {
    /// Everything that can fail in it.
    fn faults(&self) -> Vec<Fault> {
        let stops = (0..self.processes.len()).map(Fault::Stop);
        let cuts = (0..self.machines - 1).map(Fault::Cut);
        let between = self.interfaces.iter().map(|(machine, name)| Fault::Down(*machine, name));
        stops.chain(cuts).chain(between).chain([Fault::Down(0, "vb")]).collect()
    }
}

/// An arrangement at work, and the fault that it is for.
struct Site {
    name: String,
    fault: Fault,
    machines: Vec<Namespace>,
    processes: Vec<Process>,
    /// Both ends: where commands are given, and where reports come; and the board's bus.
    lab: CanSocket,
    bus: CanSocket,
    given: CanSocket,
    put: CanSocket,
    shown: CanSocket,
    reports: u64,
    commands: u64,
    given_us: HashMap<u64, u64>,
    put_us: HashMap<u64, u64>,
    seen: Vec<u64>,
}

impl Site {
    fn build(arrangement: &Arrangement, fault: Fault) -> Self {
        let machines: Vec<Namespace> =
            (0..arrangement.machines).map(|_| Namespace::new("site")).collect();
        for (number, ends) in (1..).zip(machines.windows(2)) {
            let (one, two) = (ends[0].name(), ends[1].name());
            ip(&format!(
                "link add w{number} netns {one} type veth peer name w{number} netns {two}"
            ));
            for (end, last) in ends.iter().zip(1..) {
                end.ip(&format!("addr add 10.0.{number}.{last}/24 dev w{number}"));
                end.ip(&format!("link set w{number} up"));
            }
        }
        let last = arrangement.machines - 1;
        for (machine, interface) in arrangement.interfaces.iter().chain(&[(0, "vb"), (last, "vl")])
        {
            machines[*machine].add_vcan(interface, 72);
        }
        let (lab, bus) = (machines[last].can_sender("vl"), machines[0].can_sender("vb"));
        let (given, put) =
            (machines[last].can_only("vl", COMMAND), machines[0].can_only("vb", COMMAND));
        // As much room as any tool has.
        let shown = machines[last].can_only("vl", REPORT);
        shown.plain().unwrap();
        let processes = arrangement.processes.iter().map(|(machine, line)| {
            let words: Vec<&str> = line.split_whitespace().chain(["--history", "64k"]).collect();
            Process::canspan(&machines[*machine], &words)
        });
        let processes = processes.collect();
        let name = format!("{}, {fault:?}", arrangement.name);
        let (given_us, put_us, seen) = (HashMap::new(), HashMap::new(), Vec::new());
        let (reports, commands) = (0, 0);
        Self {
            name,
            fault,
            machines,
            processes,
            lab,
            bus,
            given,
            put,
            shown,
            reports,
            commands,
            given_us,
            put_us,
            seen,
        }
    }

    fn fail(&mut self, begins: bool) {
        let (signal, state) = if begins { (libc::SIGSTOP, "down") } else { (libc::SIGCONT, "up") };
        match self.fault {
            Fault::Stop(process) => self.processes[process].signal(signal),
            Fault::Cut(machine) => {
                self.machines[machine].ip(&format!("link set w{} {state}", machine + 1));
            }
            Fault::Down(machine, interface) => {
                self.machines[machine].ip(&format!("link set {interface} {state}"));
            }
        }
    }

    fn command(&mut self) {
        self.lab.send(&Frame::classic(COMMAND, &self.commands.to_le_bytes())).unwrap();
        self.commands += 1;
    }

    /// What the far bus shows, where it can.
    fn report(&mut self) {
        if self.bus.send(&Frame::classic(REPORT, &self.reports.to_le_bytes())).is_ok() {
            self.reports += 1;
        }
    }

    /// Takes note of what was on the buses.
    fn look(&mut self) {
        for (socket, into) in [(&self.given, &mut self.given_us), (&self.put, &mut self.put_us)] {
            // Of an interface that is down there is an error, once, and then what it had shown.
            while let Ok(batch) = socket.receive(Duration::ZERO) {
                if batch.frames.is_empty() {
                    break;
                }
                into.extend(batch.frames.iter().map(Frame::number).zip(batch.stamps_us));
            }
        }
        while let Ok(batch) = self.shown.receive(Duration::ZERO) {
            if batch.frames.is_empty() {
                break;
            }
            self.seen.extend(batch.frames.iter().map(Frame::number));
        }
    }

    /// A command from `from` on has reached the far bus; if not, one more is given.
    fn passes(&mut self, from: u64) -> bool {
        self.look();
        let passes = self.put_us.keys().any(|number| *number >= from);
        if !passes {
            self.command();
        }
        passes
    }

    /// What is wrong in the end.
    fn faults_seen(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let age = |number: &u64| self.put_us[number].saturating_sub(self.given_us[number]);
        let old: Vec<u64> =
            self.put_us.keys().map(age).filter(|age| *age > LIMIT_US + SLACK_US).collect();
        if let Some(oldest) = old.iter().max() {
            wrong.push(format!(
                "{}: {} old commands, the oldest {} ms",
                self.name,
                old.len(),
                oldest / 1000
            ));
        }
        let (count, seen) = (self.seen.len() as u64, self.seen.iter().collect::<HashSet<_>>());
        if count != self.reports || seen.len() as u64 != count || !self.seen.is_sorted() {
            let different = seen.len();
            wrong.push(format!(
                "{}: of {} reports {count} came, {different} different",
                self.name, self.reports
            ));
        }
        wrong
    }
}

/// Builds each arrangement for each of its faults, lets all fail at once and heal, and looks at what came of it.
fn all_heal(arrangements: &[Arrangement]) {
    let begin = Instant::now();
    let all =
        arrangements.iter().flat_map(|one| one.faults().into_iter().map(move |fault| (one, fault)));
    let mut sites: Vec<Site> = all.map(|(one, fault)| Site::build(one, fault)).collect();
    wait_for_all(&mut sites, "everything is joined");
    println!("    {} sites are joined after {:?}", sites.len(), begin.elapsed());
    sites.iter_mut().for_each(|site| (0..10).for_each(|_| site.report()));
    sites.iter_mut().for_each(|site| site.fail(true));
    // Later than what takes commands off the interface that a moment ago was up.
    thread::sleep(Duration::from_millis(50));
    let failed = Instant::now();
    for site in &mut sites {
        (0..10).for_each(|_| {
            site.command();
            site.report();
        });
    }
    thread::sleep(FAULT.saturating_sub(failed.elapsed()));
    sites.iter_mut().for_each(|site| site.fail(false));
    sites.iter_mut().for_each(|site| (0..10).for_each(|_| site.report()));
    wait_for_all(&mut sites, "a new command passes everywhere");
    println!("    healed after {:?}", failed.elapsed() - FAULT);
    // What would come twice, or late, has time to.
    let (rest, mut stands) = (Instant::now(), false);
    while !stands || rest.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(200));
        sites.iter_mut().for_each(Site::look);
        stands = rest.elapsed() > PATIENCE
            || sites.iter().all(|site| site.seen.len() as u64 >= site.reports);
    }
    let wrong: Vec<String> = sites.iter().flat_map(Site::faults_seen).collect();
    wrong.iter().for_each(|wrong| println!("    {wrong}"));
    let oldest = sites
        .iter()
        .flat_map(|site| site.put_us.iter().map(|(n, put)| put.saturating_sub(site.given_us[n])));
    println!("    the oldest command on a far bus: {} ms", oldest.max().unwrap_or(0) / 1000);
    let count = sites.len();
    // What those that are right had to say helps nobody.
    sites.retain(|site| !site.faults_seen().is_empty());
    sites.truncate(1);
    assert!(wrong.is_empty(), "{} sites of {count} are not right", wrong.len());
}

/// Waits until a command given from now on has reached the far bus of every site.
fn wait_for_all(sites: &mut [Site], what: &str) {
    let from: Vec<u64> = sites.iter().map(|site| site.commands).collect();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let passes = sites.iter_mut().zip(&from).map(|(site, from)| site.passes(*from));
        let missing: Vec<usize> =
            passes.enumerate().filter(|(_, passes)| !passes).map(|(number, _)| number).collect();
        if missing.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            let names: Vec<&str> =
                missing.iter().map(|number| sites[*number].name.as_str()).collect();
            panic!("not within {PATIENCE:?}: {what}; not at {names:?}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn no_old_command_passes_a_documented_arrangement() {
    all_heal(&[DIRECT, BOARD_DIALS, RELAY, TWO_HOPS, THREE_HOPS]);
}

#[test]
fn no_old_command_passes_a_bus_between() {
    all_heal(&[OVER_A_VCAN]);
}
