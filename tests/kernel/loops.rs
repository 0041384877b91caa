//! Ordinary mistakes that would make a ring: a frame crosses once, and the operator learns why.

use core::time::Duration;

use crate::{
    lab::{BOARD, Namespace, Pair},
    process::{Process, SOON},
};

const REASON: &str = "already joined these two buses";
/// The longest pause between two tries, and some time on a busy machine.
const TAKEN_OVER: Duration = Duration::from_secs(15);

/// A frame sent in one place is on each bus exactly once, 2 s later.
pub(crate) fn crosses_once(from: &Namespace, buses: &[&Namespace], id: u32) {
    let sockets: Vec<_> = buses.iter().map(|place| place.can_only("vcan0", id)).collect();
    from.run_program("cansend", &["vcan0", &format!("{id:03X}#0102")]);
    std::thread::sleep(Duration::from_secs(2));
    for (socket, place) in sockets.iter().zip(buses) {
        let mut count = 0;
        loop {
            let frames = socket.receive(Duration::from_millis(50)).unwrap().frames.len();
            count += frames;
            if frames == 0 || count > 100 {
                break;
            }
        }
        assert_eq!(count, 1, "frames of id {id:03X} in {}", place.name());
    }
}

fn crosses_once_each_way(pair: &Pair, id: u32) {
    crosses_once(&pair.board, &[&pair.board, &pair.pc], id);
    crosses_once(&pair.pc, &[&pair.board, &pair.pc], id + 1);
}

#[test]
fn loops_connect_started_twice_joins_once_and_the_second_takes_over() {
    let pair = Pair::new();
    let (server, first) = pair.joined();
    let second = Process::canspan(&pair.pc, &["connect", BOARD, "vcan0"]);
    second.says(REASON);
    assert!(!second.err().contains("link up"), "{}", second.err());
    crosses_once_each_way(&pair, 0x101);

    let buses = [pair.board.can_only("vcan0", 0x101), pair.pc.can_only("vcan0", 0x101)];
    // Killed, so that nothing of it can clean up.
    drop(first);
    second.says_times("link up", 1, TAKEN_OVER);
    crosses_once_each_way(&pair, 0x103);
    // Nor does it repeat what the first had carried.
    for bus in buses {
        assert!(bus.receive(Duration::from_millis(50)).unwrap().frames.is_empty());
    }
    second.stop().succeeded();
    server.stop().succeeded();
}

#[test]
fn loops_serve_and_connect_on_one_machine_do_not_feed_each_other() {
    let place = Namespace::new("one");
    place.add_vcan("vcan0", 72);
    let server = Process::canspan(&place, &["serve", "vcan0"]);
    server.says("listening on 127.0.0.1:22677");
    let client = Process::canspan(&place, &["connect", "127.0.0.1", "vcan0"]);
    client.says("would lead the bus back to itself");
    server.says("would lead the bus back to itself");
    crosses_once(&place, &[&place], 0x111);
    assert!(!client.err().contains("link up"), "{}", client.err());
}

#[test]
fn loops_two_buses_of_one_machine_may_be_joined() {
    let place = Namespace::new("one");
    place.add_vcan("vcan0", 72);
    place.add_vcan("vcan1", 72);
    let server = Process::canspan(&place, &["serve", "vcan0"]);
    server.says("listening on 127.0.0.1:22677");
    let client = Process::canspan(&place, &["connect", "127.0.0.1", "vcan0:vcan1"]);
    client.says("link up");
    let there = place.can_only("vcan1", 0x121);
    crosses_once(&place, &[&place], 0x121);
    assert_eq!(there.receive(SOON).unwrap().frames.len(), 1);
}

#[test]
fn loops_machines_that_serve_and_connect_to_each_other_join_once() {
    let pair = Pair::new();
    let board_serves = pair.serve(&["vcan0"]);
    let pc_serves =
        Process::canspan(&pair.pc, &["serve", "vcan0", "--listen", "10.0.0.2", "--insecure"]);
    pc_serves.says("listening on 10.0.0.2:22677");
    let pc_connects = Process::canspan(&pair.pc, &["connect", BOARD, "vcan0"]);
    let board_connects = Process::canspan(&pair.board, &["connect", "10.0.0.2", "vcan0"]);
    let both = || pc_connects.err() + &board_connects.err();
    crate::lab::eventually("one is up and one is refused", TAKEN_OVER, || {
        both().contains("link up") && both().contains(REASON)
    });
    crosses_once_each_way(&pair, 0x131);
    assert_eq!(both().matches("link up").count(), 1, "{}", both());

    // Either way, the other takes over.
    let (up, other) = if pc_connects.err().contains("link up") {
        (pc_connects, board_connects)
    } else {
        (board_connects, pc_connects)
    };
    drop(up);
    other.says_times("link up", 1, TAKEN_OVER);
    crosses_once_each_way(&pair, 0x133);
    drop((board_serves, pc_serves));
}
