//! Clocks that stand still, as those of a paused virtual machine do, or jump: no command older than the limit is on a real
//! bus, and fresh ones are taken again soon.

use std::collections::HashMap;

use canspan::protocol::Outcome;

use crate::board::{BOARD, LAB, MAX_AGE_US, linked};
use crate::line::Line;

const TOLERANCE_US: u64 = 60_000;
/// Between two commands.
const EVERY_US: u64 = 10_000;
/// Fresh commands that may be refused after a pause: two seconds of them, and some.
const REFUSED_MAX: u64 = 250;
const PAUSES_US: [u64; 7] =
    [300_000, 600_000, 1_000_000, 1_500_000, 2_500_000, 10_000_000, 3_600_000_000];

/// The lab makes a command every now and then, while its clock goes on.
fn commands(line: &mut Line, for_us: u64) {
    for _ in 0..for_us / EVERY_US {
        if line.is_awake(LAB) {
            line.make(LAB);
        }
        line.run(EVERY_US);
    }
}

/// Whether a command made then is one whose age nobody could know.
fn check_ages(line: &Line, is_excused: impl Fn(u64) -> bool) {
    let made: HashMap<_, _> =
        line.nodes[LAB].shown.iter().map(|made| (format!("{:?}", made.frame), made.at)).collect();
    for shown in &line.nodes[BOARD].shown {
        let made = made[&format!("{:?}", shown.frame)];
        let age = shown.at - made;
        assert!(
            age <= MAX_AGE_US + TOLERANCE_US || is_excused(made),
            "{:?} was {age} us old on the bus",
            shown.frame
        );
    }
}

/// Commands that were not sent though the link was up, or for a while after it was.
fn refused(line: &mut Line) -> u64 {
    line.run(3_000_000);
    let sent = line.sent(0);
    assert_eq!(sent.accounted(), line.nodes[LAB].made, "{sent:?}");
    line.nodes[LAB].made - sent.of(Outcome::Sent)
}

#[test]
fn paused_peer_is_refused_few_fresh_commands() {
    for seed in 0..10 {
        for pause in PAUSES_US {
            let mut line = linked(seed);
            commands(&mut line, 10_000_000 + seed * 500_000);
            line.put_to_sleep(LAB, pause, true);
            line.run(pause);
            commands(&mut line, 30_000_000);
            check_ages(&line, |_| false);
            let refused = refused(&mut line);
            assert!(refused < REFUSED_MAX, "{refused} refused after {pause} us");
        }
    }
}

#[test]
fn paused_board_refuses_few_fresh_commands() {
    for seed in 0..10 {
        for pause in PAUSES_US.into_iter().filter(|pause| *pause <= 10_000_000) {
            let mut line = linked(seed);
            commands(&mut line, 10_000_000 + seed * 500_000);
            let since = line.now;
            line.put_to_sleep(BOARD, pause, true);
            commands(&mut line, pause + 30_000_000);
            // What waited in the board's own socket meanwhile: nobody can tell for how long.
            check_ages(&line, |made| (since - MAX_AGE_US..since + pause).contains(&made));
            let refused = refused(&mut line);
            let meanwhile = pause / EVERY_US;
            assert!(refused < meanwhile + REFUSED_MAX, "{refused} refused after {pause} us");
        }
    }
}

#[test]
fn commands_from_before_a_pause_never_run() {
    for seed in 0..10 {
        for pause in PAUSES_US.into_iter().filter(|pause| *pause > MAX_AGE_US) {
            let mut line = linked(seed);
            commands(&mut line, 5_000_000);
            // The machine is paused before the gateway can send them.
            (0..20).for_each(|_| line.make(LAB));
            line.put_to_sleep(LAB, pause, true);
            line.run(pause + 3_000_000);
            check_ages(&line, |_| false);
            later_commands_run(&mut line, &format!("after {pause} us"));
        }
    }
}

/// What is made later is taken.
fn later_commands_run(line: &mut Line, what: &str) {
    let before = line.sent(0).of(Outcome::Sent);
    commands(line, 1_000_000);
    line.run(1_000_000);
    assert_eq!(line.sent(0).of(Outcome::Sent), before + 100, "{what}");
}

#[test]
fn clock_that_jumps_costs_few_fresh_commands() {
    for seed in 0..10 {
        for jump in PAUSES_US {
            for who in [LAB, BOARD] {
                let mut line = linked(seed);
                commands(&mut line, 10_000_000 + seed * 500_000);
                line.jump(who, jump);
                commands(&mut line, 30_000_000);
                check_ages(&line, |_| false);
                let refused = refused(&mut line);
                assert!(
                    refused < REFUSED_MAX,
                    "{refused} refused after node {who} jumped {jump} us"
                );
            }
        }
    }
}

/// A board that was paused reads only afterwards what a stalled connection brings: what was sent since it goes on must not
/// look younger by its pause.
#[test]
fn stall_after_a_pause_makes_no_command_younger() {
    for seed in 0..10 {
        let mut line = linked(seed);
        commands(&mut line, 10_000_000);
        let since = line.now;
        line.put_to_sleep(BOARD, 2_000_000, true);
        line.run(2_000_000);
        line.stall(0, 0, 1_500_000);
        commands(&mut line, 20_000_000);
        check_ages(&line, |made| (since - MAX_AGE_US..since + 2_000_000).contains(&made));
    }
}

/// Some commands wait, the board is begun anew by `begin`, and the PC is paused; then whether only young ones run.
fn pause_while_the_board_begins(line: &mut Line, pause: u64, begin: impl Fn(&mut Line)) {
    line.stop_dialling(0, 100_000);
    (0..20).for_each(|_| line.make(LAB));
    begin(line);
    line.put_to_sleep(LAB, pause, true);
    line.run(pause + 3_000_000);
    check_ages(line, |_| false);
}

/// The board is started again while its PC is paused: it never knew how the two clocks stood before, only the PC does.
#[test]
fn commands_from_before_a_pause_never_run_on_a_restarted_board() {
    for seed in 0..10 {
        for pause in PAUSES_US.into_iter().filter(|pause| *pause > MAX_AGE_US) {
            for delay in [0, 900_000] {
                let mut line = linked(seed);
                // A queue before the uplink, which is gone afterwards.
                if delay > 0 {
                    line.slow_down(0, 0, delay);
                }
                commands(&mut line, 25_000_000);
                pause_while_the_board_begins(&mut line, pause, |line| line.restart(BOARD));
                later_commands_run(&mut line, &format!("after {pause} us"));
            }
        }
    }
}

/// A board that was switched off has a clock that begins anew: not even the PC can know that its own one stood.
#[test]
fn commands_from_before_a_pause_never_run_on_a_rebooted_board() {
    for seed in 0..10 {
        for pause in PAUSES_US.into_iter().filter(|pause| *pause > MAX_AGE_US) {
            let mut line = linked(seed);
            commands(&mut line, 10_000_000);
            pause_while_the_board_begins(&mut line, pause, |line| line.reboot(BOARD));
            later_commands_run(&mut line, &format!("after {pause} us"));
        }
    }
}

/// The PC begins a new history afterwards, whose positions begin with 0.
#[test]
fn time_not_counted_ends_with_the_history() {
    let mut line = linked(1);
    commands(&mut line, 20_000_000);
    pause_while_the_board_begins(&mut line, 2_500_000, |line| line.restart(BOARD));
    let (now, id) = (line.local(LAB), line.nodes[LAB].hubs[0].id() + 1);
    line.nodes[LAB].hubs[0].renew(now, id);
    line.run(3_000_000);
    later_commands_run(&mut line, "with a new history");
}

/// The queue before a narrow wire makes one direction slow for longer than any sample of the clocks is believed.
#[test]
fn command_behind_a_long_queue_looks_no_younger() {
    for seed in 0..10 {
        for delay in [200_000, 600_000, 900_000, 1_200_000] {
            let mut line = linked(seed);
            commands(&mut line, 5_000_000);
            line.slow_down(0, 0, delay);
            commands(&mut line, 60_000_000);
            check_ages(&line, |_| false);
        }
    }
}
