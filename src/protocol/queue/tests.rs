use super::*;
use crate::protocol::frame::Id;

const NOW: Instant = Instant::from_micros(1_000_000);

fn frame(number: u8) -> Frame {
    Frame::data_frame(Id::Standard(1), &[number]).unwrap()
}

/// A real bus whose controller is error-active.
const REAL: Rules = Rules {
    max_age: None,
    handed_max: 16,
    is_virtual: false,
    one_shot: false,
    is_active: true,
    paced: false,
};
const PASSIVE: Rules = Rules { is_active: false, ..REAL };
const VIRTUAL: Rules = Rules { is_virtual: true, ..REAL };
const TIMES: Times = Times { stamp_us: 0, born: NOW, is_late: true };

type Small = Queue<Vec<Slot, 64>, Lanes>;
type Lanes = Vec<Lane, 10>;

fn with_lanes<S: Table<Slot>>(slots: S) -> Queue<S, Lanes> {
    let mut queue = Queue::new(slots);
    assert!(queue.make_lanes(10, 64));
    queue
}

/// A queue whose bus has just shown that it takes frames.
fn warm(lanes: &[(usize, &[u8])]) -> Small {
    let mut queue = queue(&[(9, &[0xE0; 20])]);
    while !offer(&mut queue, 16).is_empty() {
        queue.taken(NOW, 1);
        assert_eq!(queue.confirm(&frame(0xE0), Outcome::Sent, REAL), Some(9));
        assert!(queue.pop_done(9).is_some());
    }
    push(&mut queue, lanes);
    queue
}

fn push(queue: &mut Small, lanes: &[(usize, &[u8])]) {
    for (lane, numbers) in lanes {
        for number in *numbers {
            assert!(queue.push(*lane, frame(*number), TIMES, None));
        }
    }
}

fn outcomes(queue: &mut Small) -> std::vec::Vec<Outcome> {
    core::iter::from_fn(|| queue.pop_done(0)).map(|done| done.outcome).collect()
}

fn queue(lanes: &[(usize, &[u8])]) -> Small {
    let mut queue = with_lanes(Vec::<_, 64>::new());
    push(&mut queue, lanes);
    queue
}

fn offer(queue: &mut Small, handed_max: usize) -> std::vec::Vec<u8> {
    let mut out = [frame(0); 16];
    let count = queue.offer(NOW, Rules { handed_max, ..REAL }, &mut out);
    out[..count].iter().map(|frame| frame.data()[0]).collect()
}

#[test]
fn lanes_take_turns() {
    let mut queue = warm(&[(0, &[1, 2, 3, 4]), (7, &[11, 12])]);
    assert_eq!(offer(&mut queue, 16), [1, 11, 2, 12, 3, 4]);
}

#[test]
fn what_the_kernel_does_not_take_keeps_its_place() {
    let mut queue = warm(&[(0, &[1, 2, 3])]);
    assert_eq!(offer(&mut queue, 16), [1, 2, 3]);
    queue.taken(NOW, 1);
    assert_eq!(offer(&mut queue, 16), [2, 3]);
    queue.taken(NOW, 0);
    assert_eq!(offer(&mut queue, 2), [2]);
    queue.taken(NOW, 1);
    assert!(queue.confirm(&frame(9), Outcome::Sent, REAL).is_none());
    for number in [1, 2] {
        assert_eq!(queue.confirm(&frame(number), Outcome::Sent, REAL), Some(0));
    }
    assert_eq!(queue.pop_done(0), Some(Done { outcome: Outcome::Sent, orphan: false }));
    assert_eq!(queue.len(0), 2);
}

#[test]
fn swapped_echoes_confirm_in_the_order_the_frames_came() {
    let mut queue = warm(&[(0, &[1, 2, 3])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 3);
    assert_eq!(queue.confirm(&frame(2), Outcome::Sent, REAL), Some(0));
    assert!(!queue.has_done(0));
    assert_eq!(queue.confirm(&frame(1), Outcome::Sent, REAL), Some(0));
    assert!(queue.pop_done(0).is_some() && queue.pop_done(0).is_some());
    assert!(queue.pop_done(0).is_none());
    assert_eq!(queue.confirm(&frame(3), Outcome::Sent, REAL), Some(0));
}

#[test]
fn a_frame_the_interface_cannot_send_does_not_hold_the_next() {
    let mut queue = warm(&[(0, &[1, 2, 3])]);
    offer(&mut queue, 16);
    queue.rejected(NOW, 1, Outcome::Unsupported);
    assert_eq!(offer(&mut queue, 16), [3]);
    queue.taken(NOW, 1);
    queue.confirm(&frame(1), Outcome::Sent, REAL);
    queue.confirm(&frame(3), Outcome::Sent, REAL);
    let outcomes: std::vec::Vec<_> =
        core::iter::from_fn(|| queue.pop_done(0)).map(|done| done.outcome).collect();
    assert_eq!(outcomes, [Outcome::Sent, Outcome::Unsupported, Outcome::Sent]);
}

#[test]
fn old_frames_are_dropped_and_young_ones_kept() {
    let mut queue = queue(&[(0, &[1])]);
    let age = Duration::from_millis(500);
    assert!(queue.push(0, frame(2), Times { born: NOW + age, ..TIMES }, None));
    let later = NOW + age + Duration::from_micros(1);
    let rules = Rules { max_age: Some(age), ..REAL };
    assert_eq!(queue.next_timeout(rules), Some(later));
    let mut out = [frame(0); 4];
    assert_eq!(queue.offer(later, rules, &mut out), 1);
    assert_eq!(out[0], frame(2));
    assert_eq!(queue.pop_done(0).map(|done| done.outcome), Some(Outcome::Stale));
}

#[test]
fn frames_of_a_stream_that_is_over_are_still_sent_but_not_reported() {
    let mut queue = queue(&[(0, &[1])]);
    queue.orphan(0);
    assert!(queue.push(0, frame(2), TIMES, None) && queue.len(0) == 1);
    offer(&mut queue, 16);
    queue.taken(NOW, 2);
    queue.fail_handed(Outcome::Failed);
    let orphans: std::vec::Vec<_> =
        core::iter::from_fn(|| queue.pop_done(0)).map(|done| done.orphan).collect();
    assert_eq!(orphans, [true, false]);
}

#[test]
fn an_echo_is_overdue_where_the_bus_must_have_shown_it() {
    let mut queue = queue(&[(0, &[1])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 1);
    assert_eq!(queue.next_timeout(VIRTUAL), Some(NOW + ECHO_OVERDUE));
    assert!(queue.next_timeout(REAL) < Some(NOW + ECHO_OVERDUE));
    assert_eq!(queue.next_timeout(PASSIVE), None, "nobody acknowledges: it is tried for ever");
    queue.echoes_lost();
    assert_eq!(queue.next_timeout(PASSIVE), Some(NOW + ECHO_OVERDUE));
}

#[test]
fn old_orphans_give_way_and_the_others_keep_their_order() {
    let mut queue = warm(&[(0, &[1, 2, 3, 4]), (1, &[11])]);
    let mut out = [frame(0); 16];
    assert_eq!(queue.offer(NOW, Rules { handed_max: 3, ..REAL }, &mut out), 3);
    queue.taken(NOW, 3); // 1, 11, 2
    queue.confirm(&frame(2), Outcome::Sent, REAL);
    queue.orphan(0);
    assert!(queue.push(0, frame(5), TIMES, None) && queue.held(0) == 5);
    assert_eq!(queue.drop_orphans(0), [1, 2, 0, 0, 0, 0, 0]);
    assert_eq!((queue.held(0), queue.len(0)), (2, 1));
    assert!(queue.has_room(61) && !queue.has_room(62));
    queue.confirm(&frame(1), Outcome::Sent, REAL);
    queue.confirm(&frame(11), Outcome::Sent, REAL);
    assert_eq!(offer(&mut queue, 16), [5]);
    queue.taken(NOW, 1);
    queue.confirm(&frame(5), Outcome::Sent, REAL);
    let orphans: std::vec::Vec<_> =
        core::iter::from_fn(|| queue.pop_done(0)).map(|done| done.orphan).collect();
    assert_eq!(orphans, [true, false]);
    assert!(queue.push(0, frame(6), TIMES, None) && queue.drop_orphans(0) == [0; 7]);
    assert_eq!(offer(&mut queue, 16), [6]);
}

#[test]
fn a_frame_nobody_acknowledges_is_not_given_up() {
    let mut queue = queue(&[(0, &[1, 2])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 2);
    queue.give_up_echoes(NOW + Duration::from_secs(3_600), PASSIVE);
    assert!(queue.pop_done(0).is_none());
    assert_eq!(queue.confirm(&frame(1), Outcome::Sent, REAL), Some(0));
}

#[test]
fn lost_echoes_do_not_shut_the_bus() {
    let mut queue = queue(&[(0, &[1, 2])]);
    let mut now = NOW;
    let mut out = [frame(0); 16];
    // Not one echo comes.
    for round in 0..6_u8 {
        let offered = queue.offer(now, REAL, &mut out);
        assert!((1..=2).contains(&offered), "round {round}: {offered}");
        queue.taken(now, offered);
        now = queue.next_timeout(REAL).unwrap();
        queue.give_up_echoes(now, REAL);
        assert_eq!(outcomes(&mut queue), std::vec![Outcome::Unconfirmed; offered]);
        push(&mut queue, &[(0, &[10 + round, 20 + round])]);
    }
    assert!(now.since(NOW) < Duration::from_secs(60));
    // They come again, and the bus is as quick as before.
    for number in 0..16 {
        push(&mut queue, &[(1, &[100 + number])]);
    }
    while queue.is_busy() {
        let offered = queue.offer(now, REAL, &mut out);
        queue.taken(now, offered);
        for frame in &out[..offered] {
            assert!(queue.confirm(frame, Outcome::Sent, REAL).is_some());
        }
    }
}

#[test]
fn a_later_echo_proves_that_an_older_one_is_lost() {
    let mut queue = warm(&[(0, &[1, 2])]);
    offer(&mut queue, 1);
    queue.taken(NOW, 1);
    let later = NOW + Duration::from_millis(300);
    let mut out = [frame(0); 16];
    assert_eq!(queue.offer(later, PASSIVE, &mut out), 1);
    queue.taken(later, 1);
    assert_eq!(queue.confirm(&frame(2), Outcome::Sent, PASSIVE), Some(0));
    assert_eq!(outcomes(&mut queue), [Outcome::Unconfirmed, Outcome::Sent]);
}

#[test]
fn few_frames_are_handed_over_until_echoes_come() {
    let numbers: std::vec::Vec<u8> = (1..=40).collect();
    let mut queue = queue(&[(0, &numbers)]);
    let mut handed = std::vec::Vec::new();
    for now in (0..).map(|round| NOW + Duration::from_millis(round)).take(30) {
        let mut out = [frame(0); 16];
        let offered = queue.offer(now, REAL, &mut out);
        queue.taken(now, offered);
        handed.extend_from_slice(&out[..offered]);
        if handed.len() == offered {
            assert_eq!(offered, 2);
        }
        if handed.len() == 16 {
            break;
        }
        assert!(queue.confirm(&handed.remove(0), Outcome::Sent, REAL).is_some());
    }
    assert_eq!(handed.len(), 16);
    // The oldest is stuck: no more go, however long it takes.
    let stuck = NOW + Duration::from_secs(2);
    assert_eq!(queue.offer(stuck, PASSIVE, &mut [frame(0); 16]), 0);
}

#[test]
fn a_late_echo_belongs_to_the_lane_it_came_by() {
    let mut queue = queue(&[(3, &[1])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 1);
    queue.give_up_echoes(NOW + ECHO_OVERDUE, REAL);
    assert_eq!(queue.pop_done(3).map(|done| done.outcome), Some(Outcome::Unconfirmed));
    assert_eq!(queue.confirm(&frame(1), Outcome::Sent, REAL), Some(3));
    assert_eq!(queue.confirm(&frame(1), Outcome::Sent, REAL), None, "it comes once");
    assert!(queue.pop_done(3).is_none() && !queue.is_busy());
}

#[test]
fn a_frame_the_interface_dropped_may_still_come() {
    let mut queue = queue(&[(3, &[1])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 1);
    queue.fail_handed(Outcome::Failed);
    assert_eq!(queue.confirm(&frame(1), Outcome::Sent, REAL), Some(3));
    queue.forget_ghosts(3);
    assert_eq!(queue.pop_done(3).map(|done| done.outcome), Some(Outcome::Failed));
}

#[test]
fn late_frames_are_offered_at_a_pace() {
    let numbers: std::vec::Vec<u8> = (0..60).collect();
    let mut queue = with_lanes(Vec::<_, 512>::new());
    for round in 0..5_u64 {
        for number in &numbers {
            let stamp_us = (round * 60 + u64::from(*number)) * 2_000;
            assert!(queue.push(0, frame(*number), Times { stamp_us, ..TIMES }, None));
        }
    }
    let rules = Rules { paced: true, handed_max: 256, ..VIRTUAL };
    let (mut now, mut gone, mut out) = (NOW + Duration::from_secs(1), 0, [frame(0); 64]);
    let start = now;
    while gone < 300 {
        let offered = queue.offer(now, rules, &mut out);
        queue.taken(now, offered);
        for frame in &out[..offered] {
            queue.confirm(frame, Outcome::Sent, rules);
        }
        gone += offered;
        if offered == 0 {
            let next = queue.next_timeout(rules).unwrap();
            assert!(next > now, "it asks for a turn and has nothing to do");
            now = next;
        }
    }
    let took = now.since(start).as_millis();
    assert!((100..140).contains(&took), "{took} ms");
}

#[test]
fn one_shot_frames_end_though_the_controller_is_passive() {
    let mut queue = queue(&[(0, &[1, 2, 3, 4, 5])]);
    let rules = Rules { one_shot: true, ..PASSIVE };
    let mut now = NOW;
    for _ in 0..10 {
        let offered = queue.offer(now, rules, &mut [frame(0); 16]);
        queue.taken(now, offered);
        now = now + Duration::from_secs(1);
        queue.give_up_echoes(now, rules);
    }
    assert!(!queue.is_busy());
}

#[test]
fn passive_controller_on_a_living_bus_is_used_again() {
    let mut queue = queue(&[(0, &[1, 2, 3])]);
    let offered = queue.offer(NOW, PASSIVE, &mut [frame(0); 16]);
    queue.taken(NOW, offered);
    let mut now = NOW;
    for _ in 0..20 {
        now = now + Duration::from_secs(1);
        assert!(
            queue.offer(now, PASSIVE, &mut [frame(0); 16]) == 0
                || now.since(NOW) > Duration::from_secs(15)
        );
        queue.heard();
        queue.give_up_echoes(now, PASSIVE);
    }
    assert_eq!(outcomes(&mut queue)[..2], [Outcome::Unconfirmed; 2]);
}

/// A board whose frames are late, and one with a live frame every so many milliseconds, on one bus for ten seconds.
/// Returns how many of the first went out, and how long one of the second waited at most, in milliseconds.
fn two_boards(late_gap_us: u64, live_every_ms: u64) -> (u64, u64) {
    let mut queue = with_lanes(Vec::<_, 512>::new());
    let rules = Rules { paced: true, handed_max: 256, ..VIRTUAL };
    let (mut late, mut made, mut longest) = (0, 0, 0);
    let mut waiting = std::collections::VecDeque::new();
    for ms in 0..10_000_u64 {
        let now = Instant::from_micros(100_000_000 + ms * 1_000);
        while queue.held(0) < 128 {
            let stamp_us = 40_000_000 + made * late_gap_us;
            assert!(queue.push(0, frame(1), Times { stamp_us, ..TIMES }, None));
            made += 1;
        }
        if ms.is_multiple_of(live_every_ms) && queue.held(1) < 128 {
            let times = Times { stamp_us: now.as_micros(), born: now, is_late: false };
            assert!(queue.push(1, frame(2), times, None));
            waiting.push_back(ms);
        }
        let mut out = [frame(0); 64];
        loop {
            let offered = queue.offer(now, rules, &mut out);
            if offered == 0 {
                break;
            }
            queue.taken(now, offered);
            for frame in &out[..offered] {
                match queue.confirm(frame, Outcome::Sent, rules) {
                    Some(0) => late += 1,
                    _ => longest = longest.max(ms - waiting.pop_front().unwrap()),
                }
            }
            while queue.pop_done(0).is_some() || queue.pop_done(1).is_some() {}
        }
    }
    (late, longest.max(waiting.front().map_or(0, |ms| 10_000 - ms)))
}

#[test]
fn backlog_of_one_board_holds_up_no_live_frame() {
    let (_, longest) = two_boards(250, 10);
    assert!(longest < 5, "one waited {longest} ms");
}

#[test]
fn backlog_is_caught_up_with_beside_a_live_board() {
    // 8,000 frames/s come, and three times as many may go.
    let (late, _) = two_boards(125, 1);
    assert!(late > 200_000, "{late} in ten seconds");
}

#[test]
fn held_frames_ask_for_no_turn_while_nothing_is_offered() {
    let mut queue = with_lanes(Vec::<_, 512>::new());
    for number in 0..200_u64 {
        let times = Times { stamp_us: number * 2_000, ..TIMES };
        assert!(queue.push(0, frame(number as u8), times, None));
    }
    let rules = Rules { paced: true, handed_max: 256, ..VIRTUAL };
    let mut out = [frame(0); 64];
    while queue.offer(NOW, rules, &mut out) > 0 {
        let offered = queue.offered.len();
        queue.taken(NOW, offered);
    }
    // The bus goes down.
    queue.fail_handed(Outcome::Failed);
    let later = NOW + Duration::from_secs(60);
    queue.give_up_echoes(later, rules);
    assert_eq!(queue.next_timeout(rules), None);
}

#[test]
fn live_frames_behind_a_backlog_come_at_its_pace() {
    // 1,000 frames/s, and a second of them has waited.
    let mut queue = with_lanes(Vec::<_, 4096>::new());
    let rules = Rules { paced: true, handed_max: 256, ..VIRTUAL };
    let mut went = std::vec::Vec::new();
    for ms in 0..3_000_u64 {
        let now = Instant::from_micros(10_000_000 + ms * 1_000);
        let come = if ms == 0 { 1_000 } else { 1 };
        for number in 0..come {
            let stamp_us = 9_000_000 + (ms + number) * 1_000;
            let times = Times { stamp_us, born: now, is_late: ms == 0 };
            assert!(queue.push(0, frame(1), times, None));
        }
        let mut out = [frame(0); 64];
        let mut gone = 0;
        loop {
            let offered = queue.offer(now, rules, &mut out);
            if offered == 0 {
                break;
            }
            queue.taken(now, offered);
            for frame in &out[..offered] {
                queue.confirm(frame, Outcome::Sent, rules);
            }
            gone += offered;
            while queue.pop_done(0).is_some() {}
        }
        went.push(gone);
    }
    let most = went.windows(10).map(|ten| ten.iter().sum::<usize>()).max().unwrap();
    assert!(most < 200, "{most} in ten milliseconds");
    assert_eq!(went.iter().sum::<usize>(), 3_999);
}
