//! Filters: what does not pass does not travel, is not counted as lost, and is told to who sent it.

use crate::{
    lab::{BOARD, Pair, counters, eventually, status},
    process::{Process, SOON},
};

/// What the board's and the PC's tools show of frames sent on the board.
fn send(pair: &Pair, frames: &[&str]) {
    for frame in frames {
        pair.board.run_program("cansend", &["vcan0", frame]);
    }
}

fn frames(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.split_whitespace().nth(2)).collect()
}

const MIXED: [&str; 6] = ["123#01", "124#02", "00000123#03", "123#R", "123##103", "456#06"];

#[test]
fn a_listener_gets_only_what_it_asks_for_as_candump_would() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    for filter in ["123:7FF", "123:C00007FF", "123~7FF,456~7FF,j", "vcan0,00000123:9FFFFFFF,#FF"] {
        let ours = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0", "--filter", filter]);
        ours.says("link up");
        let bare = filter.trim_start_matches("vcan0,");
        let theirs = Process::candump(&pair.board, &["-L", &format!("vcan0,{bare}")]);
        let all = Process::candump(&pair.board, &["-L", "vcan0"]);
        send(&pair, &MIXED);
        all.prints_lines(MIXED.len(), SOON);
        let wanted = theirs.out().lines().count();
        assert!(wanted > 0, "{filter}");
        let lines = ours.prints_lines(wanted, SOON);
        let theirs: Vec<String> = theirs.out().lines().map(str::to_owned).collect();
        assert_eq!(frames(&lines), frames(&theirs), "{filter}");
        let ended = ours.stop().succeeded();
        assert_eq!(counters(&ended.err).get("received"), wanted as u64, "{filter}");
        counters(&ended.err).all_zero();
    }
    assert!(server.err().contains("lost=0"));
}

#[test]
fn what_does_not_pass_is_neither_lost_nor_missing_after_a_cut() {
    let pair = Pair::new();
    let mut server = pair.serve(&["vcan0"]);
    let client = pair.connect(&["vcan0", "--filter", "100:700"]);
    let candump = Process::candump(&pair.pc, &["-L", "vcan0"]);
    pair.plug(false);
    client.says_times("link down", 1, SOON);
    // Of these 400 the PC wants 100.
    for number in 0..100 {
        send(&pair, &[&format!("1{number:02X}#"), "200#", "300#", "00000400#"]);
    }
    pair.plug(true);
    client.says_times("link up", 2, SOON);
    let lines = candump.prints_lines(100, SOON);
    for (number, frame) in frames(&lines).iter().enumerate() {
        assert_eq!(*frame, format!("1{number:02X}#"));
    }
    // Receipts come a little later than the frames.
    eventually("the board knows that all were sent", SOON, || {
        status(&pair.board, BOARD)["links"][0]["to_peer"]["sent"] == 100
    });
    server.signal(libc::SIGUSR1);
    server.says("sent=100");
    let ended = client.stop().succeeded();
    assert_eq!(counters(&ended.err).get("received"), 100);
    counters(&ended.err).all_zero();
}

#[test]
fn a_frame_that_may_not_be_sent_is_refused_and_its_sender_told() {
    let pair = Pair::new();
    let arguments = ["vcan0", "--tx-filter", "7E0:7F8", "--filter", "123~7FF"];
    let _server = pair.serve(&arguments);
    let candump = Process::candump(&pair.board, &["-L", "vcan0"]);
    let send =
        |frame: &str| Process::canspan(&pair.pc, &["send", BOARD, "vcan0", frame]).finish(SOON);
    send("7E1#0102").succeeded();
    let refused = send("123#0102");
    assert_eq!(refused.code(), 1, "{refused:?}");
    assert!(refused.err.contains("does not let this peer send it"), "{refused:?}");
    candump.prints_lines(1, SOON);
    // What leaves the bus is filtered for everybody.
    let dump = Process::canspan(&pair.pc, &["dump", BOARD]);
    dump.says("link up");
    pair.board.run_program("cansend", &["vcan0", "123#"]);
    pair.board.run_program("cansend", &["vcan0", "124#"]);
    assert_eq!(frames(&dump.prints_lines(1, SOON)), ["124#"]);
    eventually("only the one was sent", SOON, || candump.out().lines().count() == 3);
}
