use super::*;
use crate::protocol::frame::Id;

const NOW: Instant = Instant::from_micros(1_000_000);

fn frame(number: u8) -> Frame {
    Frame::data_frame(Id::Standard(1), &[number]).unwrap()
}

fn queue(lanes: &[(usize, &[u8])]) -> Queue<Vec<Slot, 64>> {
    let mut queue = Queue::new(Vec::<_, 64>::new());
    for (lane, numbers) in lanes {
        for number in *numbers {
            assert!(queue.push(*lane, frame(*number), 0, NOW, None));
        }
    }
    queue
}

fn offer(queue: &mut Queue<Vec<Slot, 64>>, handed_max: usize) -> std::vec::Vec<u8> {
    let mut out = [frame(0); 16];
    let count = queue.offer(NOW, None, handed_max, &mut out);
    out[..count].iter().map(|frame| frame.data()[0]).collect()
}

#[test]
fn lanes_take_turns() {
    let mut queue = queue(&[(0, &[1, 2, 3, 4]), (7, &[11, 12])]);
    assert_eq!(offer(&mut queue, 16), [1, 11, 2, 12, 3, 4]);
}

#[test]
fn what_the_kernel_does_not_take_keeps_its_place() {
    let mut queue = queue(&[(0, &[1, 2, 3])]);
    assert_eq!(offer(&mut queue, 16), [1, 2, 3]);
    queue.taken(NOW, 1);
    assert_eq!(offer(&mut queue, 16), [2, 3]);
    queue.taken(NOW, 0);
    assert_eq!(offer(&mut queue, 2), [2]);
    queue.taken(NOW, 1);
    assert!(queue.confirm(&frame(9), Outcome::Sent).is_none());
    for number in [1, 2] {
        assert_eq!(queue.confirm(&frame(number), Outcome::Sent), Some(0));
    }
    assert_eq!(queue.pop_done(0), Some(Done { outcome: Outcome::Sent, orphan: false }));
    assert_eq!(queue.len(0), 2);
}

#[test]
fn swapped_echoes_confirm_in_the_order_the_frames_came() {
    let mut queue = queue(&[(0, &[1, 2, 3])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 3);
    assert_eq!(queue.confirm(&frame(2), Outcome::Sent), Some(0));
    assert!(!queue.has_done(0));
    assert_eq!(queue.confirm(&frame(1), Outcome::Sent), Some(0));
    assert!(queue.pop_done(0).is_some() && queue.pop_done(0).is_some());
    assert!(queue.pop_done(0).is_none());
    assert_eq!(queue.confirm(&frame(3), Outcome::Sent), Some(0));
}

#[test]
fn a_frame_the_interface_cannot_send_does_not_hold_the_next() {
    let mut queue = queue(&[(0, &[1, 2, 3])]);
    offer(&mut queue, 16);
    queue.rejected(NOW, 1, Outcome::Unsupported);
    assert_eq!(offer(&mut queue, 16), [3]);
    queue.taken(NOW, 1);
    queue.confirm(&frame(1), Outcome::Sent);
    queue.confirm(&frame(3), Outcome::Sent);
    let outcomes: std::vec::Vec<_> =
        core::iter::from_fn(|| queue.pop_done(0)).map(|done| done.outcome).collect();
    assert_eq!(outcomes, [Outcome::Sent, Outcome::Unsupported, Outcome::Sent]);
}

#[test]
fn old_frames_are_dropped_and_young_ones_kept() {
    let mut queue = queue(&[(0, &[1])]);
    let age = Duration::from_millis(500);
    assert!(queue.push(0, frame(2), 0, NOW + age, None));
    let later = NOW + age + Duration::from_micros(1);
    assert_eq!(queue.next_timeout(Some(age), false), Some(later));
    let mut out = [frame(0); 4];
    assert_eq!(queue.offer(later, Some(age), 16, &mut out), 1);
    assert_eq!(out[0], frame(2));
    assert_eq!(queue.pop_done(0).map(|done| done.outcome), Some(Outcome::Stale));
}

#[test]
fn frames_of_a_stream_that_is_over_are_still_sent_but_not_reported() {
    let mut queue = queue(&[(0, &[1])]);
    queue.orphan(0);
    assert!(queue.push(0, frame(2), 0, NOW, None) && queue.len(0) == 1);
    offer(&mut queue, 16);
    queue.taken(NOW, 2);
    queue.fail_handed(Outcome::Failed);
    let orphans: std::vec::Vec<_> =
        core::iter::from_fn(|| queue.pop_done(0)).map(|done| done.orphan).collect();
    assert_eq!(orphans, [true, false]);
}

#[test]
fn an_echo_is_overdue_only_where_something_is_done_about_it() {
    let mut queue = queue(&[(0, &[1])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 1);
    assert_eq!(queue.next_timeout(None, true), Some(NOW + ECHO_OVERDUE));
    assert_eq!(queue.next_timeout(None, false), None, "nobody acknowledges: no hurry");
    queue.echoes_lost();
    assert_eq!(queue.next_timeout(None, false), Some(NOW + ECHO_OVERDUE));
}

#[test]
fn old_orphans_give_way_and_the_others_keep_their_order() {
    let mut queue = queue(&[(0, &[1, 2, 3, 4]), (1, &[11])]);
    let mut out = [frame(0); 16];
    assert_eq!(queue.offer(NOW, None, 3, &mut out), 3);
    queue.taken(NOW, 3); // 1, 11, 2
    queue.confirm(&frame(2), Outcome::Sent);
    queue.orphan(0);
    assert!(queue.push(0, frame(5), 0, NOW, None) && queue.held(0) == 5);
    assert_eq!(queue.drop_orphans(0), [1, 2, 0, 0, 0, 0, 0]);
    assert_eq!((queue.held(0), queue.len(0)), (2, 1));
    assert!(queue.has_room(61) && !queue.has_room(62));
    queue.confirm(&frame(1), Outcome::Sent);
    queue.confirm(&frame(11), Outcome::Sent);
    assert_eq!(offer(&mut queue, 16), [5]);
    queue.taken(NOW, 1);
    queue.confirm(&frame(5), Outcome::Sent);
    let orphans: std::vec::Vec<_> =
        core::iter::from_fn(|| queue.pop_done(0)).map(|done| done.orphan).collect();
    assert_eq!(orphans, [true, false]);
    assert!(queue.push(0, frame(6), 0, NOW, None) && queue.drop_orphans(0) == [0; 7]);
    assert_eq!(offer(&mut queue, 16), [6]);
}

#[test]
fn a_lost_echo_does_not_hold_the_queue_for_ever() {
    let mut queue = queue(&[(0, &[1, 2])]);
    offer(&mut queue, 16);
    queue.taken(NOW, 2);
    let overdue = NOW + ECHO_OVERDUE;
    queue.give_up_echoes(overdue, false);
    assert!(queue.pop_done(0).is_none(), "an unacknowledged frame is tried for ever");
    queue.confirm(&frame(2), Outcome::Sent);
    queue.echoes_lost();
    queue.give_up_echoes(overdue, false);
    assert_eq!(queue.pop_done(0).map(|done| done.outcome), Some(Outcome::Unconfirmed));
    assert_eq!(queue.pop_done(0).map(|done| done.outcome), Some(Outcome::Sent));
    assert!(queue.is_empty(0) && !queue.is_busy());
}
