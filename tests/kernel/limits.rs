//! Memory is fixed at the start, whatever happens.

use core::time::Duration;
use std::fs;

use crate::{
    lab::{BOARD, Pair},
    numbered::{Checker, Generator},
    process::{Process, SOON, StaticBinary},
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
