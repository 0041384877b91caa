//! A lab and a board whose bus is real, linked with each other.

use core::time::Duration;

use canspan::protocol::Policy;

use crate::controller::Controller;
use crate::line::{Bus, Line};

pub(crate) const LAB: usize = 0;
pub(crate) const BOARD: usize = 1;
pub(crate) const MAX_AGE_US: u64 = 500_000;
/// What a frame takes on the board's bus.
const FRAME_US: u64 = 250;

pub(crate) fn linked(seed: u64) -> Line {
    let board = Policy {
        max_age: Some(Duration::from_micros(MAX_AGE_US)),
        is_virtual: false,
        handed_max: 16,
        ..Policy::default()
    };
    let buses = vec![
        (Bus::Virtual, Policy::default()),
        (Bus::Real(Controller::new(FRAME_US, seed)), board),
    ];
    let mut line = Line::new(fastrand::Rng::with_seed(seed), buses);
    line.run(3_000_000);
    assert!(line.is_up(0));
    line
}
