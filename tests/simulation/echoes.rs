//! Echoes that are lost or late on a real bus, and a bus where nobody acknowledges: no lane is blocked for good, nothing
//! goes back to its author, and the account is exact.

use canspan::protocol::wire::BusState;
use canspan::protocol::{Counters, Outcome};

use crate::board::{BOARD, LAB, MAX_AGE_US, linked};
use crate::controller::Controller;
use crate::line::{Bus, Line};

fn controller(line: &mut Line) -> &mut Controller {
    match &mut line.nodes[BOARD].bus {
        Bus::Real(controller) => controller,
        _ => unreachable!("the board's bus is real"),
    }
}

/// The lab makes so many commands, one every so many microseconds.
fn commands(line: &mut Line, count: u64, every_us: u64) {
    for _ in 0..count {
        line.make(LAB);
        line.run(every_us);
    }
}

/// Every command is in one counter, and what the bus showed is in one that says so. Waits until that must be so.
fn settled(line: &mut Line) -> Counters {
    line.run(8_000_000);
    let sent = line.sent(0);
    let shown = line.nodes[BOARD].shown.len() as u64;
    assert!(!line.nodes[BOARD].hubs[0].is_busy(), "frames wait for ever: {sent:?}");
    assert_eq!(sent.accounted(), line.nodes[LAB].made, "{sent:?}");
    assert_eq!(line.nodes[BOARD].hubs[0].peers().next().unwrap().1.received, sent);
    let certain = sent.of(Outcome::Sent);
    let possible = certain + sent.of(Outcome::Unconfirmed);
    assert!((certain..=possible).contains(&shown), "{shown} were on the bus: {sent:?}");
    let back = line.nodes[LAB].shown.iter().filter(|shown| shown.delivered).count();
    assert_eq!(back, 0, "its own frames went back to the lab");
    sent
}

#[test]
fn lost_echoes_block_no_slot_for_good() {
    // One of fifty, one of five: how many commands of a hundred may be too old meanwhile.
    for (lossy, stale) in [(5, 5), (52, 70)] {
        for seed in 0..20 {
            let mut line = linked(seed);
            controller(&mut line).lossy = lossy;
            commands(&mut line, 1_000, 10_000);
            let sent = settled(&mut line);
            let lost = controller(&mut line).lost;
            assert!(lost > 5, "only {lost} echoes were lost");
            assert_eq!(sent.of(Outcome::Unconfirmed), lost, "{sent:?}");
            assert!(sent.of(Outcome::Stale) <= stale * 10, "{sent:?}");
            controller(&mut line).lossy = 0;
            commands(&mut line, 100, 10_000);
            let after = settled(&mut line);
            assert_eq!(after.of(Outcome::Sent), sent.of(Outcome::Sent) + 100, "{after:?}");
        }
    }
}

#[test]
fn bus_without_any_echo_takes_frames_again_afterwards() {
    let mut line = linked(1);
    controller(&mut line).lossy = 256;
    commands(&mut line, 300, 10_000);
    let sent = settled(&mut line);
    let shown = line.nodes[BOARD].shown.len() as u64;
    assert_eq!(sent.of(Outcome::Unconfirmed), shown, "{sent:?}");
    assert_eq!(sent.of(Outcome::Stale), 300 - shown, "{sent:?}");
    controller(&mut line).lossy = 0;
    commands(&mut line, 100, 10_000);
    assert_eq!(settled(&mut line).of(Outcome::Sent), 100);
}

#[test]
fn late_echo_never_goes_back_to_its_author() {
    for seed in 0..20 {
        let mut line = linked(seed);
        controller(&mut line).tardy = 40;
        commands(&mut line, 400, 10_000);
        let sent = settled(&mut line);
        assert!(sent.of(Outcome::Unconfirmed) > 0, "{sent:?}");
        // What is late was given up when it comes: its history has it at most once.
        let known = line.nodes[BOARD].known.len();
        assert!(known <= 400, "{known} of 400 frames are in the history");
    }
}

#[test]
fn overflow_long_ago_gives_up_no_unacknowledged_frame() {
    let mut line = linked(2);
    line.nodes[BOARD].hubs[0].overflowed(1);
    line.run(60_000_000);
    unacknowledged(&mut line, 2);
    let sent = settled(&mut line);
    assert_eq!(sent.of(Outcome::Unconfirmed), 0, "{sent:?}");
}

/// For half a minute nobody acknowledges what the board's controller sends, so that it is error-passive; then somebody does.
fn unacknowledged(line: &mut Line, most: usize) {
    let before = line.nodes[BOARD].shown.len();
    controller(line).is_acknowledged = false;
    commands(line, 1, 10_000);
    line.nodes[BOARD].hubs[0].set_state(BusState::ErrorPassive, Some((128, 0)));
    for _ in 0..30 {
        commands(line, 10, 100_000);
        let held = controller(line).held();
        assert!(held <= most, "{held} frames grow old in the controller");
    }
    let now = line.now;
    controller(line).acknowledge(now);
    line.run(10_000);
    line.nodes[BOARD].hubs[0].set_state(BusState::Up, Some((0, 0)));
    let old = line.nodes[BOARD].shown[before..].len();
    assert!(old > 0, "nothing was in the controller's hands");
    commands(line, 100, 10_000);
    let made: std::collections::HashMap<_, _> =
        line.nodes[LAB].shown.iter().map(|made| (format!("{:?}", made.frame), made.at)).collect();
    let ages = line.nodes[BOARD].shown.iter();
    let ages = ages.map(|shown| shown.at - made[&format!("{:?}", shown.frame)]);
    let old = ages.filter(|age| *age > MAX_AGE_US + 60_000).count();
    assert!(old <= most, "{old} commands older than the limit were on the bus");
}

#[test]
fn few_frames_grow_old_where_nobody_acknowledges() {
    // Nobody did from the start; and somebody did for a while.
    for before in [0, 200] {
        let mut line = linked(3);
        commands(&mut line, before, 10_000);
        unacknowledged(&mut line, 2);
        let sent = settled(&mut line);
        // Time alone tells nothing there: the controller tries on, and what it holds is sent in the end.
        assert_eq!(sent.of(Outcome::Unconfirmed), 0, "{sent:?}");
        assert!(sent.of(Outcome::Sent) >= before + 100, "{sent:?}");
    }
}
