//! What no cut may do: lose, double or reorder a frame.

use core::time::Duration;
use std::{thread, time::Instant};

use crate::{
    cutter::{Cut, Cutter},
    lab::{BOARD, Pair, counters, eventually},
    numbered::{Checker, Generator},
    process::{Process, SOON},
};

const TO_PC: u32 = 0x100;
const TO_BOARD: u32 = 0x200;
/// The longest a link may take to heal once it can: the longest pause between two tries, a silent peer noticed.
const HEALED: Duration = Duration::from_secs(20);

/// Numbered streams both ways at once, with a checker at each end.
pub(crate) struct Traffic {
    generators: [Generator; 2],
    checkers: [Checker; 2],
}

impl Traffic {
    pub(crate) fn start(pair: &Pair, count: u64, rate: u64) -> Self {
        let checker = |socket| Checker::start(socket, count, Duration::from_secs(30));
        let checkers = [
            checker(pair.pc.can_only("vcan0", TO_PC)),
            checker(pair.board.can_only("vcan0", TO_BOARD)),
        ];
        let generators = [
            Generator::start(pair.board.can_sender("vcan0"), TO_PC, count, rate),
            Generator::start(pair.pc.can_sender("vcan0"), TO_BOARD, count, rate),
        ];
        Self { generators, checkers }
    }

    /// Waits until frames sent from now on have come through, both ways.
    pub(crate) fn flows(&self, what: &str) {
        let sent = [self.generators[0].sent(), self.generators[1].sent()];
        let start = Instant::now();
        eventually(&format!("traffic flows both ways {what}"), HEALED, || {
            self.checkers.iter().zip(sent).all(|(checker, sent)| checker.received() > sent)
        });
        println!("    {what}: flows again after {:?}", start.elapsed());
    }

    pub(crate) fn is_running(&self) -> bool {
        self.generators.iter().all(Generator::is_running)
    }

    /// Ends it, whole or not.
    fn end(self) {
        for generator in self.generators {
            generator.stop();
        }
    }

    /// Every frame came through, once, in order.
    pub(crate) fn ends_whole(self) {
        let sent = self.generators.map(Generator::finish);
        let tallies = self.checkers.map(Checker::finish);
        println!("    to the PC {:?}; to the board {:?}", tallies[0], tallies[1]);
        tallies.iter().zip(sent).for_each(|(tally, sent)| tally.is_perfect(sent));
    }
}

pub(crate) fn through_cutter(pair: &Pair) -> (Cutter, Process) {
    let cutter = Cutter::start(&pair.pc, format!("{BOARD}:22677").parse().unwrap());
    let client =
        Process::canspan(&pair.pc, &["connect", &format!("127.0.0.1:{}", Cutter::PORT), "vcan0"]);
    client.says("link up");
    (cutter, client)
}

fn cut(cutter: &Cutter, traffic: &Traffic, number: u32, how: Cut) {
    eventually("there is a link to cut", HEALED, || cutter.cut(how));
    traffic.flows(&format!("after cut {number} ({how:?})"));
}

/// The counters at both ends' exit are all zero.
pub(crate) fn end_without_loss(server: Process, client: Process) {
    counters(&client.stop().succeeded().err).all_zero();
    counters(&server.stop().succeeded().err).all_zero();
}

/// The quick form of the test below, for the inner loop.
#[test]
fn a_cut_in_full_traffic_loses_nothing() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let (cutter, client) = through_cutter(&pair);
    let traffic = Traffic::start(&pair, 6_000, 3_000);
    traffic.flows("at the start");
    cut(&cutter, &traffic, 1, Cut::Both);
    traffic.ends_whole();
    end_without_loss(server, client);
}

#[test]
fn ten_cuts_a_pulled_cable_and_a_stopped_client_lose_nothing_of_100_000_frames_each_way() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let (cutter, mut client) = through_cutter(&pair);
    let traffic = Traffic::start(&pair, 100_000, 2_000);
    traffic.flows("at the start");
    for number in 1..=10 {
        let how = match number {
            3 | 6 => Cut::ServerUnaware,
            9 => Cut::ClientUnaware,
            _ => Cut::Both,
        };
        cut(&cutter, &traffic, number, how);
    }
    pair.plug(false);
    thread::sleep(Duration::from_secs(10));
    pair.plug(true);
    traffic.flows("after 10 s without the cable");
    client.signal(libc::SIGSTOP);
    thread::sleep(Duration::from_secs(3));
    client.signal(libc::SIGCONT);
    assert!(
        traffic.is_running(),
        "healing took so long that the traffic ended before the last fault"
    );
    traffic.flows("after the client was stopped for 3 s");
    traffic.ends_whole();
    end_without_loss(server, client);
}

#[test]
fn a_cable_that_loses_every_packet_is_noticed_and_survived() {
    let pair = Pair::new();
    let (server, client) = pair.joined();
    let traffic = Traffic::start(&pair, 30_000, 2_000);
    traffic.flows("at the start");
    pair.board.tc("qdisc add dev wire root netem loss 100%");
    thread::sleep(Duration::from_secs(5));
    pair.board.tc("qdisc del dev wire root");
    traffic.flows("after 5 s of silence");
    traffic.ends_whole();
    end_without_loss(server, client);
}

#[test]
fn a_bad_radio_link_loses_nothing() {
    let pair = Pair::new();
    pair.board.tc("qdisc add dev wire root netem delay 20ms 5ms loss 1%");
    let (server, client) = pair.joined();
    let traffic = Traffic::start(&pair, 10_000, 1_000);
    traffic.ends_whole();
    end_without_loss(server, client);
}

#[test]
fn after_the_client_restarts_traffic_flows_again() {
    let pair = Pair::new();
    let (_server, mut client) = pair.joined();
    let traffic = Traffic::start(&pair, 1_000_000, 500);
    traffic.flows("at the start");
    client.signal(libc::SIGKILL);
    assert!(!client.finish(SOON).status.success());
    let _client = pair.connect(&["vcan0"]);
    traffic.flows("after the client's restart");
    traffic.end();
}

#[test]
fn after_the_server_restarts_traffic_flows_again() {
    let pair = Pair::new();
    let (mut server, client) = pair.joined();
    let traffic = Traffic::start(&pair, 1_000_000, 500);
    traffic.flows("at the start");
    server.signal(libc::SIGKILL);
    assert!(!server.finish(SOON).status.success());
    let _server = pair.serve(&["vcan0"]);
    client.says_times("link up", 2, HEALED);
    traffic.flows("after the server's restart");
    traffic.end();
}
