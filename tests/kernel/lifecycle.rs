//! Whatever starts, stops or comes late: the bus is there in the end, and a clean end is clean.

use core::time::Duration;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    thread,
};

use crate::{
    lab::{BOARD, Pair, counters, eventually},
    process::{Process, SOON},
    sys::{self, Frame},
};

/// A frame on the board's `vcan0` arrives on the PC's `interface`, and one from there on the board's.
fn carries(pair: &Pair, interface: &str) {
    let (board, pc) = (pair.board.can("vcan0"), pair.pc.can(interface));
    // Each side's own frames arrive at its socket too; ids tell them apart.
    let arrives = |what: &str, socket: &sys::CanSocket, id: u32| {
        eventually(what, SOON, || {
            socket
                .receive(Duration::from_millis(100))
                .unwrap()
                .frames
                .iter()
                .any(|frame| frame.id() == id)
        });
    };
    board.send(&Frame::classic(0x111, &[1])).unwrap();
    arrives("a frame from the board arrives on the PC", &pc, 0x111);
    pc.send(&Frame::classic(0x222, &[2])).unwrap();
    arrives("a frame from the PC arrives on the board", &board, 0x222);
}

#[test]
fn connect_may_start_before_serve() {
    let pair = Pair::new();
    let mut client = Process::canspan(&pair.pc, &["connect", BOARD, "vcan0"]);
    client.says("10.0.0.1");
    assert!(client.is_running());
    let _server = pair.serve(&["vcan0"]);
    client.says("link up");
    carries(&pair, "vcan0");
}

#[test]
fn connect_waits_for_a_local_interface_that_comes_later() {
    let pair = Pair::without_can();
    pair.board.add_vcan("vcan0", 72);
    let _server = pair.serve(&["vcan0"]);
    let mut client = Process::canspan(&pair.pc, &["connect", BOARD, "vcan0"]);
    client.says("vcan0");
    assert!(client.is_running());
    pair.pc.add_vcan("vcan0", 72);
    client.says("link up");
    carries(&pair, "vcan0");
}

#[test]
fn serve_waits_for_an_interface_that_comes_later() {
    let pair = Pair::without_can();
    pair.pc.add_vcan("vcan0", 72);
    let mut server = pair.serve(&["vcan0"]);
    let _client = Process::canspan(&pair.pc, &["connect", BOARD, "vcan0"]);
    server.says("vcan0");
    assert!(server.is_running());
    pair.board.add_vcan("vcan0", 72);
    // Frames sent before the server has opened the interface are nobody's; so try until one comes through.
    let (board, pc) = (pair.board.can("vcan0"), pair.pc.can("vcan0"));
    eventually("the bus is carried", SOON, || {
        board.send(&Frame::classic(0x111, &[1])).unwrap();
        !pc.receive(Duration::from_millis(100)).unwrap().frames.is_empty()
    });
    carries(&pair, "vcan0");
}

#[test]
fn an_interface_that_goes_down_and_up_is_carried_again() {
    let pair = Pair::new();
    let (mut server, mut client) = pair.joined();
    for namespace in [&pair.board, &pair.pc] {
        namespace.ip("link set vcan0 down");
        namespace.ip("link set vcan0 up");
    }
    let (board, pc) = (pair.board.can("vcan0"), pair.pc.can("vcan0"));
    eventually("the bus is carried", SOON, || {
        board.send(&Frame::classic(0x111, &[1])).unwrap();
        !pc.receive(Duration::from_millis(100)).unwrap().frames.is_empty()
    });
    carries(&pair, "vcan0");
    assert!(server.is_running() && client.is_running());
}

#[test]
fn a_host_name_is_resolved_anew_at_every_try() {
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let mut client = Process::canspan(&pair.pc, &["connect", "the-board.test", "vcan0"]);
    client.says("the-board.test");
    assert!(client.is_running());
    // The lab's own copy; it is the same file in every namespace.
    let before = fs::read_to_string("/etc/hosts").unwrap();
    let mut hosts = OpenOptions::new().append(true).open("/etc/hosts").unwrap();
    writeln!(hosts, "\n{BOARD} the-board.test").unwrap();
    client.says("link up");
    carries(&pair, "vcan0");
    fs::write("/etc/hosts", before).unwrap();
}

#[test]
fn all_buses_are_joined_when_none_is_named() {
    let pair = Pair::new();
    pair.board.add_vcan("vcan1", 72);
    let _server = pair.serve(&["vcan0", "vcan1"]);
    let _client = pair.connect(&["--create"]);
    eventually("vcan1 is made", SOON, || pair.pc.has("vcan1"));
    carries(&pair, "vcan0");
    let there = pair.pc.can("vcan1");
    let sender = pair.board.can("vcan1");
    eventually("vcan1 is carried", SOON, || {
        sender.send(&Frame::classic(0x111, &[1])).unwrap();
        !there.receive(Duration::from_millis(100)).unwrap().frames.is_empty()
    });
}

#[test]
fn create_makes_the_interface_and_a_clean_end_removes_it() {
    let pair = Pair::without_can();
    pair.board.add_vcan("vcan0", 72);
    pair.pc.add_vcan("vcan9", 72);
    let _server = pair.serve(&["vcan0"]);
    let first = pair.connect(&["vcan0:car", "--create"]);
    let second = pair.connect(&["vcan0:vcan9", "--create"]);
    let shown = pair.pc.run_program("ip", &["-details", "link", "show", "car"]);
    assert!(shown.contains("vcan") && shown.contains("mtu 72") && shown.contains("UP"), "{shown}");
    carries(&pair, "car");
    first.stop().succeeded();
    assert!(!pair.pc.has("car"), "what it made is still there");
    second.stop().succeeded();
    assert!(pair.pc.has("vcan9"), "it removed what it had not made");
}

#[test]
fn what_was_made_before_a_crash_is_removed_at_the_next_clean_end() {
    let pair = Pair::without_can();
    pair.board.add_vcan("vcan0", 72);
    let _server = pair.serve(&["vcan0"]);
    let first = pair.connect(&["vcan0:car", "--create"]);
    carries(&pair, "car");
    // Killed, with no chance to clean up.
    drop(first);
    assert!(pair.pc.has("car"), "nobody is there to remove it");
    let second = pair.connect(&["vcan0:car", "--create"]);
    carries(&pair, "car");
    second.stop().succeeded();
    assert!(!pair.pc.has("car"), "what canspan made is still there");
}

#[test]
fn an_interface_that_another_process_uses_is_left_to_it() {
    let pair = Pair::without_can();
    pair.board.add_vcan("vcan0", 72);
    pair.board.add_vcan("vcan1", 72);
    let _server = pair.serve(&["vcan0", "vcan1"]);
    let first = pair.connect(&["vcan0:car", "--create"]);
    let second = pair.connect(&["vcan1:car", "--create"]);
    second.stop().succeeded();
    assert!(pair.pc.has("car"), "the first has it open");
    carries(&pair, "car");
    first.stop().succeeded();
    assert!(!pair.pc.has("car"), "nobody uses it any more");
}

#[test]
fn both_signals_end_both_commands_with_counters_and_exit_0() {
    let pair = Pair::new();
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let (mut server, mut client) = pair.joined();
        carries(&pair, "vcan0");
        for process in [&mut client, &mut server] {
            process.signal(signal);
        }
        for process in [client, server] {
            let finished = process.finish(Duration::from_millis(1500)).succeeded();
            counters(&finished.err).all_zero();
        }
    }
}

#[test]
fn what_was_accepted_before_the_end_is_delivered() {
    let pair = Pair::new();
    let (_server, mut client) = pair.joined();
    let (sender, there) = (pair.pc.can("vcan0"), pair.board.can("vcan0"));
    // Stopped, so that all of them wait in its socket when the order to end comes.
    client.signal(libc::SIGSTOP);
    (0..100_u8).for_each(|n| sender.send(&Frame::classic(0x123, &[n])).unwrap());
    sys::signal(client.pid(), libc::SIGTERM);
    client.signal(libc::SIGCONT);
    client.finish(Duration::from_millis(1500)).succeeded();
    let mut count = 0;
    while count < 100 {
        let batch = there.receive(Duration::from_secs(1)).unwrap().frames.len();
        assert!(batch > 0, "only {count} of 100 frames came");
        count += batch;
    }
}

#[test]
fn counters_are_told_on_sigusr1_and_when_a_link_ends() {
    let pair = Pair::new();
    let (mut server, client) = pair.joined();
    server.signal(libc::SIGUSR1);
    server.says("lost=");
    counters(&server.err()).all_zero();
    let before = server.err().matches("lost=").count();
    client.stop().succeeded();
    server.says_times("lost=", before + 1, SOON);
    assert!(server.is_running());
}

#[test]
fn a_silent_connection_locks_nobody_out() {
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let _silent: Vec<_> = pair
        .pc
        .run(|| (0..20).map(|_| std::net::TcpStream::connect((BOARD, 22677)).unwrap()).collect());
    let _client = pair.connect(&["vcan0"]);
    carries(&pair, "vcan0");
}

#[test]
fn the_gateway_is_single_threaded_but_for_its_helper() {
    let pair = Pair::new();
    let (server, client) = pair.joined();
    carries(&pair, "vcan0");
    // Name lookup may borrow a thread for a moment.
    for process in [&server, &client] {
        let status = || fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
        let threads = || {
            status()
                .lines()
                .find_map(|line| line.strip_prefix("Threads:")?.trim().parse::<u32>().ok())
        };
        let patience = Duration::from_secs(20);
        eventually("no more than two threads are left", patience, || {
            threads().is_some_and(|n| n <= 2)
        });
        thread::yield_now();
        println!("    threads: {:?}", threads().unwrap());
    }
}
