//! A link that closes a ring and waits for the other way to go: whatever it is refused or cut, no frame comes twice, and
//! what it had not carried is counted.

use canspan::protocol::wire::{Probe, Refusal};
use canspan::protocol::{Ended, Link, LinkOptions, Outcome};

use crate::ends::{BOARD, Ends, PC, Rig};

const RING: Ended = Ended::WeRefused(Refusal::RING);

impl Rig {
    /// Each bus shows so many frames of its own.
    pub(crate) fn show_on_both(&mut self, count: u64) {
        (0..count).for_each(|_| self.show(&[BOARD, PC]));
    }

    /// A link that carried ten frames each way and was cut.
    pub(crate) fn carried_ten() -> Self {
        let mut rig = Self::new(LinkOptions::default());
        let mut first = rig.dial();
        rig.run(&mut first, 300);
        rig.show_on_both(10);
        rig.run(&mut first, 300);
        rig.cut(&mut first);
        rig
    }

    /// From now on there is, or is not, another way between the two buses.
    fn other_way(&mut self, is_there: bool) {
        self.hubs[PC][0].set_siblings(is_there);
    }

    /// A link that waits to see whether there is another way.
    pub(crate) fn waiting(&mut self) -> Ends {
        self.other_way(true);
        let mut ends = self.dial();
        self.run(&mut ends, 5);
        assert!(ends[PC].is_waiting() && ends[BOARD].is_live());
        ends
    }

    /// The PC refuses a link, since its probe came back over the other way.
    pub(crate) fn refuse(&mut self, ends: &mut Ends) {
        let now = self.now;
        ends[PC].close(now, &mut self.hubs[PC], RING);
        self.run(ends, 3);
        assert_eq!(ends[BOARD].ended(), Some(Ended::Refused(Refusal::RING)));
    }

    /// Of a link that was dialled: its first probe, and what the board said after its greeting, which the PC has not taken.
    fn probe_of(&mut self, ends: &mut Ends) -> (Probe, Vec<u8>) {
        let mut cursor = 0;
        while self.hubs[BOARD][0].next_probe(&mut cursor, None).is_some() {}
        let answer = self.answer(PC, ends);
        let used = ends[PC].handle_input(self.now, &answer, &mut self.hubs[PC]);
        assert!(ends[PC].is_waiting());
        self.tell(PC, ends);
        let probe = self.hubs[BOARD][0].next_probe(&mut cursor, None).expect("no probe");
        (probe, answer[used..].to_vec())
    }

    /// There is no other way any more: the next link carries ten frames each way, and none of those before.
    fn ends_with_ten_more(&mut self) {
        self.other_way(false);
        let mut last = self.dial();
        self.run(&mut last, 300);
        let from = self.made;
        self.show_on_both(10);
        self.run(&mut last, 300);
        for shown in &self.shown {
            assert_eq!(*shown, (0..10).chain(from..from + 10).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_a_link_had_not_carried_when_it_was_refused_as_a_rings_is_counted_once() {
    let mut rig = Rig::carried_ten();
    // Nobody can tell which of these another way carried.
    rig.show_on_both(5);
    for _ in 0..4 {
        let mut ends = rig.waiting();
        rig.show_on_both(3);
        rig.run(&mut ends, 5);
        rig.refuse(&mut ends);
        for sent in [PC, BOARD].map(|side| rig.sent(side)) {
            assert_eq!((sent.frames, sent.of(Outcome::Sent)), (15, 10), "{sent:?}");
            assert_eq!((sent.of(Outcome::Unconfirmed), sent.lost), (5, 0), "{sent:?}");
        }
        // The other way carries these.
        rig.show_on_both(7);
    }
    rig.ends_with_ten_more();
    for sent in [PC, BOARD].map(|side| rig.sent(side)) {
        assert_eq!((sent.frames, sent.accounted()), (25, 25), "{sent:?}");
    }
}

#[test]
fn a_link_that_is_cut_while_it_waits_for_another_way_to_go_doubles_nothing() {
    let mut rig = Rig::carried_ten();
    let mut ends = rig.waiting();
    rig.refuse(&mut ends);
    let mut cut = rig.waiting();
    // The other way carries these, too.
    rig.show_on_both(4);
    rig.run(&mut cut, 5);
    assert!(cut[PC].is_waiting());
    rig.cut(&mut cut);
    rig.ends_with_ten_more();
}

#[test]
fn a_history_that_runs_over_while_another_way_carries_it_loses_nothing() {
    let mut rig = Rig::carried_ten();
    let mut ends = rig.waiting();
    rig.refuse(&mut ends);
    rig.show_on_both(20_000);
    for sent in [PC, BOARD].map(|side| rig.sent(side)) {
        assert_eq!((sent.frames, sent.accounted()), (10, 10), "{sent:?}");
    }
}

#[test]
fn a_backlog_that_the_history_drops_while_a_link_waits_is_counted_all_the_same() {
    for backlog in [5, 20_000] {
        let mut rig = Rig::carried_ten();
        rig.show_on_both(backlog);
        let mut ends = rig.waiting();
        for _ in 0..150 {
            rig.show_on_both(40);
            rig.run(&mut ends, 1);
        }
        rig.refuse(&mut ends);
        for sent in [PC, BOARD].map(|side| rig.sent(side)) {
            assert_eq!(sent.lost + sent.of(Outcome::Unconfirmed), backlog, "{sent:?}");
        }
    }
}

#[test]
fn what_a_restarted_board_had_not_been_sent_is_counted_when_its_link_is_refused() {
    let mut rig = Rig::carried_ten();
    rig.restart_board();
    (0..5).for_each(|_| rig.show(&[PC]));
    let mut ends = rig.waiting();
    rig.refuse(&mut ends);
    let sent = rig.sent(PC);
    assert_eq!((sent.frames, sent.of(Outcome::Unconfirmed) + sent.lost), (15, 5), "{sent:?}");
}

#[test]
fn a_probe_that_comes_back_when_the_wait_is_over_ends_the_link_before_a_frame_runs() {
    let mut rig = Rig::carried_ten();
    (0..5).for_each(|_| rig.show(&[BOARD]));
    rig.other_way(true);
    let mut ends = rig.dial();
    let (probe, kept) = rig.probe_of(&mut ends);
    // The process is stopped; then it reads what has come, and looks at the clock.
    rig.later(300);
    rig.hubs[PC][0].probed_by_sibling(rig.now, probe);
    ends[PC].handle_timeout(rig.now, &mut rig.hubs[PC]);
    rig.hear(PC, &mut ends[PC], &kept);
    rig.take(PC);
    assert_eq!(ends[PC].ended(), Some(RING));
    assert_eq!(rig.shown[PC].len(), 10);
}

#[test]
fn frames_sent_over_a_link_whose_answer_is_still_under_way_are_not_taken_back() {
    let mut rig = Rig::carried_ten();
    rig.other_way(true);
    let mut ends = rig.dial();
    let (probe, _) = rig.probe_of(&mut ends);
    rig.later(201);
    rig.tell(PC, &mut ends);
    (0..5).for_each(|_| rig.show(&[PC]));
    rig.tell(PC, &mut ends);
    rig.take(BOARD);
    assert_eq!(rig.shown[BOARD].len(), 15);
    // Too late.
    rig.later(100);
    rig.hubs[PC][0].probed_by_sibling(rig.now, probe);
    rig.tell(PC, &mut ends);
    assert_eq!(ends[PC].ended(), Some(RING));
    let (_, there) = rig.hubs[BOARD][0].peers().next().unwrap();
    assert_eq!(rig.sent(PC).frames, there.received.frames);
}

#[test]
fn a_refusal_that_never_arrives_doubles_nothing() {
    let mut rig = Rig::carried_ten();
    let mut ends = rig.waiting();
    ends[PC].close(rig.now, &mut rig.hubs[PC], RING);
    rig.said(PC, &mut ends[PC]);
    rig.cut(&mut ends);
    // The other way carries these.
    rig.show_on_both(7);
    rig.other_way(false);
    let mut told = rig.dial();
    rig.run(&mut told, 300);
    assert_eq!(told[PC].ended(), Some(RING), "whoever was not told is told now");
    rig.ends_with_ten_more();
}

#[test]
fn an_account_of_an_older_stream_is_not_taken_for_that_of_the_new_one() {
    let mut rig = Rig::carried_ten();
    let mut ends = rig.waiting();
    rig.refuse(&mut ends);
    rig.show_on_both(7);
    rig.other_way(false);
    // Nothing that the PC says after its greeting arrives, until its history has run over.
    let mut ends = rig.dial();
    rig.greet(PC, &mut ends);
    for number in 0..20_000 {
        rig.show(&[PC]);
        if number % 100 == 0 {
            rig.said(PC, &mut ends[PC]);
        }
    }
    rig.cut(&mut ends);
    let mut last = rig.dial();
    rig.run(&mut last, 300);
    rig.cut(&mut last);
    assert_eq!(rig.sent(PC).of(Outcome::Sent), rig.shown[BOARD].len() as u64);
}

#[test]
fn who_wants_no_frames_goes_on_after_a_refusal() {
    let mut rig = Rig::new(LinkOptions { wants_frames: false, ..LinkOptions::default() });
    let dial = |rig: &mut Rig| {
        let ends = rig.dial();
        let [_, dialler] = ends;
        [Link::accept(rig.now, dialler.id() + 1, LinkOptions::default()), dialler]
    };
    let carry_ten = |rig: &mut Rig, ends: &mut Ends| {
        rig.run(ends, 50);
        (0..10).for_each(|_| rig.show(&[PC]));
        rig.run(ends, 50);
    };
    let mut first = dial(&mut rig);
    carry_ten(&mut rig, &mut first);
    first[BOARD].close(rig.now, &mut rig.hubs[BOARD], Ended::WeRefused(Refusal::LOOP));
    rig.run(&mut first, 5);
    let mut second = dial(&mut rig);
    carry_ten(&mut rig, &mut second);
    rig.cut(&mut second);
    (0..5).for_each(|_| rig.show(&[PC]));
    let mut third = dial(&mut rig);
    rig.run(&mut third, 50);
    let sent = rig.sent(PC);
    assert_eq!((sent.frames, sent.accounted()), (25, 25), "{sent:?}");
}

#[test]
fn a_link_that_waits_for_another_way_to_go_is_not_behind() {
    let mut rig = Rig::carried_ten();
    let mut ends = rig.waiting();
    rig.refuse(&mut ends);
    rig.show_on_both(7);
    for hubs in &rig.hubs {
        assert_eq!(hubs[0].peers().next().unwrap().1.behind, 0);
    }
}
