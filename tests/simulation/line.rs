//! Nodes in a line: the first is the lab, the last one the board with the real bus, between them are relays. Each dials the
//! next, and has a clock of its own, which may stand still or jump.

use core::time::Duration;
use std::collections::VecDeque;

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::{BusState, Refusal};
use canspan::protocol::{
    Counters, Ended, Frame, Hub, Link, LinkOptions, OFFER_MAX, Place, Policy, RECORD_MAX,
};

use crate::connection::Connection;
use crate::controller::Controller;
use crate::world::numbered;

/// How far every clock is ahead of the world's at least: what happened before it began would lose its age.
const CLOCK_US: u64 = 1 << 42;

/// What a node's frames go to.
pub(crate) enum Bus {
    /// Inside the process: each frame keeps its stamp.
    Inside,
    /// A virtual interface: confirms at once, and stamps anew.
    Virtual,
    Real(Controller),
}

/// A frame on a bus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) frame: Frame,
    /// When, on the world's clock.
    pub(crate) at: u64,
    /// Whether the node's gateway sent it.
    pub(crate) delivered: bool,
}

/// A node that does nothing for a while.
#[derive(Clone, Copy)]
struct Sleep {
    since: u64,
    until: u64,
    /// Whether its clock stands meanwhile, as that of a paused virtual machine does.
    stands: bool,
}

pub(crate) struct Node {
    pub(crate) hubs: Vec<Hub<Heap>>,
    pub(crate) bus: Bus,
    policy: Policy,
    blocks: usize,
    /// Where the next node is in its hub.
    pub(crate) place: Option<Place>,
    pub(crate) life: u64,
    ahead: u64,
    offset: i64,
    sleep: Option<Sleep>,
    /// What its bus showed while it slept: with which stamp, and whether as an echo.
    unread: VecDeque<(Frame, u64, bool)>,
    /// Mean time between two frames of its bus' own; 0: there are none.
    pub(crate) period: u64,
    next_own: u64,
    pub(crate) made: u64,
    pub(crate) shown: Vec<Shown>,
    /// Frames its present process has in its history.
    pub(crate) known: Vec<Frame>,
}

pub(crate) struct Line {
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    /// From each node to the next.
    pub(crate) hops: Vec<Option<Connection>>,
    /// Connections whose dialling end is gone, and their hop.
    old: Vec<(usize, Connection)>,
    redial: Vec<u64>,
    pub(crate) slowest_us: u64,
    /// Why links were over, at the end that dialled.
    pub(crate) ends: Vec<Ended>,
    next_link: u32,
    heartbeat: Duration,
    /// How long each end of each link may hold what it sends.
    pub(crate) hold: Duration,
    out: Vec<u8>,
}

impl Line {
    pub(crate) fn new(mut rng: fastrand::Rng, nodes: Vec<(Bus, Policy)>) -> Self {
        let blocks = rng.usize(2..6);
        Self::with_histories(rng, nodes, blocks)
    }

    pub(crate) fn with_histories(
        mut rng: fastrand::Rng,
        nodes: Vec<(Bus, Policy)>,
        blocks: usize,
    ) -> Self {
        let mut all = Vec::new();
        for (bus, policy) in nodes {
            all.push(Node {
                hubs: Vec::new(),
                bus,
                policy,
                blocks,
                place: None,
                life: 0,
                ahead: CLOCK_US + rng.u64(0..1_000_000_000),
                offset: rng.i64(0..2_000_000_000_000_000),
                sleep: None,
                unread: VecDeque::new(),
                period: 0,
                next_own: 0,
                made: 0,
                shown: Vec::new(),
                known: Vec::new(),
            });
        }
        let hops = all.len() - 1;
        let mut line = Self {
            rng,
            now: 1_000,
            nodes: all,
            hops: (0..hops).map(|_| None).collect(),
            old: Vec::new(),
            redial: vec![0; hops],
            slowest_us: 5_000,
            ends: Vec::new(),
            next_link: 1,
            heartbeat: Duration::from_secs(1),
            hold: Duration::ZERO,
            out: vec![0; RECORD_MAX * 2],
        };
        (0..line.nodes.len()).for_each(|number| line.start(number));
        line
    }

    /// Starts a node's process.
    fn start(&mut self, number: usize) {
        let dials = number < self.hops.len();
        let (id, now) = (self.rng.u64(1..), self.local(number));
        let node = &mut self.nodes[number];
        let memory = vec![0; node.blocks * 4096].into_boxed_slice();
        let mut hub = Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).unwrap();
        hub.set_policy(node.policy);
        hub.set_state(BusState::Up, None);
        hub.set_clock(node.offset);
        node.place = dials.then(|| Place { hub: 0, peer: hub.dial(now).unwrap() });
        node.hubs = vec![hub];
        node.life += 1;
        node.known.clear();
        if let Bus::Real(controller) = &mut node.bus {
            controller.forget();
        }
    }

    /// A node's whole state is that of an earlier copy of the line from now on, its clock's, too. Its connections from then
    /// are gone.
    pub(crate) fn set_back(&mut self, number: usize, mut earlier: Self) {
        self.forget_links(number);
        for hop in number.saturating_sub(1)..(number + 1).min(self.hops.len()) {
            let link = earlier.hops[hop].as_mut().and_then(|old| old.links[number - hop].take());
            let (now, hubs) = (earlier.local(number), &mut earlier.nodes[number].hubs);
            link.into_iter().for_each(|mut link| link.close(now, hubs, Ended::Closed));
        }
        core::mem::swap(&mut self.nodes[number], &mut earlier.nodes[number]);
        self.nodes[number].ahead -= self.now - earlier.now;
    }

    /// Kills a node's process and starts it again.
    pub(crate) fn restart(&mut self, number: usize) {
        self.forget_links(number);
        self.start(number);
    }

    /// Switches a node's machine off and on: its clock begins anew.
    pub(crate) fn reboot(&mut self, number: usize) {
        self.nodes[number].ahead = CLOCK_US - self.now;
        self.restart(number);
    }

    /// Of a node's links only what it had said already is still under way.
    fn forget_links(&mut self, number: usize) {
        let hops = number.saturating_sub(1)..(number + 1).min(self.hops.len());
        for hop in hops {
            let side = usize::from(hop < number);
            let Some(mut connection) = self.hops[hop].take() else { continue };
            connection.links[side] = None;
            let keep = self.rng.usize(0..=connection.pipes[side].waiting());
            connection.pipes[side].cut(keep);
            self.old.push((hop, connection));
            self.redial[hop] = self.now + self.rng.u64(1_000..100_000);
        }
        self.old.retain(|(hop, connection)| {
            let sides = [*hop, *hop + 1].into_iter().zip(&connection.links);
            sides.into_iter().all(|(at, link)| at != number || link.is_none())
        });
    }

    pub(crate) fn local(&self, number: usize) -> Instant {
        self.nodes[number].local(self.now)
    }

    /// A node does nothing for so long (microseconds), and its clock stands or goes on.
    pub(crate) fn put_to_sleep(&mut self, number: usize, for_us: u64, stands: bool) {
        let sleep = Sleep { since: self.now, until: self.now + for_us, stands };
        self.nodes[number].sleep.get_or_insert(sleep);
    }

    /// A node's clock is suddenly ahead by so much more.
    pub(crate) fn jump(&mut self, number: usize, by_us: u64) {
        self.nodes[number].ahead += by_us;
    }

    pub(crate) fn is_awake(&self, number: usize) -> bool {
        self.nodes[number].sleep.is_none()
    }

    /// Both ends of a hop know each other, and no probe is waited for.
    pub(crate) fn is_up(&self, hop: usize) -> bool {
        self.hops[hop].as_ref().is_some_and(Connection::is_up)
    }

    /// What a node says became of the frames it sent over the hop to the next.
    pub(crate) fn sent(&self, hop: usize) -> Counters {
        let node = &self.nodes[hop];
        node.hubs[0].peer_status(node.place.unwrap().peer).unwrap().sent
    }

    /// Its bus shows the next frame of its own.
    pub(crate) fn make(&mut self, number: usize) {
        let now = self.now;
        let node = &mut self.nodes[number];
        node.made += 1;
        let frame = numbered(number, node.life, node.made);
        node.show(now, frame, false);
    }

    /// So much time passes (microseconds).
    pub(crate) fn run(&mut self, for_us: u64) {
        self.run_until(self.now + for_us, |_| {});
    }

    pub(crate) fn run_until(&mut self, end: u64, mut fault: impl FnMut(&mut Self)) {
        while self.now < end {
            fault(self);
            self.nodes.iter_mut().for_each(|node| node.wake(self.now));
            self.traffic();
            self.dial();
            let mut ends = Vec::new();
            self.each_end(|connection, side, at, node, _| {
                let end = connection.deliver(side, at, node.local(at), &mut node.hubs);
                if let (0, Some(end)) = (side, end) {
                    node.ended(end, at);
                    ends.push(end);
                }
            });
            self.ends.append(&mut ends);
            self.nodes.iter_mut().for_each(|node| node.drive(self.now));
            self.each_end(|connection, side, at, node, out| {
                connection.transmit(side, at, node.local(at), &mut node.hubs, out);
            });
            self.nodes.iter_mut().for_each(|node| node.drive(self.now));
            self.bury();
            self.now = self.next_time().clamp(self.now + 1, (self.now + 100_000).min(end));
        }
    }

    fn traffic(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &self.nodes[number];
            let can = node.sleep.is_none_or(|sleep| !sleep.stands);
            if node.period > 0 && can && node.next_own <= self.now {
                let wait = 1 + self.rng.u64(0..node.period * 2);
                self.nodes[number].next_own = self.now + wait;
                self.make(number);
            }
        }
    }

    fn dial(&mut self) {
        for hop in 0..self.hops.len() {
            let is_due = self.hops[hop].is_none() && self.now >= self.redial[hop];
            if !is_due || !self.is_awake(hop) {
                continue;
            }
            let Self { heartbeat, hold, .. } = *self;
            let options = LinkOptions { heartbeat, hold, ..LinkOptions::default() };
            let (number, place) = (self.next_link, self.nodes[hop].place.unwrap());
            self.next_link += 2;
            let dialled = Link::dial(self.local(hop), number, place, "can0", options).unwrap();
            let accepted = Link::accept(self.local(hop + 1), number + 1, options);
            let delay = self.rng.u64(10..self.slowest_us);
            self.hops[hop] = Some(Connection::new(dialled, accepted, delay));
        }
    }

    fn each_end(
        &mut self,
        mut each: impl FnMut(&mut Connection, usize, u64, &mut Node, &mut [u8]),
    ) {
        let live = self.hops.iter_mut().enumerate();
        let live = live.filter_map(|(hop, connection)| Some((hop, connection.as_mut()?)));
        for (hop, connection) in live.chain(self.old.iter_mut().map(|(hop, old)| (*hop, old))) {
            for side in 0..2 {
                let node = &mut self.nodes[hop + side];
                if node.sleep.is_none() {
                    each(connection, side, self.now, node, &mut self.out);
                }
            }
        }
    }

    /// Connections whose dialling end is gone make way for new ones.
    fn bury(&mut self) {
        for hop in 0..self.hops.len() {
            if let Some(connection) = self.hops[hop].take_if(|hop| hop.links[0].is_none()) {
                self.old.push((hop, connection));
                self.redial[hop] = self.now + self.rng.u64(1_000..200_000);
            }
        }
        self.old.retain(|(_, connection)| !connection.is_over());
    }

    /// The connection of a hop is cut, and both ends hear of it.
    pub(crate) fn cut(&mut self, hop: usize) {
        for pipe in self.hops[hop].iter_mut().flat_map(|connection| &mut connection.pipes) {
            let keep = self.rng.usize(0..=pipe.waiting());
            pipe.cut(keep);
        }
    }

    /// A hop is cut, and stays so for this long.
    pub(crate) fn stop_dialling(&mut self, hop: usize, for_us: u64) {
        self.give_up(hop);
        self.redial[hop] = self.now + for_us;
    }

    /// What one end of a hop sends arrives only after so long.
    pub(crate) fn stall(&mut self, hop: usize, side: usize, for_us: u64) {
        if let Some(connection) = &mut self.hops[hop] {
            connection.pipes[side].stalled_until = self.now + for_us;
        }
    }

    /// What one end of a hop sends takes so long from now on, as over a wire with a long queue before it.
    pub(crate) fn slow_down(&mut self, hop: usize, side: usize, delay_us: u64) {
        if let Some(connection) = &mut self.hops[hop] {
            connection.delays[side] = delay_us;
        }
    }

    /// What either end of a hop sends vanishes from now on.
    pub(crate) fn black_hole(&mut self, hop: usize) {
        let pipes = self.hops[hop].iter_mut().flat_map(|connection| &mut connection.pipes);
        pipes.for_each(|pipe| pipe.is_black_hole = true);
    }

    /// Whether every hop is up and every frame has its end.
    pub(crate) fn is_at_rest(&self) -> bool {
        let settled = |(hop, connection): (usize, &Option<Connection>)| {
            let Some(connection) = connection else { return false };
            connection.is_up()
                && connection
                    .links
                    .iter()
                    .flatten()
                    .zip(&self.nodes[hop..])
                    .all(|(link, node)| link.is_delivered(&node.hubs))
                && connection.pipes.iter().all(|pipe| !pipe.is_black_hole)
        };
        self.hops.iter().enumerate().all(settled)
            && self.nodes.iter().all(|node| node.sleep.is_none() && !node.hubs[0].is_busy())
    }

    /// The dialling end of a hop gives its link up; the other does not hear of it.
    pub(crate) fn give_up(&mut self, hop: usize) {
        let now = self.local(hop);
        let Some(mut connection) = self.hops[hop].take() else { return };
        if let Some(mut link) = connection.links[0].take() {
            link.close(now, &mut self.nodes[hop].hubs, Ended::Closed);
        }
        connection.pipes.iter_mut().for_each(|pipe| pipe.is_black_hole = true);
        self.old.push((hop, connection));
    }

    fn next_time(&self) -> u64 {
        let mut next = u64::MAX;
        for node in &self.nodes {
            next = next.min(node.next_time());
        }
        for (hop, redial) in self.redial.iter().enumerate() {
            if self.hops[hop].is_none() && self.is_awake(hop) {
                next = next.min(*redial);
            }
        }
        let live = self.hops.iter().enumerate();
        let live = live.filter_map(|(hop, connection)| Some((hop, connection.as_ref()?)));
        for (hop, connection) in live.chain(self.old.iter().map(|(hop, old)| (*hop, old))) {
            for side in 0..2 {
                let node = &self.nodes[hop + side];
                if node.sleep.is_none() {
                    next = next.min(connection.next_time(side, node.ahead, &node.hubs));
                }
            }
        }
        next
    }
}

impl Node {
    pub(crate) fn local(&self, at: u64) -> Instant {
        let stands = self.sleep.filter(|sleep| sleep.stands);
        Instant::from_micros(stands.map_or(at, |sleep| sleep.since) + self.ahead)
    }

    /// Goes on when it has slept long enough, and reads what its bus has shown meanwhile.
    fn wake(&mut self, at: u64) {
        let Some(sleep) = self.sleep.take_if(|sleep| sleep.until <= at) else { return };
        if sleep.stands {
            self.ahead -= at - sleep.since;
        }
        for (frame, stamp, own) in core::mem::take(&mut self.unread) {
            self.tell(&frame, stamp, own);
        }
    }

    /// A link it had dialled is over. If a newer one of its own has taken its place, and it knows of none, its state is an
    /// earlier one.
    fn ended(&mut self, reason: Ended, at: u64) {
        let peer = self.place.and_then(|place| self.hubs[0].peer_status(place.peer));
        if reason == Ended::Refused(Refusal::REPLACED)
            && peer.is_none_or(|peer| peer.link.is_none())
        {
            let (now, id) = (self.local(at), self.hubs[0].id() + 1);
            self.hubs[0].renew(now, id);
        }
    }

    fn show(&mut self, at: u64, frame: Frame, own: bool) {
        self.shown.push(Shown { frame, at, delivered: own });
        self.notice(at, frame, own);
    }

    /// The gateway reads a frame, when it is awake.
    fn notice(&mut self, at: u64, frame: Frame, own: bool) {
        let stamp = self.local(at).as_micros().wrapping_add_signed(self.offset);
        if self.sleep.is_some() {
            self.unread.push_back((frame, stamp, own));
        } else {
            self.tell(&frame, stamp, own);
        }
    }

    fn tell(&mut self, frame: &Frame, stamp: u64, own: bool) {
        let hub = &mut self.hubs[0];
        hub.set_clock(self.offset);
        let before = hub.position();
        hub.seen(frame, stamp, own);
        self.known.extend((hub.position() > before).then_some(*frame));
    }

    fn drive(&mut self, at: u64) {
        if let Bus::Real(controller) = &mut self.bus {
            for frame in controller.sent(at) {
                self.shown.push(Shown { frame, at, delivered: true });
            }
            for (frame, own) in controller.echoes(at) {
                self.notice(at, frame, own);
            }
        }
        if self.sleep.is_some() {
            return;
        }
        let now = self.local(at);
        if self.hubs[0].poll_timeout().is_some_and(|due| due <= now) {
            self.hubs[0].handle_timeout(now);
        }
        let mut frames = [Frame::EMPTY; OFFER_MAX];
        loop {
            let hub = &mut self.hubs[0];
            let offered = hub.offer(now, &mut frames);
            if offered == 0 {
                return;
            }
            let births: Vec<(u64, Instant)> = (0..offered)
                .map(|index| (hub.offered_stamp(index), hub.offered_seen(index)))
                .collect();
            hub.taken(now, offered);
            for (frame, (stamp, born)) in frames.iter().zip(births) {
                match &mut self.bus {
                    Bus::Inside => {
                        let offset = stamp.wrapping_sub(born.as_micros()).cast_signed();
                        self.shown.push(Shown { frame: *frame, at, delivered: true });
                        self.hubs[0].set_clock(offset);
                        self.hubs[0].seen(frame, stamp, true);
                        self.known.push(*frame);
                    }
                    Bus::Virtual => self.show(at, *frame, true),
                    Bus::Real(controller) => controller.take(at, *frame),
                }
            }
        }
    }

    fn next_time(&self) -> u64 {
        let controller = match &self.bus {
            Bus::Real(controller) => controller.next_time(),
            _ => u64::MAX,
        };
        let own = if self.period > 0 { self.next_own } else { u64::MAX };
        match self.sleep {
            Some(sleep) if sleep.stands => sleep.until.min(controller),
            Some(sleep) => sleep.until.min(controller).min(own),
            None => {
                let due = self.hubs[0].poll_timeout();
                let due = due.map_or(u64::MAX, |at| at.as_micros().saturating_sub(self.ahead));
                due.min(controller).min(own)
            }
        }
    }
}
