//! A thousand peers on one bus: each gets every frame or an exact count, and none costs the others anything.

use canspan::gateway::{Heap, HeapSlots};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{
    Ended, Frame, Hub, Id, Link, LinkOptions, OFFER_MAX, Outcome, PeerStatus, Place, RECORD_MAX,
};

const PEERS: usize = 1_000;
/// The history's size: some thousand frames.
const HISTORY: usize = 64 * 1024;

/// A peer and both ends of its link.
struct Client {
    hubs: Vec<Hub<Heap>>,
    place: Place,
    near: Link,
    far: Link,
    /// Numbers of the frames that came from the board.
    got: Vec<u64>,
}

/// A board and its peers.
struct Crowd {
    now: Instant,
    board: Vec<Hub<Heap>>,
    clients: Vec<Client>,
    options: LinkOptions,
    shown: u64,
    links: u32,
}

fn hub(id: u64, history: usize) -> Vec<Hub<Heap>> {
    let memory = vec![0; history].into_boxed_slice();
    let mut hub = Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).unwrap();
    hub.set_state(BusState::Up, None);
    vec![hub]
}

/// A frame of the board's with this number, or of the peer with that number.
fn frame(id: u16, number: u64) -> Frame {
    Frame::data_frame(Id::Standard(id), &number.to_be_bytes()).unwrap()
}

impl Crowd {
    fn new(peers: usize) -> Self {
        let now = Instant::from_micros(1_000_000);
        let options = LinkOptions::default();
        let board = hub(1, HISTORY);
        let mut crowd = Self { now, board, clients: Vec::new(), options, shown: 0, links: 0 };
        for number in 0..peers {
            let mut hubs = hub(100 + number as u64, 8 * 1024);
            let place = Place { hub: 0, peer: hubs[0].dial(now).unwrap() };
            let [near, far] = crowd.link(place);
            crowd.clients.push(Client { hubs, place, near, far, got: Vec::new() });
        }
        crowd
    }

    /// The peer's end and the board's.
    fn link(&mut self, place: Place) -> [Link; 2] {
        self.links += 2;
        [
            Link::dial(self.now, self.links, place, "can0", self.options).unwrap(),
            Link::accept(self.now, self.links + 1, self.options),
        ]
    }

    /// The board's bus shows so many frames of its own.
    fn show(&mut self, count: u64) {
        for _ in 0..count {
            self.board[0].seen(&frame(1, self.shown), self.now.as_micros(), false);
            self.shown += 1;
        }
    }

    /// Everybody of `who` and the board say what they have to say until nobody has more; frames are put on the
    /// buses at once.
    fn talk(&mut self, who: core::ops::Range<usize>) {
        self.now = Instant::from_micros(self.now.as_micros() + 50_000);
        let mut out = vec![0; 4 * RECORD_MAX];
        let mut is_busy = true;
        while is_busy {
            is_busy = false;
            for client in &mut self.clients[who.clone()] {
                for _ in 0..4 {
                    let there = client.near.poll_transmit(self.now, &mut client.hubs, &mut out);
                    client.far.handle_input(self.now, &out[..there], &mut self.board);
                    let back = client.far.poll_transmit(self.now, &mut self.board, &mut out);
                    client.near.handle_input(self.now, &out[..back], &mut client.hubs);
                    let taken = take(self.now, &mut client.hubs[0], &mut client.got);
                    is_busy |= there + back > 0 || taken;
                }
            }
            is_busy |= take(self.now, &mut self.board[0], &mut Vec::new());
        }
    }

    fn cut(&mut self, number: usize) {
        let client = &mut self.clients[number];
        client.near.close(self.now, &mut client.hubs, Ended::Closed);
        client.far.close(self.now, &mut self.board, Ended::Closed);
    }

    fn come_back(&mut self, number: usize) {
        let [near, far] = self.link(self.clients[number].place);
        let client = &mut self.clients[number];
        (client.near, client.far) = (near, far);
    }

    /// What the board knows of a peer.
    fn of(&self, number: usize) -> PeerStatus {
        let id = self.clients[number].hubs[0].id();
        self.board[0].peers().find(|(_, peer)| peer.history == id).unwrap().1
    }
}

/// Puts on a bus what waits for it.
fn take(now: Instant, hub: &mut Hub<Heap>, got: &mut Vec<u64>) -> bool {
    let mut offer = [Frame::EMPTY; OFFER_MAX];
    let offered = hub.offer(now, &mut offer);
    hub.taken(now, offered);
    for frame in &offer[..offered] {
        hub.seen(frame, now.as_micros(), true);
        if frame.id() == Id::Standard(1) {
            got.push(u64::from_be_bytes(frame.data().try_into().unwrap()));
        }
    }
    offered > 0
}

#[test]
fn thousand_peers_get_every_frame_once() {
    let mut crowd = Crowd::new(PEERS);
    crowd.talk(0..PEERS);
    assert!(crowd.clients.iter().all(|client| client.near.is_live() && client.far.is_live()));
    for _ in 0..5 {
        crowd.show(20);
        crowd.talk(0..PEERS);
    }
    for client in &crowd.clients {
        assert_eq!(client.got, (0..100).collect::<Vec<_>>());
    }
    // And the board every frame of each, which reaches all others and never its author.
    for (number, client) in crowd.clients.iter_mut().enumerate() {
        client.hubs[0].seen(&frame(2, number as u64), crowd.now.as_micros(), false);
    }
    crowd.talk(0..PEERS);
    for number in 0..PEERS {
        let status = crowd.of(number);
        assert_eq!((status.received.frames, status.received.of(Outcome::Taken)), (1, 0));
        assert_eq!(status.received.of(Outcome::Sent), 1);
        assert_eq!(status.sent.frames, 100 + PEERS as u64 - 1, "peer {number}");
        assert_eq!(status.sent.accounted(), status.sent.frames);
    }
}

#[test]
fn overtaken_peers_of_many_are_counted_exactly() {
    let mut crowd = Crowd::new(PEERS);
    crowd.talk(0..PEERS);
    // Each is cut after so many frames; the history goes on, and some of those come back meanwhile.
    let frames = HISTORY as u64 / 16;
    let mut rounds = 0..10;
    for round in &mut rounds {
        crowd.show(frames / 3);
        crowd.talk(round * 100..PEERS);
        (0..100).for_each(|place| crowd.cut(round * 100 + place));
    }
    crowd.show(frames / 3);
    (0..PEERS).for_each(|number| crowd.come_back(number));
    crowd.talk(0..PEERS);
    let mut lost = 0;
    for (number, client) in crowd.clients.iter().enumerate() {
        let Counted { frames, missing } = Counted::of(client);
        let sent = crowd.of(number).sent;
        assert_eq!((sent.frames, sent.lost), (frames, missing), "peer {number}");
        assert_eq!(frames + missing, crowd.shown, "peer {number}");
        let told = client.hubs[0].peer_status(client.place.peer).unwrap().received;
        assert_eq!((told.frames, told.lost), (frames, missing), "peer {number}");
        lost += missing;
    }
    assert!(lost > 0 && Counted::of(&crowd.clients[PEERS - 1]).missing == 0);
}

/// Frames a peer's bus has had, and how many of the board's are not among them.
struct Counted {
    frames: u64,
    missing: u64,
}

impl Counted {
    fn of(client: &Client) -> Self {
        assert!(client.got.is_sorted_by(|a, b| a < b), "a frame came twice, or late");
        let frames = client.got.len() as u64;
        let last = client.got.last().map_or(0, |last| last + 1);
        Self { frames, missing: last - frames }
    }
}
