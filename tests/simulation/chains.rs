//! Chains of two and three hops, with relays inside one process, on virtual interfaces and on real buses, and what goes
//! wrong on each hop: what reaches the bus at the far end is no older than it may be, and every hop's account is exact.

use core::time::Duration;
use std::collections::{HashMap, HashSet};

use canspan::protocol::{Frame, Outcome, Policy};

use crate::controller::Controller;
use crate::line::{Bus, Line};

const LAB: usize = 0;
const STORM_US: u64 = 4_000_000;
/// Longest time after which everything must have arrived.
const PEACE_US: u64 = 150_000_000;
/// By how much each hop may misjudge a frame's age: half of what a round trip may take that settles the clocks'
/// difference, and a turn.
const HOP_TOLERANCE_US: u64 = 50_000 + 5_000;

/// A heartbeat after a jump of a clock is there.
const HEARTBEAT_US: u64 = 1_200_000;

struct Chain {
    line: Line,
    next_fault: u64,
    /// How old a command may be at the far end (microseconds).
    limit_us: u64,
    /// Times in which a clock stood that is not the lab's, or had just jumped: what waited in a node's own socket
    /// then nobody can judge.
    stood: Vec<(u64, u64)>,
    /// Whether processes are killed and started again.
    restarts: bool,
    has_late_echoes: bool,
}

fn source(frame: &Frame) -> usize {
    (frame.id().bits() & 0xFF) as usize
}

fn sequence(frame: &Frame) -> u64 {
    u64::from_be_bytes(frame.data().try_into().unwrap())
}

fn key(frame: &Frame) -> (u32, u64) {
    (frame.id().bits(), sequence(frame))
}

impl Chain {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hops = rng.usize(2..=3);
        let mut limit_us = HOP_TOLERANCE_US * hops as u64;
        let mut nodes = vec![(Bus::Virtual, Policy::default())];
        for number in 1..=hops {
            let max_age = Duration::from_millis(rng.u64(100..600));
            let bus = match rng.u8(0..3) {
                0 | 1 if number == hops => {
                    Bus::Real(Controller::new(rng.u64(50..300), rng.u64(..)))
                }
                2 => Bus::Real(Controller::new(rng.u64(50..300), rng.u64(..))),
                1 => Bus::Virtual,
                _ => Bus::Inside,
            };
            let is_virtual = !matches!(bus, Bus::Real(_));
            let handed_max = if is_virtual { 256 } else { rng.usize(1..12) };
            // Who keeps a frame's stamp adds nothing to its age; the others count from when they show it.
            if !matches!(bus, Bus::Inside) {
                limit_us += max_age.as_micros() as u64 + handed_max as u64 * 300;
            }
            let window = rng.u32(8..128);
            let max_age = (!matches!(bus, Bus::Inside)).then_some(max_age);
            nodes.push((
                bus,
                Policy { max_age, is_virtual, handed_max, window, ..Policy::default() },
            ));
        }
        let mut line = Line::new(rng, nodes);
        line.slowest_us = 20_000;
        // All know each other before the first frame.
        line.run(5_000_000);
        assert!((0..hops).all(|hop| line.is_up(hop)), "a hop is not up");
        // Echoes that are lost anywhere; and some that come when they are given up, on the far bus: on another one
        // a late echo is all its gateway knows of when the frame was there.
        let has_late_echoes = line.rng.u8(0..3) == 0;
        for node in &mut line.nodes {
            if let (Bus::Real(controller), true) = (&mut node.bus, has_late_echoes) {
                controller.lossy = [0, 3, 30, 200][line.rng.usize(0..4)];
            }
        }
        if let (Some(Bus::Real(controller)), true) =
            (line.nodes.last_mut().map(|node| &mut node.bus), has_late_echoes)
        {
            controller.tardy = [0, 3, 30][line.rng.usize(0..3)];
            // Only so many that were given up are remembered.
        }
        for node in &mut line.nodes {
            node.period =
                if matches!(node.bus, Bus::Inside) { 0 } else { line.rng.u64(500..20_000) };
        }
        let restarts = line.rng.u8(0..3) == 0;
        Self { line, next_fault: 0, limit_us, stood: Vec::new(), restarts, has_late_echoes }
    }

    fn run(&mut self) {
        let end = self.line.now + STORM_US;
        while self.line.now < end {
            self.fault();
            self.line.run(self.next_fault.min(end).saturating_sub(self.line.now).max(1));
        }
        self.line.nodes.iter_mut().for_each(|node| node.period = 0);
        let end = self.line.now + PEACE_US;
        let mut rests = 0;
        while rests < 3 {
            assert!(self.line.now < end, "something never arrived");
            rests = if self.line.is_at_rest() { rests + 1 } else { 0 };
            self.line.run(20_000);
        }
    }

    fn fault(&mut self) {
        if self.line.now < self.next_fault {
            return;
        }
        let line = &mut self.line;
        self.next_fault = line.now + line.rng.u64(1_000..600_000);
        let hop = line.rng.usize(0..line.hops.len());
        let number = line.rng.usize(0..line.nodes.len());
        match line.rng.u8(0..100) {
            0..20 => line.cut(hop),
            20..40 => {
                let for_us = line.rng.u64(1_000..2_500_000);
                let side = line.rng.usize(0..2);
                line.stall(hop, side, for_us);
            }
            40..55 => line.black_hole(hop),
            55..62 if self.restarts => line.restart(number),
            62..67 => line.give_up(hop),
            // A process that is stopped, and a machine that is paused.
            67..80 => {
                let for_us = line.rng.u64(1_000..8_000_000);
                line.put_to_sleep(number, for_us, false);
            }
            // Whoever was not heard of before cannot be known to have stood, nor can anybody know who is new.
            80..93 if self.restarts || !(0..line.hops.len()).all(|hop| line.is_up(hop)) => {}
            80..90 => {
                let for_us = line.rng.u64(300_000..4_000_000);
                self.stood.extend((number != LAB).then_some((line.now, line.now + for_us)));
                line.put_to_sleep(number, for_us, true);
            }
            90..93 => {
                let by_us = line.rng.u64(100_000..4_000_000);
                // What is held up on its way before the next heartbeat tells is judged by the old difference.
                self.stood.push((line.now, line.now + HEARTBEAT_US));
                line.jump(number, by_us);
            }
            _ => {}
        }
    }

    fn check(&self) {
        self.check_order();
        self.check_age();
        for hop in 0..self.line.hops.len() {
            self.check_hop(hop);
        }
    }

    /// On every bus the frames of each node are in order, none twice, and none is back where it came from.
    fn check_order(&self) {
        let restarted = self.line.nodes.iter().any(|node| node.life > 1);
        for (number, node) in self.line.nodes.iter().enumerate() {
            // Nobody can know that a process that was restarted is the one before: what that had sent comes back to it,
            // and goes on to those on the other side.
            // So does what it had handed to its kernel, on both sides.
            let is_excused = self.line.nodes.iter().enumerate().any(|(other, node)| {
                node.life > 1 && (other >= number || matches!(node.bus, Bus::Real(_)))
            });
            let (mut last, mut all) = (HashMap::new(), HashSet::new());
            for shown in node.shown.iter().filter(|_| !is_excused) {
                let came_back = shown.delivered && source(&shown.frame) == number;
                assert!(!came_back, "node {number}: {:?} came back", shown.frame);
                let (id, now) = key(&shown.frame);
                assert!(all.insert((id, now)), "node {number}: {:?} again", shown.frame);
                let before = last.insert(id, now).unwrap_or(0);
                // Where an echo is late the frame is known to be on the bus only then; and what a process that was killed
                // had said may arrive after what the next one says.
                let is_behind = now < before && !self.has_late_echoes && !restarted;
                assert!(!is_behind, "node {number}: {:?} after {before}", shown.frame);
            }
        }
    }

    fn check_age(&self) {
        let board = self.line.nodes.last().unwrap();
        for shown in board.shown.iter().filter(|shown| shown.delivered) {
            let from = &self.line.nodes[source(&shown.frame)];
            let same = |made: &&crate::line::Shown| key(&made.frame) == key(&shown.frame);
            let made = from.shown.iter().filter(|made| !made.delivered).find(same).unwrap().at;
            let is_excused = |(since, until): &(u64, u64)| {
                (since.saturating_sub(self.limit_us)..*until).contains(&made)
            };
            if self.stood.iter().any(is_excused) {
                continue;
            }
            let age = shown.at - made;
            assert!(age <= self.limit_us, "{:?} was {age} us old on the far bus", shown.frame);
        }
    }

    /// The two ends of a hop agree on what became of every frame, in both directions.
    fn check_hop(&self, hop: usize) {
        let (near, far) = (&self.line.nodes[hop], &self.line.nodes[hop + 1]);
        if near.life > 1 || far.life > 1 {
            return;
        }
        let restarted = self.line.nodes.iter().any(|node| node.life > 1);
        let there = near.hubs[0].peer_status(near.place.unwrap().peer).unwrap();
        let back = far.hubs[0].peers().find(|(_, peer)| peer.history == near.hubs[0].id());
        let (_, back) = back.expect("no record of a peer");
        for (sent, received, known, shown) in [
            (there.sent, back.received, count(&near.known, |from| from <= hop), far),
            (back.sent, there.received, count(&far.known, |from| from > hop), near),
        ] {
            assert_eq!(sent, received, "hop {hop}: the two ends' accounts differ");
            // After a restart further on a node's own frames may be among those that came from there.
            if restarted {
                continue;
            }
            assert_eq!(sent.accounted(), known, "hop {hop}: {sent:?}");
            let is_far = core::ptr::eq(shown, far);
            let arrived = shown.shown.iter().filter(|shown| shown.delivered);
            let arrived = arrived.filter(|shown| (source(&shown.frame) <= hop) == is_far).count();
            let certain = sent.of(Outcome::Sent);
            let possible = certain + sent.of(Outcome::Unconfirmed);
            assert!(
                (certain..=possible).contains(&(arrived as u64)),
                "hop {hop}: {arrived} arrived: {sent:?}"
            );
        }
    }
}

fn count(known: &[Frame], is_meant: impl Fn(usize) -> bool) -> u64 {
    known.iter().filter(|frame| is_meant(source(frame))).count() as u64
}

/// One chain with its faults.
pub(crate) fn run(seed: u64) {
    run_holding(seed, Duration::ZERO);
}

/// The same where every link holds frames for company.
pub(crate) fn run_holding(seed: u64, hold: Duration) {
    let mut chain = Chain::new(seed);
    chain.line.hold = hold;
    chain.run();
    chain.check();
}
