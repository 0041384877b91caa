//! What a greeting costs: how often the history's memory is looked at, which no machine's speed changes.

use core::cell::Cell;

use canspan::gateway::{HeapSlots, HeapTable};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{
    Ended, FilterUse, Frame, Hub, Id, Lane, Link, LinkOptions, Memory, Peer, Place, RECORD_MAX,
};

thread_local! {
    /// How often any history was looked at.
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// A history's memory that counts.
struct Counted(Box<[u8]>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        LOOKS.set(LOOKS.get() + 1);
        &self.0
    }
}

impl AsMut<[u8]> for Counted {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

struct Counting;

impl Memory for Counting {
    type Blocks = Counted;
    type Slots = HeapSlots;
    type Peers = HeapTable<Peer>;
    type Lanes = HeapTable<Lane>;
    type FilterUses = HeapTable<FilterUse>;
}

fn hub(id: u64, history: usize) -> Vec<Hub<Counting>> {
    let memory = Counted(vec![0; history].into_boxed_slice());
    let mut hub = Hub::new("can0", id, memory, HeapSlots::with_room(1_000)).unwrap();
    hub.set_state(BusState::Up, None);
    vec![hub]
}

fn said(link: &mut Link, now: Instant, hubs: &mut [Hub<Counting>]) -> Vec<u8> {
    let (mut out, mut all) = (vec![0; RECORD_MAX], Vec::new());
    loop {
        let used = link.poll_transmit(now, hubs, &mut out);
        if used == 0 {
            return all;
        }
        all.extend_from_slice(&out[..used]);
    }
}

/// How often a board with so large a history looks at it while it handles the greeting of a PC that was there before, and
/// that missed all, half or nothing of what is in it.
fn looks(history: usize, missed: u64) -> u64 {
    let now = Instant::from_micros(1_000_000_000_000);
    let (mut board, mut pc) = (hub(7, history), hub(8, 64 * 1024));
    let place = Place { hub: 0, peer: pc[0].dial(now).unwrap() };
    let frames = history as u64 / 16;
    let mut made = 0_u64;
    let mut show = |board: &mut [Hub<Counting>], count: u64| {
        for _ in 0..count {
            let frame = Frame::data_frame(Id::Standard(1), &made.to_be_bytes()).unwrap();
            board[0].seen(&frame, now.as_micros() + made * 100, false);
            made += 1;
        }
    };
    let options = LinkOptions::default();
    let mut link = |board: &mut [Hub<Counting>], number| {
        let mut dialled = Link::dial(now, number, place, "can0", options).unwrap();
        let mut accepted = Link::accept(now, number + 1, options);
        let hello = said(&mut dialled, now, &mut pc);
        LOOKS.set(0);
        accepted.handle_input(now, &hello, board);
        let looks = LOOKS.get();
        assert!(accepted.is_live(), "{:?}", accepted.ended());
        // What it answers goes nowhere: the PC has had nothing, and its next greeting says so.
        said(&mut accepted, now, board);
        accepted.close(now, board, Ended::Closed);
        dialled.close(now, &mut pc, Ended::Closed);
        looks
    };
    show(&mut board, frames - missed.min(frames));
    link(&mut board, 1);
    show(&mut board, missed.min(frames));
    link(&mut board, 3)
}

#[test]
fn greeting_costs_no_walk_of_the_history() {
    for part in [1, 2, 16] {
        let small = looks(64 << 10, (64 << 10) / 16 / part);
        let large = looks(64 << 20, (64 << 20) / 16 / part);
        assert!(
            large < small.max(1) * 20,
            "a history a thousand times as large is looked at {large} times, not {small}"
        );
    }
}
