//! The gateway's protocol in a simulated field: nodes, buses, a network with seeded faults and a
//! virtual clock. After each schedule every frame was delivered once, in order, or is in a counter
//! on both ends, to the frame.
//!
//! `CANSPAN_SEED=N cargo test --test simulation` runs one schedule again, `CANSPAN_SCHEDULES=N`
//! sets how many there are.

mod account;
mod board;
mod chains;
mod clocks;
mod connection;
mod controller;
mod crowd;
mod echoes;
mod ends;
mod greeting;
mod hold;
mod late;
mod line;
mod mutual;
mod net;
mod outage;
mod pacing;
mod records;
mod rings;
mod snapshot;
mod standby;
mod world;

use core::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Schedules in one run of the tests.
const SCHEDULES: u64 = 10_000;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Schedules of chains of nodes.
const CHAINS: u64 = 2_000;
/// Schedules of nodes that join their buses in rings.
const RINGS: u64 = 300;

fn run(seed: u64) {
    guarded(seed, || {
        let mut world = World::new(seed);
        world.run();
        world.check();
    });
}

fn guarded(seed: u64, schedule: impl FnOnce() + core::panic::UnwindSafe) {
    let result = std::panic::catch_unwind(schedule);
    if let Err(panic) = result {
        eprintln!("the schedule fails again with CANSPAN_SEED={seed}");
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn every_frame_is_delivered_once_in_order_or_counted_on_both_ends() {
    if let Some(seed) = number_from("CANSPAN_SEED") {
        return run(seed);
    }
    let schedules = number_from("CANSPAN_SCHEDULES").unwrap_or(SCHEDULES);
    on_all_processors(schedules, run);
}

fn on_all_processors(schedules: u64, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= schedules {
                        return;
                    }
                    run(seed);
                }
            });
        }
    });
}

#[test]
fn chain_is_exact_and_its_far_bus_gets_nothing_old() {
    let chain = |seed| guarded(seed, || chains::run(seed));
    match number_from("CANSPAN_SEED") {
        Some(seed) => chain(seed),
        None => on_all_processors(CHAINS, chain),
    }
}

#[test]
fn buses_joined_in_rings_are_left_with_one_way_between_any_two() {
    for seed in number_from("CANSPAN_SEED").map_or(0..RINGS, |seed| seed..seed + 1) {
        guarded(seed, || rings::Net::new(seed).check());
    }
}

#[test]
fn the_newest_link_of_a_ring_is_closed_before_a_frame_runs_round() {
    for seed in number_from("CANSPAN_SEED").map_or(0..RINGS, |seed| seed..seed + 1) {
        guarded(seed, || rings::a_ring_never_carries_a_frame(seed));
    }
}
