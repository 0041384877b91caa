//! Either side may be the one that dials, and a relay between them needs no CAN in its kernel.

use core::time::Duration;
use std::{thread, time::Instant};

use crate::{
    lab::{Namespace, Pair, eventually, ip},
    loops::crosses_once,
    numbered::{Checker, Generator},
    process::{Process, SOON},
};

const PC: &str = "10.0.0.2";
/// The longest pause between two tries, and some time on a busy machine.
const REDIALLED: Duration = Duration::from_secs(15);

/// Machines on one network switch, the first at 10.1.0.1.
pub(crate) struct Switch {
    /// The machines.
    pub(crate) machines: Vec<Namespace>,
    _switch: Namespace,
}

impl Switch {
    /// As many machines as there are roles, each with an FD `vcan0`.
    pub(crate) fn new(roles: &[&str]) -> Self {
        let switch = Namespace::new("switch");
        switch.ip("link add br0 type bridge");
        switch.ip("link set br0 up");
        let machines: Vec<Namespace> = roles.iter().map(|role| Namespace::new(role)).collect();
        for (number, machine) in (1..).zip(&machines) {
            let (hub, name) = (switch.name(), machine.name());
            ip(&format!("link add port{number} netns {hub} type veth peer name wire netns {name}"));
            switch.ip(&format!("link set port{number} master br0"));
            switch.ip(&format!("link set port{number} up"));
            machine.ip(&format!("addr add 10.1.0.{number}/24 dev wire"));
            machine.ip("link set wire up");
            machine.add_vcan("vcan0", 72);
        }
        Self { machines, _switch: switch }
    }
}

/// The address of a machine at a switch, by its place in the list.
pub(crate) fn address(machine: usize) -> String {
    format!("10.1.0.{}", machine + 1)
}

fn is_up(asked: &Namespace, at: &str) -> bool {
    Process::canspan(asked, &["status", at, "--check"]).finish(SOON).code() == 0
}

#[test]
fn a_board_that_cannot_be_reached_dials_the_lab() {
    let pair = Pair::new();
    let listen = ["connect", "--listen", PC, "--insecure", "vcan0", "--heartbeat", "200ms"];
    let lab = Process::canspan(&pair.pc, &listen);
    lab.says("listening on 10.0.0.2:22677");
    assert!(!is_up(&pair.pc, PC), "without a board it is not up");
    let board = Process::canspan(&pair.board, &["serve", "vcan0", "--dial", PC]);
    board.says("link up: 10.0.0.2:22677");
    crosses_once(&pair.board, &[&pair.board, &pair.pc], 0x201);
    crosses_once(&pair.pc, &[&pair.board, &pair.pc], 0x202);
    eventually("the lab is up", SOON, || is_up(&pair.pc, PC));
    assert!(is_up(&pair.board, "127.0.0.1"), "the board can be asked, too");

    // Killed on either side, so that nobody says goodbye.
    drop(board);
    eventually("the lab is not up", SOON, || !is_up(&pair.pc, PC));
    let board = Process::canspan(&pair.board, &["serve", "vcan0", "--dial", PC]);
    board.says("link up");
    drop(lab);
    let lab = Process::canspan(&pair.pc, &listen);
    board.says_times("link up", 2, REDIALLED);
    crosses_once(&pair.board, &[&pair.board, &pair.pc], 0x203);
    crosses_once(&pair.pc, &[&pair.board, &pair.pc], 0x204);
    lab.stop().succeeded();
    board.stop().succeeded();
}

#[test]
fn the_lab_asks_a_board_that_dials_only_for_what_its_filter_says() {
    let pair = Pair::new();
    let listen = ["connect", "--listen", PC, "--insecure", "can7:vcan0", "--filter", "2F1:7FF"];
    let lab = Process::canspan(&pair.pc, &listen);
    lab.says("listening on");
    pair.board.ip("link add can7 mtu 72 type vcan");
    pair.board.ip("link set can7 up");
    let board = Process::canspan(&pair.board, &["serve", "can7", "--dial", PC]);
    board.says("link up");
    let there = pair.pc.can("vcan0");
    for id in ["2F0#00", "2F1#00", "2F2#00", "2F1#01"] {
        pair.board.run_program("cansend", &["can7", id]);
    }
    for number in 0..2 {
        let frame = there.next().unwrap();
        assert_eq!((frame.id(), frame.data()), (0x2F1, &[number][..]));
    }
    assert!(there.receive(Duration::from_millis(300)).unwrap().frames.is_empty());
    drop((lab, board));
}

#[test]
fn connect_can_be_asked_how_it_is_and_lets_nobody_join() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let client = pair.connect(&["vcan0", "--status", ":7000"]);
    client.says("listening on 127.0.0.1:7000");
    eventually("it is up", SOON, || is_up(&pair.pc, "127.0.0.1:7000"));
    let dump = Process::canspan(&pair.pc, &["dump", "127.0.0.1:7000", "vcan0"]);
    let refused = dump.finish(SOON);
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.err.contains("only answers `canspan status`"), "{refused:?}");
    drop(server);
    eventually("it is not up", SOON, || !is_up(&pair.pc, "127.0.0.1:7000"));
}

/// A relay without any CAN interface, a board that dials it, and a lab that dials it.
fn relayed(net: &Switch) -> [Process; 3] {
    let [board, relay, lab] = &net.machines[..] else { panic!("three machines") };
    relay.ip("link del vcan0");
    let (at, all) = (address(1), ["--heartbeat", "200ms"]);
    let serve = ["serve", "sim:vcan0", "--listen", &at, "--insecure"];
    let relay = Process::canspan(relay, &[&serve[..], &all].concat());
    relay.says("listening on 10.1.0.2:22677");
    let serve = ["serve", "vcan0", "--dial", &at, "--max-age", "500ms"];
    let board = Process::canspan(board, &[&serve[..], &all].concat());
    board.says("link up");
    let lab = Process::canspan(lab, &[&["connect", &at, "vcan0"][..], &all].concat());
    lab.says("link up");
    [board, relay, lab]
}

#[test]
fn a_relay_without_can_carries_both_ways_and_loses_nothing_in_cuts() {
    let net = Switch::new(&["board", "relay", "lab"]);
    let [board, _, lab] = &net.machines[..] else { unreachable!() };
    let processes = relayed(&net);
    crosses_once(board, &[board, lab], 0x211);
    crosses_once(lab, &[board, lab], 0x212);

    // 8 s at 1,000 frames/s, with cuts on either side of the relay.
    let count = 8_000;
    let checker = Checker::start(lab.can_only("vcan0", 0x213), count, REDIALLED);
    let generator = Generator::start(board.can_sender("vcan0"), 0x213, count, 1_000);
    for cut in [0, 2, 0, 2] {
        thread::sleep(Duration::from_millis(700));
        net.machines[cut].ip("link set wire down");
        thread::sleep(Duration::from_millis(900));
        net.machines[cut].ip("link set wire up");
    }
    assert_eq!(generator.finish(), count);
    checker.finish().is_perfect(count);
    for process in processes.into_iter().rev() {
        process.stop().succeeded();
    }
}

#[test]
fn a_relay_does_not_make_old_commands_new() {
    let net = Switch::new(&["board", "relay", "lab"]);
    let [board, relay, lab] = &net.machines[..] else { unreachable!() };
    let processes = relayed(&net);
    crosses_once(lab, &[board, lab], 0x221);
    // While the lab is cut off it goes on with its commands, 100 a second.
    let bus = board.can_only("vcan0", 0x222);
    lab.ip("link set wire down");
    let cut = Instant::now();
    let generator = Generator::start(lab.can_sender("vcan0"), 0x222, 1_000, 100);
    thread::sleep(Duration::from_secs(4));
    let sent_in_cut = generator.sent();
    lab.ip("link set wire up");
    let healed = cut.elapsed();
    eventually("commands come again", REDIALLED, || {
        !bus.receive(Duration::from_millis(20)).unwrap().frames.is_empty()
    });
    let first = bus.next().unwrap().number();
    assert!(sent_in_cut > 300, "{sent_in_cut} in {healed:?}");
    // The limit is 500 ms, and a frame or two may have been read before this one.
    assert!(first + 80 > sent_in_cut, "command {first} of {sent_in_cut} in the cut");
    generator.stop();
    drop((processes, relay));
}

#[test]
fn send_says_that_only_a_relay_took_it() {
    let net = Switch::new(&["board", "relay", "lab"]);
    let [board, _, lab] = &net.machines[..] else { unreachable!() };
    let _processes = relayed(&net);
    crosses_once(lab, &[board, lab], 0x228);
    let send = |to: &str| Process::canspan(lab, &["send", to, "vcan0", "229#01"]).finish(SOON);
    let bus = board.can_only("vcan0", 0x229);
    let sent = send(&address(1));
    assert_eq!(sent.code(), 3, "{sent:?}");
    assert!(sent.err.contains("relay"), "{sent:?}");
    assert_eq!(bus.next().unwrap().id(), 0x229, "it comes to the board all the same");
    // A board that is asked itself knows.
    let serve = ["serve", "vcan0", "--listen", "10.1.0.1:7000", "--insecure"];
    let second = Process::canspan(board, &serve);
    second.says("listening on");
    send("10.1.0.1:7000").succeeded();
}

#[test]
fn a_ring_over_three_machines_is_noticed_and_its_newest_link_closed() {
    let net = Switch::new(&["a", "b", "c"]);
    let serve = |machine: usize| {
        let at = address(machine);
        let process = Process::canspan(
            &net.machines[machine],
            &["serve", "vcan0", "--listen", &at, "--insecure"],
        );
        process.says("listening on");
        process
    };
    let connect = |from: usize, to: usize| {
        Process::canspan(&net.machines[from], &["connect", &address(to), "vcan0"])
    };
    let servers: Vec<_> = (0..3).map(serve).collect();
    let (a_b, b_c) = (connect(0, 1), connect(1, 2));
    a_b.says("link up");
    b_c.says("link up");
    let c_a = connect(2, 0);
    c_a.says("would close a ring");
    servers[0].says("would close a ring");
    assert!(!c_a.err().contains("link up"), "{}", c_a.err());
    let all: Vec<&Namespace> = net.machines.iter().collect();
    crosses_once(all[0], &all, 0x231);
    crosses_once(all[2], &all, 0x232);
    // It takes over when another link of the ring ends.
    drop(a_b);
    c_a.says_times("link up", 1, REDIALLED);
    crosses_once(all[0], &all, 0x233);
    crosses_once(all[1], &all, 0x234);
    assert!(!b_c.err().contains("ring"), "{}", b_c.err());
}

#[test]
fn a_ring_of_relays_that_start_together_is_opened_again() {
    let net = Switch::new(&["a", "b", "c"]);
    let start = |machine: usize| {
        let (at, next) = (address(machine), address((machine + 1) % 3));
        let arguments = ["serve", "sim:hub", "--listen", &at, "--insecure", "--dial", &next];
        Process::canspan(&net.machines[machine], &arguments)
    };
    let relays: Vec<_> = (0..3).map(start).collect();
    let links_up = || {
        let states = relays.iter().map(|relay| {
            let text = relay.err();
            text.matches("link up: 10.1.0.").count()
        });
        states.sum::<usize>()
    };
    eventually("a ring is noticed", REDIALLED, || {
        relays.iter().any(|relay| relay.err().contains("would close a ring"))
    });
    assert!(links_up() >= 2);
    // Two links stay, whichever: what is sent at one comes out at every other, once.
    let dumps: Vec<_> = net
        .machines
        .iter()
        .enumerate()
        .map(|(number, machine)| Process::canspan(machine, &["dump", &address(number), "hub"]))
        .collect();
    dumps.iter().for_each(|dump| dump.says("link up"));
    let arrives = |text: &str| {
        let sent = Process::canspan(&net.machines[0], &["send", &address(0), "hub", text]);
        // 3: only a relay has taken it, which is so.
        let sent = sent.finish(SOON);
        assert!([0, 3].contains(&sent.code()), "{sent:?}");
        thread::sleep(Duration::from_secs(1));
        dumps.iter().map(|dump| dump.out().matches(text).count()).collect::<Vec<_>>()
    };
    let mut number = 0;
    eventually("one way to each is left", REDIALLED * 3, || {
        number += 1;
        let counts = arrives(&format!("123#{number:08X}"));
        assert!(counts.iter().all(|count| *count <= 50), "it runs round: {counts:?}");
        counts == [1, 1, 1]
    });
    assert_eq!(arrives("124#AA"), [1, 1, 1]);
}

/// Two boards that each dial the other: one of the two links stays, and what neither carried while they changed is counted.
#[test]
fn two_boards_that_dial_each_other_share_a_bus_over_one_link() {
    const COUNT: u64 = 5_000;
    let net = Switch::new(&["a", "b"]);
    let serve = |machine: usize| {
        let (at, other) = (address(machine), address(1 - machine));
        let line = ["serve", "vcan0", "--listen", &at, "--insecure", "--dial", &other];
        let process = Process::canspan(
            &net.machines[machine],
            &[&line[..], &["--heartbeat", "200ms"]].concat(),
        );
        process.says("listening on");
        process
    };
    let both: Vec<&Namespace> = net.machines.iter().collect();
    let (a, b) = (serve(0), serve(1));
    a.says("link up");
    b.says("link up");
    crosses_once(both[0], &both, 0x241);
    crosses_once(both[1], &both, 0x242);

    // 10 s at 500 frames/s each way, with cuts.
    let start = |from: usize, id| {
        let checker = Checker::start(both[1 - from].can_only("vcan0", id), COUNT, REDIALLED);
        (checker, Generator::start(both[from].can_sender("vcan0"), id, COUNT, 500))
    };
    let streams = [start(0, 0x243), start(1, 0x244)];
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(900));
        both[0].ip("link set wire down");
        thread::sleep(Duration::from_millis(900));
        both[0].ip("link set wire up");
    }
    for (machine, (checker, generator)) in streams.into_iter().enumerate() {
        assert_eq!(generator.finish(), COUNT);
        let tally = checker.finish();
        let counted = not_sent(both[machine], &address(machine));
        println!("    {} of {COUNT} frames did not cross; {counted} are counted", tally.lost);
        assert!(counted >= tally.lost, "{tally:?}");
        let wrong = (tally.doubled, tally.reordered, tally.foreign, tally.overflow);
        assert_eq!(wrong, (0, 0, 0, 0), "{tally:?}");
    }

    // Killed, so that it says no goodbye.
    drop(b);
    let b = serve(1);
    b.says("link up");
    crosses_once(both[0], &both, 0x245);
    crosses_once(both[1], &both, 0x246);
    drop(b);
    a.stop().succeeded();
}

/// Frames that a `serve` counts as anything but sent, to all its peers.
fn not_sent(asked: &Namespace, at: &str) -> u64 {
    let run = Process::canspan(asked, &["status", at, "--json"]).finish(SOON);
    let json: serde_json::Value = serde_json::from_str(&run.succeeded().out).unwrap();
    let causes = ["lost", "stale", "refused", "unsupported", "failed", "unconfirmed"];
    let links = json["links"].as_array().unwrap().iter();
    links.flat_map(|link| causes.map(|cause| link["to_peer"][cause].as_u64().unwrap())).sum()
}
