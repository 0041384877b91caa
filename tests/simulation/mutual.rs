//! A board and a PC that dial each other: one link carries, then another; no frame comes twice or goes back, and each is
//! in one counter.

use canspan::protocol::wire::Refusal;
use canspan::protocol::{Ended, Link, LinkOptions, Place};

use crate::ends::{BOARD, Ends, PC, Rig};

/// The board dials the PC, too.
fn dialling(rig: &mut Rig) -> Place {
    Place { hub: 0, peer: rig.hubs[BOARD][0].dial(rig.now).unwrap() }
}

/// The PC's dial carried ten frames each way and was cut; now the board's dial is up.
fn dialled_back() -> (Rig, Place, Ends) {
    let mut rig = Rig::carried_ten();
    let place = dialling(&mut rig);
    let mut back = rig.dial_back(place);
    rig.run(&mut back, 300);
    (rig, place, back)
}

#[test]
fn what_came_over_one_link_is_not_sent_back_over_the_other() {
    let mut rig = Rig::carried_ten();
    let place = dialling(&mut rig);
    let mut ends = rig.dial();
    rig.run(&mut ends, 300);
    // The PC's bus is slow: the five still wait when the board has dialled.
    (0..5).for_each(|_| rig.show(&[BOARD]));
    rig.tell(BOARD, &mut ends);
    rig.cut(&mut ends);
    let mut back = rig.dial_back(place);
    rig.greet(BOARD, &mut back);
    rig.run(&mut back, 300);
    assert_eq!(rig.shown[PC].len(), 15);
    assert_eq!(rig.shown[BOARD].len(), 10, "its own frames came back: {:?}", rig.shown[BOARD]);
    assert_eq!(rig.sent(PC).frames, 10);
}

#[test]
fn what_came_from_the_peer_itself_is_not_lost_on_the_way_to_it() {
    let (mut rig, place, mut back) = dialled_back();
    (0..5).for_each(|_| rig.show(&[BOARD]));
    rig.tell(BOARD, &mut back);
    rig.cut(&mut back);
    rig.later(100);
    let mut ends = rig.dial();
    rig.greet(PC, &mut ends);
    rig.cut(&mut ends);
    // Now their echoes come, and the board dials.
    rig.take(PC);
    let mut back = rig.dial_back(place);
    rig.run(&mut back, 300);
    assert_eq!(rig.sent(PC).lost, 0);
}

#[test]
fn what_a_third_way_carried_is_not_lost_when_the_other_dial_takes_over() {
    let mut rig = Rig::carried_ten();
    let place = dialling(&mut rig);
    let mut ends = rig.waiting();
    rig.refuse(&mut ends);
    rig.show_on_both(7);
    rig.hubs[PC][0].set_siblings(false);
    let mut back = rig.dial_back(place);
    rig.run(&mut back, 300);
    assert!(back.iter().all(Link::is_live));
    assert_eq!([BOARD, PC].map(|side| rig.sent(side).lost), [0, 0]);
}

#[test]
fn a_link_that_gave_way_and_is_refused_then_counts_nothing_twice() {
    let mut rig = Rig::new(LinkOptions::default());
    let place = dialling(&mut rig);
    let mut back = rig.dial_back(place);
    rig.run(&mut back, 300);
    rig.show_on_both(10);
    rig.run(&mut back, 300);
    rig.cut(&mut back);
    // The board waits, and refuses; that is under way when the PC's dial comes up.
    rig.hubs[BOARD][0].set_siblings(true);
    let mut back = rig.dial_back(place);
    rig.run(&mut back, 5);
    assert!(back[BOARD].is_waiting() && back[PC].is_live());
    back[BOARD].close(rig.now, &mut rig.hubs[BOARD], Ended::WeRefused(Refusal::RING));
    let refusal = rig.said(BOARD, &mut back[BOARD]);
    rig.hubs[BOARD][0].set_siblings(false);
    let mut ends = rig.dial();
    rig.greet(PC, &mut ends);
    let before = rig.sent(PC);
    rig.hear(PC, &mut back[PC], &refusal);
    assert_eq!(rig.sent(PC), before);
}

#[test]
fn frames_seen_while_one_link_gives_way_to_the_other_are_counted() {
    let (mut rig, _, mut back) = dialled_back();
    rig.show_on_both(10);
    rig.run(&mut back, 300);
    rig.cut(&mut back);
    rig.later(100);
    // Of what the board answers only its preamble and greeting arrive.
    let mut ends = rig.dial();
    let answer = rig.answer(PC, &mut ends);
    let greeting = 11 + 1 + usize::from(answer[11]);
    rig.hear(PC, &mut ends[PC], &answer[..greeting]);
    assert!(ends[PC].is_live());
    rig.said(PC, &mut ends[PC]);
    rig.later(100);
    rig.cut(&mut ends);
    rig.show_on_both(5);
    rig.later(100);
    let mut ends = rig.dial();
    rig.run(&mut ends, 300);
    for sent in [BOARD, PC].map(|side| rig.sent(side)) {
        assert_eq!(sent.frames + sent.lost, 25, "{sent:?}");
    }
}

#[test]
fn what_a_restarted_peer_got_over_its_own_dial_is_not_counted_for_ours_too() {
    let mut rig = Rig::carried_ten();
    rig.restart_board();
    let place = dialling(&mut rig);
    let mut back = rig.dial_back(place);
    rig.run(&mut back, 300);
    (0..20).for_each(|_| rig.show(&[PC]));
    rig.run(&mut back, 300);
    assert_eq!(rig.shown[BOARD].len(), 30);
    let mut ends = rig.dial();
    rig.run(&mut ends, 5);
    let sent = rig.sent(PC);
    assert_eq!(sent.frames + sent.lost, 30, "{sent:?}");
}
