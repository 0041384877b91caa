//! What was kept in a cut reaches the everyday tools of the PC, however much it is at once.

use core::time::Duration;
use std::thread;

use crate::{
    lab::Pair,
    numbered::Generator,
    plain::{Candump, PythonCan},
    process::SOON,
};

const ID: u32 = 0x100;
/// The longest a link may take to heal, and the longest `python-can` then takes.
const PATIENCE: Duration = Duration::from_secs(25);

/// So many frames a second, and some seconds of them without the cable.
fn cut_in(pair: &Pair, count: u64, rate: u64, cut: Duration) {
    let generator = Generator::start(pair.board.can_sender("vcan0"), ID, count, rate);
    thread::sleep(Duration::from_millis(500));
    pair.plug(false);
    thread::sleep(cut);
    pair.plug(true);
    generator.finish();
}

// One reader at a time: the one processor of the lab is busy enough with each.

#[test]
fn candump_sees_every_frame_after_a_cut() {
    // So many that live ones queue behind those that have waited, for longer than a reader's buffer lasts.
    const COUNT: u64 = 8_000;
    let pair = Pair::new();
    let _both = pair.joined();
    let candump = Candump::start(&pair.pc, "vcan0");
    cut_in(&pair, COUNT, 1_000, Duration::from_secs(4));
    candump.has_all(ID, COUNT, PATIENCE);
}

#[test]
fn python_can_sees_every_frame_after_cut() {
    const COUNT: u64 = 3_000;
    let pair = Pair::new();
    let _both = pair.joined();
    let python = PythonCan::start(&pair.pc, ID, COUNT);
    cut_in(&pair, COUNT, 500, Duration::from_millis(2_500));
    python.has_all(PATIENCE);
}

/// A minute of a quiet bus, or some seconds of a busy one: what counts is that more waits than a reader's buffer holds.
#[test]
fn backlog_above_a_readers_buffer_is_paced() {
    const BACKLOG: u64 = 1_500;
    const LIVE: u64 = 300;
    let pair = Pair::new();
    let (_server, client) = pair.joined();
    let candump = Candump::start(&pair.pc, "vcan0");
    pair.plug(false);
    Generator::start(pair.board.can_sender("vcan0"), ID, BACKLOG, 300).finish();
    client.says("link down");
    // Live frames go on meanwhile, and come behind the others.
    let live = Generator::start(pair.board.can_sender("vcan0"), ID + 1, LIVE, 100);
    pair.plug(true);
    live.finish();
    candump.has_all(ID, BACKLOG, PATIENCE);
    candump.has_all(ID + 1, LIVE, SOON);
}
