//! A whole session as bytes, for the specification: greeting, frames both ways, a cut, a resume
//! and a farewell.

use core::fmt::Write as _;

use canspan::protocol::time::Instant;
use canspan::protocol::wire::{BusState, FILLER, Message, PREAMBLE_SIZE};
use canspan::protocol::{
    Ended, Frame, Hub, Id, Link, LinkOptions, Outcome, Place, Policy, Progress, RECORD_MAX, Role,
    entry,
};

use crate::hex;
use crate::memory::{Bounded, Heap};

/// The board's wall clock minus its monotonic one: 2023-11-14, 22:13:20 at the start.
const OFFSET_US: i64 = 1_700_000_000_000_000;

struct Side {
    name: &'static str,
    hubs: [Hub<Heap>; 1],
    link: Link,
    /// How far its monotonic clock is ahead of the session's.
    ahead_us: u64,
}

impl Side {
    fn now(&self, at_us: u64) -> Instant {
        Instant::from_micros(at_us + self.ahead_us)
    }

    fn seen(&mut self, at_us: u64, frame: &Frame, own: bool) {
        let stamp_us = self.now(at_us).as_micros().wrapping_add_signed(OFFSET_US);
        self.hubs[0].seen(frame, stamp_us, own);
    }

    /// Its bus takes what waits and confirms it.
    fn drive_bus(&mut self, at_us: u64) {
        let now = self.now(at_us);
        let mut frames = [frame(0, &[]); 4];
        let count = self.hubs[0].offer(now, &mut frames);
        self.hubs[0].taken(now, count);
        for frame in &frames[..count] {
            self.seen(at_us, frame, true);
        }
    }
}

struct Session {
    at_us: u64,
    /// The PC, the board.
    sides: [Side; 2],
    text: String,
}

fn frame(id: u16, data: &[u8]) -> Frame {
    Frame::data_frame(Id::Standard(id), data).unwrap()
}

fn hub(id: u64, is_board: bool) -> Hub<Heap> {
    let mut hub = Hub::new("can0", id, vec![0; 2 * 4096], Bounded::new(300)).unwrap();
    let max_age = is_board.then(|| core::time::Duration::from_millis(500));
    let role = if is_board { Role::Owner } else { Role::Copy };
    hub.set_policy(Policy { is_virtual: !is_board, role, max_age, ..Policy::default() });
    hub.set_state(BusState::Up, None);
    hub.set_clock(OFFSET_US);
    hub
}

impl Session {
    fn note(&mut self, what: &str) {
        let _ = writeln!(self.text, "{what}");
    }

    fn connect(&mut self) {
        let [pc, board] = &mut self.sides;
        let place = Place { hub: 0, peer: 0 };
        let options = LinkOptions::default();
        pc.link = Link::dial(pc.now(self.at_us), 1, place, "can0", options).unwrap();
        board.link = Link::accept(board.now(self.at_us), 2, options);
    }

    /// Both sides say what they have to say, until they are silent.
    fn talk(&mut self) {
        loop {
            let mut said = 0;
            for from in 0..2 {
                said += self.talk_from(from);
            }
            if said == 0 {
                return;
            }
            self.at_us += 100;
        }
    }

    fn talk_from(&mut self, from: usize) -> usize {
        let at_us = self.at_us;
        let mut out = [0; 2 * RECORD_MAX];
        let side = &mut self.sides[from];
        let now = side.now(at_us);
        if side.link.poll_timeout(&side.hubs).is_some_and(|at| at <= now) {
            side.link.handle_timeout(now, &mut side.hubs);
        }
        let used = side.link.poll_transmit(now, &mut side.hubs, &mut out);
        let name = side.name;
        let mut rest = &out[..used];
        while !rest.is_empty() {
            let length = match rest {
                [b'C', ..] => PREAMBLE_SIZE,
                [first, second, ..] if *first >= 0x80 => {
                    2 + usize::from(first & 0x7F) + usize::from(*second) * 128
                }
                // A filler is one byte, too.
                [first, ..] => 1 + usize::from(*first),
                [] => 0,
            };
            let (record, after) = rest.split_at(length);
            let meaning = describe(record);
            let _ = writeln!(self.text, "{name:>5}: {}\n       {meaning}", hex(record));
            rest = after;
        }
        let other = &mut self.sides[1 - from];
        let now = other.now(at_us);
        other.link.handle_input(now, &out[..used], &mut other.hubs);
        other.drive_bus(at_us);
        used
    }
}

fn describe(record: &[u8]) -> String {
    if record == [FILLER] {
        return "filler".to_owned();
    }
    let content = &record[if record[0] < 0x80 { 1 } else { 2 }..];
    if record[0] == b'C' {
        return "preamble: version 1, mode 0, no key name".to_owned();
    }
    let message: Message<'_> = postcard::from_bytes(content).unwrap();
    let progress = |progress: Progress| {
        let Progress { position, frames, lost, stale } = progress;
        format!("position {position}, {frames} frames, {lost} lost, {stale} stale")
    };
    match message {
        Message::Hello(hello) => {
            let seen = hello.seen.map_or_else(
                || "nothing".to_owned(),
                |seen| {
                    let (history, done) = (seen.history, seen.done);
                    format!("history {history:x}, {}, done {done:?}", progress(seen.progress))
                },
            );
            format!(
                "Hello: bus {:?}, history {:x}, bus_id {:x}, window {}, max_age {} us, heartbeat {} ms, receipts {} us, \
                 clock {} us, from {:?}\n              seen: {seen}",
                hello.bus,
                hello.history,
                hello.bus_id,
                hello.window,
                hello.max_age_us,
                hello.heartbeat_ms,
                hello.receipts_us,
                hello.clock_us,
                hello.from
            )
        }
        Message::Start(start) => format!("Start: {}", progress(start)),
        Message::Frames(mut frames) => {
            let mut text = "Frames:".to_owned();
            while let Some((frame, delta_us, rest)) = entry::decode(frames) {
                let (id, data) = (frame.id().bits(), hex(frame.data()));
                let _ = write!(text, " [{delta_us} us later, id {id:03x}, data {data}]");
                frames = rest;
            }
            text
        }
        Message::Receipt(mut runs) => {
            let mut text = "Receipt:".to_owned();
            while let Ok(((outcome, count), rest)) =
                postcard::take_from_bytes::<(Outcome, u16)>(runs)
            {
                let _ = write!(text, " {} {count}", outcome.name());
                runs = rest;
            }
            text
        }
        Message::Clock(offset_us) => format!("Clock: {offset_us} us"),
        Message::Skip(skip) => {
            format!("Skip: {} positions, {} lost, {} stale", skip.positions, skip.lost, skip.stale)
        }
        Message::Ping(ping) => {
            format!(
                "Ping: clock {} us, echo {} us, held {} us",
                ping.clock_us, ping.echo_us, ping.held_us
            )
        }
        Message::Bus(bus) => format!(
            "Bus: {}, overflow {}, max_age {} us",
            bus.state.name(),
            bus.overflow,
            bus.max_age_us
        ),
        other => format!("{other:?}"),
    }
}

/// The session, one record after another.
pub(crate) fn text() -> String {
    let mut pc_hub = hub(0x1111, false);
    pc_hub.dial(Instant::from_micros(0)).unwrap();
    let side = |name, hub, ahead_us| Side {
        name,
        hubs: [hub],
        link: Link::accept(Instant::from_micros(0), 0, LinkOptions::default()),
        ahead_us,
    };
    let sides = [side("PC", pc_hub, 2_000_000), side("board", hub(0xB0A2D, true), 7_000_000)];
    let mut session = Session { at_us: 1_000_000, sides, text: String::new() };

    session.note("The PC connects and asks for can0. No frame was seen on either bus yet.\n");
    session.connect();
    session.talk();

    session.note("\nThe board's bus shows 123#1122, then, 300 us later, 124#33.\n");
    let at_us = session.at_us;
    session.sides[1].seen(at_us, &frame(0x123, &[0x11, 0x22]), false);
    session.sides[1].seen(at_us + 300, &frame(0x124, &[0x33]), false);
    session.at_us += 300;
    session.talk();
    session.at_us += 30_000;
    session.talk();

    session.note("\nA program on the PC sends 7DF#0201. The board's bus takes it.\n");
    let at_us = session.at_us;
    session.sides[0].seen(at_us, &frame(0x7DF, &[2, 1]), false);
    session.talk();
    session.at_us += 30_000;
    session.talk();

    session.note(
        "\nThe connection breaks. Meanwhile the board's bus shows 125#44. The PC connects again.\n",
    );
    let at_us = session.at_us;
    for side in &mut session.sides {
        let now = side.now(at_us);
        side.link.close(now, &mut side.hubs, Ended::Closed);
    }
    session.sides[1].seen(at_us, &frame(0x125, &[0x44]), false);
    session.at_us += 200_000;
    session.connect();
    session.talk();
    session.at_us += 30_000;
    session.talk();

    session.note("\nThe PC ends the link on purpose.\n");
    let pc = &mut session.sides[0];
    let now = pc.now(session.at_us);
    pc.link.close(now, &mut pc.hubs, Ended::Finished);
    session.talk();
    session.text
}
