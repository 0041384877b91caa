//! Frames held for company before they go out on a link: never longer than allowed, and not where nothing is gained.

use core::time::Duration;

use canspan::protocol::Policy;

use crate::chains;
use crate::line::{Bus, Line, Shown};
use crate::world::World;
use crate::{guarded, on_all_processors};

const PC: usize = 0;
const BOARD: usize = 1;
const HOLD_US: u64 = 4_000;
const HOLD: Duration = Duration::from_micros(HOLD_US);
/// How long the way between the two takes.
const DELAY_US: u64 = 150;
/// Signs of life come in multiples of 100 ms after the link came up; between two of them no frame goes along with one.
const BETWEEN_SIGNS_US: u64 = 50_000;
const SCHEDULES: u64 = 2_000;

/// A PC and a board whose links hold frames, linked with each other and at rest.
fn linked_with(hold: Duration, board: Policy) -> Line {
    let buses = vec![(Bus::Virtual, Policy::default()), (Bus::Virtual, board)];
    let mut line = Line::with_histories(fastrand::Rng::with_seed(1), buses, 128);
    line.hold = hold;
    line.slowest_us = DELAY_US;
    line.run(3_000_000);
    assert!(line.is_up(0));
    for side in 0..2 {
        line.slow_down(0, side, DELAY_US);
    }
    line
}

fn linked(hold: Duration) -> Line {
    linked_with(hold, Policy::default())
}

/// How long each frame of one node's bus waited before it left for the other's.
fn waits(line: &Line, from: usize) -> Vec<u64> {
    let own = |shown: &&Shown| !shown.delivered;
    let made = line.nodes[from].shown.iter().filter(own);
    let came: Vec<_> = line.nodes[1 - from].shown.iter().filter(|shown| shown.delivered).collect();
    assert_eq!(made.clone().count(), came.len(), "frames are missing");
    let pairs = made.zip(came);
    pairs
        .map(|(made, came)| {
            assert_eq!(made.frame, came.frame, "the order is another");
            came.at - made.at - DELAY_US
        })
        .collect()
}

/// How many times frames arrived at a node.
fn arrivals(line: &Line, at: usize) -> usize {
    let mut times: Vec<u64> =
        line.nodes[at].shown.iter().filter(|shown| shown.delivered).map(|shown| shown.at).collect();
    times.dedup();
    times.len()
}

#[test]
fn no_frame_is_held_longer_than_allowed() {
    for from in [PC, BOARD] {
        for every_us in [37, 125, 1_000, 3_999, 4_000, 4_001, 9_000] {
            let mut line = linked(HOLD);
            for _ in 0..2_000 {
                line.make(from);
                line.run(every_us);
            }
            line.run(1_000_000);
            let waits = waits(&line, from);
            assert!(waits.iter().all(|wait| *wait <= HOLD_US), "{every_us} us: {waits:?}");
            // A packet is full after 1,400 bytes, which is 87 frames at least.
            let together = (HOLD_US / every_us + 1).min(87) as usize;
            let arrivals = arrivals(&line, 1 - from);
            assert!(arrivals <= 2_400 / together, "{every_us} us: {arrivals} packets");
        }
    }
}

#[test]
fn lone_frame_leaves_after_the_hold() {
    let mut line = linked(HOLD);
    for _ in 0..50 {
        line.make(BOARD);
        line.run(137_000);
    }
    let waits = waits(&line, BOARD);
    assert!(waits.iter().all(|wait| *wait <= HOLD_US), "{waits:?}");
    // The others went with a sign of life.
    assert!(waits.iter().filter(|wait| **wait == HOLD_US).count() > 40, "{waits:?}");
}

#[test]
fn frame_leaves_at_once_without_hold() {
    for from in [PC, BOARD] {
        let mut line = linked(Duration::ZERO);
        for _ in 0..1_000 {
            line.make(from);
            line.run(250);
        }
        line.run(1_000_000);
        assert!(waits(&line, from).iter().all(|wait| *wait == 0));
    }
}

#[test]
fn full_packet_leaves_at_once() {
    let mut line = linked(HOLD);
    line.run(BETWEEN_SIGNS_US);
    (0..20).for_each(|_| line.make(BOARD));
    line.run(1_000);
    assert_eq!(arrivals(&line, PC), 0, "20 frames fill no packet");
    (0..100).for_each(|_| line.make(BOARD));
    line.run(DELAY_US + 1);
    assert_eq!(arrivals(&line, PC), 1);
    assert_eq!(waits(&line, BOARD).len(), 120);
}

#[test]
fn backlog_is_not_held() {
    let took = |hold| {
        let mut line = linked(hold);
        line.stop_dialling(0, 1_000_000);
        (0..5_000).for_each(|_| line.make(BOARD));
        let start = line.now;
        line.run(20_000_000);
        assert_eq!(waits(&line, BOARD).len(), 5_000);
        line.nodes[PC].shown.last().unwrap().at - start
    };
    let (at_once, held) = (took(Duration::ZERO), took(Duration::from_millis(500)));
    // The last frames of it may be.
    assert!(held <= at_once + 500_000, "{held} us, {at_once} us without hold");
}

#[test]
fn full_window_leaves_at_once() {
    let mut line = linked_with(HOLD, Policy { window: 4, ..Policy::default() });
    line.run(BETWEEN_SIGNS_US);
    (0..3).for_each(|_| line.make(PC));
    line.run(1_000);
    assert_eq!(arrivals(&line, BOARD), 0);
    line.make(PC);
    line.run(DELAY_US + 1);
    assert_eq!(arrivals(&line, BOARD), 1);
    // As many as a receipt makes room for.
    for _ in 0..2_000 {
        line.make(PC);
        line.run(500);
    }
    line.run(1_000_000);
    let worst = waits(&line, PC).into_iter().max().unwrap();
    assert!(worst <= HOLD_US, "a frame waited for {worst} us");
}

#[test]
fn news_takes_waiting_frames_along() {
    let mut line = linked(HOLD);
    line.run(BETWEEN_SIGNS_US);
    line.make(BOARD);
    line.run(1_000);
    assert_eq!(arrivals(&line, PC), 0);
    line.nodes[BOARD].hubs[0].overflowed(1);
    line.run(DELAY_US + 1);
    assert_eq!(arrivals(&line, PC), 1);
}

#[test]
fn end_sends_held_frames_at_once() {
    let mut line = linked(HOLD);
    line.run(BETWEEN_SIGNS_US);
    line.make(BOARD);
    line.run(1_000);
    assert_eq!(arrivals(&line, PC), 0);
    line.nodes[BOARD].hubs[0].close();
    line.run(DELAY_US + 1);
    assert_eq!(arrivals(&line, PC), 1);
}

#[test]
fn holding_makes_no_frame_stale() {
    let limit = Duration::from_millis(20);
    let mut line =
        linked_with(Duration::from_secs(1), Policy { max_age: Some(limit), ..Policy::default() });
    for _ in 0..50 {
        line.make(PC);
        line.run(137_000);
    }
    let waits = waits(&line, PC);
    assert!(waits.iter().all(|wait| *wait <= 5_000), "{waits:?}");
}

#[test]
fn hold_leaves_no_timer_at_rest() {
    let steps = |hold| {
        let mut line = linked(hold);
        for from in [PC, BOARD, BOARD] {
            line.make(from);
            line.run(100_000);
        }
        let mut steps = 0;
        line.run_until(line.now + 10_000_000, |_| steps += 1);
        steps
    };
    assert_eq!(steps(HOLD), steps(Duration::ZERO));
}

#[test]
fn full_window_does_not_wake_whoever_holds() {
    let mut line = linked_with(HOLD, Policy { window: 4, ..Policy::default() });
    // What the board's link says goes nowhere for a second, so no receipt comes.
    line.stall(0, BOARD, 1_000_000);
    for _ in 0..10 {
        line.make(PC);
        line.run(1_000);
    }
    let mut steps = 0;
    line.run_until(line.now + 900_000, |_| steps += 1);
    assert!(steps < 50, "{steps} steps in 900 ms");
    line.run(1_000_000);
    assert_eq!(waits(&line, PC).len(), 10);
}

/// Receipts wait for frames, but nobody waits for a receipt.
#[test]
fn streams_both_ways_with_hold_share_packets() {
    let mut line = linked(HOLD);
    for _ in 0..4_000 {
        line.make(BOARD);
        line.make(PC);
        line.run(500);
    }
    line.run(1_000_000);
    for from in [PC, BOARD] {
        let worst = waits(&line, from).into_iter().max().unwrap();
        assert!(worst <= HOLD_US, "a frame waited for {worst} us");
        // Nine frames in each, but for those that a sign of life took along.
        let arrivals = arrivals(&line, 1 - from);
        assert!((440..=460).contains(&arrivals), "{arrivals} packets");
    }
}

#[test]
fn held_frames_stay_in_order_and_in_the_account() {
    on_all_processors(SCHEDULES, |seed| {
        guarded(seed, || {
            let mut world = World::new(seed);
            world.hold = Duration::from_micros(1 << fastrand::Rng::with_seed(seed).u32(8..18));
            world.run();
            world.check();
        });
    });
}

#[test]
fn chain_that_holds_frames_is_exact() {
    on_all_processors(SCHEDULES / 10, |seed| {
        let hold = Duration::from_micros(1 << fastrand::Rng::with_seed(seed).u32(8..18));
        guarded(seed, || chains::run_holding(seed, hold));
    });
}
