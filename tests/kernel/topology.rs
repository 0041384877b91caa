//! Networks as they are: a router in between, several boards, a chain of gateways, a container's network. Each is a
//! picture in `docs/containers.md`.

use core::time::Duration;
use std::process::Command;

use crate::{
    lab::{Namespace, counters, eventually, ip},
    numbered::{Checker, Generator},
    process::{Process, SOON},
};

/// How long a stream may stand still: a silent peer noticed, and the longest pause between two tries.
const PATIENCE: Duration = Duration::from_secs(20);

/// Joins two namespaces by a cable, `10.0.NET.1` at the first end and `.2` at the second; `wNET` at both.
fn cable(net: u8, first: &Namespace, second: &Namespace) {
    let (one, two) = (first.name(), second.name());
    ip(&format!("link add w{net} netns {one} type veth peer name w{net} netns {two}"));
    for (namespace, last) in [(first, 1), (second, 2)] {
        namespace.ip(&format!("addr add 10.0.{net}.{last}/24 dev w{net}"));
        namespace.ip(&format!("link set w{net} up"));
    }
}

/// `canspan serve` of one bus there; returns once it listens. Without an age limit: what is lost in a cut is the question.
fn serve(there: &Namespace, bus: &str, address: &str) -> Process {
    let arguments = ["serve", bus, "--listen", address, "--insecure", "--max-age", "none"];
    let server = Process::canspan(there, &arguments);
    server.says("listening on");
    server
}

/// `canspan connect` there; returns once the link is up.
fn connect(there: &Namespace, arguments: &[&str]) -> Process {
    let client = Process::canspan(there, &[&["connect"], arguments].concat());
    client.says("link up");
    client
}

/// A numbered stream from an interface of one namespace to one of another.
struct Stream {
    generator: Generator,
    checker: Checker,
    count: u64,
}

/// From where to where, under which id.
type Way<'n> = ((&'n Namespace, &'n str), (&'n Namespace, &'n str), u32);

impl Stream {
    /// Starts several. All checkers listen before the first frame is sent, for a socket hears everything until its filter
    /// is set.
    fn start_all<const N: usize>(ways: [Way<'_>; N], count: u64) -> [Self; N] {
        let checkers = ways.map(|(_, (there, interface), id)| {
            Checker::start(there.can_only(interface, id), count, PATIENCE)
        });
        let mut ways = ways.into_iter();
        checkers.map(|checker| {
            let ((here, interface), _, id) = ways.next().expect("as many as checkers");
            let generator = Generator::start(here.can_sender(interface), id, count, 500);
            Self { generator, checker, count }
        })
    }

    fn is_half_way(&self) -> bool {
        self.generator.sent() * 2 > self.count
    }

    /// Every frame came through, once, in order.
    fn ends_whole(self) {
        self.generator.finish();
        self.checker.finish().is_perfect(self.count);
    }
}

/// What both ends count at their end.
fn nothing_was_lost(processes: impl IntoIterator<Item = Process>) {
    for process in processes {
        counters(&process.stop().succeeded().err).all_zero();
    }
}

#[test]
fn a_bus_crosses_a_router_between_two_segments() {
    let [board, router, pc] = ["board", "router", "pc"].map(Namespace::new);
    cable(1, &board, &router);
    cable(2, &pc, &router);
    board.ip("route add 10.0.2.0/24 via 10.0.1.2");
    pc.ip("route add 10.0.1.0/24 via 10.0.2.2");
    router.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
    board.add_vcan("vcan0", 72);
    pc.add_vcan("vcan0", 72);
    let server = serve(&board, "vcan0", "10.0.1.1");
    let client = connect(&pc, &["10.0.1.1", "vcan0"]);
    let (here, there) = ((&pc, "vcan0"), (&board, "vcan0"));
    let [down, up] = Stream::start_all([(there, here, 0x100), (here, there, 0x200)], 2000);
    eventually("half of it is sent", PATIENCE, || down.is_half_way() && up.is_half_way());
    // The router forgets the way for longer than both ends wait for a sign of life.
    router.ip("link set w1 down");
    client.says("link down");
    router.ip("link set w1 up");
    down.ends_whole();
    up.ends_whole();
    nothing_was_lost([client, server]);
}

#[test]
fn three_boards_share_one_lab() {
    let boards = ["board", "board", "board"].map(Namespace::new);
    let lab = Namespace::new("lab");
    let mut processes = Vec::new();
    for (number, board) in (0_u8..).zip(&boards) {
        cable(number, board, &lab);
        board.add_vcan("can0", 72);
        let address = format!("10.0.{number}.1");
        let server = serve(board, "can0", &address);
        // All boards call theirs can0.
        let client = connect(&lab, &[&address, &format!("can0:can{number}"), "--create"]);
        processes.extend([client, server]);
    }
    let interfaces = ["can0", "can1", "can2"];
    // One id everywhere: a frame that took another's way would be doubled there, or foreign.
    let ways = core::array::from_fn::<Way<'_>, 6, _>(|number| {
        let (board, here) = ((&boards[number / 2], "can0"), (&lab, interfaces[number / 2]));
        if number % 2 == 0 { (board, here, 0x100) } else { (here, board, 0x200) }
    });
    let streams = Stream::start_all(ways, 1000);
    streams.into_iter().for_each(Stream::ends_whole);
    nothing_was_lost(processes);
    assert!(interfaces.iter().all(|interface| !lab.has(interface)), "interfaces are left");
}

/// A board, two gateways and a lab, each reaching only the one before it.
struct Chain {
    nodes: [Namespace; 4],
    processes: Vec<Process>,
}

impl Chain {
    /// One process on each gateway dials the one before it and serves the next. `board`: options of the board's `serve`.
    fn start(board: &[&str]) -> Self {
        let nodes = ["board", "near", "far", "lab"].map(Namespace::new);
        for (net, hop) in (1_u8..).zip(nodes.windows(2)) {
            cable(net, &hop[0], &hop[1]);
        }
        nodes[0].add_vcan("can0", 72);
        nodes[3].add_vcan("can0", 72);
        let serve = ["serve", "can0", "--listen", "10.0.1.1", "--insecure"];
        let mut processes = vec![Process::canspan(&nodes[0], &[&serve[..], board].concat())];
        processes[0].says("listening on");
        for net in [1, 2] {
            let (dial, listen) = (format!("10.0.{net}.1"), format!("10.0.{}.1", net + 1));
            let serve = ["serve", "sim:can0", "--dial", &dial, "--listen", &listen, "--insecure"];
            processes.push(Process::canspan(&nodes[net], &serve));
            processes[net].says("link up");
        }
        processes.push(connect(&nodes[3], &["10.0.3.1", "can0"]));
        Self { nodes, processes }
    }
}

#[test]
fn a_chain_over_two_gateways_carries_a_bus_whole() {
    let Chain { nodes: [board, near, _far, lab], mut processes } =
        Chain::start(&["--max-age", "none"]);
    let (here, there) = ((&lab, "can0"), (&board, "can0"));
    let [down, up] = Stream::start_all([(there, here, 0x100), (here, there, 0x200)], 2000);
    eventually("half of it is sent", PATIENCE, || down.is_half_way() && up.is_half_way());
    near.ip("link set w2 down");
    processes[2].says("link down");
    near.ip("link set w2 up");
    down.ends_whole();
    up.ends_whole();
    processes.reverse();
    nothing_was_lost(processes);
}

/// The board's bus is a `vcan`, and nobody gave a limit: it is served, so it has one.
#[test]
fn no_standstill_in_a_chain_makes_old_commands_new() {
    let Chain { nodes: [board, _near, _far, lab], mut processes } = Chain::start(&[]);
    let bus = board.can("can0");
    for (number, process) in processes.iter_mut().enumerate() {
        process.signal(libc::SIGSTOP);
        for command in 0..10 {
            lab.run_program("cansend", &["can0", &format!("2{number}{command:X}#00")]);
        }
        // Longer than the limit and all that may misjudge an age; not so long that a link is given up.
        std::thread::sleep(Duration::from_millis(1_500));
        process.signal(libc::SIGCONT);
        // Fresh ones pass, and before them none of the old.
        let fresh = 0x300 + number as u32;
        eventually("a fresh command is on the board's bus", PATIENCE, || {
            lab.run_program("cansend", &["can0", &format!("{fresh:03X}#01")]);
            let seen = bus.receive(Duration::from_millis(100)).unwrap().frames;
            let old: Vec<u32> =
                seen.iter().map(crate::sys::Frame::id).filter(|id| *id < 0x300).collect();
            assert!(
                old.is_empty(),
                "old commands on the bus after a standstill of node {number}: {old:X?}"
            );
            seen.iter().any(|frame| frame.id() == fresh)
        });
    }
}

/// What `ip` answers in a namespace, if it succeeds.
fn answer_of(namespace: &str, line: &str) -> Option<String> {
    let mut ip = Command::new("ip");
    let run = ip.args(["-n", namespace]).args(line.split_whitespace()).output().ok()?;
    run.status.success().then(|| String::from_utf8_lossy(&run.stdout).into_owned())
}

#[test]
fn an_interface_is_made_in_another_network_and_found_there_again() {
    let pair = crate::lab::Pair::without_can();
    pair.board.add_vcan("vcan0", 72);
    let server = pair.serve(&["vcan0"]);
    let target = Namespace::new("target");
    // It is not there yet.
    let name = target.name().to_owned();
    drop(target);
    let arguments = ["connect", "10.0.0.1", "vcan0:can7", "--create", "--netns", &name];
    let client = Process::canspan(&pair.pc, &arguments);
    client.says(&format!("waiting for the network namespace {name}"));
    client.says("link up");
    let add = || {
        ip(&format!("netns add {name}"));
        eventually("can7 is made there", SOON, || answer_of(&name, "link show can7").is_some());
    };
    add();
    assert!(!pair.pc.has("can7"), "it was made where canspan runs");
    ip(&format!("netns del {name}"));
    client.says("can7: absent");
    // What is on the board's bus while there is no such network waits for it.
    for number in 1..=3 {
        pair.board.run_program("cansend", &["vcan0", &format!("123#0{number}")]);
    }
    add();
    client.says_times("made this virtual interface", 2, SOON);
    client.says_times("link up", 2, SOON);
    pair.board.run_program("cansend", &["vcan0", "123#04"]);
    eventually("all four frames were put on it", SOON, || {
        let answer = answer_of(&name, "-s -j link show can7").unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&answer)
            .is_ok_and(|answer| answer[0]["stats64"]["tx"]["packets"] == 4)
    });
    nothing_was_lost([client, server]);
    ip(&format!("netns del {name}"));
}

#[test]
fn a_process_that_ends_takes_its_network_and_the_gateway_with_it() {
    let pair = crate::lab::Pair::without_can();
    pair.board.add_vcan("vcan0", 72);
    let _server = pair.serve(&["vcan0"]);
    let target = Namespace::new("target");
    let holder = Process::start(&target, "sleep", &["1000"]);
    let pid = holder.pid().to_string();
    eventually("it is there", SOON, || {
        let own = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        own != std::fs::read_link("/proc/self/ns/net").ok()
    });
    let client = pair.connect(&["vcan0", "--create", "--netns", &pid]);
    assert!(target.has("vcan0") && !pair.pc.has("vcan0"));
    drop(holder);
    let ended = client.finish(SOON);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.err.contains("has ended, and its network namespace with it"), "{ended:?}");
    let refused = Process::canspan(&pair.pc, &["connect", "10.0.0.1", "--netns", "/etc/hostname"]);
    let refused = refused.finish(SOON);
    assert!(refused.err.contains("/etc/hostname is no network namespace"), "{refused:?}");
}
