//! Any number of nodes that join their buses in any way: in the end every bus is joined to every
//! other it can be, over one way only, and a frame is on each of them once.

use core::time::Duration;
use std::collections::HashMap;

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::{BusState, Refusal};
use canspan::protocol::{Ended, Hub, Link, LinkOptions, Place, RECORD_MAX};

use crate::connection::Connection;
use crate::world::numbered;

/// Microseconds in which connections are cut.
const STORM_US: u64 = 20_000_000;
/// Microseconds after which there is one way between any two buses: some dozen tries to dial.
const SETTLED_US: u64 = STORM_US + 100_000_000;
/// Microseconds in which a frame gets everywhere, and round again if there is a ring.
const TRAVEL_US: u64 = 2_000_000;

struct Node {
    hubs: Vec<Hub<Heap>>,
    skew: u64,
    /// How often each frame was on the bus.
    shown: HashMap<Vec<u8>, u32>,
}

/// A pair of nodes of which one dials the other.
struct Pair {
    ends: [usize; 2],
    place: Place,
    connection: Option<Connection>,
    redial_at: u64,
    refusals: u32,
}

pub(crate) struct Net {
    rng: fastrand::Rng,
    now: u64,
    nodes: Vec<Node>,
    pairs: Vec<Pair>,
    next_link: u32,
    next_cut: u64,
    out: Vec<u8>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let nodes: Vec<Node> = (0..rng.usize(3..7)).map(|_| node(&mut rng)).collect();
        let together = rng.bool();
        let mut net = Self {
            now: 1_000,
            nodes,
            pairs: Vec::new(),
            next_link: 1,
            next_cut: 3_000_000,
            out: vec![0; RECORD_MAX * 2],
            rng,
        };
        for a in 0..net.nodes.len() {
            for b in 0..net.nodes.len() {
                let exists = net.pairs.iter().any(|pair| pair.ends == [b, a]);
                if a == b || exists || net.rng.u8(0..100) >= 60 {
                    continue;
                }
                // All at once, as when the power comes back, or one after the other.
                let redial_at = net.now + if together { 0 } else { net.rng.u64(0..10_000_000) };
                let now = net.local(a);
                let place = Place { hub: 0, peer: net.nodes[a].hubs[0].dial(now).unwrap() };
                let pair = Pair { ends: [a, b], place, connection: None, redial_at, refusals: 0 };
                net.pairs.push(pair);
            }
        }
        net
    }

    fn local(&self, node: usize) -> Instant {
        Instant::from_micros(self.now + self.nodes[node].skew)
    }

    pub(crate) fn check(&mut self) {
        self.run_until(SETTLED_US);
        let all: Vec<_> = self.pairs.iter().map(|pair| pair.ends).collect();
        // A link that waits for its probe may be up a moment later or not at all.
        let up = self
            .pairs
            .iter()
            .filter(|pair| pair.connection.as_ref().is_some_and(Connection::is_up));
        let up: Vec<_> = up.map(|pair| pair.ends).collect();
        let (possible, actual) = (self.groups(&all), self.groups(&up));
        assert_eq!(actual, possible, "not every bus is joined that can be: {up:?} of {all:?}");
        let groups = possible.iter().enumerate().filter(|(node, group)| node == *group).count();
        assert_eq!(up.len(), self.nodes.len() - groups, "there is a ring: {up:?} of {all:?}");
        for pair in &self.pairs {
            assert!(up.contains(&pair.ends) || pair.refusals > 0, "{:?}: not refused", pair.ends);
        }
        let frames: Vec<_> = (0..self.nodes.len()).map(|node| numbered(node, 1, 77)).collect();
        for (node, frame) in self.nodes.iter_mut().zip(&frames) {
            let stamp = self.now + node.skew;
            node.show(frame, stamp, false);
        }
        self.run_until(SETTLED_US + TRAVEL_US);
        for (from, frame) in frames.iter().enumerate() {
            for (at, node) in self.nodes.iter().enumerate() {
                let count = node.shown.get(&key(frame)).copied().unwrap_or(0);
                let expected = u32::from(possible[from] == possible[at]);
                assert_eq!(count, expected, "the frame of {from} on the bus of {at}; up: {up:?}");
            }
        }
    }

    /// For each node the lowest one it is joined to.
    fn groups(&self, pairs: &[[usize; 2]]) -> Vec<usize> {
        let mut group: Vec<usize> = (0..self.nodes.len()).collect();
        for _ in 0..self.nodes.len() {
            for [a, b] in pairs {
                let lowest = group[*a].min(group[*b]);
                (group[*a], group[*b]) = (lowest, lowest);
            }
        }
        group
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.cut();
            self.dial();
            self.deliver();
            for node in 0..self.nodes.len() {
                self.drive_bus(node);
            }
            self.transmit();
            self.now = self.next_time().clamp(self.now + 1, end);
        }
    }

    fn cut(&mut self) {
        if self.now < self.next_cut || self.now > STORM_US {
            return;
        }
        self.next_cut = self.now + self.rng.u64(100_000..3_000_000);
        let number = self.rng.usize(0..self.pairs.len().max(1));
        let pair = self.pairs.get_mut(number);
        for pipe in
            pair.and_then(|pair| pair.connection.as_mut()).iter_mut().flat_map(|c| &mut c.pipes)
        {
            pipe.cut(0);
        }
    }

    fn dial(&mut self) {
        for number in 0..self.pairs.len() {
            let pair = &self.pairs[number];
            if pair.connection.is_some() || self.now < pair.redial_at {
                continue;
            }
            let ([a, b], place) = (pair.ends, pair.place);
            let options = LinkOptions::default();
            let dialled =
                Link::dial(self.local(a), self.next_link, place, "can0", options).unwrap();
            let accepted = Link::accept(self.local(b), self.next_link + 1, options);
            self.next_link += 2;
            let delay = self.rng.u64(10..50_000);
            self.pairs[number].connection = Some(Connection::new(dialled, accepted, delay));
        }
    }

    fn deliver(&mut self) {
        for pair in &mut self.pairs {
            let Some(connection) = pair.connection.as_mut() else { continue };
            for side in 0..2 {
                let node = &mut self.nodes[pair.ends[side]];
                let now = Instant::from_micros(self.now + node.skew);
                let ended = connection.deliver(side, self.now, now, &mut node.hubs);
                let ring = Refusal::RING;
                if [Some(Ended::Refused(ring)), Some(Ended::WeRefused(ring))].contains(&ended) {
                    pair.refusals += 1;
                }
            }
        }
    }

    fn transmit(&mut self) {
        for pair in &mut self.pairs {
            let Some(connection) = pair.connection.as_mut() else { continue };
            for side in 0..2 {
                let node = &mut self.nodes[pair.ends[side]];
                let now = Instant::from_micros(self.now + node.skew);
                connection.transmit(side, self.now, now, &mut node.hubs, &mut self.out);
            }
            if connection.is_over() {
                pair.connection = None;
                pair.redial_at = self.now + self.rng.u64(50_000..5_000_000);
            }
        }
    }

    fn drive_bus(&mut self, number: usize) {
        let now = self.local(number);
        let node = &mut self.nodes[number];
        let mut frames = [numbered(0, 0, 0); 64];
        loop {
            let offered = node.hubs[0].offer(now, &mut frames);
            node.hubs[0].taken(now, offered);
            for frame in &frames[..offered] {
                node.show(frame, now.as_micros(), true);
            }
            if offered == 0 {
                return;
            }
        }
    }

    fn next_time(&self) -> u64 {
        let mut next = self.now + 1_000_000;
        for pair in &self.pairs {
            let Some(connection) = &pair.connection else {
                next = next.min(pair.redial_at);
                continue;
            };
            for side in 0..2 {
                let node = &self.nodes[pair.ends[side]];
                next = next.min(connection.next_time(side, node.skew, &node.hubs));
            }
        }
        next
    }
}

impl Node {
    fn show(&mut self, frame: &canspan::protocol::Frame, stamp: u64, own: bool) {
        *self.shown.entry(key(frame)).or_insert(0) += 1;
        self.hubs[0].seen(frame, stamp, own);
    }
}

fn key(frame: &canspan::protocol::Frame) -> Vec<u8> {
    format!("{frame:?}").into_bytes()
}

fn node(rng: &mut fastrand::Rng) -> Node {
    let blocks = vec![0; 4 * 4096].into_boxed_slice();
    let mut hub = Hub::new("can0", rng.u64(1..), blocks, HeapSlots::with_room(1_000)).unwrap();
    hub.set_state(BusState::Up, None);
    Node { hubs: vec![hub], skew: rng.u64(0..1_000_000_000), shown: HashMap::new() }
}

/// Two nodes and a third that joins them to each other a second time: noticed before one frame has
/// run round, however busy the buses are.
pub(crate) fn a_ring_never_carries_a_frame(seed: u64) {
    let mut net = Net::new(seed);
    net.nodes.truncate(3);
    net.nodes.resize_with(3, || node(&mut fastrand::Rng::with_seed(seed ^ 1)));
    net.pairs.clear();
    for (number, [a, b]) in [[0, 1], [1, 2], [2, 0]].into_iter().enumerate() {
        let now = net.local(a);
        let place = Place { hub: 0, peer: net.nodes[a].hubs[0].dial(now).unwrap() };
        let redial_at = net.now + number as u64 * 1_000_000;
        net.pairs.push(Pair { ends: [a, b], place, connection: None, redial_at, refusals: 0 });
    }
    net.next_cut = u64::MAX;
    for sequence in 0..4_000 {
        net.run_until(net.now + 1_000);
        let from = net.rng.usize(0..3);
        let stamp = net.local(from).as_micros();
        net.nodes[from].show(&numbered(from, 1, sequence), stamp, false);
    }
    net.run_until(net.now + Duration::from_secs(20).as_micros() as u64);
    assert!(net.pairs[2].refusals > 0, "the newest link is the one that is closed");
    assert_eq!(net.pairs[0].refusals + net.pairs[1].refusals, 0, "the others stay");
    for (number, node) in net.nodes.iter().enumerate() {
        let twice = node.shown.iter().find(|(_, count)| **count != 1);
        assert!(
            twice.is_none(),
            "node {number}: {:?}",
            twice.map(|(frame, count)| (String::from_utf8_lossy(frame), count))
        );
    }
}
