//! The pace at which a virtual bus gets its frames: a backlog so that a reader with the kernel's default buffer loses
//! nothing, and live frames at once.

use std::collections::VecDeque;

use canspan::protocol::Policy;

use crate::line::{Bus, Line};

const PC: usize = 0;
const BOARD: usize = 1;
/// Frames a raw socket with the kernel's default buffer holds (`net.core.rmem_default`, 768 bytes for each).
const READER_ROOM: u64 = 280;
/// What a program in an interpreter reads.
const READER_PER_S: u64 = 8_000;

/// A PC whose virtual bus is paced, and a board with a virtual one, linked with each other.
fn linked(seed: u64, blocks: usize) -> Line {
    let paced = Policy { paced: true, ..Policy::default() };
    let buses = vec![(Bus::Virtual, paced), (Bus::Virtual, Policy::default())];
    let mut line = Line::with_histories(fastrand::Rng::with_seed(seed), buses, blocks);
    line.slowest_us = 200;
    line.run(3_000_000);
    assert!(line.is_up(0));
    line
}

/// When each of the board's frames was made, and when it was on the PC's bus.
fn times(line: &Line) -> Vec<(u64, u64)> {
    let made = line.nodes[BOARD].shown.iter().map(|shown| shown.at);
    let shown = line.nodes[PC].shown.iter();
    let times: Vec<_> = made.zip(shown.map(|shown| shown.at)).collect();
    assert_eq!(times.len(), line.nodes[BOARD].shown.len(), "frames are missing");
    times
}

/// The most frames that ever wait for a reader that sleeps for up to `sleep_us` now and then.
fn most_waiting(times: &[(u64, u64)], sleep_us: u64) -> u64 {
    let (mut most, mut waiting) = (0, VecDeque::new());
    let mut free_at = 0;
    for (_, at) in times {
        while waiting.front().is_some_and(|read| read <= at) {
            waiting.pop_front();
        }
        // Whoever reads when there is nothing goes to sleep, and is scheduled late.
        let start = if waiting.is_empty() { at + sleep_us } else { free_at };
        free_at = start + 1_000_000 / READER_PER_S;
        waiting.push_back(free_at);
        most = most.max(waiting.len() as u64);
    }
    most
}

#[test]
fn backlog_never_overflows_a_default_reader() {
    // The bus' pace, and how long a cut of its is.
    for (every_us, frames) in [(2_000, 5_000), (500, 5_000), (100_000, 600)] {
        for seed in 0..5 {
            let mut line = linked(seed, 128);
            for _ in 0..500 {
                line.make(BOARD);
                line.run(every_us);
            }
            line.stop_dialling(0, every_us * frames + 10_000);
            for _ in 0..frames {
                line.make(BOARD);
                line.run(every_us);
            }
            line.run(30_000_000);
            let times = times(&line);
            for sleep_us in [0, 5_000] {
                let most = most_waiting(&times, sleep_us);
                assert!(most <= READER_ROOM, "{every_us} us: {most} frames waited for the reader");
            }
            // Four times as fast as it came at least: it does not take longer than the cut did.
            let caught_up = times.last().unwrap().1 - times.last().unwrap().0;
            assert!(caught_up <= every_us * frames / 3 + 200_000, "caught up after {caught_up} us");
        }
    }
}

#[test]
fn live_stream_is_never_delayed() {
    for seed in 0..5 {
        let mut line = linked(seed, 128);
        for _ in 0..40_000 {
            line.make(BOARD);
            line.run(50);
        }
        line.run(1_000_000);
        let worst = times(&line).into_iter().map(|(made, shown)| shown - made).max().unwrap();
        assert!(worst <= 1_000 + line.slowest_us, "a live frame was {worst} us late");
    }
}

#[test]
fn live_burst_goes_at_its_own_pace() {
    for count in [64, 256, 2_000] {
        for seed in 0..5 {
            let mut line = linked(seed, 128);
            for _ in 0..500 {
                line.make(BOARD);
                line.run(10_000);
            }
            // Ten frames in a millisecond: what a bus does whose bursts nobody held up.
            for _ in 0..count / 10 {
                (0..10).for_each(|_| line.make(BOARD));
                line.run(1_000);
            }
            line.run(1_000_000);
            let worst = times(&line).into_iter().map(|(made, shown)| shown - made).max().unwrap();
            assert!(worst <= 2_000 + line.slowest_us, "{count} frames: one was {worst} us late");
        }
    }
}

#[test]
fn live_frames_behind_a_backlog_keep_their_order() {
    let mut line = linked(1, 128);
    for _ in 0..3 {
        line.stop_dialling(0, 2_000_000);
        for _ in 0..2_500 {
            line.make(BOARD);
            line.run(1_000);
        }
    }
    line.run(10_000_000);
    let shown = line.nodes[PC].shown.iter().map(|shown| shown.frame);
    assert!(shown.eq(line.nodes[BOARD].shown.iter().map(|shown| shown.frame)));
}
