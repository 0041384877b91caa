//! A small field: a board, two PCs that dial it, the network between them, and operations on all
//! of it, one after another. The property tests and the fuzzer drive it.
//!
//! Unlike `tests/simulation` nothing is random here: a list of operations is the whole schedule,
//! so that a failing one can be made smaller.

mod account;
pub(crate) mod hostile;
pub(crate) mod node;
pub(crate) mod operation;

use std::collections::VecDeque;

use canspan::protocol::time::Instant;
use canspan::protocol::{Ended, Hub, Link, LinkOptions, RECORD_MAX};

use crate::memory::Heap;
use hostile::Hostile;
use node::Node;

/// Bytes under way in one direction at most.
const PIPE_MAX: usize = 8 * 1024;
/// Steps of a millisecond after which everything must have arrived.
const SETTLE_STEPS: usize = 30_000;

/// A connection between a PC (end 0) and the board (end 1).
pub(crate) struct Wire {
    pub(crate) ends: [Link; 2],
    /// Bytes on their way to each end.
    pipes: [VecDeque<u8>; 2],
}

pub(crate) struct Field {
    pub(crate) now_us: u64,
    /// The board, then the PCs.
    pub(crate) nodes: Vec<Node>,
    /// By PC; the board's place is empty.
    pub(crate) wires: Vec<Option<Wire>>,
    /// The board's ends of connections whose other end is gone without a word.
    half_open: Vec<Link>,
    /// Who else talks to the board.
    hostiles: Vec<Hostile>,
    next_link: u32,
    out: Vec<u8>,
    /// (board's life, PC's history): where the board's stream to it began.
    joined: Vec<(u32, u64, u64)>,
}

impl Field {
    /// A field with so many PCs; each history has `blocks` blocks.
    pub(crate) fn new(pcs: usize, blocks: usize) -> Self {
        let now = Instant::from_micros(1_000_000);
        Self {
            now_us: now.as_micros(),
            nodes: (0..=pcs).map(|number| Node::new(number, now, blocks)).collect(),
            wires: (0..=pcs).map(|_| None).collect(),
            half_open: Vec::new(),
            hostiles: Vec::new(),
            next_link: 1,
            out: vec![0; 2 * RECORD_MAX],
            joined: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(self.now_us)
    }

    pub(crate) fn link_number(&mut self) -> u32 {
        self.next_link += 1;
        self.next_link
    }

    /// The PC connects to the board.
    pub(crate) fn dial(&mut self, pc: usize) {
        let options = LinkOptions::default();
        let (now, place) = (self.now(), self.nodes[pc].place.unwrap());
        let dialler = Link::dial(now, self.link_number(), place, "can0", options).unwrap();
        let acceptor = Link::accept(now, self.link_number(), options);
        let pipes = [VecDeque::new(), VecDeque::new()];
        self.wires[pc] = Some(Wire { ends: [dialler, acceptor], pipes });
    }

    /// What every link has to say goes on its way, and every clock is looked at.
    pub(crate) fn transmit(&mut self) {
        let (now, out) = (self.now(), &mut self.out);
        for (pc, wire) in self.wires.iter_mut().enumerate() {
            let Some(wire) = wire else { continue };
            for (side, link) in wire.ends.iter_mut().enumerate() {
                let hubs = &mut self.nodes[if side == 0 { pc } else { 0 }].hubs;
                speak(link, now, hubs, out, &mut wire.pipes[1 - side]);
            }
        }
        for link in &mut self.half_open {
            speak(link, now, &mut self.nodes[0].hubs, out, &mut VecDeque::new());
        }
        self.half_open.retain(|link| link.ended().is_none());
    }

    /// At most `most` bytes arrive at one end of a PC's connection.
    pub(crate) fn deliver(&mut self, pc: usize, side: usize, most: usize) {
        let now = self.now();
        let Some(wire) = self.wires[pc].as_mut() else { return };
        let count = wire.pipes[side].len().min(most);
        let bytes: Vec<u8> = wire.pipes[side].drain(..count).collect();
        let number = if side == 0 { pc } else { 0 };
        let hubs = &mut self.nodes[number].hubs;
        let link = &mut wire.ends[side];
        link.handle_input(now, &bytes, hubs);
        while link.poll_event().is_some() {}
        let ended = link.ended();
        self.note_begin(pc);
        if let Some(reason) = ended {
            let honest = !matches!(reason, Ended::WeRefused(_));
            assert!(honest, "an honest peer was refused: {reason:?}");
            self.cut(pc, 0);
        }
    }

    /// A connection breaks after `keep` more bytes have arrived at either end.
    pub(crate) fn cut(&mut self, pc: usize, keep: usize) {
        let now = self.now();
        let Some(wire) = self.wires[pc].as_mut() else { return };
        for (side, link) in wire.ends.iter_mut().enumerate() {
            let count = wire.pipes[side].len().min(keep);
            let bytes: Vec<u8> = wire.pipes[side].drain(..count).collect();
            let hubs = &mut self.nodes[if side == 0 { pc } else { 0 }].hubs;
            link.handle_input(now, &bytes, hubs);
            link.close(now, hubs, Ended::Closed);
        }
        self.note_begin(pc);
        self.wires[pc] = None;
    }

    /// The account has to know where the board's stream to a PC began.
    fn note_begin(&mut self, pc: usize) {
        let (hub, life) = (&self.nodes[0].hubs[0], self.nodes[0].life);
        let id = self.nodes[pc].hubs[0].id();
        let Some((_, status)) = hub.peers().find(|(_, peer)| peer.history == id) else { return };
        if status.links == 1 && !self.joined.iter().any(|(l, h, _)| (*l, *h) == (life, id)) {
            let begin = if status.sent.lost > 0 { 0 } else { hub.position() - status.behind };
            self.joined.push((life, id, begin));
        }
    }

    /// The PC's end is gone, the board's hears nothing of it.
    pub(crate) fn half_open(&mut self, pc: usize) {
        let now = self.now();
        let Some(Wire { ends: [mut dialler, acceptor], .. }) = self.wires[pc].take() else {
            return;
        };
        dialler.close(now, &mut self.nodes[pc].hubs, Ended::Closed);
        self.half_open.push(acceptor);
    }

    /// A node's process ends without a word and starts again.
    pub(crate) fn restart(&mut self, number: usize, keep: usize) {
        for pc in 1..self.nodes.len() {
            if number == 0 || number == pc {
                self.cut(pc, keep);
            }
        }
        if number == 0 {
            self.half_open.clear();
        }
        let now = self.now();
        self.nodes[number].start(now);
    }

    /// Everything that can move moves.
    pub(crate) fn turn(&mut self) {
        let now = self.now();
        for node in &mut self.nodes {
            node.drive_bus(now);
        }
        self.transmit();
        for pc in 1..self.nodes.len() {
            for side in 0..2 {
                self.deliver(pc, side, usize::MAX);
            }
        }
        for node in &mut self.nodes {
            node.drive_bus(now);
        }
        self.transmit();
    }

    /// Nothing goes wrong any more, and everything arrives.
    pub(crate) fn settle(&mut self) {
        for node in &mut self.nodes {
            node.stall(false);
            node.set_state(canspan::protocol::wire::BusState::Up);
        }
        for _ in 0..SETTLE_STEPS {
            for pc in 1..self.nodes.len() {
                if self.wires[pc].is_none() {
                    self.dial(pc);
                }
            }
            self.turn();
            self.now_us += 1_000;
            if self.is_at_rest() {
                return;
            }
        }
        panic!("something never arrived");
    }

    fn is_at_rest(&self) -> bool {
        let is_done = |(pc, wire): (usize, &Option<Wire>)| {
            wire.as_ref().is_some_and(|wire| {
                wire.pipes.iter().all(VecDeque::is_empty)
                    && [pc, 0].iter().zip(&wire.ends).all(|(node, link)| {
                        link.is_live() && link.is_delivered(&self.nodes[*node].hubs)
                    })
            })
        };
        self.wires.iter().enumerate().skip(1).all(is_done)
            && self.nodes.iter().all(|node| !node.hub().is_busy())
    }
}

fn speak(
    link: &mut Link,
    now: Instant,
    hubs: &mut [Hub<Heap>],
    out: &mut [u8],
    pipe: &mut VecDeque<u8>,
) {
    if link.poll_timeout(hubs).is_some_and(|at| at <= now) {
        link.handle_timeout(now, hubs);
    }
    while pipe.len() < PIPE_MAX {
        let used = link.poll_transmit(now, hubs, out);
        if used == 0 {
            return;
        }
        pipe.extend(&out[..used]);
    }
}
