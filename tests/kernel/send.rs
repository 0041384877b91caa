//! `canspan send`: frames onto a remote bus, and the truth about each.

use core::time::Duration;
use std::{io::Write, process::Stdio};

use crate::{
    lab::{BOARD, Pair},
    process::{Finished, Process, SOON},
};

fn send(pair: &Pair, frames: &[&str]) -> Finished {
    Process::canspan(&pair.pc, &[&["send", BOARD, "vcan0"], frames].concat()).finish(SOON)
}

/// A failure that is told: exit code 1 and a sentence.
fn fails_with_a_sentence(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(
        words.iter().any(|word| finished.err.contains(word)),
        "none of {words:?} in: {}",
        finished.err
    );
    assert!(!finished.err.contains("panicked"), "{}", finished.err);
}

#[test]
fn send_takes_every_form_that_cansend_takes() {
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let candump = Process::candump(&pair.board, &["-L", "vcan0"]);
    let forms = [
        ("123#", "123#"),
        ("123#DEADBEEF", "123#DEADBEEF"),
        ("5A1#11.2233.44556677.88", "5A1#1122334455667788"),
        ("00000123#01", "00000123#01"),
        ("1F334455#1122334455667788", "1F334455#1122334455667788"),
        ("123#R", "123#R"),
        ("00000123#R3", "00000123#R3"),
        ("123##0", "123##0"),
        ("213##311223344", "213##311223344"),
        ("7ff##1aabbccddeeff00112233", "7FF##1AABBCCDDEEFF001122330000"),
    ];
    let given: Vec<&str> = forms.iter().map(|(given, _)| *given).collect();
    send(&pair, &given).succeeded();
    let lines = candump.prints_lines(forms.len(), SOON);
    for (line, (given, expected)) in lines.iter().zip(forms) {
        let frame = line.split_whitespace().nth(2).unwrap();
        // A kernel since 6.1 marks FD frames with flag 4, which candump then shows.
        let shown = |text: &str| match text.split_once("##") {
            Some((id, rest)) => {
                let flags = u8::from_str_radix(&rest[..1], 16).unwrap() & 3;
                format!("{id}##{flags}{}", &rest[1..])
            }
            None => text.to_owned(),
        };
        assert_eq!(shown(frame), expected, "sent as {given}");
    }
}

#[test]
fn send_takes_a_raw_dlc() {
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let socket = pair.board.can("vcan0");
    send(&pair, &["123#1122334455667788_F", "123#1122334455667788_9"]).succeeded();
    let mut dlcs = Vec::new();
    while dlcs.len() < 2 {
        let frames = socket.receive(SOON).unwrap().frames;
        assert!(!frames.is_empty(), "only {dlcs:?} came");
        dlcs.extend(frames.iter().map(crate::sys::Frame::dlc));
    }
    assert_eq!(dlcs, [15, 9]);
}

#[test]
fn send_reads_lines_from_standard_input() {
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let candump = Process::candump(&pair.board, &["-L", "vcan0"]);
    let arguments = ["send", BOARD, "vcan0"];
    let mut send =
        Process::start_fed(&pair.pc, &crate::process::canspan(), &arguments, Stdio::piped());
    let mut input = send.input();
    writeln!(input, "123#01").unwrap();
    input.flush().unwrap();
    // Line by line: the first is on the bus before the input ends.
    candump.prints_lines(1, SOON);
    writeln!(input, "124#02\n125##003").unwrap();
    drop(input);
    send.finish(SOON).succeeded();
    let lines = candump.prints_lines(3, SOON);
    assert!(lines[0].contains(" 123#01") && lines[1].contains(" 124#02"), "{lines:?}");
}

#[test]
fn when_send_has_ended_the_frames_are_on_the_bus() {
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let socket = pair.board.can("vcan0");
    let frames: Vec<String> = (0..200).map(|n| format!("100#{n:04X}")).collect();
    let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
    send(&pair, &frames).succeeded();
    // No patience at all: exit 0 says that they are there.
    let mut count = 0;
    loop {
        let batch = socket.receive(Duration::ZERO).unwrap().frames.len();
        if batch == 0 {
            break;
        }
        count += batch;
    }
    assert_eq!(count, 200);
}

#[test]
fn send_says_when_the_interface_is_down() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    pair.board.ip("link set vcan0 down");
    let arguments = ["send", BOARD, "vcan0", "123#01"];
    let finished = Process::canspan(&pair.pc, &arguments).finish(Duration::from_secs(60));
    fails_with_a_sentence(&finished, &["down", "stale", "not"]);
    drop(server);
}

#[test]
fn send_says_when_the_bus_is_not_served() {
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let finished = Process::canspan(&pair.pc, &["send", BOARD, "can7", "123#01"]).finish(SOON);
    fails_with_a_sentence(&finished, &["can7"]);
}

#[test]
fn send_says_when_an_interface_has_no_fd() {
    let pair = Pair::without_can();
    pair.board.add_vcan("vcan0", 16);
    let _server = pair.serve(&["vcan0"]);
    let finished = send(&pair, &["123##100112233"]);
    fails_with_a_sentence(&finished, &["FD", "refused"]);
}

#[test]
fn send_says_when_nobody_listens() {
    let pair = Pair::new();
    let finished = Process::canspan(&pair.pc, &["send", BOARD, "vcan0", "123#01"])
        .finish(Duration::from_secs(60));
    fails_with_a_sentence(&finished, &["refused", "10.0.0.1"]);
}

#[test]
fn send_refuses_what_is_no_frame_before_it_dials() {
    let pair = Pair::without_can();
    for text in [
        "",
        "123",
        "12#00",
        "8FF#00",
        "123#0",
        "123#112233445566778899",
        "123##0112233445566778899AA.BB.C",
        "zzz#",
    ] {
        let finished = send(&pair, &[text]);
        assert_eq!(finished.code(), 2, "{text:?}: {finished:?}");
        assert!(!finished.err.is_empty(), "{text:?} is refused without a word");
    }
}
