//! Several clients on one bus.

use core::time::Duration;
use std::time::Instant;

use crate::{
    lab::{BOARD, Namespace, Pair, counters, eventually},
    numbered::{Account, Checker, Generator},
    process::{Process, SOON},
    sys::{CanSocket, Frame},
};

/// Everything a socket receives until `count` frames have come.
fn record(
    namespace: &Namespace,
    interface: &str,
    count: usize,
) -> std::thread::JoinHandle<Vec<Frame>> {
    let socket: CanSocket = namespace.can(interface);
    std::thread::spawn(move || {
        let mut frames = Vec::new();
        while frames.len() < count {
            let batch = socket.receive(SOON).unwrap();
            assert_eq!(batch.overflow, 0, "the recorder's own socket was too slow");
            assert!(!batch.frames.is_empty(), "only {} of {count} frames came", frames.len());
            frames.extend(batch.frames);
        }
        frames
    })
}

#[test]
fn three_clients_and_the_board_see_each_others_frames_in_bus_order() {
    const COUNT: u64 = 2_000;
    let pair = Pair::new();
    pair.pc.add_vcan("vcan1", 72);
    pair.pc.add_vcan("vcan2", 72);
    let _server = pair.serve(&["vcan0"]);
    let interfaces = ["vcan0", "vcan1", "vcan2"];
    let _clients = interfaces.map(|local| pair.connect(&[&format!("vcan0:{local}")]));

    let all = 4 * usize::try_from(COUNT).unwrap();
    let board = record(&pair.board, "vcan0", all);
    let views = interfaces.map(|local| record(&pair.pc, local, all));
    let mut sources = vec![Generator::start(pair.board.can_sender("vcan0"), 0x10, COUNT, 1_000)];
    for (id, local) in (0x11..).zip(interfaces) {
        sources.push(Generator::start(pair.pc.can_sender(local), id, COUNT, 1_000));
    }
    for source in sources {
        source.finish();
    }

    let board = board.join().unwrap();
    for id in 0x10..=0x13 {
        let mut account = Account::new(COUNT);
        board
            .iter()
            .filter(|frame| frame.id() == id)
            .for_each(|frame| account.enter(frame.number()));
        account.close().is_perfect(COUNT);
    }
    for (own, view) in (0x11..).zip(views) {
        // A client's own frames stand in its view where it sent them; all others as they were on the bus.
        let others = |frames: &[Frame]| -> Vec<Frame> {
            frames.iter().filter(|f| f.id() != own).copied().collect()
        };
        let (expected, seen) = (others(&board), others(&view.join().unwrap()));
        let differs = expected.iter().zip(&seen).position(|(a, b)| a != b);
        assert_eq!(differs, None, "the client with id {own:X} sees another order");
        assert_eq!(expected.len(), seen.len());
    }
}

#[test]
fn a_client_that_never_reads_delays_nobody_and_gets_everything_later() {
    const COUNT: u64 = 20_000;
    let pair = Pair::new();
    let (server, client) = pair.joined();
    let mut stalled = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    server.says_times("link up", 2, SOON);
    stalled.signal(libc::SIGSTOP);

    let checker = Checker::start(pair.pc.can_only("vcan0", 0x55), COUNT, SOON);
    let start = Instant::now();
    Generator::start(pair.board.can_sender("vcan0"), 0x55, COUNT, 4_000).finish();
    let tally = checker.finish();
    println!("    {COUNT} frames at 4,000/s beside a stalled client took {:?}", start.elapsed());
    tally.is_perfect(COUNT);
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "the stalled client slowed the other one down"
    );

    stalled.signal(libc::SIGCONT);
    let lines = stalled.prints_lines(usize::try_from(COUNT).unwrap(), SOON);
    let mut account = Account::new(COUNT);
    for line in &lines {
        let data = line.rsplit('#').next().unwrap();
        account.enter(u64::from_str_radix(data, 16).unwrap().swap_bytes());
    }
    account.close().is_perfect(COUNT);
    stalled.stop();
    counters(&client.stop().succeeded().err).all_zero();
}

#[test]
fn a_client_that_is_overtaken_learns_how_many_frames_it_lost() {
    const COUNT: u64 = 40_000;
    let pair = Pair::new();
    pair.small_tcp_buffers();
    let arguments = ["serve", "vcan0", "--listen", BOARD, "--insecure", "--history", "64K"];
    let server = Process::canspan(&pair.board, &arguments);
    server.says("listening on");
    let mut stalled = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    server.says("link up");
    stalled.signal(libc::SIGSTOP);
    // Far more than the history, TCP and the pipe hold together.
    let sent = Generator::start(pair.board.can_sender("vcan0"), 0x55, COUNT, 10_000).finish();
    stalled.signal(libc::SIGCONT);
    pair.board.can("vcan0").send(&Frame::classic(0x7FF, b"last")).unwrap();
    eventually("the last frame is dumped", SOON, || stalled.out().contains("7FF#6C617374"));
    let finished = stalled.stop().succeeded();
    let received = finished.out.lines().filter(|line| line.contains(" 055#")).count() as u64;
    let lost = counters(&finished.err).get("lost");
    println!("    of {sent} frames {received} came and {lost} are counted as lost");
    assert_eq!(received + lost, sent, "every frame is delivered or counted");
    assert!(lost > 0, "the test is about loss, and there was none");
    assert_eq!(
        counters(&server.stop().succeeded().err).get("lost"),
        lost,
        "both ends know the number"
    );
}
