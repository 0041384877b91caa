//! More frames at once than anything takes in one turn, and then silence: what is left to do is done without another
//! event, and what had no room is counted without another frame.

use core::{ops::Range, time::Duration};
use std::thread;

use crate::{
    lab::{BOARD, Namespace, Pair, counters, eventually, status},
    numbered::Account,
    plain::{Printed, gaps_us},
    process::{Process, SOON},
    stranger::{Stranger, greeting},
    sys::{BATCH, CanSocket, Frame},
};

const ID: u32 = 0x100;
/// More than the kernel keeps for a reader that stands still.
const FLOOD: u64 = 20_000;

/// Numbered frames on `vcan0`, as fast as the kernel takes them.
pub(crate) fn burst(namespace: &Namespace, id: u32, numbers: Range<u64>) {
    let socket = namespace.can_sender("vcan0");
    let frames: Vec<Frame> = numbers.map(|n| Frame::classic(id, &n.to_le_bytes())).collect();
    for mut batch in frames.chunks(BATCH) {
        while !batch.is_empty() {
            batch = &batch[socket.send_batch(batch).expect("the vcan takes frames")..];
        }
    }
}

/// The numbered frames that come to the PC's bus until it is silent, and when, in microseconds.
///
/// No everyday reader holds such a burst, on the board's bus neither, where it is made at once. A real bus makes none.
fn arrivals(socket: &CanSocket) -> Vec<Printed> {
    let mut seen = Vec::new();
    loop {
        let batch = socket.receive(Duration::from_millis(1_500)).unwrap();
        if batch.frames.is_empty() {
            return seen;
        }
        let frames = batch.frames.iter().map(Frame::number).zip(batch.stamps_us);
        seen.extend(frames.map(|(number, at_us)| Printed { at_us, number }));
    }
}

fn is_whole(seen: &[Printed], count: u64) {
    let mut account = Account::new(count);
    seen.iter().for_each(|printed| account.enter(printed.number));
    account.close().is_perfect(count);
}

#[test]
fn burst_then_silence_is_delivered_without_gap() {
    const COUNT: u64 = 2_000;
    const LONGEST_US: u64 = 50_000;
    let pair = Pair::new();
    let (_server, mut client) = pair.joined();
    let mut gaps = Vec::new();
    // The next heartbeat would end a pause, and comes soon in some rounds; other work on the machine makes some of its own.
    for round in 0..4 {
        let id = ID + round;
        let socket = pair.pc.can_only("vcan0", id);
        client.signal(libc::SIGSTOP);
        burst(&pair.board, id, 0..COUNT);
        client.signal(libc::SIGCONT);
        let seen = arrivals(&socket);
        is_whole(&seen, COUNT);
        gaps.push(gaps_us(&seen)[0]);
    }
    println!("    the longest gaps: {gaps:?} us");
    gaps.sort_unstable();
    assert!(gaps[2] <= LONGEST_US, "gaps in more than one burst");
}

#[test]
fn burst_leaves_nothing_stale_on_free_bus() {
    const COUNT: u64 = 2_000;
    let pair = Pair::new();
    let _server = pair.serve(&["vcan0"]);
    let client = pair.connect(&["vcan0", "--max-age", "300ms"]);
    let socket = pair.pc.can_only("vcan0", ID);
    let mut seen = Vec::new();
    for round in 0..3 {
        burst(&pair.board, ID, round * COUNT..(round + 1) * COUNT);
        // Then nothing wakes anybody but what is left to do.
        seen.extend(arrivals(&socket));
    }
    let counted = counters(&client.stop().succeeded().err);
    println!("    {} of {}; {counted:?}", seen.len(), 3 * COUNT);
    assert_eq!((counted.get("stale"), counted.get("lost")), (0, 0), "{counted:?}");
    is_whole(&seen, 3 * COUNT);
}

/// Frames that the bus of `serve` took in, and those that its kernel dropped.
fn taken_and_dropped(pair: &Pair) -> (u64, u64) {
    let json = status(&pair.board, BOARD);
    let number = |name: &str| json["buses"][0][name].as_u64().unwrap();
    (number("received"), number("overflow"))
}

#[test]
fn overflow_is_counted_while_the_bus_is_silent() {
    let pair = Pair::new();
    let mut server = pair.serve(&["vcan0"]);
    server.signal(libc::SIGSTOP);
    burst(&pair.board, ID, 0..FLOOD);
    server.signal(libc::SIGCONT);
    let mut last = (0, 0);
    eventually("all frames are counted", Duration::from_secs(3), || {
        last = taken_and_dropped(&pair);
        println!("    taken in and dropped: {last:?}");
        thread::sleep(Duration::from_millis(300));
        last.0 + last.1 == FLOOD
    });
    assert!(last.1 > 0, "there was no overflow");
}

/// The last report of a `serve` that is told to end while so many frames wait for it.
fn ended_with_unread(count: u64) -> (u64, u64, String) {
    let pair = Pair::new();
    let (mut server, client) = pair.joined();
    burst(&pair.board, ID, 0..100);
    eventually("the link has carried", SOON, || {
        status(&pair.board, BOARD)["links"][0]["to_peer"]["sent"] == 100
    });
    server.signal(libc::SIGSTOP);
    burst(&pair.board, ID, 100..100 + count);
    server.signal(libc::SIGTERM);
    server.signal(libc::SIGCONT);
    let log = server.finish(SOON).succeeded().err;
    let told = counters(&log);
    let ends = ["sent", "taken", "lost", "stale", "refused", "failed", "unconfirmed", "behind"];
    let all: u64 = ends.into_iter().map(|name| told.get(name)).sum();
    drop(client);
    (all - 100, told.get("overflow"), log)
}

#[test]
fn overflow_is_counted_in_the_last_report() {
    let (taken, dropped, log) = ended_with_unread(FLOOD);
    println!("    taken in {taken}, dropped {dropped}");
    assert!(dropped > 0, "{log}");
    assert_eq!(taken + dropped, FLOOD, "{log}");
}

#[test]
fn frames_unread_at_the_end_are_counted() {
    const COUNT: u64 = 3_000;
    let (taken, dropped, log) = ended_with_unread(COUNT);
    println!("    taken in {taken}, dropped {dropped}");
    assert_eq!(taken + dropped, COUNT, "{log}");
}

/// The answer about as many peers as are remembered does not fit the kernel's buffers.
#[test]
fn status_of_many_peers_arrives_whole() {
    const BUSES: usize = 16;
    /// Peers that a bus remembers.
    const PEERS: usize = 96;
    let place = Namespace::new("board");
    let names: Vec<String> = (0..BUSES).map(|number| format!("sim:b{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let options = ["--listen", "127.0.0.1", "--insecure", "--history", "64k"];
    let server = Process::canspan(&place, &[&["serve"], &names[..], &options].concat());
    server.says("listening on");
    place.run(move || {
        for number in 0..BUSES * PEERS {
            let mut peer = Stranger::dials("127.0.0.1:22677").unwrap();
            let bus = format!("b{}", number % BUSES);
            let answer = peer.greets(greeting(&bus, 1_000 + number as u64)).unwrap();
            assert!(answer.is_some(), "peer {number} is refused");
            // One that has carried nothing may be forgotten.
            peer.sends_a_frame_and_leaves().unwrap();
        }
    });
    let asked = Process::canspan(&place, &["status", "127.0.0.1", "--json"]).finish(SOON);
    let asked = asked.succeeded();
    println!("    {} bytes", asked.out.len());
    let json: serde_json::Value = serde_json::from_str(&asked.out).expect("JSON");
    assert_eq!(json["buses"].as_array().unwrap().len(), BUSES);
    assert!(asked.out.len() > 300_000, "the answer was too short to prove anything");
}
