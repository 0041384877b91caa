//! Speed, in the figures of the README: frames a second and bytes on the wire. Latency has a file of its own.

use core::time::Duration;
use std::time::Instant;

use crate::{
    lab::Pair,
    numbered::{Checker, Generator},
    process::SOON,
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

#[test]
fn a_frame_costs_at_most_90_bytes_on_the_wire_at_1_000_a_second_and_16_at_8_000() {
    let pair = Pair::new();
    let _both = pair.joined();
    let mut met = true;
    for (rate, limit) in [(1_000, 90.0), (8_000, 16.0)] {
        met &= (1..=ATTEMPTS).any(|attempt| {
            let bytes = wire_bytes(&pair, rate);
            println!(
                "    attempt {attempt}: board to PC at {rate}/s: {bytes:.1} bytes a frame with all headers, \
                 both directions; limit {limit}"
            );
            bytes <= limit
        });
    }
    assert!(met, "a frame costs more bytes than promised");
}
