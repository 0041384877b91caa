//! A PC that is set back to an earlier state, clock and all, as a virtual machine is by its snapshot: what it says of its
//! streams is not true any more. It is refused, comes as a new history, and no command runs twice.

use core::time::Duration;
use std::collections::HashSet;

use canspan::protocol::wire::Refusal;
use canspan::protocol::{Ended, Outcome, Policy};

use crate::controller::Controller;
use crate::line::{Bus, Line};

const PC: usize = 0;
const BOARD: usize = 1;

/// A PC and a board that have carried frames both ways; the same each time it is called with the same seed.
fn carried(seed: u64) -> Line {
    let limit = Duration::from_millis(500);
    let board = Policy { max_age: Some(limit), is_virtual: false, ..Policy::default() };
    let buses =
        vec![(Bus::Virtual, Policy::default()), (Bus::Real(Controller::new(250, seed)), board)];
    let mut line = Line::new(fastrand::Rng::with_seed(seed), buses);
    line.run(3_000_000);
    assert!(line.is_up(0));
    frames(&mut line, 100);
    line
}

fn frames(line: &mut Line, count: u64) {
    for _ in 0..count {
        line.make(PC);
        line.make(BOARD);
        line.run(5_000);
    }
}

/// What happens between the snapshot and the return to it.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Frames,
    Cut,
    Nothing,
}

/// The PC's state of a while ago takes the place of the present one. Some commands were on its bus, and not sent, when the
/// snapshot was made.
fn set_back(seed: u64, meanwhile: Meanwhile) -> Line {
    let (mut line, mut earlier) = (carried(seed), carried(seed));
    for line in [&mut line, &mut earlier] {
        (0..5).for_each(|_| line.make(PC));
    }
    match meanwhile {
        Meanwhile::Frames => frames(&mut line, 50),
        Meanwhile::Cut => {
            frames(&mut line, 20);
            line.cut(0);
            line.run(1_000_000);
            frames(&mut line, 20);
        }
        Meanwhile::Nothing => line.run(50_000),
    }
    line.run(1_000_000);
    line.set_back(PC, earlier);
    line
}

#[test]
fn peer_set_back_in_time_comes_as_new_history() {
    for meanwhile in [Meanwhile::Frames, Meanwhile::Cut, Meanwhile::Nothing] {
        for seed in 0..20 {
            let mut line = set_back(seed, meanwhile);
            let before = line.nodes[PC].hubs[0].id();
            let shown = line.nodes[PC].shown.len();
            line.run(3_000_000);
            assert!(line.is_up(0), "{meanwhile:?}: not linked again");
            let refused = Ended::Refused(Refusal::REPLACED);
            assert_eq!(line.ends.iter().filter(|end| **end == refused).count(), 1, "{meanwhile:?}");
            assert_ne!(line.nodes[PC].hubs[0].id(), before, "{meanwhile:?}: no new history");
            // Frames like none before: in its new life it does not know what it said in the other.
            line.nodes[PC].life += 1;
            let made = line.nodes[PC].made;
            let on_bus = line.nodes[BOARD].shown.len();
            frames(&mut line, 100);
            line.run(3_000_000);

            let mut seen = HashSet::new();
            for shown in &line.nodes[BOARD].shown {
                assert!(seen.insert(format!("{:?}", shown.frame)), "{:?} ran twice", shown.frame);
            }
            let fresh = line.nodes[BOARD].shown[on_bus..].iter().filter(|shown| shown.delivered);
            assert_eq!(fresh.count(), 100, "{meanwhile:?}: fresh commands were lost");
            let sent = line.sent(0);
            assert_eq!(sent.accounted(), made + 100, "{meanwhile:?}: {sent:?}");
            let sent = sent.of(Outcome::Sent);
            assert!(sent >= 190, "{meanwhile:?}: {sent} are known to have been sent");
            let back = line.nodes[PC].shown[shown..].iter().filter(|shown| shown.delivered).count();
            assert!(back >= 100, "{meanwhile:?}: {back} of the board's frames came");
        }
    }
}
