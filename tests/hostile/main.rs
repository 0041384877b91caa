//! A peer that does not keep the rules ends its own link, and disturbs nobody else's. One test for
//! each rule, and for each fault found by the property tests.

#[path = "../field/memory.rs"]
mod memory;
#[path = "../field/talk.rs"]
mod talk;
mod ways;

use core::time::Duration;

use canspan::protocol::entry;
use canspan::protocol::time::Instant;
use canspan::protocol::wire::{BusState, Hello, Message, Refusal, Seen, Skip, preamble};
use canspan::protocol::{
    Ended, Frame, GREETING_TIMEOUT, Hub, Id, Link, LinkOptions, Outcome, Place, Policy, Progress,
    RECORD_MAX,
};
use memory::{Bounded, Heap};
use talk::{hello, record};

const NOW: Instant = Instant::from_micros(9_000_000);
const WINDOW: u32 = 8;

/// A hub with room for the windows of so many peers, whose bus takes nothing.
fn hubs(peers: usize) -> [Hub<Heap>; 1] {
    let slots = Bounded::new(peers * WINDOW as usize);
    let mut hub: Hub<Heap> = Hub::new("can0", 5, vec![0; 64 * 4096], slots).unwrap();
    hub.set_policy(Policy { is_virtual: false, window: WINDOW, ..Policy::default() });
    hub.set_state(BusState::Up, None);
    [hub]
}

fn tell(link: &mut Link, hubs: &mut [Hub<Heap>], messages: &[Message<'_>]) {
    for message in messages {
        link.handle_input(NOW, &record(message), hubs);
    }
    drain(link, hubs);
}

fn drain(link: &mut Link, hubs: &mut [Hub<Heap>]) -> Vec<u8> {
    let mut out = [0; RECORD_MAX];
    let mut said = Vec::new();
    loop {
        let used = link.poll_transmit(NOW, hubs, &mut out);
        if used == 0 {
            return said;
        }
        said.extend(&out[..used]);
    }
}

/// A link somebody dialled, with both greetings said.
fn greeted(id: u32, hubs: &mut [Hub<Heap>], hello: Hello<'_>) -> Link {
    let mut link = Link::accept(NOW, id, LinkOptions::default());
    link.handle_input(NOW, &preamble(), hubs);
    tell(&mut link, hubs, &[Message::Hello(hello)]);
    link
}

fn frames(count: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..count {
        let mut entry = [0; entry::ENTRY_MAX];
        let frame = Frame::data_frame(Id::Standard(1), &[number]).unwrap();
        let used = entry::encode(&frame, 1, &mut entry).unwrap();
        all.extend(&entry[..used]);
    }
    all
}

const START: Message<'_> = Message::Start(Progress { position: 0, frames: 0, lost: 0, stale: 0 });
const BROKEN: Option<Ended> = Some(Ended::WeRefused(Refusal::PROTOCOL));

/// How the link ends after these messages from a peer that has greeted.
fn end_after(messages: &[Message<'_>]) -> Option<Ended> {
    let mut hubs = hubs(1);
    let mut link = greeted(1, &mut hubs, hello());
    tell(&mut link, &mut hubs, messages);
    link.ended()
}

#[test]
fn a_stream_starts_exactly_once() {
    let frames = frames(2);
    let batch = Message::Frames(&frames);
    let skip = Message::Skip(Skip { positions: 1, lost: 0, stale: 0 });
    assert_eq!(end_after(&[START, Message::Clock(0), batch, skip]), None);
    assert_eq!(end_after(&[Message::Clock(0), batch]), BROKEN);
    assert_eq!(end_after(&[skip]), BROKEN);
    assert_eq!(end_after(&[START, START]), BROKEN);
    assert_eq!(end_after(&[START, batch]), BROKEN, "no clock offset was said");
}

#[test]
fn frames_nobody_asked_for_are_refused() {
    let mut hubs = hubs(1);
    let options = LinkOptions { wants_frames: false, ..LinkOptions::default() };
    let mut link = Link::accept(NOW, 1, options);
    link.handle_input(NOW, &preamble(), &mut hubs);
    tell(&mut link, &mut hubs, &[Message::Hello(hello()), START]);
    assert_eq!(link.ended(), BROKEN);
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let start = |position, lost, stale| {
        end_after(&[Message::Start(Progress { position, frames: 0, lost, stale })])
    };
    assert_eq!(start(9, 5, 4), None);
    assert_eq!(start(9, 5, 5), BROKEN);
    assert_eq!(start(u64::MAX, u64::MAX, 1), BROKEN);
    let skip = |positions, lost, stale| {
        end_after(&[START, Message::Skip(Skip { positions, lost, stale })])
    };
    assert_eq!(skip(9, 5, 4), None);
    assert_eq!(skip(9, 5, 5), BROKEN);
    assert_eq!(skip(u64::MAX, u64::MAX, u64::MAX), BROKEN);
    let last = Message::Skip(Skip { positions: u64::MAX, lost: 0, stale: 0 });
    let frames = frames(1);
    let all = [START, Message::Clock(0), last, Message::Frames(&frames)];
    assert_eq!(end_after(&all[..3]), None);
    assert_eq!(end_after(&all), BROKEN);
}

#[test]
fn a_peer_that_claims_to_have_seen_what_never_was_gets_a_new_stream() {
    for number in [0, 1, 7, u64::MAX] {
        let mut hubs = hubs(1);
        let progress = Progress { position: 1, frames: number, lost: number, stale: number };
        let seen = Some(Seen { history: 5, progress, done: [number; 7] });
        hubs[0].seen(&Frame::data_frame(Id::Standard(1), &[]).unwrap(), 1, false);
        let link = greeted(1, &mut hubs, Hello { seen, ..hello() });
        assert!(link.is_live());
        let (_, status) = hubs[0].peers().next().unwrap();
        assert_eq!(status.sent.frames, 0);
    }
}

#[test]
fn greeting_drop_by_drop_takes_no_longer_than_the_limit() {
    let mut hubs = hubs(1);
    let mut link = Link::accept(NOW, 1, LinkOptions::default());
    let second = Duration::from_secs(1);
    let mut now = NOW;
    for byte in preamble().iter().take(5) {
        link.handle_input(now, &[*byte], &mut hubs);
        now = now + second;
    }
    assert!(link.poll_timeout(&hubs) <= Some(NOW + GREETING_TIMEOUT));
    link.handle_timeout(now, &mut hubs);
    assert_eq!(link.ended(), Some(Ended::NoGreeting));
}

#[test]
fn a_peer_that_begins_again_and_again_takes_no_room_from_others() {
    let mut hubs = hubs(2);
    let frames = frames(WINDOW as u8);
    let batch = [START, Message::Clock(0), Message::Frames(&frames)];
    for id in 1..20 {
        let mut bad = greeted(id, &mut hubs, Hello { history: 66, ..hello() });
        tell(&mut bad, &mut hubs, &batch);
        // Its stream is denied at the next greeting, what it sent waits for the bus.
        bad.close(NOW, &mut hubs, Ended::Closed);
    }
    let mut good = greeted(100, &mut hubs, hello());
    tell(&mut good, &mut hubs, &batch);
    assert_eq!(good.ended(), None);
}

#[test]
fn a_connection_that_takes_nothing_more_wakes_nobody_for_what_cannot_be_said() {
    let mut hubs = hubs(1);
    let mut link = greeted(1, &mut hubs, Hello { history: 66, ..hello() });
    tell(&mut link, &mut hubs, &[START, Message::Clock(0), Message::Frames(&frames(1))]);
    let frame = Frame::data_frame(Id::Standard(1), &[0]).unwrap();
    hubs[0].seen(&frame, 1, false);
    // What this returns is all the connection takes: it is not asked again.
    assert!(link.poll_transmit(NOW, &mut hubs, &mut [0; RECORD_MAX]) > 0);
    assert_eq!(hubs[0].offer(NOW, &mut [frame; 1]), 1);
    hubs[0].taken(NOW, 1);
    hubs[0].seen(&frame, 1, true);
    let later = NOW + Duration::from_millis(100);
    link.handle_timeout(later, &mut hubs);
    assert!(link.poll_timeout(&hubs).unwrap() > later);
    drain(&mut link, &mut hubs);
}

#[test]
fn whoever_sent_much_and_read_nothing_need_not_wait_for_news_to_get_the_rest() {
    let mut hubs = hubs(1_000);
    hubs[0].set_policy(Policy { window: 8_000, ..*hubs[0].policy() });
    let mut link = greeted(1, &mut hubs, Hello { history: 66, ..hello() });
    tell(&mut link, &mut hubs, &[START, Message::Clock(0)]);
    let frame = Frame::data_frame(Id::Standard(1), &[0]).unwrap();
    let mut out = [frame; 1];
    for _ in 0..6_000 {
        link.handle_input(NOW, &record(&Message::Frames(&frames(1))), &mut hubs);
        assert_eq!(hubs[0].offer(NOW, &mut out), 1);
        hubs[0].taken(NOW, 1);
        hubs[0].seen(&frame, 1, true);
    }
    hubs[0].seen(&frame, 1, false);
    link.handle_timeout(NOW, &mut hubs);
    drain(&mut link, &mut hubs);
    let mut looks = 0;
    while hubs[0].peer_status(0).unwrap().sent.frames == 0 {
        assert!(link.poll_timeout(&hubs).unwrap() <= NOW, "nothing tells when to look on");
        link.handle_timeout(NOW, &mut hubs);
        drain(&mut link, &mut hubs);
        looks += 1;
        assert!(looks < 10);
    }
}

#[test]
fn another_filter_for_the_same_history_is_refused_and_the_same_goes_on() {
    let mut hubs = hubs(1);
    let mut ask = |id, filter: Option<&'static str>, history| {
        let mut link = Link::accept(NOW, id, LinkOptions::default());
        link.handle_input(NOW, &preamble(), &mut hubs);
        let filter = filter.map(Message::Filter);
        let hello = Message::Hello(Hello { history, ..hello() });
        let messages: Vec<_> = filter.into_iter().chain([hello]).collect();
        tell(&mut link, &mut hubs, &messages);
        link.ended()
    };
    let broken = Some(Ended::WeRefused(Refusal::PROTOCOL));
    assert_eq!(ask(1, Some("123:7FF"), 77), None);
    assert_eq!(ask(2, Some("124:7FF"), 77), broken);
    assert_eq!(ask(3, None, 77), broken);
    assert_eq!(ask(4, Some("123:7FF,#0"), 77), None);
    assert_eq!(ask(5, Some("124:7FF"), 78), None);
}

#[test]
fn a_filter_is_given_once() {
    let mut hubs = hubs(1);
    let mut link = Link::accept(NOW, 1, LinkOptions::default());
    link.handle_input(NOW, &preamble(), &mut hubs);
    tell(&mut link, &mut hubs, &[Message::Filter("1:1"), Message::Filter("1:1")]);
    assert_eq!(link.ended(), Some(Ended::WeRefused(Refusal::PROTOCOL)));
}

#[test]
fn a_greeting_from_our_own_bus_is_refused_on_both_sides() {
    let is_loop = Some(Ended::WeRefused(Refusal::LOOP));
    let own = Hello { bus_id: 0xB05, ..hello() };
    let mut hubs = hubs(2);
    hubs[0].set_bus_id(0xB05);
    let accepted = greeted(1, &mut hubs, own);
    assert_eq!(accepted.ended(), is_loop);
    let place = Place { hub: 0, peer: hubs[0].dial(NOW).unwrap() };
    let mut dialled = Link::dial(NOW, 2, place, "can0", LinkOptions::default()).unwrap();
    dialled.handle_input(NOW, &preamble(), &mut hubs);
    tell(&mut dialled, &mut hubs, &[Message::Hello(own)]);
    assert_eq!(dialled.ended(), is_loop);
    assert!(!dialled.was_live());
    assert!(greeted(3, &mut hubs, hello()).is_live(), "another bus is welcome");
}

/// All a peer says at once: greeting, start, and so many batches of one frame.
fn opening(batches: u8) -> Vec<u8> {
    let mut all = preamble().to_vec();
    for message in [Message::Hello(hello()), START, Message::Clock(0)] {
        all.extend(record(&message));
    }
    for _ in 0..batches {
        all.extend(record(&Message::Frames(&frames(1))));
    }
    all
}

fn holding(id: u32) -> Link {
    Link::accept(NOW, id, LinkOptions { holds: true, ..LinkOptions::default() })
}

#[test]
fn on_hold_nothing_is_handled_or_sent_but_greetings() {
    let all = opening(3);
    // However the bytes are cut, what follows the greeting waits, in the link or with its owner.
    for cut in 0..=all.len() {
        let mut hubs = hubs(1);
        hubs[0].seen(&Frame::data_frame(Id::Standard(9), &[]).unwrap(), 1, false);
        let mut link = holding(1);
        let mut rest = Vec::new();
        for part in [&all[..cut], &all[cut..]] {
            let used = link.handle_input(NOW, part, &mut hubs);
            rest.extend(&part[used..]);
        }
        assert_eq!(link.on_hold(), Some(78), "cut at {cut}");
        assert!(!link.was_live());
        assert!(link.poll_event().is_none());
        assert!(!hubs[0].is_busy(), "cut at {cut}");
        assert_eq!(link.handle_input(NOW, &rest, &mut hubs), 0);
        let said = drain(&mut link, &mut hubs);
        assert!(said.len() > preamble().len(), "the greeting is said");
        assert_eq!(hubs[0].peer_status(0).unwrap().sent.frames, 0);

        link.release(NOW, &hubs);
        assert_eq!(link.on_hold(), None);
        assert!(link.poll_event().is_some());
        // With nothing new it looks at what it had.
        assert_eq!(link.handle_input(NOW, &[], &mut hubs), 0);
        assert_eq!(link.handle_input(NOW, &rest, &mut hubs), rest.len());
        assert_eq!(link.ended(), None);
        assert_eq!(hubs[0].peer_status(0).unwrap().received.frames, 3, "cut at {cut}");
        drain(&mut link, &mut hubs);
        assert_eq!(hubs[0].peer_status(0).unwrap().sent.frames, 1);
    }
}

#[test]
fn a_link_refused_on_hold_says_why_and_sends_no_frame() {
    let mut hubs = hubs(1);
    let mut link = holding(1);
    link.handle_input(NOW, &opening(1), &mut hubs);
    link.close(NOW, &mut hubs, Ended::WeRefused(Refusal::LOOP));
    assert_eq!(link.on_hold(), None);
    assert!(!link.was_live());
    link.release(NOW, &hubs);
    assert_eq!(link.handle_input(NOW, &record(&Message::Frames(&frames(1))), &mut hubs), 0);
    assert!(!hubs[0].is_busy());
    let said = drain(&mut link, &mut hubs);
    let refusal = record(&Message::Refuse(Refusal::LOOP));
    assert!(said.windows(refusal.len()).any(|part| part == refusal));
    assert!(hubs[0].peer_status(0).unwrap().link.is_none());
}

#[test]
fn a_held_link_that_is_never_released_ends_in_time_and_wakes_nobody_before() {
    let mut hubs = hubs(1);
    let mut link = holding(1);
    link.handle_input(NOW, &opening(0), &mut hubs);
    drain(&mut link, &mut hubs);
    let at = link.poll_timeout(&hubs).unwrap();
    assert_eq!(at, NOW + Duration::from_secs(3));
    link.handle_timeout(at, &mut hubs);
    assert_eq!(link.ended(), Some(Ended::Silent));
}

#[test]
fn a_frame_from_before_our_clock_began_is_old_and_not_new() {
    let mut hubs = hubs(1);
    hubs[0].set_policy(Policy { max_age: Some(Duration::from_millis(500)), ..*hubs[0].policy() });
    // The peer runs for days, we for nine seconds; its frame is a minute old.
    let theirs = 900_000_000_000;
    let mut link = greeted(1, &mut hubs, Hello { clock_us: theirs, ..hello() });
    let frame = Frame::data_frame(Id::Standard(1), &[0]).unwrap();
    let mut entry = [0; entry::ENTRY_MAX];
    let used = entry::encode(&frame, theirs - 60_000_000, &mut entry).unwrap();
    tell(&mut link, &mut hubs, &[START, Message::Clock(0), Message::Frames(&entry[..used])]);
    assert_eq!(link.ended(), None);
    assert_eq!(hubs[0].offer(NOW, &mut [frame; 1]), 0, "a command of a minute ago");
    assert_eq!(hubs[0].peer_status(0).unwrap().received.of(Outcome::Stale), 1);
}

#[test]
fn names_of_buses_that_are_swapped_are_those_that_peers_use() {
    let hub = |name: &str, alias: &str, id| {
        let mut hub: Hub<Heap> = Hub::new(name, id, vec![0; 8 * 4096], Bounded::new(8)).unwrap();
        hub.set_alias(alias);
        hub
    };
    let mut hubs = [hub("can1", "can0", 5), hub("can0", "can1", 6), hub("can2", "can7", 7)];
    for (bus, expected) in [("can0", 0), ("can1", 1), ("can7", 2), ("can2", 2)] {
        let mut link = Link::accept(NOW, 1, LinkOptions::default());
        link.handle_input(NOW, &preamble(), &mut hubs);
        let hello = Hello { bus, ..hello() };
        link.handle_input(NOW, &record(&Message::Hello(hello)), &mut hubs);
        assert_eq!(link.place().map(|place| place.hub), Some(expected), "{bus}");
    }
}
