//! A hostile peer of the board: messages that are well formed, in any order, with any numbers.

use canspan::protocol::entry::{self, ENTRY_MAX};
use canspan::protocol::wire::{
    BusState, BusStatus, From, Hello, Message, Ping, Refusal, Seen, Skip, preamble,
};
use canspan::protocol::{Ended, Frame, Id, Link, LinkOptions, Place, Progress, RECORD_MAX};

use super::Field;
use super::node::WINDOW;
use crate::talk::record;

/// Peers that are hostile: two dial the board, the board dials the third.
const HOSTILES: usize = 3;
const DIALLED: usize = 2;
/// History ids: none of an honest node.
const HISTORY: u64 = 0xBAD_0000;

/// The numbers that are most likely to hurt.
const ABSURD: [u64; 16] = [
    0,
    1,
    2,
    WINDOW as u64 - 1,
    WINDOW as u64,
    WINDOW as u64 + 1,
    60,
    1_000,
    u16::MAX as u64,
    u32::MAX as u64,
    i64::MAX as u64,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX / 2 - 1,
    u64::MAX - 1,
    u64::MAX,
];

fn absurd(byte: u8) -> u64 {
    ABSURD[usize::from(byte % 16)]
}

/// A hostile peer's connection, seen from the board.
pub(crate) struct Hostile {
    link: Link,
    place: Option<Place>,
}

impl Field {
    fn hostile_options() -> LinkOptions {
        LinkOptions { from: From::Oldest, ..LinkOptions::default() }
    }

    fn add_hostiles(&mut self) {
        let now = self.now();
        for number in 0..HOSTILES {
            let id = self.link_number();
            let place = (number == DIALLED)
                .then(|| Place { hub: 0, peer: self.nodes[0].hubs[0].dial(now).unwrap() });
            let link = Link::accept(now, id, Self::hostile_options());
            self.hostiles.push(Hostile { link, place });
            self.reconnect(number);
        }
    }

    fn reconnect(&mut self, number: usize) {
        let (now, id, options) = (self.now(), self.link_number(), Self::hostile_options());
        let hostile = &mut self.hostiles[number];
        hostile.link.close(now, &mut self.nodes[0].hubs, Ended::Closed);
        hostile.link = match hostile.place {
            Some(place) => Link::dial(now, id, place, "can0", options).unwrap(),
            None => Link::accept(now, id, options),
        };
        self.tell_bytes(number, &preamble());
    }

    fn tell_bytes(&mut self, number: usize, bytes: &[u8]) {
        let now = self.now();
        let (link, hubs) = (&mut self.hostiles[number].link, &mut self.nodes[0].hubs);
        link.handle_input(now, bytes, hubs);
        if link.poll_timeout(hubs).is_some_and(|at| at <= now) {
            link.handle_timeout(now, hubs);
        }
        let mut out = [0; RECORD_MAX];
        let mut rounds = 0;
        while link.poll_transmit(now, hubs, &mut out) > 0 {
            rounds += 1;
            assert!(rounds < 10_000, "there is no end to what the board says");
        }
        while link.poll_event().is_some() {}
    }

    fn tell(&mut self, number: usize, message: &Message<'_>) {
        self.tell_bytes(number, &record(message));
    }

    /// One hostile deed. Any six bytes are one.
    fn deed(&mut self, [what, who, a, b, c, d]: [u8; 6]) {
        let number = usize::from(who) % HOSTILES;
        let progress = Progress {
            position: absurd(a),
            frames: if a < 128 { 0 } else { absurd(a / 16) },
            lost: absurd(b),
            stale: absurd(c),
        };
        match what % 20 {
            0 | 1 => self.reconnect(number),
            2..6 => {
                let hello = greeting([who, a, b, c, d], progress, self.nodes[0].hubs[0].id());
                self.tell(number, &Message::Hello(hello));
            }
            6 | 7 => self.tell(number, &Message::Clock(absurd(a).cast_signed())),
            8 => self.tell(number, &Message::Start(progress)),
            9 => self.tell(number, &Message::Start(Progress::default())),
            10 | 11 => self.tell(number, &Message::Frames(&frames(usize::from(a % 20), b, c))),
            12 => self.tell(number, &Message::Frames(&frames(usize::from(a), b, c))),
            13 => {
                let (positions, lost, stale) = (absurd(a), absurd(b), absurd(c));
                self.tell(number, &Message::Skip(Skip { positions, lost, stale }));
            }
            14 => {
                let run = [a % 8, b | 0x80, c % 4];
                self.tell(number, &Message::Receipt(&run[..usize::from(d % 4)]));
            }
            15 => {
                let (clock_us, echo_us, held_us) = (absurd(a), absurd(b), absurd(c));
                self.tell(number, &Message::Ping(Ping { clock_us, echo_us, held_us }));
            }
            16 => {
                let (overflow, max_age_us) = (absurd(a), absurd(b));
                let (state, errors) = (BusState::Up, Some((c, d)));
                let (overrun, dropped) = (absurd(c), absurd(d));
                let status = BusStatus { state, errors, overflow, overrun, dropped, max_age_us };
                self.tell(number, &Message::Bus(status));
            }
            17 => match a % 4 {
                0 => self.tell(number, &Message::Bye),
                1 => self.tell(number, &Message::Refuse(Refusal(b))),
                2 => self.tell(number, &Message::Buses("can0\ncan1")),
                _ => self.tell_bytes(number, &[a, b, c, d]),
            },
            18 => self.now_us += absurd(a).min(500_000),
            _ => self.nodes[0].toggle_stall(),
        }
    }
}

fn greeting([who, a, b, c, d]: [u8; 5], progress: Progress, board: u64) -> Hello<'static> {
    let done = match d % 4 {
        0 => [0; 7],
        1 => [progress.frames, 0, 0, 0, 0, 0, 0],
        2 => [absurd(a), absurd(b), 0, 0, 0, absurd(c), 0],
        _ => [u64::MAX; 7],
    };
    let history = if c < 200 { board } else { absurd(c) };
    Hello {
        features: u32::from(d),
        bus: "can0",
        history: HISTORY + u64::from(who),
        bus_id: absurd(c),
        window: absurd(d) as u32,
        max_age_us: if b < 128 { 0 } else { absurd(b) },
        heartbeat_ms: absurd(a) as u32,
        receipts_us: absurd(b) as u32,
        clock_us: absurd(c),
        seen: (d >= 64).then_some(Seen { history, progress, done }),
        from: [From::Now, From::Last(absurd(a)), From::Oldest][usize::from(b % 3)],
    }
}

/// So many entries, or as many as fit; some are no entries.
fn frames(count: usize, delta: u8, seed: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..count {
        let frame = Frame::data_frame(Id::Extended(0xEE | u32::from(seed) << 8), &[number as u8]);
        let mut entry = [0; ENTRY_MAX];
        let used = entry::encode(&frame.unwrap(), absurd(delta), &mut entry).unwrap();
        all.extend(&entry[..used]);
    }
    if seed == 255 {
        all.push(7);
    }
    all
}

/// The board has one honest PC and hostile peers. Whatever these do, the honest PC's link stays,
/// and its account is kept.
pub(crate) fn run(deeds: impl IntoIterator<Item = [u8; 6]>) {
    let mut field = Field::new(1, 8);
    field.dial(1);
    field.add_hostiles();
    for deed in deeds {
        field.deed(deed);
        let now = field.now();
        field.nodes[0].push(now, 1);
        if !field.nodes[0].is_stalled {
            field.nodes[1].push(now, 1);
        }
        field.turn();
        field.now_us += 100;
        assert!(field.wires[1].is_some(), "the honest peer's link ended");
    }
    field.settle();
    field.check();
    assert!(field.wires[1].is_some(), "the honest peer's link ended");
}
