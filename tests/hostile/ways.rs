//! Peers that more than one way leads to, and the probes that find rings.

use core::time::Duration;

use canspan::protocol::wire::{Hello, Message, Probe, Refusal, preamble};
use canspan::protocol::{Ended, Frame, Hub, Id, Link, LinkOptions, Place};

use crate::memory::Heap;
use crate::talk::{hello, record};
use crate::{BROKEN, NOW, START, drain, frames, greeted, hubs, tell};

#[test]
fn two_processes_that_dial_each_other_are_no_ring() {
    for accepted_first in [false, true] {
        let mut hubs = hubs(2);
        let place = Place { hub: 0, peer: hubs[0].dial(NOW).unwrap() };
        let mut ours = Link::dial(NOW, 1, place, "can0", LinkOptions::default()).unwrap();
        let answer = |ours: &mut Link, hubs: &mut [Hub<Heap>]| {
            ours.handle_input(NOW, &preamble(), hubs);
            tell(ours, hubs, &[Message::Hello(hello())]);
        };
        if !accepted_first {
            answer(&mut ours, &mut hubs);
        }
        let mut theirs = greeted(2, &mut hubs, hello());
        if accepted_first {
            answer(&mut ours, &mut hubs);
            drain(&mut theirs, &mut hubs);
        }
        assert!(ours.is_live());
        assert!(theirs.ended().is_some());
    }
}

/// A link we dial for this peer of the first hub, with both greetings said.
fn dialled(id: u32, hubs: &mut [Hub<Heap>], peer: usize, answer: Hello<'_>, every: u64) -> Link {
    let heartbeat = Duration::from_millis(every);
    let options = LinkOptions { heartbeat, ..LinkOptions::default() };
    let mut link = Link::dial(NOW, id, Place { hub: 0, peer }, "can0", options).unwrap();
    drain(&mut link, hubs);
    link.handle_input(NOW, &preamble(), hubs);
    tell(&mut link, hubs, &[Message::Hello(answer)]);
    link
}

#[test]
fn a_peer_dialled_by_two_names_is_joined_once_and_sent_nothing_twice() {
    let mut hubs = hubs(2);
    let frame = Frame::data_frame(Id::Standard(1), &[0]).unwrap();
    let names = [hubs[0].dial(NOW).unwrap(), hubs[0].dial(NOW).unwrap()];
    let mut first = dialled(1, &mut hubs, names[0], hello(), 1_000);
    hubs[0].seen(&frame, 1, false);
    drain(&mut first, &mut hubs);
    assert_eq!(hubs[0].peer_status(names[0]).unwrap().sent.frames, 1);
    let second = dialled(2, &mut hubs, names[1], hello(), 1_000);
    assert_eq!(second.ended(), Some(Ended::WeRefused(Refusal::LOOP)));
    assert!(first.is_live());
    assert!(hubs[0].is_linked_by_another_name(names[1]));
    assert!(!hubs[0].is_linked_by_another_name(names[0]));
    // It takes over, repeats nothing, and says what neither has carried.
    hubs[0].seen(&frame, 2, false);
    hubs[0].seen(&frame, 3, false);
    first.close(NOW, &mut hubs, Ended::Closed);
    assert!(!hubs[0].is_linked_by_another_name(names[1]));
    let third = dialled(3, &mut hubs, names[1], hello(), 1_000);
    assert!(third.is_live());
    let sent = hubs[0].peer_status(names[1]).unwrap().sent;
    assert_eq!((sent.frames, sent.lost), (0, 2));
    assert!(hubs[0].is_linked_by_another_name(names[0]));
}

#[test]
fn whoever_takes_over_repeats_nothing_of_what_the_other_link_carried() {
    let mut hubs = hubs(1);
    let frame = Frame::data_frame(Id::Standard(1), &[0]).unwrap();
    let place = Place { hub: 0, peer: hubs[0].dial(NOW).unwrap() };
    let answer = [preamble().to_vec(), record(&Message::Hello(hello()))].concat();
    let options = LinkOptions { holds: true, ..LinkOptions::default() };
    for id in 1..4 {
        let mut link = Link::dial(NOW, id, place, "can0", options).unwrap();
        link.handle_input(NOW, &answer, &mut hubs);
        link.close(NOW, &mut hubs, Ended::WeRefused(Refusal::LOOP));
        drain(&mut link, &mut hubs);
        hubs[0].seen(&frame, 1, false);
    }
    let mut link = Link::dial(NOW, 9, place, "can0", options).unwrap();
    link.handle_input(NOW, &answer, &mut hubs);
    link.release(NOW, &hubs);
    drain(&mut link, &mut hubs);
    assert_eq!(hubs[0].peer_status(place.peer).unwrap().sent.frames, 0);
    hubs[0].seen(&frame, 1, false);
    drain(&mut link, &mut hubs);
    let sent = hubs[0].peer_status(place.peer).unwrap().sent;
    assert_eq!((sent.frames, sent.lost), (1, 0));
}

#[test]
fn a_name_that_leads_to_another_machine_now_gets_what_the_first_one_sends() {
    let mut hubs = hubs(2);
    let place = Place { hub: 0, peer: hubs[0].dial(NOW).unwrap() };
    let dial = |id, hello, hubs: &mut [Hub<Heap>]| {
        let mut link = Link::dial(NOW, id, place, "can0", LinkOptions::default()).unwrap();
        drain(&mut link, hubs);
        link.handle_input(NOW, &preamble(), hubs);
        tell(&mut link, hubs, &[Message::Hello(hello), START]);
        link
    };
    dial(1, hello(), &mut hubs).close(NOW, &mut hubs, Ended::Closed);
    // The same peer dials us; and the name is another one's.
    let mut first = greeted(2, &mut hubs, hello());
    let mut second = dial(3, Hello { history: 90, bus_id: 91, ..hello() }, &mut hubs);
    tell(&mut first, &mut hubs, &[START, Message::Clock(0), Message::Frames(&frames(1))]);
    let mut out = [Frame::EMPTY; 1];
    assert_eq!(hubs[0].offer(NOW, &mut out), 1);
    hubs[0].taken(NOW, 1);
    hubs[0].seen(&out[0], 1, true);
    drain(&mut second, &mut hubs);
    assert_eq!((first.ended(), second.ended()), (None, None));
    assert_eq!(hubs[0].peer_status(place.peer).unwrap().sent.frames, 1);
}

#[test]
fn another_filter_on_a_link_we_dial_does_not_disturb_the_one_the_peer_dialled() {
    let mut hubs = hubs(3);
    let frame = Frame::data_frame(Id::Standard(1), &[0]).unwrap();
    let place = Place { hub: 0, peer: hubs[0].dial(NOW).unwrap() };
    let dial = |id, messages: &[Message<'_>], hubs: &mut [Hub<Heap>]| {
        let mut ours = Link::dial(NOW, id, place, "can0", LinkOptions::default()).unwrap();
        drain(&mut ours, hubs);
        ours.handle_input(NOW, &preamble(), hubs);
        tell(&mut ours, hubs, messages);
        ours
    };
    let mut ours = dial(1, &[Message::Filter("1:1"), Message::Hello(hello()), START], &mut hubs);
    ours.close(NOW, &mut hubs, Ended::Closed);
    let mut theirs = greeted(2, &mut hubs, hello());
    tell(&mut theirs, &mut hubs, &[START]);
    (0..150).for_each(|_| hubs[0].seen(&frame, 1, false));
    drain(&mut theirs, &mut hubs);
    let ours = dial(3, &[Message::Hello(hello())], &mut hubs);
    assert_eq!(ours.ended(), BROKEN);
    tell(&mut theirs, &mut hubs, &[Message::Receipt(&[0, 100])]);
    assert_eq!(theirs.ended(), None);
}

#[test]
fn a_link_that_waits_for_its_probe_is_not_taken_for_dead() {
    // The peer gives us up after three heartbeats of 50 ms, and the wait is longer than that.
    let mut hubs = hubs(1);
    let other = Place { hub: 0, peer: hubs[0].dial(NOW).unwrap() };
    let answer = |history| {
        let greeting = Hello { features: 1, history, bus_id: history, ..hello() };
        [preamble().to_vec(), record(&Message::Hello(greeting))].concat()
    };
    let options = LinkOptions { heartbeat: Duration::from_millis(50), ..LinkOptions::default() };
    let mut first = Link::dial(NOW, 1, other, "can0", options).unwrap();
    first.handle_input(NOW, &answer(1_005), &mut hubs);
    let place = Place { hub: 0, peer: hubs[0].dial(NOW).unwrap() };
    let mut link = Link::dial(NOW, 2, place, "can0", options).unwrap();
    drain(&mut link, &mut hubs);
    link.handle_input(NOW, &answer(1_006), &mut hubs);
    assert_eq!((first.ended(), link.ended(), first.is_live()), (None, None, true));
    let (mut now, mut heard) = (NOW, NOW);
    let mut out = [0; 8192];
    while link.is_waiting() {
        if link.poll_transmit(now, &mut hubs, &mut out) > 0 {
            heard = now;
        }
        now = link.poll_timeout(&hubs).unwrap().max(now);
        assert!(now.since(heard) < Duration::from_millis(150), "silent until {now:?}");
        link.handle_timeout(now, &mut hubs);
    }
    assert_eq!(now.since(NOW), canspan::protocol::PROBE_WAIT);
    assert_eq!(link.ended(), None);
}

#[test]
fn a_probe_passes_no_more_links_than_the_protocol_says() {
    for (hops, expected) in [(0, None), (1, None), (2, Some(1)), (32, Some(31)), (255, Some(31))] {
        let mut hubs = hubs(1);
        hubs[0].probed(NOW, Probe { token: 9, youngest_us: 0, hops }, 1, None);
        let passed = hubs[0].next_probe(&mut 0, Some(2)).map(|probe| probe.hops);
        assert_eq!(passed, expected, "{hops}");
    }
}

#[test]
fn a_peer_that_floods_probes_keeps_no_others_from_passing() {
    let mut hubs = hubs(1);
    let mut bad = greeted(1, &mut hubs, Hello { history: 66, ..hello() });
    let mut good = greeted(2, &mut hubs, Hello { history: 67, ..hello() });
    let probe = |token| Message::Probe(Probe { token, youngest_us: 1, hops: 32 });
    let mut cursor = 0;
    let mut passed = |hubs: &mut [Hub<Heap>]| {
        core::iter::from_fn(|| hubs[0].next_probe(&mut cursor, None)).map(|p| p.token).collect()
    };
    let mut of_bad = Vec::new();
    for token in 1_000..2_000 {
        tell(&mut bad, &mut hubs, &[probe(token)]);
        let tokens: Vec<u64> = passed(&mut hubs);
        of_bad.extend(tokens);
    }
    assert_eq!(of_bad.len(), 64);
    tell(&mut good, &mut hubs, &[probe(7)]);
    assert_eq!(passed(&mut hubs), [7]);
    assert_eq!((bad.ended(), good.ended()), (None, None));
}

#[test]
fn a_peer_has_no_more_probes_for_coming_again_and_again() {
    let mut hubs = hubs(1);
    let (mut cursor, mut passed) = (0, 0);
    for id in 1..20 {
        let mut bad = greeted(id, &mut hubs, Hello { history: 66, ..hello() });
        for number in 0..64 {
            let token = u64::from(id) * 1_000 + number;
            tell(&mut bad, &mut hubs, &[Message::Probe(Probe { token, youngest_us: 1, hops: 32 })]);
            passed += core::iter::from_fn(|| hubs[0].next_probe(&mut cursor, None)).count();
        }
    }
    assert_eq!(passed, 64);
}
