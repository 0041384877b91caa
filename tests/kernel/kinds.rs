//! Each kind of frame crosses in both directions, bit for bit.

use core::time::Duration;
use std::{thread, time::Instant};

use crate::{
    lab::{Namespace, Pair, counters},
    process::{Process, SOON},
    sys::{BRS, CanSocket, ERROR, ESI, EXTENDED, Frame},
};

/// The lengths FD frames have.
const FD_LENGTHS: [usize; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64];
const BYTES: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut i = 0;
    while i < 64 {
        bytes[i] = 255 - 3 * i as u8;
        i += 1;
    }
    bytes
};

/// One frame of every kind that both directions carry.
fn every_kind() -> Vec<Frame> {
    let mut frames = Vec::new();
    for id in [
        0,
        1,
        0x123,
        0x7FF,
        EXTENDED,
        EXTENDED | 0x123,
        EXTENDED | 0x7FF,
        EXTENDED | 0x800,
        EXTENDED | 0x1FFF_FFFF,
    ] {
        frames.extend((0..=8).map(|length| Frame::classic(id, &BYTES[..length])));
        frames.extend([0, 1, 5, 8].map(|length| Frame::remote(id, length)));
        frames.extend((9..=15).map(|dlc| Frame::raw_dlc(id, [1, 2, 3, 4, 5, 6, 7, 8], dlc)));
    }
    for id in [0x7FF, EXTENDED | 0x7FF] {
        for flags in [0, BRS, ESI, BRS | ESI] {
            frames.extend(FD_LENGTHS.map(|length| Frame::fd(id, flags, &BYTES[..length])));
        }
    }
    frames
}

/// The next `count` frames of a socket.
fn take(socket: &CanSocket, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let batch = socket.receive(SOON).unwrap().frames;
        assert!(
            !batch.is_empty(),
            "only {} of {count} frames came, the last {:?}",
            frames.len(),
            frames.last()
        );
        frames.extend(batch);
    }
    frames
}

/// Sends frames in one place; what a listener there and one at the other place saw must be the same bits.
fn cross_unchanged(from: &Namespace, to: &Namespace, frames: &[Frame]) {
    let (sender, here, there) = (from.can_sender("vcan0"), from.can("vcan0"), to.can("vcan0"));
    for frame in frames {
        sender.send(frame).unwrap_or_else(|e| panic!("{frame:?}: {e}"));
    }
    let (here, there) = (take(&here, frames.len()), take(&there, frames.len()));
    for ((sent, here), there) in frames.iter().zip(&here).zip(&there) {
        // The kernel marks FD frames as such, so what it shows on the first bus is what must be on the second.
        assert_eq!(here, there, "sent as {sent:?}");
        assert_eq!((sent.id(), sent.data(), sent.dlc()), (here.id(), here.data(), here.dlc()));
    }
}

#[test]
fn every_kind_of_frame_crosses_to_the_pc() {
    let pair = Pair::new();
    let (server, client) = pair.joined();
    cross_unchanged(&pair.board, &pair.pc, &every_kind());
    counters(&client.stop().succeeded().err).all_zero();
    counters(&server.stop().succeeded().err).all_zero();
}

#[test]
fn every_kind_of_frame_crosses_to_the_board() {
    let pair = Pair::new();
    let (server, client) = pair.joined();
    cross_unchanged(&pair.pc, &pair.board, &every_kind());
    counters(&client.stop().succeeded().err).all_zero();
    counters(&server.stop().succeeded().err).all_zero();
}

#[test]
fn error_frames_cross_to_the_pc() {
    let pair = Pair::new();
    let _both = pair.joined();
    let errors = [0x004, 0x040, 0x080, 0x1FF, 0x1FFF_FFFF]
        .map(|class| Frame::classic(ERROR | class, &[0, 8, 0x10, 0x20, 0x40, 0, 96, 128]));
    cross_unchanged(&pair.board, &pair.pc, &errors);
}

/// What `cansend` takes, in each of its forms.
const CANSEND: [&str; 14] = [
    "123#",
    "123#DEADBEEF",
    "7FF#1122334455667788",
    "00000123#01",
    "1F334455#11.22.33",
    "123#R",
    "123#R5",
    "1FFFFFFF#R8",
    "123##0",
    "123##111",
    "123##2112233445566778899AABBCC",
    "00000123##3AA",
    "213##311223344",
    "1F334455##1000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F",
];

/// The frames of `candump -L` lines, without times and interfaces.
fn frames(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line.split_whitespace().nth(2).unwrap_or_else(|| panic!("{line:?}")))
        .collect()
}

fn can_utils_agree(from: &Namespace, to: &Namespace) {
    let here = Process::candump(from, &["-L", "vcan0"]);
    let there = Process::candump(to, &["-L", "vcan0"]);
    for frame in CANSEND {
        from.run_program("cansend", &["vcan0", frame]);
    }
    let (here, there) =
        (here.prints_lines(CANSEND.len(), SOON), there.prints_lines(CANSEND.len(), SOON));
    assert_eq!(frames(&here), frames(&there));
}

#[test]
fn candump_on_the_pc_shows_what_cansend_sent_on_the_board() {
    let pair = Pair::new();
    let _both = pair.joined();
    can_utils_agree(&pair.board, &pair.pc);
}

#[test]
fn candump_on_the_board_shows_what_cansend_sent_on_the_pc() {
    let pair = Pair::new();
    let _both = pair.joined();
    can_utils_agree(&pair.pc, &pair.board);
}

#[test]
fn fd_frames_toward_an_interface_without_fd_are_counted_and_never_sent_wrong() {
    let pair = Pair::without_can();
    pair.board.add_vcan("vcan0", 72);
    pair.pc.add_vcan("vcan0", 16);
    let (mut server, client) = pair.joined();
    let (sender, there) = (pair.board.can("vcan0"), pair.pc.can("vcan0"));
    let (before, after) = (Frame::classic(0x100, b"before"), Frame::classic(0x101, b"after"));
    let fd = |length| Frame::fd(0x123, BRS, &BYTES[..length]);
    for frame in [before, fd(8), fd(64), fd(0), after] {
        sender.send(&frame).unwrap();
    }
    assert_eq!(take(&there, 2), [before, after]);
    // The board learns of it by the next confirmation; ask it until it knows.
    let deadline = Instant::now() + SOON;
    let mut asked = 0;
    while !server.err().contains("refused=3") {
        assert!(Instant::now() < deadline, "the board's server never learns of the refused frames");
        server.signal(libc::SIGUSR1);
        asked += 1;
        server.says_times("refused=", asked, SOON);
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(counters(&client.stop().succeeded().err).get("refused"), 3);
    assert_eq!(counters(&server.stop().succeeded().err).get("refused"), 3);
}

#[test]
fn no_frame_comes_back_to_its_sender() {
    let pair = Pair::new();
    let _both = pair.joined();
    let (sender, here, there) =
        (pair.pc.can("vcan0"), pair.pc.can("vcan0"), pair.board.can("vcan0"));
    let frames: Vec<Frame> = (0..100_u8).map(|n| Frame::classic(0x321, &[n])).collect();
    frames.iter().for_each(|frame| sender.send(frame).unwrap());
    assert_eq!(take(&there, 100), frames);
    // A frame from the board overtakes nothing, so an echo would come before it.
    let last = Frame::classic(0x7FF, b"last");
    pair.board.can("vcan0").send(&last).unwrap();
    let mut seen = take(&here, 101);
    assert_eq!(seen.pop(), Some(last));
    assert_eq!(seen, frames);
    assert!(here.receive(Duration::from_millis(100)).unwrap().frames.is_empty());
}
