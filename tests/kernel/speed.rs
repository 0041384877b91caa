//! Speed, in the figures of the README: frames a second and bytes on the wire. Latency has a file of its own.

use core::time::Duration;
use std::time::Instant;

use crate::{
    lab::Pair,
    numbered::{Checker, Generator},
    process::{Process, SOON},
};

/// Attempts at what a busy machine can spoil, each printed: other work only ever takes away.
const ATTEMPTS: usize = 3;

#[test]
fn twenty_thousand_frames_a_second_for_5_s_arrive_whole() {
    const COUNT: u64 = 100_000;
    let whole = (1..=ATTEMPTS).any(|attempt| {
        let pair = Pair::new();
        let (_server, _client) = pair.joined();
        let checker = Checker::start(pair.pc.can_only("vcan0", 0x123), COUNT, SOON);
        let start = Instant::now();
        Generator::start(pair.board.can_sender("vcan0"), 0x123, COUNT, 20_000).finish();
        let sent = start.elapsed();
        let tally = checker.finish();
        println!(
            "    attempt {attempt}: {COUNT} frames were sent in {sent:?} and received in {:?}: {tally:?}",
            start.elapsed()
        );
        tally.received == COUNT
            && tally.lost + tally.doubled + tally.reordered == 0
            && sent < Duration::from_millis(5_500)
    });
    assert!(whole, "not once did 100,000 frames at 20,000/s arrive whole");
}

/// Bytes on the cable for each frame, both directions, with Ethernet, IP and TCP headers.
fn wire_bytes(pair: &Pair, rate: u64) -> f64 {
    let count = rate * 3;
    let bytes = || {
        ["rx_bytes", "tx_bytes"].iter().map(|name| pair.board.statistic("wire", name)).sum::<u64>()
    };
    let checker = Checker::start(pair.pc.can_only("vcan0", 0x123), count, SOON);
    let before = bytes();
    Generator::start(pair.board.can_sender("vcan0"), 0x123, count, rate).finish();
    let tally = checker.finish();
    let used = bytes() - before;
    tally.is_perfect(count);
    used as f64 / count as f64
}

/// Every fifth read takes the filler, and the kernel acknowledges it: without fillers a frame would cost 117 bytes.
#[test]
fn frame_costs_at_most_105_bytes_on_the_wire() {
    let pair = Pair::new();
    let _both = pair.joined();
    let is_met = (1..=ATTEMPTS).any(|attempt| {
        let bytes = wire_bytes(&pair, 1_000);
        println!(
            "    attempt {attempt}: board to PC at 1,000/s: {bytes:.1} bytes a frame with all headers, both \
             directions; limit 105"
        );
        bytes <= 105.0
    });
    assert!(is_met, "a frame costs more bytes than promised");
}

/// The everyday case where both ends hold what they send.
pub(crate) fn joined_with_hold(pair: &Pair) -> (Process, Process) {
    let server = pair.serve(&["vcan0", "--hold", "4ms"]);
    let client = pair.connect(&["vcan0", "--hold", "4ms"]);
    (server, client)
}

#[test]
fn held_frames_cost_at_most_16_bytes() {
    let pair = Pair::new();
    let _both = joined_with_hold(&pair);
    let met = (1..=ATTEMPTS).any(|attempt| {
        let bytes = wire_bytes(&pair, 8_000);
        println!(
            "    attempt {attempt}: board to PC at 8,000/s with --hold 4ms: {bytes:.1} bytes a frame; limit 16"
        );
        bytes <= 16.0
    });
    assert!(met, "a frame costs more bytes than promised");
}
