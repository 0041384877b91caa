//! What is measured of each system, and in which order: a measurement of all systems, then the next one.

use core::time::Duration;
use std::{thread, time::Instant};

use crate::{
    lab::Namespace,
    measure::{self, Answer, Times, Traffic},
    numbered::{Checker, Generator, Tally},
    results::{Column, GOOD, Key, LOST, Results},
    systems::System,
};

/// How much of everything there is.
pub(crate) struct Amount {
    /// Of the latencies.
    pub(crate) repeats: usize,
    /// Of the searches for the most frames a second, which take longest.
    pub(crate) searches: usize,
    /// Of a stream at one rate.
    pub(crate) seconds: u64,
    /// At most, of round trips at a time.
    pub(crate) trips: u64,
}

impl Amount {
    pub(crate) const FULL: Self = Self { repeats: 5, searches: 3, seconds: 2, trips: 1_000 };
    pub(crate) const QUICK: Self = Self { repeats: 3, searches: 3, seconds: 1, trips: 300 };
}

const CPU: &str = "cpu";
const WIRE: &str = "wire";
const ONE_WAY: [&str; 2] = ["one-way-p50", "one-way-p99"];
const ROUND_TRIP: [&str; 2] = ["round-trip-p50", "round-trip-p99"];
const UNANSWERED: &str = "unanswered";
const BUSY_ROUND_TRIP: [&str; 2] = ["busy-round-trip-p50", "busy-round-trip-p99"];
const BUSY_UNANSWERED: &str = "busy-unanswered";
const FIRST: [&str; 2] = ["first-p50", "first-p99"];
const LATER: [&str; 2] = ["later-p50", "later-p99"];
const LOSSLESS: &str = "lossless";
const BOTH: [&str; 2] = ["both-delivered", "both-lost"];

/// Frames a second of the table's columns, and of other traffic beside round trips.
const RATES: [u64; 4] = [1_000, 3_000, 4_000, 8_000];
const BESIDE: [u64; 4] = [0, 2_000, 3_000, 6_000];
/// Frames a second at which processor time is counted, and for how much longer than latencies are measured: in
/// User-Mode Linux it comes in steps of 10 ms.
const CPU_RATE: u64 = 4_000;
const CPU_LONGER: u64 = 2;
/// What a sweep goes through.
const SWEEP: [u64; 11] =
    [100, 300, 1_000, 2_000, 3_000, 4_000, 6_000, 8_000, 12_000, 20_000, 40_000];
const PAUSE: Duration = Duration::from_secs(3);
const AFTER_PAUSE: usize = 100;
/// Frames a second in each direction when both are in use.
const BOTH_RATE: u64 = 40_000;
/// A cable, and what `tc ... netem` makes of it in both directions.
const CABLES: [(&str, &str); 3] =
    [("1 % loss", "loss 1%"), ("20 ms", "delay 20ms"), ("1 Mbit/s", "rate 1mbit")];
/// How long a round trip series may take; a gateway that works in turns takes milliseconds for each.
const TRIPS_AT_MOST: Duration = Duration::from_millis(1_500);

/// The table of the systems.
pub(crate) fn table(systems: &[System], results: &mut Results, amount: &Amount) {
    for repeat in 1..=amount.repeats {
        eprintln!("benchmark: repeat {repeat} of {}", amount.repeats);
        for rate in RATES {
            each(systems, |system| one_way(system, results, GOOD, rate, amount.seconds));
        }
        each(systems, |system| round_trip(system, results, GOOD, amount.trips));
        for rate in BESIDE {
            each(systems, |system| round_trip_beside(system, results, rate, amount.trips));
        }
        each(systems, |system| after_pause(system, results));
        each(systems, |system| both_directions(system, results));
        if repeat <= amount.searches {
            each(systems, |system| {
                results.add(&system.name, Key::new(LOSSLESS, 0), Some(most_lossless(system)));
            });
        }
        for (cable, netem) in CABLES {
            each(systems, |system| {
                if system.is_bare() {
                    return;
                }
                system.cable(Some(netem));
                one_way(system, results, cable, 1_000, amount.seconds);
                round_trip(system, results, cable, amount.trips);
                system.cable(None);
            });
        }
    }
    print_tables(results);
}

/// Latency and processor time at many rates.
pub(crate) fn sweep(systems: &[System], results: &mut Results, amount: &Amount) {
    for repeat in 1..=amount.repeats {
        eprintln!("benchmark: repeat {repeat} of {}", amount.repeats);
        for rate in SWEEP {
            // Longer at low rates: the steps of processor time are as long as 50 frames take.
            let seconds = (2_000 / rate).clamp(amount.seconds, 3 * amount.seconds);
            each(systems, |system| one_way(system, results, GOOD, rate, seconds));
        }
    }
    for (title, measure) in [
        ("One way p50 in µs by frames/s", ONE_WAY[0]),
        ("One way p99 in µs by frames/s", ONE_WAY[1]),
        ("Processor time in µs a frame by frames/s, both ends together", CPU),
        ("Bytes on the wire a frame by frames/s", WIRE),
    ] {
        let column = |rate: &u64| column(&rate.to_string(), vec![Key::new(measure, *rate)]);
        results.print(title, &SWEEP.iter().map(column).collect::<Vec<_>>());
    }
    results.print_losses(LOST, "Frames lost where one way was measured");
    results.print_losses(UNANSWERED, "Requests or answers lost on a quiet bus");
    results.print_losses(BUSY_UNANSWERED, "Requests or answers lost beside other traffic");
}

fn each(systems: &[System], mut work: impl FnMut(&System)) {
    systems.iter().for_each(&mut work);
}

/// Latency, processor time and bytes of a stream from the board to the PC.
fn one_way(system: &System, results: &mut Results, cable: &'static str, rate: u64, seconds: u64) {
    let longer = if rate == CPU_RATE { CPU_LONGER } else { 1 };
    let count = rate * seconds * longer;
    let before = (system.cpu_us(), system.wire_bytes());
    let times = measure::one_way(system.board(), system.pc(), rate, count);
    let after = (system.cpu_us(), system.wire_bytes());
    let mut add = |measure, value| {
        results.add(&system.name, Key { measure, cable, rate }, value);
    };
    let Ok(times) = times else {
        add(LOST, Some(100.0));
        return;
    };
    ONE_WAY.into_iter().zip([50, 99]).for_each(|(name, p)| add(name, times.percentile(p)));
    add(LOST, Some((1.0 - times.count() as f64 / count as f64) * 100.0));
    let frames = count as f64;
    add(CPU, before.0.zip(after.0).map(|(before, after)| (after - before) / frames));
    add(WIRE, before.1.zip(after.1).map(|(before, after)| (after - before) as f64 / frames));
}

/// A request from the PC, answered at once on the board's bus.
fn round_trip(system: &System, results: &mut Results, cable: &'static str, trips: u64) {
    let times =
        measure::round_trip(system.pc(), system.board(), Answer::AtOnce, trips, TRIPS_AT_MOST);
    // Without an answer there is no figure, and the table shows that.
    let Ok((times, lost)) = times else { return };
    let mut add = |measure, value| {
        results.add(&system.name, Key { measure, cable, rate: 0 }, value);
    };
    ROUND_TRIP.into_iter().zip([50, 99]).for_each(|(name, p)| add(name, times.percentile(p)));
    add(UNANSWERED, Some(lost as f64 * 100.0 / (times.count() as f64 + lost as f64)));
}

/// The same of a control unit that takes its time, beside other traffic on the board's bus.
fn round_trip_beside(system: &System, results: &mut Results, beside: u64, trips: u64) {
    let _traffic = Traffic::start(system.board(), beside);
    let times =
        measure::round_trip(system.pc(), system.board(), Answer::Later, trips, TRIPS_AT_MOST);
    let Ok((times, lost)) = times else { return };
    let mut add = |measure, value| results.add(&system.name, Key::new(measure, beside), value);
    BUSY_ROUND_TRIP.into_iter().zip([50, 99]).for_each(|(name, p)| add(name, times.percentile(p)));
    add(BUSY_UNANSWERED, Some(lost as f64 * 100.0 / (times.count() as f64 + lost as f64)));
}

/// The first frames after a pause, and those after them.
fn after_pause(system: &System, results: &mut Results) {
    thread::sleep(PAUSE);
    let Ok(times) = measure::one_way(system.board(), system.pc(), 1_000, 1_000) else { return };
    let (first, later) = times.split(AFTER_PAUSE);
    let mut add = |names: [&'static str; 2], times: &Times| {
        for (measure, p) in names.into_iter().zip([50, 99]) {
            results.add(&system.name, Key::new(measure, 1_000), times.percentile(p));
        }
    };
    add(FIRST, &first);
    add(LATER, &later);
}

/// A stream in each direction at once: how many frames a second came in the slower one, and how many never came.
fn both_directions(system: &System, results: &mut Results) {
    const COUNT: u64 = BOTH_RATE;
    let begin = Instant::now();
    let (out, back) = (
        Stream::start(system.board(), system.pc(), 0x123, COUNT, BOTH_RATE),
        Stream::start(system.pc(), system.board(), 0x124, COUNT, BOTH_RATE),
    );
    let (out, back) = (out.finish(begin), back.finish(begin));
    let slower = out.frames_a_second().min(back.frames_a_second());
    let lost = (out.tally.lost + back.tally.lost) as f64;
    results.add(&system.name, Key::new(BOTH[0], BOTH_RATE), Some(slower));
    results.add(&system.name, Key::new(BOTH[1], BOTH_RATE), Some(lost));
}

/// The most frames a second of which none is lost in a second, by halving steps of a seventh.
fn most_lossless(system: &System) -> f64 {
    const STEP: f64 = 1.15;
    /// 1,000 to half a million.
    const STEPS: core::ops::Range<i32> = 0..45;
    let (mut low, mut high) = (STEPS.start, STEPS.end);
    let mut most = 0.0;
    while low < high {
        let middle = low.midpoint(high);
        let rate = (1_000.0 * STEP.powi(middle)) as u64;
        // Once more, since other work on the machine can only spoil it.
        let reached = lossless_at(system, rate).or_else(|| lossless_at(system, rate));
        match reached {
            Some(reached) => {
                most = f64::max(most, reached);
                low = middle + 1;
            }
            None => high = middle,
        }
    }
    most
}

/// Frames a second that came, if a second of them at `rate` came whole and nearly as quickly as asked for.
fn lossless_at(system: &System, rate: u64) -> Option<f64> {
    /// The sender is on the same machine: what it is late by shows that the rate is out of reach.
    const SLOWER: f64 = 1.25;
    let begin = Instant::now();
    let arrived = Stream::start(system.board(), system.pc(), 0x123, rate, rate).finish(begin);
    let is_whole = arrived.tally.lost + arrived.tally.doubled + arrived.tally.reordered == 0;
    let reached = arrived.frames_a_second();
    (is_whole && reached * SLOWER >= rate as f64).then_some(reached)
}

/// A numbered stream under way.
struct Stream {
    generator: Generator,
    checker: Checker,
    count: u64,
}

/// How a stream arrived.
struct Arrived {
    tally: Tally,
    took: Duration,
}

impl Stream {
    /// How long none may come before the rest counts as lost.
    const PATIENCE: Duration = Duration::from_secs(1);

    fn start(from: &Namespace, to: &Namespace, id: u32, count: u64, rate: u64) -> Self {
        let checker = Checker::start(to.can_only("vcan0", id), count, Self::PATIENCE);
        let generator = Generator::start(from.can_sender("vcan0"), id, count, rate);
        Self { generator, checker, count }
    }

    fn finish(self, begin: Instant) -> Arrived {
        let (mut received, mut last) = (0, begin);
        while received < self.count && last.elapsed() < Self::PATIENCE {
            thread::sleep(Duration::from_millis(2));
            let so_far = self.checker.received();
            if so_far > received {
                (received, last) = (so_far, Instant::now());
            }
        }
        self.generator.finish();
        Arrived { tally: self.checker.finish(), took: last - begin }
    }
}

impl Arrived {
    fn frames_a_second(&self) -> f64 {
        self.tally.received as f64 / self.took.as_secs_f64().max(1e-3)
    }
}

fn column(heading: &str, keys: Vec<Key>) -> Column {
    Column { heading: heading.to_owned(), keys }
}

fn both(names: [&'static str; 2], cable: &'static str, rate: u64) -> Vec<Key> {
    names.into_iter().map(|measure| Key { measure, cable, rate }).collect()
}

fn print_tables(results: &Results) {
    let medians = |name, rates: &[u64]| rates.iter().map(|rate| Key::new(name, *rate)).collect();
    let title = "Latency in µs, processor time, most frames a second";
    results.print(
        title,
        &[
            column("one way p50 / p99 at 1,000/s", both(ONE_WAY, GOOD, 1_000)),
            column("round trip p50 / p99, quiet", both(ROUND_TRIP, GOOD, 0)),
            column(
                "round trip p50 beside 0 / 2,000 / 3,000 / 6,000 frames/s, of a unit that answers later",
                medians(BUSY_ROUND_TRIP[0], &BESIDE),
            ),
            column("one way p50 at 3,000 / 4,000 / 8,000", medians(ONE_WAY[0], &RATES[1..])),
            column("CPU µs/frame at 4,000/s", vec![Key::new(CPU, CPU_RATE)]),
            column("lossless frames/s", vec![Key::new(LOSSLESS, 0)]),
        ],
    );
    results.print(
        "Bytes on the wire, both directions, after a pause",
        &[
            column("bytes a frame at 1,000 / 8,000", medians(WIRE, &[1_000, 8_000])),
            column(
                "40,000/s in each direction at once: frames/s in the slower one / frames lost",
                both(BOTH, GOOD, BOTH_RATE),
            ),
            column("first 100 frames after 3 s, p50 / p99, µs", both(FIRST, GOOD, 1_000)),
            column("the 900 after them, p50 / p99, µs", both(LATER, GOOD, 1_000)),
        ],
    );
    let columns: Vec<Column> = CABLES
        .iter()
        .flat_map(|(cable, _)| {
            [
                column(&format!("{cable}: one way at 1,000/s"), both(ONE_WAY, cable, 1_000)),
                column(&format!("{cable}: round trip"), both(ROUND_TRIP, cable, 0)),
            ]
        })
        .collect();
    results.print("A worse cable in both directions, p50 / p99 in µs", &columns);
    results.print_losses(LOST, "Frames lost where one way was measured");
    results.print_losses(UNANSWERED, "Requests or answers lost on a quiet bus");
    results.print_losses(BUSY_UNANSWERED, "Requests or answers lost beside other traffic");
}
