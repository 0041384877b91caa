//! A thousand peers on one bus: each gets every frame or an exact count, and none costs the others anything.

use core::time::Duration;

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{
    Counters, Ended, Filters, Frame, Hub, Id, Link, LinkOptions, OFFER_MAX, Outcome, Place,
    RECORD_MAX,
};

const PEERS: usize = 1_000;
/// The size of the board's history: some thousand frames.
const HISTORY: usize = 64 * 1024;
/// The first frame of the first peer; those of the board have smaller numbers.
const OF_PEERS: u64 = 1_000_000;

/// A peer and both ends of its link.
struct Client {
    hubs: Vec<Hub<Heap>>,
    place: Place,
    near: Link,
    far: Link,
    filters: Filters,
    /// Where the board's history stood when the peer first came.
    joined: Option<u64>,
    /// Numbers of the frames its bus was given.
    got: Vec<u64>,
}

/// A board and its peers.
struct Crowd {
    now: Instant,
    board: Vec<Hub<Heap>>,
    clients: Vec<Client>,
    /// All that the board's bus has shown.
    all: Vec<Frame>,
    shown: u64,
    links: u32,
}

fn hub(id: u64, history: usize) -> Vec<Hub<Heap>> {
    let memory = vec![0; history].into_boxed_slice();
    let mut hub = Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).unwrap();
    hub.set_state(BusState::Up, None);
    vec![hub]
}

fn frame(id: u16, number: u64) -> Frame {
    Frame::data_frame(Id::Standard(id), &number.to_be_bytes()).unwrap()
}

fn number(frame: &Frame) -> u64 {
    u64::from_be_bytes(frame.data().try_into().unwrap())
}

/// The peer's end and the board's.
fn link(now: Instant, number: u32, place: Place, filters: Filters) -> [Link; 2] {
    let options = LinkOptions { filters, ..LinkOptions::default() };
    let dialled = Link::dial(now, number, place, "can0", options).unwrap();
    [dialled, Link::accept(now, number + 1, LinkOptions::default())]
}

impl Crowd {
    fn new(history: usize, filters: impl IntoIterator<Item = Filters>) -> Self {
        let now = Instant::from_micros(1_000_000);
        let board = hub(1, history);
        let client = |(number, filters)| {
            let mut hubs = hub(100 + number as u64, 8 * 1024);
            let place = Place { hub: 0, peer: hubs[0].dial(now).unwrap() };
            let [near, far] = link(now, 2 * number as u32, place, filters);
            Client { hubs, place, near, far, filters, joined: None, got: Vec::new() }
        };
        let clients: Vec<_> = filters.into_iter().enumerate().map(client).collect();
        let links = 2 * clients.len() as u32;
        Self { now, board, clients, all: Vec::new(), shown: 0, links }
    }

    /// The board's bus shows so many frames of its own.
    fn show(&mut self, count: u64) {
        for _ in 0..count {
            let frame = frame(0x200 + (self.shown % 5) as u16, self.shown);
            self.board[0].seen(&frame, self.now.as_micros(), false);
            self.all.push(frame);
            self.shown += 1;
        }
    }

    /// A peer's bus shows a frame.
    fn show_at(&mut self, peer: usize) {
        let frame = frame(0x200 + (peer % 5) as u16, OF_PEERS + peer as u64);
        self.clients[peer].hubs[0].seen(&frame, self.now.as_micros(), false);
    }

    /// These peers and the board say what they have to say until nobody has more; each bus takes its frames at once.
    fn talk(&mut self, who: core::ops::Range<usize>) {
        self.now = Instant::from_micros(self.now.as_micros() + 50_000);
        let mut out = vec![0; 4 * RECORD_MAX];
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for client in &mut self.clients[who.clone()] {
                let there = client.near.poll_transmit(self.now, &mut client.hubs, &mut out);
                client.far.handle_input(self.now, &out[..there], &mut self.board);
                if client.far.is_live() {
                    client.joined.get_or_insert_with(|| self.board[0].position());
                }
                let back = client.far.poll_transmit(self.now, &mut self.board, &mut out);
                client.near.handle_input(self.now, &out[..back], &mut client.hubs);
                is_busy |= there + back > 0;
                let taken = take(self.now, &mut client.hubs[0]);
                client.got.extend(taken.iter().map(number));
                let taken = take(self.now, &mut self.board[0]);
                self.all.extend(taken);
            }
        }
    }

    fn cut(&mut self, peer: usize) {
        let client = &mut self.clients[peer];
        client.near.close(self.now, &mut client.hubs, Ended::Closed);
        client.far.close(self.now, &mut self.board, Ended::Closed);
    }

    fn come_back(&mut self, peer: usize) {
        self.cut(peer);
        let client = &mut self.clients[peer];
        [client.near, client.far] = link(self.now, self.links, client.place, client.filters);
        self.links += 2;
    }

    /// What the board has sent to a peer and got from it.
    fn of(&self, peer: usize) -> [Counters; 2] {
        let id = self.clients[peer].hubs[0].id();
        let (_, status) = self.board[0].peers().find(|(_, peer)| peer.history == id).unwrap();
        [status.sent, status.received]
    }

    /// Every frame meant for a peer came once, in order, or both ends have counted it. Returns how many are lost.
    fn check(&self, peer: usize) -> u64 {
        let client = &self.clients[peer];
        let joined = client.joined.unwrap() as usize;
        let mut meant = self.all[joined..].iter().filter(|frame| {
            number(frame) != OF_PEERS + peer as u64 && client.filters.passes(frame)
        });
        let all = meant.clone().count();
        for got in &client.got {
            assert!(meant.any(|frame| number(frame) == *got), "peer {peer}: {got} is odd");
        }
        let missing = (all - client.got.len()) as u64;
        let [sent, _] = self.of(peer);
        let told = client.hubs[0].peer_status(client.place.peer).unwrap().received;
        let counted = [sent, told].map(|counters| (counters.frames, counters.lost));
        assert_eq!(counted, [(client.got.len() as u64, missing); 2], "peer {peer}");
        missing
    }
}

/// Puts on a bus what waits for it.
fn take(now: Instant, hub: &mut Hub<Heap>) -> Vec<Frame> {
    let mut offer = [Frame::EMPTY; OFFER_MAX];
    let offered = hub.offer(now, &mut offer);
    hub.taken(now, offered);
    offer[..offered].iter().for_each(|frame| hub.seen(frame, now.as_micros(), true));
    offer[..offered].to_vec()
}

#[test]
fn thousand_peers_get_every_frame_once() {
    let mut crowd = Crowd::new(HISTORY, [Filters::ALL; PEERS]);
    crowd.talk(0..PEERS);
    assert!(crowd.clients.iter().all(|client| client.near.is_live() && client.far.is_live()));
    for _ in 0..5 {
        crowd.show(20);
        crowd.talk(0..PEERS);
    }
    (0..PEERS).for_each(|peer| crowd.show_at(peer));
    crowd.talk(0..PEERS);
    crowd.talk(0..PEERS);
    for peer in 0..PEERS {
        assert_eq!(crowd.check(peer), 0);
        let [sent, received] = crowd.of(peer);
        assert_eq!((received.frames, received.of(Outcome::Sent)), (1, 1));
        // Never its own.
        assert_eq!(sent.frames, 100 + PEERS as u64 - 1, "peer {peer}");
        assert_eq!(sent.accounted(), sent.frames);
    }
}

#[test]
fn overtaken_peers_of_many_are_counted_exactly() {
    let mut crowd = Crowd::new(HISTORY, [Filters::ALL; PEERS]);
    crowd.talk(0..PEERS);
    let frames = HISTORY as u64 / 16;
    for round in 0..10 {
        crowd.show(frames / 3);
        crowd.talk(round * 100..PEERS);
        (round * 100..(round + 1) * 100).for_each(|peer| crowd.cut(peer));
    }
    crowd.show(frames / 3);
    (0..PEERS).for_each(|peer| crowd.come_back(peer));
    crowd.talk(0..PEERS);
    let lost: Vec<_> = (0..PEERS).map(|peer| crowd.check(peer)).collect();
    assert!(lost[0] > 2 * frames && lost[PEERS - 1] == 0, "{} and {}", lost[0], lost[PEERS - 1]);
}

/// A peer may ask for some frames only, bring some itself, come late and be away for longer than the history reaches.
#[test]
fn overtaken_peers_with_filters_and_own_frames_are_counted_exactly() {
    const FEW: usize = 24;
    let mut lost = 0;
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let filters = ["0:0,#FFFFFFFF", "200:7FF", "200~7FF", "1:7FF,203:7FF"];
        let filters: Vec<Filters> =
            (0..FEW).map(|_| filters[rng.usize(..4)].parse().unwrap()).collect();
        let mut crowd = Crowd::new([8, 12, 64][seed as usize % 3] * 1024, filters);
        for _ in 0..rng.usize(10..60) {
            let from = rng.usize(..FEW);
            let some = from..rng.usize(from..FEW) + 1;
            match rng.u8(..4) {
                0 => some.clone().for_each(|peer| crowd.cut(peer)),
                1 => some.clone().for_each(|peer| crowd.come_back(peer)),
                _ => {}
            }
            crowd.show(rng.u64(..600));
            if rng.bool() {
                some.clone().for_each(|peer| crowd.show_at(peer));
            }
            crowd.talk(some);
        }
        (0..FEW).for_each(|peer| crowd.come_back(peer));
        crowd.talk(0..FEW);
        crowd.talk(0..FEW);
        lost += (0..FEW).map(|peer| crowd.check(peer)).sum::<u64>();
    }
    assert!(lost > 10_000, "only {lost} were lost");
}

/// The least time the board takes for so many frames of its bus, whose history is full, where so many peers are
/// away and may come back.
fn took(peers: usize) -> Duration {
    let mut crowd = Crowd::new(HISTORY, vec![Filters::ALL; peers]);
    crowd.talk(0..peers);
    (0..peers).for_each(|peer| crowd.cut(peer));
    crowd.show(HISTORY as u64);
    let window = |_| {
        let start = std::time::Instant::now();
        crowd.show(20_000);
        start.elapsed()
    };
    (0..7).map(window).min().unwrap()
}

#[test]
fn frame_costs_the_same_with_a_thousand_idle_peers() {
    let (one, many) = (took(1), took(PEERS));
    // By the peer it would be several hundred times as much.
    assert!(many < one * 3, "{one:?} with one, {many:?} with {PEERS}");
}
