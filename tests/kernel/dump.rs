//! `canspan dump`: a candump log of a remote bus.

use std::fs;

use crate::{
    lab::{BOARD, Namespace, Pair, eventually, scratch},
    process::{Process, SOON},
    sys::{EXTENDED, Frame},
};

/// Lines of `candump -L` as (time, frame).
fn parsed(lines: &[String]) -> Vec<(&str, &str)> {
    lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() >= 3 && words[1] == "vcan0", "not a line of candump -L: {line:?}");
            (words[0], words[2])
        })
        .collect()
}

/// Some frames of several kinds on an interface of the namespace.
fn send_some(namespace: &Namespace) -> usize {
    let socket = namespace.can_sender("vcan0");
    let frames = (0..50_u8).flat_map(|n| {
        [
            Frame::classic(0x100 + u32::from(n), &[n; 8]),
            Frame::classic(EXTENDED | 0x10, &[n]),
            Frame::remote(0x7FF, 3),
            Frame::fd(0x200, 1, &[n; 64]),
        ]
    });
    frames.map(|frame| socket.send(&frame).unwrap()).count()
}

#[test]
fn dump_prints_what_candump_prints_on_the_board_and_when() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let candump = Process::candump(&pair.board, &["-L", "vcan0"]);
    let dump = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    server.says("link up");
    let count = send_some(&pair.board);
    let (expected, printed) = (candump.prints_lines(count, SOON), dump.prints_lines(count, SOON));
    assert_eq!(parsed(&printed), parsed(&expected));
    dump.stop().succeeded();
}

#[test]
fn a_dump_in_a_file_is_replayed_by_canplayer_unchanged() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let log = scratch().join("dump.log");
    let log = log.to_str().unwrap();
    let command = format!("exec \"$0\" dump {BOARD} vcan0 >{log}");
    let dump = Process::start(&pair.pc, "sh", &["-c", &command, &crate::process::canspan()]);
    server.says("link up");
    let count = send_some(&pair.board);
    eventually("the file is complete", SOON, || {
        fs::read_to_string(log).unwrap().lines().count() >= count
    });
    dump.stop().succeeded();

    let replayed = Process::candump(&pair.pc, &["-L", "vcan0"]);
    pair.pc.run_program("canplayer", &["-I", log, "vcan0=vcan0"]);
    let original: Vec<String> =
        fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect();
    let replayed = replayed.prints_lines(count, SOON);
    let frames =
        |lines| parsed(lines).into_iter().map(|(_, frame)| frame.to_owned()).collect::<Vec<_>>();
    assert_eq!(frames(&replayed), frames(&original));
}

#[test]
fn dump_last_begins_with_what_happened_before() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let watcher = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    server.says("link up");
    let count = send_some(&pair.board);
    let expected = watcher.prints_lines(count, SOON);
    let late = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0", "--last", "30s"]);
    assert_eq!(late.prints_lines(count, SOON), expected);
    // And goes on with what happens now.
    pair.board.run_program("cansend", &["vcan0", "7FF#00"]);
    assert!(late.prints_lines(count + 1, SOON)[count].ends_with(" vcan0 7FF#00"));
}

#[test]
fn dump_without_last_begins_now() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let watcher = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    server.says("link up");
    let count = send_some(&pair.board);
    watcher.prints_lines(count, SOON);
    let late = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    server.says_times("link up", 2, SOON);
    pair.board.run_program("cansend", &["vcan0", "7FF#00"]);
    let lines = late.prints_lines(1, SOON);
    assert!(lines[0].ends_with(" vcan0 7FF#00"), "{lines:?}");
}

#[test]
fn dump_of_a_simulated_bus_needs_no_can_in_the_kernel() {
    let pair = Pair::without_can();
    let server = pair.serve(&["sim:engine?rate=200"]);
    let dump = Process::canspan(&pair.pc, &["dump", BOARD]);
    server.says("link up");
    let lines = dump.prints_lines(20, SOON);
    assert!(lines.iter().all(|line| line.starts_with('(') && line.contains('#')), "{lines:?}");
    assert_eq!(pair.board.listeners() + pair.pc.listeners(), 0, "a CAN socket was opened");
}

#[test]
fn a_trace_is_replayed_on_a_simulated_bus_at_its_own_pace_and_looped() {
    let pair = Pair::without_can();
    let trace = scratch().join("trace.log");
    fs::write(
        &trace,
        "(1000.000000) can0 123#01\n(1000.100000) can0 00000123#02\n(1000.200000) can0 123##103\n",
    )
    .unwrap();
    let _server = pair.serve(&[&format!("sim:engine?trace={}", trace.display())]);
    let dump = Process::canspan(&pair.pc, &["dump", BOARD]);
    let lines = dump.prints_lines(18, SOON);
    let (mut times, mut frames) = (Vec::new(), Vec::new());
    for line in &lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        times.push(words[0].trim_matches(['(', ')']).parse::<f64>().unwrap());
        frames.push(words[2].to_owned());
    }
    let first = frames.iter().position(|frame| frame == "123#01").expect("the trace's first frame");
    // Flag 4 marks an FD frame as one, as the kernel does.
    assert_eq!(frames[first..first + 4], ["123#01", "00000123#02", "123##503", "123#01"]);
    // A processor that is busy elsewhere makes one round shorter or longer, not five.
    let paces: Vec<f64> = times[first..].chunks_exact(3).map(|round| round[2] - round[0]).collect();
    let in_pace = |pace: &f64| (0.19..0.22).contains(pace);
    assert!(paces.iter().any(in_pace), "0.2 s of the trace took {paces:?} s");
}

#[test]
fn dump_ends_quietly_when_its_reader_does() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let command = format!("\"$0\" dump {BOARD} vcan0 | head -n 3");
    let mut head = Process::start(&pair.pc, "sh", &["-c", &command, &crate::process::canspan()]);
    server.says("link up");
    let socket = pair.board.can_sender("vcan0");
    let mut sent = 0_u32;
    eventually("dump | head ends", SOON, || {
        socket.send(&Frame::classic(0x123, &sent.to_be_bytes())).unwrap();
        sent += 1;
        !head.is_running()
    });
    let finished = head.finish(SOON).succeeded();
    assert_eq!(finished.out.lines().count(), 3);
    assert!(!finished.err.contains("panicked"), "{}", finished.err);
}
