//! Two sides and a link between them in memory, brought to where a hot function is about to be called.

use core::time::Duration;

use canspan::protocol::entry::{self, ENTRY_MAX};
use canspan::protocol::history::{BLOCK_SIZE, Cursor, History, Origin};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{
    FilterUse, Frame, Hub, Id, Lane, Link, LinkOptions, Memory, OFFER_MAX, Outcome, Peer, Place,
    Policy, RECEIPT_INTERVAL, RECORD_MAX, Role, Slot,
};

/// Microseconds between two frames: a bus at 500 kbit/s with a load of two thirds.
pub const GAP_US: u64 = 350;
/// What the wall clock is ahead of the monotonic one, in microseconds.
const CLOCK_US: i64 = 1_700_000_000_000_000;
/// Frames that warm a link up. Chosen: a bus is handed one frame more for each echo, and a batch must fit.
const WARM_UP: u64 = 64;
/// How far apart the turns of the warm-up are.
const TURN: Duration = Duration::from_millis(10);

/// Which frames go through.
#[derive(Clone, Copy)]
pub enum Kind {
    /// 11-bit ids, eight data bytes.
    Classic,
    /// 29-bit ids, 64 data bytes, bit rate switch.
    Fd,
}

/// `count` frames, no two of them equal.
pub fn frames(kind: Kind, count: u32) -> Vec<Frame> {
    let one = |number: u32| match kind {
        Kind::Classic => {
            let data = (u64::from(number) << 8).to_be_bytes();
            Frame::data_frame(Id::Standard(0x123 + number as u16), &data)
        }
        Kind::Fd => Frame::fd(Id::Extended(0x1234_5678 + number), Frame::BRS, &[number as u8; 64]),
    };
    (0..count).map(|number| one(number).expect("a frame that is valid")).collect()
}

/// Frames and their bytes.
pub struct Bytes {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Room for them, or what they are as bytes.
    pub bytes: Vec<u8>,
    /// How many bytes that are.
    pub used: usize,
}

/// Frames that are to be encoded.
pub fn plain(kind: Kind, count: u32) -> Box<Bytes> {
    let bytes = vec![0; count as usize * ENTRY_MAX];
    Box::new(Bytes { frames: frames(kind, count), bytes, used: 0 })
}

/// Entries that are to be decoded, into frames that are still empty.
pub fn encoded(kind: Kind, count: u32) -> Box<Bytes> {
    let mut all = plain(kind, count);
    for frame in &all.frames {
        let room = &mut all.bytes[all.used..];
        all.used += entry::encode(frame, GAP_US, room).expect("room for every entry");
    }
    all.frames.fill(Frame::EMPTY);
    all
}

/// A history, and frames to be put there or read back.
pub struct Past {
    /// The history.
    pub history: History<Vec<u8>>,
    /// The frames.
    pub frames: Vec<Frame>,
    /// Before the first of them.
    pub cursor: Cursor,
}

/// The stamp of the `number`-th frame, in microseconds since the Unix epoch.
pub fn stamp_us(number: usize) -> u64 {
    CLOCK_US.unsigned_abs() + 60_000_000 + number as u64 * GAP_US
}

/// Frames that are to be appended to a history which holds a few already.
pub fn to_append(kind: Kind, count: u32) -> Box<Past> {
    let mut history = History::new(vec![0; 16 * BLOCK_SIZE]).expect("room for a history");
    for frame in frames(Kind::Classic, 4) {
        history.append(&frame, stamp_us(0) - GAP_US, CLOCK_US, Origin::Bus).expect("room");
    }
    let cursor = history.head();
    Box::new(Past { history, frames: frames(kind, count), cursor })
}

/// Frames that are to be read back from a history.
pub fn to_read(kind: Kind, count: u32) -> Box<Past> {
    let mut past = to_append(kind, count);
    past.append();
    past
}

impl Past {
    /// Appends all frames.
    #[inline(always)]
    pub fn append(&mut self) {
        for (number, frame) in self.frames.iter().enumerate() {
            let _ = self.history.append(frame, stamp_us(number), CLOCK_US, Origin::Bus);
        }
    }
}

/// A hub's memory.
pub struct Fixed;

impl Memory for Fixed {
    type Blocks = Vec<u8>;
    type Slots = heapless::Vec<Slot, 512>;
    type Peers = heapless::Vec<Peer, 4>;
    type Lanes = heapless::Vec<Lane, 4>;
    type FilterUses = heapless::Vec<FilterUse, 4>;
}

/// One end of a link.
pub struct Side {
    /// Its bus.
    pub hubs: [Hub<Fixed>; 1],
    /// Its link.
    pub link: Link,
}

/// A board with a real bus, a PC with a virtual one, and the live link between them.
pub struct Pair {
    /// The time.
    pub now: Instant,
    /// The board.
    pub board: Side,
    /// The PC.
    pub pc: Side,
    /// The frames in question.
    pub frames: Vec<Frame>,
    /// What is on its way from one to the other.
    pub wire: Vec<u8>,
    /// How much of it.
    pub used: usize,
    /// What a bus is offered.
    pub offer: [Frame; OFFER_MAX],
    /// How many that are.
    pub offered: usize,
}

fn hub(id: u64, policy: Policy) -> Hub<Fixed> {
    let memory = vec![0; 16 * BLOCK_SIZE];
    let mut hub = Hub::new("can0", id, memory, heapless::Vec::new()).expect("a hub");
    hub.set_policy(Policy { window: 512, ..policy });
    hub.set_state(BusState::Up, None);
    hub.set_clock(CLOCK_US);
    hub
}

impl Pair {
    /// A link that is live and has carried frames both ways, with the clocks' difference known.
    pub fn live(kind: Kind, count: u32) -> Box<Self> {
        let now = Instant::from_micros(60_000_000);
        let options = LinkOptions::default();
        let real = Policy {
            max_age: Some(Duration::from_millis(500)),
            is_virtual: false,
            role: Role::Owner,
            ..Policy::default()
        };
        let board = Side { hubs: [hub(1, real)], link: Link::accept(now, 1, options) };
        let mut pc = hub(2, Policy::default());
        let place = Place { hub: 0, peer: pc.dial(now).expect("room for a peer") };
        let link = Link::dial(now, 1, place, "can0", options).expect("a link");
        let pc = Side { hubs: [pc], link };
        let wire = vec![0; 4 * RECORD_MAX];
        let (offer, frames) = ([Frame::EMPTY; OFFER_MAX], frames(kind, count));
        let mut pair = Box::new(Self { now, board, pc, frames, wire, used: 0, offer, offered: 0 });
        pair.turn();
        for number in 0..WARM_UP {
            let empty = Frame::data_frame(Id::Standard(number as u16), &[]).expect("a frame");
            for side in [&mut pair.board, &mut pair.pc] {
                side.hubs[0].seen(&empty, pair.now.as_micros() + CLOCK_US.unsigned_abs(), false);
            }
            pair.turn();
        }
        // Until the last receipts are out; the bus must not be forgotten meanwhile.
        for _ in 0..RECEIPT_INTERVAL.as_millis() / TURN.as_millis() + 2 {
            pair.turn();
        }
        for (side, other) in [(&pair.board, &pair.pc), (&pair.pc, &pair.board)] {
            assert!(side.link.is_live());
            let sent = side.hubs[0].peer_status(0).expect("a peer").sent;
            assert_eq!(sent.of(Outcome::Sent), WARM_UP);
            assert!(!other.hubs[0].is_busy());
        }
        pair
    }

    /// Everything goes where it is to go.
    fn turn(&mut self) {
        self.now = self.now + TURN;
        for side in [&mut self.board, &mut self.pc] {
            side.link.handle_timeout(self.now, &mut side.hubs);
            side.hubs[0].handle_timeout(self.now);
        }
        loop {
            let there = self.carry(true);
            let back = self.carry(false);
            self.drive_buses();
            while self.board.link.poll_event().or_else(|| self.pc.link.poll_event()).is_some() {}
            if there + back == 0 {
                break;
            }
        }
    }

    /// Carries what one side has to say to the other; how much that was.
    fn carry(&mut self, from_board: bool) -> usize {
        let (from, to) = match from_board {
            true => (&mut self.board, &mut self.pc),
            false => (&mut self.pc, &mut self.board),
        };
        let used = from.link.poll_transmit(self.now, &mut from.hubs, &mut self.wire);
        to.link.handle_input(self.now, &self.wire[..used], &mut to.hubs);
        used
    }

    /// Both buses take what waits for them, and show it.
    fn drive_buses(&mut self) {
        let stamp_us = self.now.as_micros() + CLOCK_US.unsigned_abs();
        for side in [&mut self.board, &mut self.pc] {
            let [hub] = &mut side.hubs;
            let offered = hub.offer(self.now, &mut self.offer);
            hub.taken(self.now, offered);
            for frame in &self.offer[..offered] {
                hub.seen(frame, stamp_us, true);
            }
        }
    }

    /// A bus shows the frames in question.
    #[inline(always)]
    pub fn show(side: &mut Side, frames: &[Frame], now: Instant, own: bool) {
        let first_us = now.as_micros() + CLOCK_US.unsigned_abs();
        for (number, frame) in frames.iter().enumerate() {
            side.hubs[0].seen(frame, first_us + number as u64 * GAP_US, own);
        }
    }

    /// The bytes a side has to send now.
    #[inline(always)]
    pub fn transmit(side: &mut Side, now: Instant, wire: &mut [u8]) -> usize {
        side.link.poll_transmit(now, &mut side.hubs, wire)
    }

    /// Bytes of the PC's come to the board.
    #[inline(always)]
    pub fn receive(&mut self) {
        let bytes = &self.wire[..self.used];
        self.board.link.handle_input(self.now, bytes, &mut self.board.hubs);
    }

    /// The board's bus is offered frames, and takes them.
    #[inline(always)]
    pub fn offer(&mut self) {
        self.offered = self.board.hubs[0].offer(self.now, &mut self.offer);
        self.board.hubs[0].taken(self.now, self.offered);
    }

    /// The board's bus has sent the frames.
    #[inline(always)]
    pub fn confirm(&mut self) {
        Self::show(&mut self.board, &self.offer[..self.offered], self.now, true);
    }

    /// The board's bus has shown frames that are to be sent to the PC.
    pub fn to_transmit(kind: Kind, count: u32) -> Box<Self> {
        let mut pair = Self::live(kind, count);
        Self::show(&mut pair.board, &pair.frames, pair.now, false);
        pair
    }

    /// The PC has sent frames, and the board is about to handle them.
    pub fn to_receive(kind: Kind, count: u32) -> Box<Self> {
        let mut pair = Self::live(kind, count);
        Self::show(&mut pair.pc, &pair.frames, pair.now, false);
        pair.used = Self::transmit(&mut pair.pc, pair.now, &mut pair.wire);
        pair
    }

    /// Frames wait for the board's bus.
    pub fn to_offer(kind: Kind, count: u32) -> Box<Self> {
        let mut pair = Self::to_receive(kind, count);
        pair.receive();
        pair
    }

    /// The board's bus has taken frames, and is about to show them.
    pub fn to_confirm(kind: Kind, count: u32) -> Box<Self> {
        let mut pair = Self::to_offer(kind, count);
        pair.offer();
        pair
    }

    /// The board's bus has shown frames of the PC's, and the receipt is due.
    pub fn to_receipt(kind: Kind, count: u32) -> Box<Self> {
        let mut pair = Self::to_confirm(kind, count);
        pair.confirm();
        pair.now = pair.now + RECEIPT_INTERVAL;
        pair
    }

    /// How many of the PC's frames in question were confirmed by the board's bus, and how many it knows of.
    pub fn confirmed(&self) -> (u64, u64) {
        let told = self.pc.hubs[0].peer_status(0).map_or(0, |status| status.sent.of(Outcome::Sent));
        (self.board.hubs[0].frames_confirmed() - WARM_UP, told - WARM_UP)
    }

    /// How many of the frames in question the board's history has.
    pub fn shown(&self) -> u64 {
        self.board.hubs[0].position() - 2 * WARM_UP
    }
}
