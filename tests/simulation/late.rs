//! A greeting that was held up on its way and arrives after that of a newer link: a proxy that could not reach the board,
//! or TCP, which goes on sending what a client that has given up had said.

use canspan::protocol::wire::{From, Refusal};
use canspan::protocol::{Ended, Link, LinkOptions, Outcome};

use crate::ends::{BOARD, Ends, PC, Rig};

/// So many milliseconds, with a frame of the board's bus in each.
fn run_with_traffic(rig: &mut Rig, ends: &mut Ends, milliseconds: u64) {
    for _ in 0..milliseconds {
        rig.show(&[BOARD]);
        rig.run(ends, 1);
    }
}

/// A greeting of the PC's is held up until a newer link has carried frames; then that link ends, and the next one goes on.
fn with_a_late_greeting(before: u64, is_cut: bool) {
    let mut rig = Rig::new(LinkOptions { from: From::Oldest, ..LinkOptions::default() });
    let mut first = rig.dial();
    run_with_traffic(&mut rig, &mut first, before);
    rig.cut(&mut first);

    let mut late = rig.dial();
    let greeting = rig.said(PC, &mut late[PC]);
    late[PC].close(rig.now, &mut rig.hubs[PC], Ended::Closed);
    let mut newer = rig.dial();
    run_with_traffic(&mut rig, &mut newer, 500);
    if is_cut {
        rig.cut(&mut newer);
    }
    rig.hear(BOARD, &mut late[BOARD], &greeting);
    // What it is answered goes nowhere.
    rig.said(BOARD, &mut late[BOARD]);
    let answer = late[BOARD].ended();
    late[BOARD].close(rig.now, &mut rig.hubs[BOARD], Ended::Closed);

    if !is_cut {
        run_with_traffic(&mut rig, &mut newer, 100);
    }
    let ended = newer.each_ref().map(Link::ended);
    rig.cut(&mut newer);
    let mut last = rig.dial();
    run_with_traffic(&mut rig, &mut last, 100);
    rig.run(&mut last, 2_000);
    check(&rig);
    assert!(is_cut || ended == [None; 2], "the link that works was ended: {ended:?}");
    assert_eq!(answer, Some(Ended::WeRefused(Refusal::REPLACED)));
}

fn check(rig: &Rig) {
    for (number, shown) in (0..).zip(&rig.shown[PC]) {
        assert_eq!(*shown, number, "on the PC's bus, where {number} is the next");
    }
    assert_eq!(rig.shown[PC].len() as u64, rig.made);
    let received = rig.hubs[PC][0].peer_status(rig.place.peer).unwrap().received;
    let (_, there) = rig.hubs[BOARD][0].peers().next().unwrap();
    assert_eq!(there.sent, received, "the two ends' accounts differ");
    assert_eq!(received.of(Outcome::Sent), rig.made);
}

#[test]
fn a_greeting_that_arrives_after_a_newer_one_doubles_nothing_and_ends_no_link() {
    for is_cut in [false, true] {
        // It says that some frames were seen, or that none ever were.
        for before in [100, 0] {
            with_a_late_greeting(before, is_cut);
        }
    }
}
