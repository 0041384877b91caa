//! Nodes, their buses and links, and the schedule of what happens to them.

use core::time::Duration;
use std::collections::VecDeque;

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::{BusState, Refusal};
use canspan::protocol::{
    Ended, Filters, Frame, Hub, Id, Link, LinkOptions, Place, Policy, RECORD_MAX,
};

use crate::net::Pipe;

mod faults;

const BOARD: usize = 0;
/// Microseconds of traffic and faults.
const STORM_US: u64 = 2_000_000;
/// Microseconds of peace after which everything must have arrived: a full history through a window
/// of one frame over the slowest path takes 100 s.
const PEACE_US: u64 = 150_000_000;
/// Microseconds of rest after which nothing but heartbeats is under way: some of the slowest paths.
const REST_US: u64 = 100_000;

/// What was seen on a node's bus, whoever looked.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) frame: Frame,
    pub(crate) at: u64,
    /// Whether the gateway of that moment saw it, and its position then.
    pub(crate) position: Option<u64>,
    /// Whether the gateway sent it.
    pub(crate) delivered: bool,
}

pub(crate) struct Node {
    pub(crate) hubs: Vec<Hub<Heap>>,
    pub(crate) incarnation: u64,
    alive_from: u64,
    /// This node's monotonic clock is so far ahead of the world's, and its wall clock of that.
    skew: u64,
    offset: i64,
    pub(crate) policy: Policy,
    /// What leaves its bus, what may be sent to it, and what it asks the board for.
    pub(crate) filters: [Filters; 3],
    history_blocks: usize,
    /// Frames in the kernel's hands: when they will be on the bus, and whose process gave them.
    handed: VecDeque<(Frame, u64, u64)>,
    bus_us: u64,
    bus_up: bool,
    next_own: u64,
    period: u64,
    sequence: u64,
    pub(crate) shown: Vec<Shown>,
    /// Index of the first frame its present process can have seen.
    pub(crate) first_shown: usize,
    pub(crate) restarts: u64,
    pub(crate) was_down: bool,
}

struct End {
    node: usize,
    link: Option<Box<Link>>,
    /// Where the stream to the peer began, for the account.
    begun: bool,
}

struct Connection {
    ends: [End; 2],
    pipes: [Pipe; 2],
    delay: u64,
}

pub(crate) struct World {
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    /// For each PC: its record of the board, and its connection.
    pub(crate) places: Vec<Option<Place>>,
    connections: Vec<Option<Connection>>,
    old: Vec<Connection>,
    redial: Vec<u64>,
    next_fault: u64,
    next_link: u32,
    /// (board's incarnation, PC's history): position at which the board's stream to it began, and
    /// how many before it count as lost.
    pub(crate) joined: Vec<(u64, u64, u64, u64)>,
    pub(crate) heartbeat: Duration,
    /// How long each end of each link may hold what it sends.
    pub(crate) hold: Duration,
    out: Vec<u8>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pcs = rng.usize(1..=3);
        let max_age = rng.bool().then(|| Duration::from_millis(rng.u64(20..500)));
        let mut nodes = Vec::new();
        for number in 0..=pcs {
            let board = number == BOARD;
            nodes.push(Node {
                hubs: Vec::new(),
                incarnation: 0,
                alive_from: 0,
                skew: rng.u64(0..1_000_000_000),
                offset: rng.i64(-1_000_000..2_000_000_000_000_000).max(-1),
                policy: Policy {
                    max_age: max_age.filter(|_| board),
                    is_virtual: !board,
                    handed_max: if board { rng.usize(1..12) } else { 256 },
                    read_only: board && rng.u8(..) < 20,
                    window: if rng.u8(..) < 20 { 1 } else { rng.u32(8..100) },
                    ..Policy::default()
                },
                filters: core::array::from_fn(|which| match which {
                    0 | 1 if board => random_filters(&mut rng),
                    2 if !board => random_filters(&mut rng),
                    _ => Filters::ALL,
                }),
                history_blocks: rng.usize(2..6),
                handed: VecDeque::new(),
                bus_us: if board { rng.u64(50..300) } else { 0 },
                bus_up: true,
                next_own: 0,
                period: rng.u64(200..20_000),
                sequence: 0,
                shown: Vec::new(),
                first_shown: 0,
                restarts: 0,
                was_down: false,
            });
        }
        let mut world = Self {
            now: 1_000,
            nodes,
            places: vec![None; pcs + 1],
            connections: (0..=pcs).map(|_| None).collect(),
            old: Vec::new(),
            redial: vec![0; pcs + 1],
            next_fault: 0,
            next_link: 1,
            joined: Vec::new(),
            heartbeat: Duration::from_millis(100),
            hold: Duration::ZERO,
            out: vec![0; RECORD_MAX * 2],
            rng,
        };
        for number in 0..world.nodes.len() {
            world.start(number);
        }
        world
    }

    pub(crate) fn board(&self) -> &Hub<Heap> {
        &self.nodes[BOARD].hubs[0]
    }

    /// Starts a node's process.
    fn start(&mut self, number: usize) {
        let id = self.rng.u64(1..);
        let now = self.now;
        let node = &mut self.nodes[number];
        let blocks = vec![0; node.history_blocks * 4096].into_boxed_slice();
        let slots = HeapSlots::with_room(1_000);
        let mut hub = Hub::new("can0", id, blocks, slots).unwrap();
        hub.set_policy(node.policy);
        hub.set_filters(node.filters[0], node.filters[1]);
        hub.set_state(if node.bus_up { BusState::Up } else { BusState::Down }, None);
        hub.set_clock(node.offset);
        node.hubs = vec![hub];
        node.incarnation += 1;
        node.first_shown = node.shown.len();
        let local = Instant::from_micros(now + node.skew);
        self.places[number] =
            (number != BOARD).then(|| Place { hub: 0, peer: node.hubs[0].dial(local).unwrap() });
    }

    /// Kills a node's process and starts it again a while later.
    fn restart(&mut self, number: usize) {
        let pause = self.rng.u64(1_000..200_000);
        self.nodes[number].restarts += 1;
        self.nodes[number].alive_from = self.now + pause;
        let touched: Vec<usize> =
            (1..self.nodes.len()).filter(|pc| number == BOARD || *pc == number).collect();
        for pc in touched {
            if let Some(mut connection) = self.connections[pc].take() {
                for (side, end) in connection.ends.iter_mut().enumerate() {
                    if end.node == number {
                        end.link = None;
                        let keep = self.rng.usize(0..=connection.pipes[side].waiting());
                        connection.pipes[side].cut(keep);
                    }
                }
                if number == BOARD {
                    self.connections[pc] = Some(connection);
                } else {
                    self.redial[pc] = self.now + pause;
                    self.old.push(connection);
                }
            }
        }
        self.old.retain(|old| !old.ends.iter().any(|end| end.node == number && end.link.is_some()));
        self.start(number);
    }

    pub(crate) fn local(&self, number: usize) -> Instant {
        Instant::from_micros(self.now + self.nodes[number].skew)
    }

    fn is_alive(&self, number: usize) -> bool {
        self.now >= self.nodes[number].alive_from
    }

    pub(crate) fn run(&mut self) {
        let (mut steps, mut rests_since) = (0, None);
        while rests_since.is_none_or(|since| self.now < since + REST_US) {
            let rests = self.now >= STORM_US && self.is_at_rest();
            rests_since = rests.then(|| rests_since.unwrap_or(self.now));
            assert!(self.now < STORM_US + PEACE_US, "something never arrived");
            steps += 1;
            assert!(steps < 1_000_000, "the nodes never come to rest");
            if self.now < STORM_US {
                self.storm();
            } else {
                self.calm();
            }
            self.traffic();
            self.dial();
            self.deliver();
            for number in 0..self.nodes.len() {
                self.drive_bus(number);
            }
            self.transmit();
            for number in 0..self.nodes.len() {
                self.drive_bus(number);
            }
            self.now = self.next_time().clamp(self.now + 1, self.now + 100_000);
        }
    }

    /// Whether every PC has a link and every frame an end.
    fn is_at_rest(&self) -> bool {
        let ends = self.connections.iter().flatten().flat_map(|connection| &connection.ends);
        let settled = ends.filter(|end| {
            let link = end.link.as_ref();
            link.is_some_and(|link| link.is_live() && link.is_delivered(&self.nodes[end.node].hubs))
        });
        let mut pipes = self.connections.iter().flatten().flat_map(|connection| &connection.pipes);
        settled.count() == 2 * (self.nodes.len() - 1)
            && pipes.all(|pipe| !pipe.is_black_hole)
            && self.nodes.iter().all(|node| !node.hubs[0].is_busy() && self.now > node.alive_from)
    }

    fn next_time(&self) -> u64 {
        let mut next = u64::MAX;
        if self.now < STORM_US {
            next = next.min(self.next_fault);
        }
        for (number, node) in self.nodes.iter().enumerate() {
            if self.now < STORM_US {
                next = next.min(node.next_own);
            }
            next = next.min(node.handed.front().map_or(u64::MAX, |(_, at, _)| *at));
            if let Some(at) = node.hubs[0].poll_timeout() {
                next = next.min(at.as_micros().saturating_sub(node.skew));
            }
            if number != BOARD && self.connections[number].is_none() {
                next = next.min(self.redial[number].max(node.alive_from));
            }
        }
        for connection in self.connections.iter().flatten().chain(&self.old) {
            for pipe in &connection.pipes {
                next = next.min(pipe.next_arrival().unwrap_or(u64::MAX));
            }
            for end in &connection.ends {
                let timeout =
                    end.link.as_ref().and_then(|l| l.poll_timeout(&self.nodes[end.node].hubs));
                if let Some(at) = timeout {
                    next = next.min(at.as_micros().saturating_sub(self.nodes[end.node].skew));
                }
            }
        }
        next
    }

    /// The buses' own frames.
    fn traffic(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            while self.now < STORM_US && node.next_own <= self.now {
                let bursts = if self.rng.u8(..) < 4 { self.rng.u64(1..600) } else { 1 };
                node.next_own += 1 + self.rng.u64(0..node.period * 2) * bursts;
                for _ in 0..bursts {
                    node.sequence += 1;
                    let frame = numbered(number, node.incarnation, node.sequence);
                    show(node, self.now, self.now >= node.alive_from, frame, false);
                }
            }
        }
    }

    fn dial(&mut self) {
        for pc in 1..self.nodes.len() {
            if self.connections[pc].is_some() || self.now < self.redial[pc] || !self.is_alive(pc) {
                continue;
            }
            self.redial[pc] = self.now + self.rng.u64(1_000..100_000);
            if !self.is_alive(BOARD) {
                continue;
            }
            let Self { heartbeat, hold, .. } = *self;
            let options = LinkOptions { heartbeat, hold, ..LinkOptions::default() };
            let (dialler, acceptor) = (self.next_link, self.next_link + 1);
            self.next_link += 2;
            let place = self.places[pc].unwrap();
            let asking = LinkOptions { filters: self.nodes[pc].filters[2], ..options };
            let link = Link::dial(self.local(pc), dialler, place, "can0", asking).unwrap();
            let answer = Link::accept(self.local(BOARD), acceptor, options);
            let mut connection = Connection {
                ends: [
                    End { node: pc, link: Some(Box::new(link)), begun: false },
                    End { node: BOARD, link: Some(Box::new(answer)), begun: false },
                ],
                pipes: [Pipe::default(), Pipe::default()],
                delay: self.rng.u64(10..20_000),
            };
            if self.now < STORM_US && self.rng.u8(..) < 30 {
                self.give_up(pc, &mut connection);
                self.old.push(connection);
            } else {
                self.connections[pc] = Some(connection);
            }
        }
    }

    /// A PC has greeted and dials again, since no answer came: the greeting is still on its way, and may arrive after
    /// those of later links.
    fn give_up(&mut self, pc: usize, connection: &mut Connection) {
        let (now, hubs) = (self.local(pc), &mut self.nodes[pc].hubs);
        if let Some(mut link) = connection.ends[0].link.take() {
            let used = link.poll_transmit(now, hubs, &mut self.out);
            connection.pipes[0].send(self.now + connection.delay, &self.out[..used]);
            link.close(now, hubs, Ended::Closed);
        }
        connection.pipes[0].is_closed = true;
        connection.pipes[0].stalled_until = self.now + self.rng.u64(1_000..300_000);
    }

    fn deliver(&mut self) {
        let mut live: Vec<(Option<usize>, Connection)> = Vec::new();
        for (pc, connection) in self.connections.iter_mut().enumerate() {
            live.extend(connection.take().map(|connection| (Some(pc), connection)));
        }
        live.extend(self.old.drain(..).map(|connection| (None, connection)));
        for (pc, mut connection) in live {
            for side in 0..2 {
                self.deliver_to(&mut connection, side);
            }
            let dialler_gone =
                connection.ends[0].link.as_ref().is_none_or(|link| link.ended().is_some());
            let over = connection.ends.iter().all(|end| end.link.is_none());
            match pc {
                Some(pc) if !dialler_gone => self.connections[pc] = Some(connection),
                Some(pc) if !over => {
                    self.redial[pc] = self.now + self.rng.u64(1_000..100_000);
                    self.old.push(connection);
                }
                None if !over => self.old.push(connection),
                _ => {}
            }
        }
    }

    fn deliver_to(&mut self, connection: &mut Connection, side: usize) {
        let number = connection.ends[side].node;
        let now = self.local(number);
        if !self.is_alive(number) {
            return;
        }
        let piece = if self.rng.bool() { usize::MAX } else { self.rng.usize(1..100) };
        while let Some(bytes) = connection.pipes[1 - side].receive(self.now, piece) {
            let end = &mut connection.ends[side];
            let hubs = &mut self.nodes[number].hubs;
            let position = hubs[0].position();
            let Some(link) = end.link.as_mut() else { continue };
            link.handle_input(now, &bytes, hubs);
            let place = link.place().filter(|_| number == BOARD && link.is_live() && !end.begun);
            if let Some(place) = place {
                end.begun = true;
                let status = hubs[0].peer_status(place.peer).unwrap();
                if status.links == 1 {
                    let (begin, missed) = (position - status.behind, status.sent.lost);
                    let life = self.nodes[BOARD].incarnation;
                    self.joined.push((life, status.history, begin, missed));
                }
            }
        }
        let ended = connection.pipes[1 - side].receive_end(self.now);
        let end = &mut connection.ends[side];
        let Some(link) = end.link.as_mut() else { return };
        if ended {
            link.close(now, &mut self.nodes[number].hubs, Ended::Closed);
        }
        while link.poll_event().is_some() {}
    }

    fn transmit(&mut self) {
        let out = &mut self.out;
        let (connections, old) = (&mut self.connections, &mut self.old);
        for connection in connections.iter_mut().flatten().chain(old) {
            for side in 0..2 {
                let end = &mut connection.ends[side];
                let node = &mut self.nodes[end.node];
                let now = Instant::from_micros(self.now + node.skew);
                let Some(link) = end.link.as_mut().filter(|_| self.now >= node.alive_from) else {
                    continue;
                };
                if link.poll_timeout(&node.hubs).is_some_and(|at| at <= now) {
                    link.handle_timeout(now, &mut node.hubs);
                }
                while connection.pipes[side].room() {
                    let used = link.poll_transmit(now, &mut node.hubs, out);
                    if used == 0 {
                        break;
                    }
                    connection.pipes[side].send(self.now + connection.delay, &out[..used]);
                }
                if let Some(reason) = link.ended() {
                    let fair = match reason {
                        Ended::WeRefused(refusal) | Ended::Refused(refusal) => {
                            refusal == Refusal::REPLACED
                        }
                        _ => true,
                    };
                    assert!(fair, "an honest peer was refused: {reason:?}");
                    end.link = None;
                    connection.pipes[side].is_closed = true;
                }
            }
        }
    }

    fn drive_bus(&mut self, number: usize) {
        let now = self.local(number);
        let alive = self.is_alive(number);
        let node = &mut self.nodes[number];
        let due = |node: &Node| node.handed.front().copied().filter(|(_, at, _)| *at <= self.now);
        while let Some((frame, _, giver)) = due(node) {
            node.handed.pop_front();
            let own = giver == node.incarnation;
            show(node, self.now, alive, frame, own);
        }
        if !alive {
            return;
        }
        if node.hubs[0].poll_timeout().is_some_and(|at| at <= now) {
            node.hubs[0].handle_timeout(now);
        }
        let mut frames = [numbered(0, 0, 0); 64];
        loop {
            let offered = node.hubs[0].offer(now, &mut frames);
            // The kernel does not always take all of it.
            let taken = if offered > 0 && self.rng.u8(..) < 20 { offered / 2 } else { offered };
            node.hubs[0].taken(now, taken);
            for frame in &frames[..taken] {
                let last = node.handed.back().map_or(self.now, |(_, at, _)| *at);
                let sent = last.max(self.now) + node.bus_us;
                node.handed.push_back((*frame, sent, node.incarnation));
            }
            if node.bus_us == 0 {
                while let Some((frame, _, _)) = node.handed.pop_front() {
                    show(node, self.now, true, frame, true);
                }
            }
            if taken == 0 {
                break;
            }
        }
    }
}

/// Filters on the number that tells frames apart least: who made them; or on their lives.
fn random_filters(rng: &mut fastrand::Rng) -> Filters {
    let one = |rng: &mut fastrand::Rng| {
        let (id, mask) =
            (rng.u32(0..4) | rng.u32(0..4) << 8, [0x3, 0x1, 0x300, 0x101][rng.usize(0..4)]);
        format!("{id:08X}{}{mask:X}", if rng.bool() { ':' } else { '~' })
    };
    let text = match rng.u8(0..4) {
        0 => one(rng),
        1 => format!("{},{}", one(rng), one(rng)),
        2 => format!("{},{},j", one(rng), one(rng)),
        _ => return Filters::ALL,
    };
    text.parse().unwrap()
}

/// A frame that is like no other: which node made it, in which life, and the how many-th it was.
pub(crate) fn numbered(node: usize, incarnation: u64, sequence: u64) -> Frame {
    let id = Id::Extended(node as u32 | (incarnation as u32) << 8);
    Frame::data_frame(id, &sequence.to_be_bytes()).unwrap()
}

fn show(node: &mut Node, now: u64, alive: bool, frame: Frame, own: bool) {
    let position = alive.then(|| {
        let hub = &mut node.hubs[0];
        hub.set_clock(node.offset);
        let stamp = (now + node.skew).wrapping_add_signed(node.offset);
        hub.seen(&frame, stamp, own);
        hub.position() - 1
    });
    node.shown.push(Shown { frame, at: now, position, delivered: own });
}
