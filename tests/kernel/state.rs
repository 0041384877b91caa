//! The state of a bus, whatever happens to its interface: known at both ends, healed from, and never a reason to put
//! an old command on the bus.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::{collections::HashMap, sync::Arc, thread, time::Instant};

use crate::{
    controller::Adapter,
    lab::{BOARD, Pair, counters, eventually},
    numbered::{Checker, Generator},
    process::{Process, SOON, canspan},
    sys::{CanSocket, ERROR, Frame},
};

/// Classes of error in `linux/can/error.h`.
const CONTROLLER: u32 = 0x04;
const BUS_OFF: u32 = 0x40;
const RESTARTED: u32 = 0x100;
const COUNTERS: u32 = 0x200;
/// Bits of `data[1]`.
const RX_WARNING: u8 = 0x04;
const TX_PASSIVE: u8 = 0x20;
const ACTIVE: u8 = 0x40;

const TO_BOARD: u32 = 0x200;

/// An error frame as a controller's driver makes it.
fn error(class: u32, controller: u8, tx: u8, rx: u8) -> Frame {
    Frame::classic(ERROR | class | COUNTERS, &[0, controller, 0, 0, 0, 0, tx, rx])
}

/// `canspan serve` with more than buses.
fn serve(pair: &Pair, arguments: &[&str]) -> Process {
    let all = [&["serve"], arguments, &["--listen", BOARD, "--insecure"]].concat();
    let server = Process::canspan(&pair.board, &all);
    server.says("listening on 10.0.0.1:22677");
    server
}

/// Frames from either side arrive on the other, sooner or later. `can` is the board's interface.
fn carries(pair: &Pair, can: &str) {
    for (from, to, id) in [
        (pair.board.can(can), pair.pc.can_only("vcan0", 0x555), 0x555),
        (pair.pc.can("vcan0"), pair.board.can_only(can, 0x666), 0x666),
    ] {
        eventually("a frame is carried", SOON, || {
            from.send(&Frame::classic(id, &[1])).unwrap();
            !to.receive(Duration::from_millis(100)).unwrap().frames.is_empty()
        });
    }
}

/// How many frames a socket gets before it is silent.
fn drain(socket: &CanSocket) -> usize {
    let mut count = 0;
    loop {
        match socket.receive(Duration::from_millis(300)).unwrap().frames.len() {
            0 => return count,
            more => count += more,
        }
    }
}

#[test]
fn both_ends_learn_the_state_and_the_error_counters() {
    let pair = Pair::new();
    let (server, client) = pair.joined();
    let board = pair.board.can_sender("vcan0");
    let mut ups = 1;
    client.says_times("its bus is up", ups, SOON);
    for (frame, state) in [
        (error(CONTROLLER, RX_WARNING, 3, 96), "error-warning (error counters: tx 3, rx 96)"),
        (error(CONTROLLER, TX_PASSIVE, 128, 96), "error-passive (error counters: tx 128, rx 96)"),
        (error(CONTROLLER, ACTIVE, 80, 90), "up (error counters: tx 80, rx 90)"),
        (error(BUS_OFF, 0, 255, 0), "bus-off (error counters: tx 255, rx 0)"),
        (error(RESTARTED, 0, 0, 0), "up (error counters: tx 0, rx 0)"),
    ] {
        board.send(&frame).unwrap();
        server.says(&format!("vcan0: {state}"));
        client.says(&format!("its bus is {state}"));
        ups += usize::from(state.starts_with("up"));
    }
    // One line for each change, and none for what changes nothing.
    (0..50).for_each(|n| board.send(&error(0x80, 0, n, n)).unwrap());
    carries(&pair, "vcan0");
    assert_eq!(client.err().matches("its bus is").count(), 6, "{}", client.err());
    // What the board's bus went through is no fault of the PC's, whose own bus shows the same error frames.
    assert_eq!(client.err().matches("canspan: vcan0: up").count(), 1, "{}", client.err());
    assert_eq!(client.err().matches("its bus is up").count(), ups);
}

#[test]
fn a_state_that_changes_all_the_time_does_not_flood_the_log() {
    let pair = Pair::new();
    let (server, client) = pair.joined();
    let board = pair.board.can_sender("vcan0");
    for _ in 0..1_000 {
        board.send(&error(BUS_OFF, 0, 255, 0)).unwrap();
        board.send(&error(RESTARTED, 0, 0, 0)).unwrap();
    }
    board.send(&error(CONTROLLER, TX_PASSIVE, 130, 0)).unwrap();
    server.says_times("vcan0: error-passive (error counters: tx 130, rx 0), after", 1, 2 * SOON);
    carries(&pair, "vcan0");
    for log in [server.err(), client.err()] {
        assert!(log.lines().count() < 30, "{} lines", log.lines().count());
    }
}

#[test]
fn a_virtual_bus_comes_back_from_bus_off_in_every_way_there_is() {
    let pair = Pair::new();
    let server = serve(&pair, &["vcan0", "--max-age", "500ms"]);
    let client = pair.connect(&["vcan0"]);
    let board = pair.board.can_sender("vcan0");
    let off = |times| {
        board.send(&error(BUS_OFF, 0, 255, 0)).unwrap();
        server.says_times("vcan0: bus-off", times, SOON);
        client.says_times("its bus is bus-off", times, SOON);
    };
    off(1);
    board.send(&error(RESTARTED, 0, 0, 0)).unwrap();
    server.says_times("canspan: vcan0: up", 2, SOON);
    off(2);
    board.send(&Frame::classic(0x123, &[])).unwrap();
    server.says_times("canspan: vcan0: up", 3, SOON);
    off(3);
    pair.board.ip("link set vcan0 down");
    server.says_times("vcan0: down", 1, SOON);
    pair.board.ip("link set vcan0 up");
    server.says_times("canspan: vcan0: up", 4, SOON);
    client.says_times("its bus is up", 4, SOON);
    carries(&pair, "vcan0");
    counters(&client.stop().succeeded().err).all_zero();
    counters(&server.stop().succeeded().err).all_zero();
}

#[test]
fn after_an_outage_not_one_old_command_reaches_the_bus() {
    const LIMIT_US: u64 = 500_000;
    /// What the two clocks' difference may be misjudged by.
    const SLACK_US: u64 = 50_000;
    /// The longest attempt to reach the board, 3 s, and the longest pause after it, 2 s.
    const REACHED: Duration = Duration::from_millis(5_000 + 500);
    let pair = Pair::new();
    let server = serve(&pair, &["vcan0", "--max-age", "500ms"]);
    let client = pair.connect(&["vcan0"]);
    // How many commands there are, once that is known.
    let count = Arc::new(AtomicU64::new(u64::MAX));
    let times = |socket| {
        let count = Arc::clone(&count);
        thread::spawn(move || times_until_the_last(&socket, &count))
    };
    let given = times(pair.pc.can_only("vcan0", TO_BOARD));
    let put = times(pair.board.can_only("vcan0", TO_BOARD));
    let commands = Generator::start(pair.pc.can_sender("vcan0"), TO_BOARD, u64::MAX, 100);
    thread::sleep(Duration::from_secs(1));
    pair.plug(false);
    thread::sleep(Duration::from_secs(30));
    pair.plug(true);
    client.says_times("vcan0: link up", 2, REACHED);
    thread::sleep(Duration::from_secs(3));
    let sent = commands.stop();
    count.store(sent, Ordering::Relaxed);
    let (given, put) = (given.join().unwrap(), put.join().unwrap());
    assert_eq!(given.len() as u64, sent);
    let age_us = |number| put[number].saturating_sub(given[number]);
    let oldest_us = put.keys().map(age_us).max().unwrap_or_default();
    let (client, server) = (client.stop().succeeded().err, server.stop().succeeded().err);
    let (client, server) = (counters(&client), counters(&server));
    let stale = client.get("stale");
    println!(
        "    {sent} commands, {} put on the bus, the oldest after {oldest_us} us; stale {stale}",
        put.len()
    );
    assert!(oldest_us <= LIMIT_US + SLACK_US, "a command of {oldest_us} us ago reached the bus");
    assert_eq!(server.get("stale"), stale, "{client:?}\n{server:?}");
    assert_eq!(put.len() as u64 + stale, sent, "{client:?}");
    assert!(stale >= 2_800, "the outage was too short to prove anything: {stale} stale");
}

/// When the kernel saw each numbered frame (microseconds since the Unix epoch), until the last of `count` came.
fn times_until_the_last(socket: &CanSocket, count: &AtomicU64) -> HashMap<u64, u64> {
    let (mut times, mut counted) = (HashMap::new(), None);
    loop {
        let received = socket.receive(Duration::from_millis(100)).unwrap();
        assert_eq!(received.overflow, 0, "the test reads too slowly");
        times.extend(received.frames.iter().map(Frame::number).zip(received.stamps_us));
        let count = count.load(Ordering::Relaxed);
        if times.contains_key(&count.wrapping_sub(1)) {
            return times;
        }
        if count < u64::MAX {
            let since = *counted.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < SOON, "the last of {count} commands is missing");
        }
    }
}

#[test]
fn an_interface_deleted_and_made_again_under_traffic_heals_on_either_side() {
    let pair = Pair::new();
    let (mut server, mut client) = pair.joined();
    for (here, there, process) in
        [(&pair.board, &pair.pc, &server), (&pair.pc, &pair.board, &client)]
    {
        let traffic = Generator::start(there.can_sender("vcan0"), 0x100, u64::MAX, 500);
        for times in 1..=3 {
            here.ip("link del vcan0");
            process.says_times("vcan0: absent", times, SOON);
            here.add_vcan("vcan0", 72);
            process.says_times("canspan: vcan0: up", times + 1, SOON);
        }
        let arrives = here.can_only("vcan0", 0x100);
        eventually("the traffic is back", SOON, || {
            !arrives.receive(Duration::from_millis(100)).unwrap().frames.is_empty()
        });
        traffic.stop();
        carries(&pair, "vcan0");
    }
    assert!(server.is_running() && client.is_running());
    assert_eq!(client.err().matches("link up").count(), 1, "the link had to be made anew");
}

#[test]
fn what_an_interface_showed_before_it_was_removed_is_carried() {
    const COUNT: u64 = 150;
    let pair = Pair::new();
    let (mut server, _client) = pair.joined();
    let checker = Checker::start(pair.pc.can_only("vcan0", 0x100), COUNT, SOON);
    // Stopped, so that all of them wait in its socket when the interface goes.
    server.signal(libc::SIGSTOP);
    Generator::start(pair.board.can_sender("vcan0"), 0x100, COUNT, 10_000).finish();
    pair.board.ip("link del vcan0");
    server.signal(libc::SIGCONT);
    server.says("vcan0: absent");
    checker.finish().is_perfect(COUNT);
}

#[test]
fn an_interface_is_the_one_that_has_the_name() {
    let pair = Pair::new();
    let (server, _client) = pair.joined();
    pair.board.ip("link set vcan0 down");
    pair.board.ip("link set vcan0 name old");
    server.says("vcan0: absent");
    pair.board.ip("link set old up");
    pair.board.add_vcan("vcan0", 72);
    server.says_times("canspan: vcan0: up", 2, SOON);
    carries(&pair, "vcan0");
    let (old, pc) = (pair.board.can("old"), pair.pc.can_only("vcan0", 0x321));
    old.send(&Frame::classic(0x321, &[])).unwrap();
    assert_eq!(drain(&pc), 0, "the renamed interface is still carried");
    pair.board.ip("link del vcan0");
    pair.board.ip("link set old down");
    pair.board.ip("link set old name vcan0");
    pair.board.ip("link set vcan0 up");
    server.says_times("canspan: vcan0: up", 3, SOON);
    carries(&pair, "vcan0");
}

#[test]
fn a_virtual_interface_has_no_bit_rate_and_is_carried_all_the_same() {
    let pair = Pair::new();
    let server = serve(&pair, &["vcan0", "--bitrate", "500k"]);
    server.says("vcan0 has no bit rate to set, being a virtual interface (vcan)");
    let _client = pair.connect(&["vcan0"]);
    carries(&pair, "vcan0");
    assert_eq!(server.err().matches("no bit rate").count(), 1, "{}", server.err());
}

#[test]
fn a_controller_is_set_and_switched_on_whenever_it_comes() {
    let pair = Pair::without_can();
    pair.pc.add_vcan("vcan0", 72);
    let server = serve(&pair, &["can0", "--bitrate", "500k"]);
    let client = pair.connect(&["can0:vcan0"]);
    client.says("its bus is absent");
    for times in 1..=2 {
        let adapter = Adapter::plug(&pair.board, "can0");
        server.says_times("can0: set to bitrate 500000", times, SOON);
        server.says_times("can0: up", times, SOON);
        client.says_times("its bus is up", times, SOON);
        // S6 is 500 kbit/s, O opens.
        eventually("the adapter is set", SOON, || adapter.heard().contains("S6\rO\r"));
        carries(&pair, "can0");
        drop(adapter);
        server.says_times("can0: absent", times, SOON);
    }
}

#[test]
fn a_controller_set_as_asked_is_left_alone_and_any_other_is_set_anew() {
    let pair = Pair::without_can();
    let adapter = Adapter::plug(&pair.board, "can0");
    pair.board.ip("link set can0 up type can bitrate 250000");
    eventually("the adapter is open", SOON, || adapter.heard().ends_with("S5\rO\r"));
    // Nothing is to be done, so no right is needed for it.
    let limited = |arguments: &[&str]| {
        let drop = ["--bounding-set=-net_admin", "--inh-caps=-net_admin"];
        let program = canspan();
        let all = [&drop[..], &[program.as_str(), "serve", "can0"], arguments].concat();
        Process::start(&pair.board, "setpriv", &all)
    };
    let same = limited(&["--bitrate", "250k"]);
    same.says("can0: is already bitrate 250000");
    same.says("canspan: can0: up");
    same.stop().succeeded();
    let other = limited(&["--bitrate", "125k", "--sample-point", "0.8"]);
    other.says(
        "not allowed to set the bit rate of can0: that needs the capability CAP_NET_ADMIN; run as \
         root, or set it before with `ip link set can0 up type can bitrate 125000 sample-point \
         0.800`",
    );
    other.says("canspan: can0: up");
    other.stop().succeeded();
    assert!(adapter.heard().ends_with("S5\rO\r"), "{:?}", adapter.heard());
    // C closes, S4 is 125 kbit/s, L opens to listen only.
    let root = Process::canspan(&pair.board, &["serve", "can0", "--bitrate=125k", "--listen-only"]);
    root.says("can0: set to bitrate 125000 listen-only on");
    root.says("canspan: can0: up");
    eventually("the adapter is set anew", SOON, || adapter.heard().ends_with("C\rC\rS4\rL\r"));
    root.stop().succeeded();
    // What it cannot do is told, and it goes on as it was.
    for (cannot, told) in [
        (&["--bitrate=300k"][..], "bitrate 300000"),
        (&["--bitrate=500k", "--dbitrate=2M"], "bitrate 500000 dbitrate 2000000 fd on"),
        (&["--bitrate=500k", "--restart-ms=100"], "bitrate 500000 restart-ms 100"),
    ] {
        let server = Process::canspan(&pair.board, &[&["serve", "can0"], cannot].concat());
        server.says(&format!("the controller of can0 cannot do `{told}`"));
        server.says("canspan: can0: up");
        let log = server.stop().succeeded().err;
        assert_eq!(log.matches("cannot do").count(), 1, "{log}");
        println!("    {}", log.lines().find(|line| line.contains("cannot do")).unwrap());
    }
}

#[test]
fn what_a_controller_went_through_before_the_start_is_known() {
    let pair = Pair::without_can();
    let mut adapter = Adapter::plug(&pair.board, "can0");
    pair.board.ip("link set can0 up type can bitrate 500000");
    adapter.say("sp001130");
    eventually("the driver knows", SOON, || {
        pair.board.run_program("ip", &["-d", "link", "show", "can0"]).contains("ERROR-PASSIVE")
    });
    let server = serve(&pair, &["can0"]);
    server.says("canspan: can0: error-passive");
    adapter.say("sw099098");
    server.says("can0: error-warning (error counters: tx 98, rx 99)");
    adapter.say("sb000000");
    server.says("can0: bus-off");
    // The driver has no restart: the controller counts as active again, but the kernel gives it nothing to send.
    adapter.say("sa000000");
    adapter.say("t1230");
    thread::sleep(Duration::from_millis(1500));
    assert!(!server.err().contains("canspan: can0: up"), "{}", server.err());
    pair.board.ip("link set can0 down");
    pair.board.ip("link set can0 up");
    server.says("canspan: can0: up");
}

#[test]
fn bus_off_clears_what_waits_and_both_ends_count_it() {
    let pair = Pair::without_can();
    pair.pc.add_vcan("vcan0", 72);
    let mut adapter = Adapter::plug(&pair.board, "can0");
    let server = serve(&pair, &["can0", "--bitrate=500k", "--max-age=2s"]);
    let client = pair.connect(&["can0:vcan0"]);
    carries(&pair, "can0");
    adapter.stick(true);
    let pc = pair.pc.can_sender("vcan0");
    let before = adapter.heard().len();
    let send = |id: u32, count: u32| {
        for n in 0..count {
            pc.send(&Frame::classic(id, &n.to_le_bytes())).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
    };
    // The line takes some, the driver and its queue a few; the rest waits, here or there.
    send(TO_BOARD, 2_000);
    thread::sleep(Duration::from_millis(200));
    adapter.say("sb000000");
    server.says("can0: bus-off");
    client.says("its bus is bus-off");
    // All that was given by now is older than the limit when the bus is back.
    thread::sleep(Duration::from_millis(2_500));
    pair.board.ip("link set can0 down");
    adapter.stick(false);
    thread::sleep(Duration::from_millis(300));
    let old = adapter.heard()[before..].matches("t200").count();
    pair.board.ip("link set can0 up");
    client.says_times("its bus is up", 2, SOON);
    send(0x201, 100);
    eventually("new commands are sent", SOON, || adapter.heard().matches("t201").count() == 100);
    assert_eq!(adapter.heard()[before..].matches("t200").count(), old, "old commands were sent");
    let (client, server) = (client.stop().succeeded().err, server.stop().succeeded().err);
    let (client, server) = (counters(&client), counters(&server));
    println!("    {client:?}; on the line before bus-off: {old}");
    for name in ["failed", "stale", "unconfirmed"] {
        assert_eq!(client.get(name), server.get(name), "{name}: {client:?}\n{server:?}");
    }
    assert!(client.get("failed") > 0 && client.get("stale") > 0, "{client:?}");
}
