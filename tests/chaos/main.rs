//! Everything around the gateway fails at random, under load in both directions; then the account.
//!
//! A board, two PCs that are joined to its bus and one that is over a relay, one `dump` that reads and one that reads
//! slowly, and one `send`, each on a cable of its own. Beside them two boards on one bus of a PC, and a board with a
//! controller whose echoes are lost. Some of the machines are virtual ones, which are paused. Faults come from a seed. The run is cut into rounds, each with new processes and a seed of its
//! own, so that a round that fails can be run again alone. At the end of each round the faults are healed, and then
//! every frame that was on a bus, as sockets of the test saw it, must be where the counters of the processes say.
//! `account.rs` has the equations; `docs/reliability.md` says them in words.
//!
//! `tests/chaos/run` runs it. Environment: `CANSPAN_CHAOS_SECONDS` (default 600), `CANSPAN_SEED` (default: random; the
//! seeds are printed), and that of the tests in `tests/kernel`, whose lab this is.

#[path = "../kernel/clock.rs"]
mod clock;
#[path = "../kernel/controller.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod controller;
#[path = "../kernel/cutter.rs"]
mod cutter;
#[path = "../kernel/lab.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod lab;
#[path = "../kernel/process.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod process;
#[path = "../kernel/sys.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod sys;

mod account;
mod faults;
mod field;
mod joined;
mod lossy;
mod numbers;
mod reader;
mod relay;
mod traffic;

use core::time::Duration;
use std::{collections::BTreeMap, time::Instant};

use account::Result;
use faults::Storm;
use field::Field;
use joined::Joined;
use lossy::Lossy;

/// What is run when nobody says how long.
const DEFAULT_SECONDS: u64 = 600;
/// A round: long enough for some fifty faults, short enough to be run again.
const ROUND: Duration = Duration::from_secs(110);
/// Of a round, what is not storm: starting, healing, and waiting until all is delivered. It takes what it takes.
const REST: Duration = Duration::from_secs(20);

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// What is tried beside the field.
struct Sides {
    joined: Joined,
    /// Where the kernel has serial adapters.
    lossy: Option<Lossy>,
}

impl Sides {
    fn start() -> Self {
        let lossy = has_serial_adapters().then(Lossy::start);
        Self { joined: Joined::start(), lossy }
    }

    /// Checks their accounts: how many frames were made.
    fn check(&self) -> u64 {
        self.joined.check() + self.lossy.as_ref().map_or(0, Lossy::check)
    }
}

fn has_serial_adapters() -> bool {
    sys::serial_can().inspect_err(|error| println!("    no serial CAN adapters: {error}")).is_ok()
}

fn round(seed: u64, storm: Duration) -> (Result, BTreeMap<&'static str, u64>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut field = Field::start(&mut rng);
    let mut sides = Sides::start();
    let mut faults = Storm::new(rng);
    faults.rage(&mut field, &mut sides, storm);
    let told = field.settle();
    let mut result = account::check(&field, &told);
    result.add_made(sides.check());
    (result, faults.counts)
}

#[test]
fn whatever_fails_every_frame_is_delivered_once_in_order_and_young_or_counted() {
    let length =
        Duration::from_secs(number_from("CANSPAN_CHAOS_SECONDS").unwrap_or(DEFAULT_SECONDS));
    let seed = number_from("CANSPAN_SEED");
    let first = seed.unwrap_or_else(|| fastrand::u64(1..1_000_000_000));
    println!("    CANSPAN_SEED={first} CANSPAN_CHAOS_SECONDS={}", length.as_secs());
    let begin = Instant::now();
    let mut total = Result::default();
    let mut counts = BTreeMap::<&str, u64>::new();
    for seed in first.. {
        let left = length.saturating_sub(begin.elapsed());
        // What is left over is too short for a storm.
        if seed > first && left < ROUND {
            break;
        }
        let storm = ROUND.min(left).saturating_sub(REST).max(Duration::from_secs(10));
        let result = std::panic::catch_unwind(|| round(seed, storm));
        let (result, faults) = result.unwrap_or_else(|panic| {
            eprintln!("this round is run again by CANSPAN_SEED={seed} CANSPAN_CHAOS_SECONDS=110");
            std::panic::resume_unwind(panic)
        });
        println!("    round {seed}, at {} s: {result}", begin.elapsed().as_secs());
        total.add(&result);
        faults.into_iter().for_each(|(kind, count)| *counts.entry(kind).or_default() += count);
    }
    println!("    {} faults in {} s:", counts.values().sum::<u64>(), begin.elapsed().as_secs());
    counts.iter().for_each(|(kind, count)| println!("    {count:>7} {kind}"));
    println!("    {total:#}");
    total.is_worth_something();
}
