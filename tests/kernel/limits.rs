//! What a process may have: memory that is fixed at the start, whatever happens, and descriptors.

use core::time::Duration;
use std::{fs, thread};

use crate::{
    lab::{BOARD, Namespace, Pair, counters},
    numbered::{Checker, Generator},
    plain::Candump,
    process::{Process, SOON, StaticBinary, canspan},
};

/// The default of `--history`.
const HISTORY: u64 = 4 << 20;
/// What the process may have beside it.
const BESIDE: u64 = 2 << 20;

/// A process's resident memory in bytes: all of it, and without pages of files.
pub(crate) fn resident(process: &Process) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{name}\n{status}"));
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    };
    (field("VmRSS:"), field("RssAnon:"))
}

#[test]
fn resident_memory_is_the_history_and_at_most_2_mb_under_any_load() {
    const COUNT: u64 = 150_000;
    // A full 1 Mbit/s bus.
    const RATE: u64 = 9_000;
    let _binary = StaticBinary::chosen();
    let pair = Pair::new();
    let (server, client) = pair.joined();
    // A stalled reader beside the working one, and more frames than the history holds.
    let mut stalled = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    server.says_times("link up", 2, SOON);
    let (start, _) = resident(&server);
    stalled.signal(libc::SIGSTOP);
    let mut all = start;
    for round in 0..2_u32 {
        let id = 0x100 + round;
        let checker = Checker::start(pair.pc.can_only("vcan0", id), COUNT, SOON);
        let generator = Generator::start(pair.board.can_sender("vcan0"), id, COUNT, RATE);
        while generator.is_running() {
            all = all.max(resident(&server).0);
            std::thread::sleep(Duration::from_millis(50));
        }
        generator.finish();
        checker.finish().is_perfect(COUNT);
    }
    for (name, process) in [("serve", &server), ("connect", &client)] {
        let (rss, anonymous) = resident(process);
        println!(
            "    {name}: VmRSS {} KB, of it anonymous {} KB; limit {} KB",
            rss >> 10,
            anonymous >> 10,
            (HISTORY + BESIDE) >> 10
        );
        assert!(rss <= HISTORY + BESIDE, "{name} has {rss} bytes resident");
    }
    println!("    serve: {} KB at the start, at most {} KB under load", start >> 10, all >> 10);
    assert!(all <= HISTORY + BESIDE, "serve had {all} bytes resident");
}

/// Interfaces come and go while the process can open nothing, so that no question about them can be asked.
#[test]
fn no_descriptor_left_costs_no_frame() {
    const COUNT: u64 = 1_000;
    let pair = Pair::new();
    let (server, client) = pair.joined();
    let candump = Candump::start(&pair.pc, "vcan0");
    let pid = server.pid().to_string();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let highest =
        open.map(|fd| fd.unwrap().file_name().into_string().unwrap().parse::<u32>().unwrap());
    let limit = |most: u32| {
        let limit = format!("--nofile={most}:1024");
        pair.board.run_program("prlimit", &["--pid", &pid, &limit]);
    };
    limit(highest.max().unwrap() + 1);
    let generator = Generator::start(pair.board.can_sender("vcan0"), 0x100, COUNT, 500);
    while generator.is_running() {
        pair.board.add_vcan("other0", 72);
        thread::sleep(Duration::from_millis(150));
        pair.board.ip("link del other0");
        thread::sleep(Duration::from_millis(150));
    }
    generator.finish();
    candump.has_all(0x100, COUNT, SOON);
    let log = server.err();
    assert!(!log.contains("absent"), "the interface was taken for gone: {log}");
    // Once there are some again, all is as before.
    limit(1024);
    Generator::start(pair.board.can_sender("vcan0"), 0x101, 100, 500).finish();
    candump.has_all(0x101, 100, SOON);
    counters(&client.stop().succeeded().err).all_zero();
    counters(&server.stop().succeeded().err).all_zero();
}

#[test]
fn history_beyond_memory_is_refused_in_a_sentence() {
    let place = Namespace::new("board");
    let serve = ["serve", "sim:x", "--listen", "127.0.0.1", "--insecure", "--history"];
    let program = canspan();
    let limited = ["--as=200000000", &program];
    // More than this machine has; more than this process may have.
    for (program, before, history) in
        [(program.as_str(), &[][..], "64G"), ("prlimit", &limited[..], "1G")]
    {
        let arguments = [before, &serve[..], &[history]].concat();
        let ended = Process::start(&place, program, &arguments).finish(SOON);
        assert_eq!(ended.status.code(), Some(1), "{history}: {ended:?}");
        assert!(ended.err.contains("--history"), "{ended:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
    }
}
