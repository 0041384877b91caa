//! Latency, against what it must cost at least: a forwarder without a protocol, measured in the same run.
//!
//! Both are up at once and every window measures both, so that what else happens on the machine happens to both. What
//! counts is how many times the other figure ours is in most windows; there are more windows, up to twelve, while that
//! is over the limit. All are printed.

use core::time::Duration;
use std::thread;

use crate::{
    forwarder,
    lab::{Namespace, Pair},
    measure::{self, Answer, Times, Traffic},
    process::Process,
    speed::joined_with_hold,
};

/// In which part of the windows a limit holds, of at least and at most how many.
struct Windows(f64, core::ops::RangeInclusive<usize>);
const IN_HALF: Windows = Windows(0.5, 3..=12);
/// For what goes wrong in some windows only.
const IN_MOST: Windows = Windows(0.75, 6..=12);
/// A limit is exceeded by this much more: medians of the same program wander that far.
const MARGIN: f64 = 1.15;
/// Frames or round trips in a window.
const COUNT: u64 = 1_000;
/// How long the round trips of a window may take.
const AT_MOST: Duration = Duration::from_millis(1_500);

/// What is compared in each window, and how many times the one figure the other may be.
type Limit = (&'static str, f64);

/// Measures windows, each a pair of a yardstick and our figure for each limit, until all limits are met.
fn hold<const N: usize>(
    Windows(part, counts): Windows,
    limits: [Limit; N],
    mut window: impl FnMut() -> [(f64, f64); N],
) {
    let mut windows: Vec<[(f64, f64); N]> = Vec::new();
    let (mut ratios, mut missed) = ([0.0; N], Vec::new());
    while windows.len() < *counts.start() || (windows.len() < *counts.end() && !missed.is_empty()) {
        windows.push(window());
        ratios = core::array::from_fn(|n| {
            let mut sorted: Vec<f64> = windows.iter().map(|w| w[n].1 / w[n].0).collect();
            sorted.sort_by(f64::total_cmp);
            sorted[((sorted.len() - 1) as f64 * part).round() as usize]
        });
        missed = limits.iter().zip(ratios).filter(|((_, limit), r)| *r > limit * MARGIN).collect();
    }
    for (n, (what, limit)) in limits.iter().enumerate() {
        let all: Vec<String> =
            windows.iter().map(|w| format!("{:.0}:{:.0}", w[n].1, w[n].0)).collect();
        println!("    {what}: {:.2} times, limit {limit}; µs {}", ratios[n], all.join("  "));
    }
    let missed: Vec<String> = missed
        .iter()
        .map(|((what, limit), ratio)| format!("{what}: {ratio:.2} times, not {limit}"))
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

/// One way through canspan, which loses none.
fn one_way(from: &Namespace, to: &Namespace, rate: u64, count: u64) -> Times {
    let times = measure::one_way(from, to, rate, count).expect("frames come");
    assert_eq!(times.count() as u64, count, "frames were lost at {rate}/s");
    times
}

/// From the PC to the board and back, beside so many other frames a second on the board's bus; also how many were lost.
fn round_trip_or_lost(pair: &Pair, answer: Answer, beside: u64) -> (Times, u64) {
    let _traffic = Traffic::start(&pair.board, beside);
    measure::round_trip(&pair.pc, &pair.board, answer, COUNT, AT_MOST).expect("frames come back")
}

/// The same through canspan, which loses none.
fn round_trip(pair: &Pair, answer: Answer, beside: u64) -> Times {
    let (times, lost) = round_trip_or_lost(pair, answer, beside);
    assert_eq!(lost, 0, "questions without an answer beside {beside}/s");
    times
}

/// One way through the forwarder, which loses frames where the machine has no time for it.
fn bare_one_way(from: &Namespace, to: &Namespace, rate: u64) -> Times {
    measure::one_way(from, to, rate, rate).expect("frames come")
}

/// The p-th percentile in microseconds; endless where none came.
fn us(times: &Times, p: usize) -> f64 {
    times.percentile(p).unwrap_or(f64::INFINITY)
}

#[test]
fn one_way_is_near_a_bare_forwarder() {
    let (yardstick, _forwarder) = forwarder();
    let pair = Pair::new();
    let _both = pair.joined();
    // The aim is 1.3 and 2.0, and is not met: docs/benchmarks.md says why. It must not get further away.
    let limits = [
        ("to the PC, p50", 2.6),
        ("to the PC, p99", 3.5),
        ("to the board, p50", 2.6),
        ("to the board, p99", 3.5),
    ];
    hold(IN_HALF, limits, || {
        let bare_out = bare_one_way(&yardstick.board, &yardstick.pc, 1_000);
        let out = one_way(&pair.board, &pair.pc, 1_000, COUNT);
        let bare_back = bare_one_way(&yardstick.pc, &yardstick.board, 1_000);
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
    // The aim is 1.5 and 2.0, and is met but for the margin.
    hold(IN_HALF, [("round trip, p50", 1.9), ("round trip, p99", 2.5)], || {
        let bare = round_trip_or_lost(&yardstick, Answer::AtOnce, 0).0;
        let ours = round_trip(&pair, Answer::AtOnce, 0);
        [(us(&bare, 50), us(&ours, 50)), (us(&bare, 99), us(&ours, 99))]
    });
}

/// How many times as long the forwarder takes when it has more to do: where the machine itself has no time left, it
/// takes longer, and then so may we, up to `most`. That is less than what a gateway takes longer that works in turns.
fn slower(quiet: f64, busy: f64, most: f64) -> f64 {
    (busy / quiet).clamp(1.0, most)
}

#[test]
fn busy_bus_answers_as_quickly_as_quiet_one() {
    let (yardstick, _forwarder) = forwarder();
    let pair = Pair::new();
    let _both = pair.joined();
    let limits = [("beside 2,000/s", 1.3), ("beside 3,000/s", 1.3), ("beside 6,000/s", 1.3)];
    hold(IN_HALF, limits, || {
        let bare = |beside| us(&round_trip_or_lost(&yardstick, Answer::Later, beside).0, 50);
        let ours = |beside| us(&round_trip(&pair, Answer::Later, beside), 50);
        let (bare_quiet, quiet) = (bare(0), ours(0));
        [2_000, 3_000, 6_000]
            .map(|beside| (quiet * slower(bare_quiet, bare(beside), 2.0), ours(beside)))
    });
}

#[test]
fn one_way_at_4000_is_quick_as_at_1000() {
    let (yardstick, _forwarder) = forwarder();
    let pair = Pair::new();
    let _both = pair.joined();
    hold(IN_HALF, [("at 4,000/s", 1.3)], || {
        let bare = |rate| us(&bare_one_way(&yardstick.board, &yardstick.pc, rate), 50);
        let ours = |rate| us(&one_way(&pair.board, &pair.pc, rate, rate), 50);
        let slower = slower(bare(1_000), bare(4_000), 5.0);
        [(ours(1_000) * slower, ours(4_000))]
    });
}

/// TCP begins with a small window on a new link and after a pause. Where it takes both sides for talking, it waits with
/// acknowledgements, and then the sender with every frame from the tenth on: that shows in a tenth of the first
/// hundred, however noisy the machine, but not every time.
#[test]
fn first_frames_after_a_pause_are_quick() {
    let pair = Pair::new();
    let limits = [
        ("first 100 of a new link, p90", 2.0),
        ("first 100 of a new link, p99", 2.0),
        ("first 100 after 3 s, p90", 2.0),
        ("first 100 after 3 s, p99", 2.0),
    ];
    let first = || {
        let (first, later) = one_way(&pair.board, &pair.pc, 1_000, COUNT).split(100);
        [90, 99].map(|p| (us(&later, p), us(&first, p)))
    };
    hold(IN_MOST, limits, || {
        let _both = pair.joined();
        let [new_p90, new_p99] = first();
        round_trip(&pair, Answer::AtOnce, 0);
        thread::sleep(Duration::from_secs(3));
        let [p90, p99] = first();
        [new_p90, new_p99, p90, p99]
    });
}

#[test]
fn held_frames_are_no_later_than_promised() {
    // The first of a packet waits 4 ms, the last hardly at all: 2 ms, and the way without hold.
    const LIMITS: core::ops::RangeInclusive<f64> = 1_500.0..=6_000.0;
    let pair = Pair::new();
    let _both = joined_with_hold(&pair);
    let ends = [(&pair.board, &pair.pc, "to the PC"), (&pair.pc, &pair.board, "to the board")];
    for (from, to, what) in ends {
        let medians = (0..12).map(|_| us(&one_way(from, to, 1_000, COUNT), 50));
        let met = medians.inspect(|us| println!("    {what} with --hold 4ms: {us:.0} µs"));
        let met = met.filter(|us| LIMITS.contains(us)).count();
        assert!(met >= 3, "{what}: {LIMITS:?} µs in {met} windows of 12");
    }
}
