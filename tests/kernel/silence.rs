//! Links that die without a word, boards that move, ports that were just in use: noticed in time, and healed from.

use core::time::Duration;
use std::{fs, thread, time::Instant};

use crate::{
    cutter::Cut,
    lab::{Pair, eventually},
    outage::{Traffic, end_without_loss, through_cutter},
    process::{Process, SOON},
};

/// What is promised: three heartbeats of 900 ms, and a little for what they take.
const NOTICED: Duration = Duration::from_secs(3);
const SILENT: &str = "nothing was heard of the peer for too long";

/// Makes the cable lose every packet, or none, both ways.
fn deafen(pair: &Pair, is_deaf: bool) {
    for namespace in [&pair.board, &pair.pc] {
        namespace.tc(match is_deaf {
            true => "qdisc add dev wire root netem loss 100%",
            false => "qdisc del dev wire root",
        });
    }
}

#[test]
fn fifteen_seconds_of_silence_are_noticed_within_three_and_lose_nothing() {
    const ATTEMPTS: usize = 3;
    let pair = Pair::new();
    let (server, client) = pair.joined();
    let traffic = Traffic::start(&pair, 45_000, 1_000);
    traffic.flows("at the start");
    // Other work on the machine only ever adds to the time: the best of a few counts. All are printed.
    let mut best = Duration::MAX;
    for attempt in 1..=ATTEMPTS {
        deafen(&pair, true);
        let begin = Instant::now();
        for process in [&server, &client] {
            process.says_times(SILENT, attempt, SOON);
        }
        let noticed = begin.elapsed();
        println!("    noticed at both ends after {noticed:?}");
        best = best.min(noticed);
        if attempt == 1 {
            thread::sleep(Duration::from_secs(15).saturating_sub(begin.elapsed()));
        }
        deafen(&pair, false);
        if best < NOTICED {
            break;
        }
        traffic.flows("after the silence");
    }
    assert!(best < NOTICED, "noticed after {best:?} at best, {NOTICED:?} are promised");
    traffic.flows("after the silence");
    assert!(traffic.is_running(), "the traffic ended before the silence did");
    traffic.ends_whole();
    end_without_loss(server, client);
}

#[test]
fn a_flow_that_a_nat_has_forgotten_is_made_anew() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let (cutter, client) = through_cutter(&pair);
    let traffic = Traffic::start(&pair, 10_000, 1_000);
    traffic.flows("at the start");
    eventually("there is a link to forget", SOON, || cutter.cut(Cut::Forgotten));
    client.says_times("link up", 2, SOON);
    traffic.flows("after the flow was forgotten");
    traffic.ends_whole();
    end_without_loss(server, client);
}

#[test]
fn a_board_that_moves_is_found_again_though_its_name_is_unknown_meanwhile() {
    let pair = Pair::new();
    // The lab's own copy; it is the same file in every namespace.
    let before = fs::read_to_string("/etc/hosts").unwrap();
    let is_at =
        |address| fs::write("/etc/hosts", format!("{before}\n{address} moving.test\n")).unwrap();
    is_at("10.0.0.1");
    let arguments = ["serve", "vcan0", "--listen", "0.0.0.0", "--insecure", "--max-age", "none"];
    let server = Process::canspan(&pair.board, &arguments);
    server.says("listening on");
    let client = Process::canspan(&pair.pc, &["connect", "moving.test", "vcan0"]);
    client.says("link up");
    let traffic = Traffic::start(&pair, 20_000, 1_000);
    traffic.flows("at the start");
    fs::write("/etc/hosts", &before).unwrap();
    pair.board.ip("addr del 10.0.0.1/24 dev wire");
    pair.board.ip("addr add 10.0.0.7/24 dev wire");
    client.says("cannot find moving.test");
    is_at("10.0.0.7");
    client.says_times("link up", 2, 2 * SOON);
    traffic.flows("after the board has moved");
    traffic.ends_whole();
    fs::write("/etc/hosts", before).unwrap();
    end_without_loss(server, client);
}

/// How long a new `connect` takes to be linked, and how long it takes again after the board's process was killed.
fn joins_and_rejoins(pair: &Pair, to: &str) -> [Duration; 2] {
    let server = pair.serve(&["vcan0"]);
    let begin = Instant::now();
    let client = Process::canspan(&pair.pc, &["connect", to, "vcan0"]);
    client.says("link up");
    let joined = begin.elapsed();
    drop(server);
    let _server = pair.serve(&["vcan0"]);
    let begin = Instant::now();
    client.says_times("link up", 2, SOON);
    [joined, begin.elapsed()]
}

#[test]
fn a_dead_first_address_costs_under_a_second() {
    const MORE: Duration = Duration::from_secs(1);
    let pair = Pair::new();
    // The resolver sorts by nearness to the PC's own address, 10.0.0.2, so that this one is first. Nobody answers there.
    pair.pc.ip("neigh add 10.0.0.3 lladdr 02:00:00:00:00:99 dev wire");
    let before = fs::read_to_string("/etc/hosts").unwrap();
    let both = format!("{before}\n10.0.0.3 twofold.test\n10.0.0.1 twofold.test\n");
    fs::write("/etc/hosts", both).unwrap();
    let found = pair.pc.run_program("getent", &["ahostsv4", "twofold.test"]);
    // Other work on the machine, and the pause between two tries, only ever add to the time.
    let best = |to| {
        let all = [(); 3].map(|()| joins_and_rejoins(&pair, to));
        [0, 1].map(|which| all.iter().map(|times| times[which]).min().unwrap())
    };
    let (plain, twofold) = (best("10.0.0.1"), best("twofold.test"));
    fs::write("/etc/hosts", before).unwrap();
    println!(
        "    joined and joined again after {plain:?}; by a name with a dead address first {twofold:?}"
    );
    assert!(found.starts_with("10.0.0.3") && found.contains("10.0.0.1"), "{found}");
    for (plain, twofold) in plain.iter().zip(twofold) {
        assert!(twofold < *plain + MORE, "{twofold:?} by name, {plain:?} by address");
    }
}

#[test]
fn a_board_that_is_started_again_at_once_gets_its_port_and_its_peers_back() {
    let pair = Pair::new();
    let mut server = pair.serve(&["vcan0"]);
    let client = pair.connect(&["vcan0"]);
    for (times, signal) in (2..).zip([libc::SIGKILL, libc::SIGTERM, libc::SIGKILL]) {
        server.signal(signal);
        server.finish(SOON);
        // The old connection is in the kernel still.
        server = pair.serve(&["vcan0"]);
        client.says_times("link up", times, SOON);
    }
    // One that has not ended keeps its port: the second says so and ends, for its supervisor to try again.
    let second =
        Process::canspan(&pair.board, &["serve", "sim:x", "--listen", "10.0.0.1", "--insecure"]);
    let second = second.finish(SOON);
    assert_eq!(second.code(), 1, "{second:?}");
    assert!(second.err.contains("10.0.0.1:22677"), "{second:?}");
    println!("    {}", second.err.trim());
    assert!(server.is_running());
}
