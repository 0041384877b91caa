//! Latency, against what it must cost at least: a forwarder without a protocol, measured in the same run.
//!
//! Both are up at once and every window measures both, so that what else happens on the machine happens to both. What
//! counts is the median, over the windows, of how many times the other figure ours is; there are more windows, up to
//! twelve, while it is over the limit. All are printed.

use core::time::Duration;
use std::thread;

use crate::{
    forwarder,
    lab::{Namespace, Pair},
    measure::{self, Times, Traffic},
    process::Process,
};

const WINDOWS: core::ops::RangeInclusive<usize> = 3..=12;
/// A limit is exceeded by this much more: medians of the same program wander that far.
const MARGIN: f64 = 1.15;
/// Frames or round trips in a window.
const COUNT: u64 = 1_000;
/// How long the round trips of a window may take.
const AT_MOST: Duration = Duration::from_millis(1_500);

/// What is compared in each window, and how many times the one figure the other may be.
type Limit = (&'static str, f64);

fn median(ratios: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = ratios.collect();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// Measures windows, each a pair of a yardstick and our figure for each limit, until all limits are met.
fn hold<const N: usize>(limits: [Limit; N], mut window: impl FnMut() -> [(f64, f64); N]) {
    let mut windows: Vec<[(f64, f64); N]> = Vec::new();
    let mut medians = [f64::INFINITY; N];
    let is_met = |medians: &[f64; N]| {
        medians.iter().zip(limits).all(|(median, (_, limit))| *median <= limit * MARGIN)
    };
    while windows.len() < *WINDOWS.start() || (windows.len() < *WINDOWS.end() && !is_met(&medians))
    {
        windows.push(window());
        medians = core::array::from_fn(|n| {
            median(windows.iter().map(|window| window[n].1 / window[n].0))
        });
    }
    for (n, (what, limit)) in limits.into_iter().enumerate() {
        let all: Vec<String> =
            windows.iter().map(|window| format!("{:.0}:{:.0}", window[n].1, window[n].0)).collect();
        println!("    {what}: {:.2} times, limit {limit}; µs {}", medians[n], all.join("  "));
    }
    let missed: Vec<String> = limits
        .iter()
        .zip(medians)
        .filter(|((_, limit), median)| *median > limit * MARGIN)
        .map(|((what, limit), median)| format!("{what}: {median:.2} times, not {limit}"))
        .collect();
    assert!(missed.is_empty(), "with a margin of 15 %: {}", missed.join("; "));
}

/// The forwarder as this program starts it: itself again, for one test that is none.
fn forwarder() -> (Pair, (Process, Process)) {
    let pair = Pair::new();
    let name = "latency::forwarder_process_for_the_other_tests";
    let arguments = ["--exact", name, "--ignored", "--nocapture", "--test-threads=1"];
    let processes = forwarder::start(&pair, &arguments);
    (pair, processes)
}

#[test]
#[ignore = "the forwarder, which the tests of latency start as a process of its own"]
fn forwarder_process_for_the_other_tests() {
    let task = std::env::var(forwarder::TASK).expect("the tests of latency start this");
    forwarder::run(&task).unwrap();
}

fn one_way(from: &Namespace, to: &Namespace, rate: u64, count: u64) -> Times {
    let times = measure::one_way(from, to, rate, count).expect("frames come");
    assert_eq!(times.count() as u64, count, "frames were lost at {rate}/s");
    times
}

/// From the PC to the board and back, beside so many other frames a second on the board's bus.
fn round_trip(pair: &Pair, beside: u64) -> Times {
    let _traffic = Traffic::start(&pair.board, beside);
    measure::round_trip(&pair.pc, &pair.board, COUNT, AT_MOST).expect("frames come back")
}

/// The p-th percentile in microseconds.
fn us(times: &Times, p: usize) -> f64 {
    times.percentile(p).expect("times of frames")
}

#[test]
fn one_way_is_near_a_bare_forwarder() {
    let (yardstick, _forwarder) = forwarder();
    let pair = Pair::new();
    let _both = pair.joined();
    let limits = [
        ("to the PC, p50", 1.3),
        ("to the PC, p99", 2.0),
        ("to the board, p50", 1.3),
        ("to the board, p99", 2.0),
    ];
    hold(limits, || {
        let bare_out = one_way(&yardstick.board, &yardstick.pc, 1_000, COUNT);
        let out = one_way(&pair.board, &pair.pc, 1_000, COUNT);
        let bare_back = one_way(&yardstick.pc, &yardstick.board, 1_000, COUNT);
        let back = one_way(&pair.pc, &pair.board, 1_000, COUNT);
        let both = |bare: &Times, ours: &Times, p| (us(bare, p), us(ours, p));
        [
            both(&bare_out, &out, 50),
            both(&bare_out, &out, 99),
            both(&bare_back, &back, 50),
            both(&bare_back, &back, 99),
        ]
    });
}

#[test]
fn round_trip_is_near_a_bare_forwarder() {
    let (yardstick, _forwarder) = forwarder();
    let pair = Pair::new();
    let _both = pair.joined();
    hold([("round trip, p50", 1.5), ("round trip, p99", 2.0)], || {
        let (bare, ours) = (round_trip(&yardstick, 0), round_trip(&pair, 0));
        [(us(&bare, 50), us(&ours, 50)), (us(&bare, 99), us(&ours, 99))]
    });
}

#[test]
fn busy_bus_answers_as_quickly_as_quiet_one() {
    let pair = Pair::new();
    let _both = pair.joined();
    let limits = [("beside 2,000/s", 1.3), ("beside 3,000/s", 1.3), ("beside 6,000/s", 1.3)];
    hold(limits, || {
        let quiet = us(&round_trip(&pair, 0), 50);
        [2_000, 3_000, 6_000].map(|beside| (quiet, us(&round_trip(&pair, beside), 50)))
    });
}

#[test]
fn one_way_at_4000_is_quick_as_at_1000() {
    let pair = Pair::new();
    let _both = pair.joined();
    hold([("at 4,000/s", 1.3)], || {
        let slow = one_way(&pair.board, &pair.pc, 1_000, COUNT);
        let quick = one_way(&pair.board, &pair.pc, 4_000, 4 * COUNT);
        [(us(&slow, 50), us(&quick, 50))]
    });
}

/// After a pause TCP begins with a small window again, and a gateway that does not hear of what arrived waits for it
/// with every frame from the tenth on: that shows in a tenth of the first hundred, however noisy the machine.
#[test]
fn first_frames_after_a_pause_are_quick() {
    let pair = Pair::new();
    let _both = pair.joined();
    let limits = [("first 100 after 3 s, p90", 2.0), ("first 100 after 3 s, p99", 2.0)];
    hold(limits, || {
        thread::sleep(Duration::from_secs(3));
        let (first, later) = one_way(&pair.board, &pair.pc, 1_000, COUNT).split(100);
        [90, 99].map(|p| (us(&later, p), us(&first, p)))
    });
}
