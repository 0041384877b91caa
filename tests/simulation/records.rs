//! A board that forgets a PC: it gives the record away to others while the PC is gone.

use canspan::gateway::Heap;
use canspan::protocol::wire::BusState;
use canspan::protocol::{Ended, Frame, Hub, Id, Link, LinkOptions, Outcome, PEERS_MAX, Place};

use crate::ends::{BOARD, PC, Rig};

/// As many as a board remembers.
const STRANGERS: u64 = PEERS_MAX as u64;

/// Somebody else greets the board, brings some frames, and leaves.
fn stranger(rig: &mut Rig, id: u64, frames: u64) {
    let memory = vec![0; 8 * 1024].into_boxed_slice();
    let slots = canspan::gateway::HeapSlots::with_room(1_000);
    let mut hubs: Vec<Hub<Heap>> = vec![Hub::new("can0", id, memory, slots).unwrap()];
    hubs[0].set_state(BusState::Up, None);
    let place = Place { hub: 0, peer: hubs[0].dial(rig.now).unwrap() };
    let number = 1_000_000 + 2 * id as u32;
    let mut dialled = Link::dial(rig.now, number, place, "can0", rig.options).unwrap();
    let mut accepted = Link::accept(rig.now, number + 1, rig.options);
    let frame = Frame::data_frame(Id::Standard(2), &u64::MAX.to_be_bytes()).unwrap();
    (0..frames).for_each(|_| hubs[0].seen(&frame, rig.now.as_micros(), false));
    let mut out = vec![0; 2 * canspan::protocol::RECORD_MAX];
    for _ in 0..4 {
        while let used @ 1.. = dialled.poll_transmit(rig.now, &mut hubs, &mut out) {
            rig.hear(BOARD, &mut accepted, &out[..used]);
        }
        rig.take(BOARD);
        let said = rig.said(BOARD, &mut accepted);
        dialled.handle_input(rig.now, &said, &mut hubs);
    }
    assert!(accepted.is_live(), "{:?}", accepted.ended());
    accepted.close(rig.now, &mut rig.hubs[BOARD], Ended::Closed);
    rig.later(10);
}

/// Five commands of the PC, of which the board's bus has so many when the link is cut, before a receipt; then as many
/// strangers come as the board remembers, with so many frames each, and the PC comes back.
fn come_back(arrive: bool, frames: u64) -> Rig {
    let mut rig = Rig::new(LinkOptions::default());
    let mut ends = rig.dial();
    rig.run(&mut ends, 300);
    (0..5).for_each(|_| rig.show(&[PC]));
    let said = rig.said(PC, &mut ends[PC]);
    if arrive {
        rig.hear(BOARD, &mut ends[BOARD], &said);
        rig.take(BOARD);
        rig.later(30);
        // The receipt goes nowhere.
        rig.said(BOARD, &mut ends[BOARD]);
    }
    rig.cut(&mut ends);
    rig.later(10);
    (0..STRANGERS).for_each(|number| stranger(&mut rig, 100 + number, frames));
    let mut ends = rig.dial();
    rig.run(&mut ends, 2_000);
    assert!(ends.iter().all(Link::is_live));
    rig
}

fn on_the_bus(rig: &Rig) -> usize {
    rig.shown[BOARD].iter().filter(|number| **number != u64::MAX).count()
}

#[test]
fn commands_run_once_though_the_board_forgot() {
    for arrive in [true, false] {
        let rig = come_back(arrive, 1);
        let sent = rig.sent(PC);
        assert_eq!(on_the_bus(&rig), if arrive { 5 } else { 0 }, "{sent:?}");
        assert_eq!((sent.of(Outcome::Unconfirmed), sent.accounted()), (5, 5), "{sent:?}");
    }
}

#[test]
fn strangers_without_frames_are_forgotten_first() {
    let rig = come_back(true, 0);
    let sent = rig.sent(PC);
    assert_eq!(on_the_bus(&rig), 5, "{sent:?}");
    assert_eq!((sent.of(Outcome::Sent), sent.accounted()), (5, 5), "{sent:?}");
}

#[test]
fn forgotten_peer_goes_on_with_new_commands() {
    let mut rig = come_back(true, 1);
    let mut ends = rig.dial();
    (0..10).for_each(|_| rig.show(&[PC]));
    rig.run(&mut ends, 2_000);
    let sent = rig.sent(PC);
    assert_eq!(on_the_bus(&rig), 15, "{sent:?}");
    assert_eq!((sent.of(Outcome::Sent), sent.of(Outcome::Unconfirmed)), (10, 5), "{sent:?}");
}
