//! The board and everything that is joined to it, and the moments from which the present processes count.

use core::{sync::atomic::Ordering, time::Duration};
use std::{
    fs,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use crate::{
    clock::Clock,
    cutter::Cutter,
    lab::{Namespace, eventually, ip},
    numbers::{self, METRICS, PATIENCE, Told},
    process::Process,
    reader::{Reader, Sender},
    relay::{self, Relay},
    sys::{CanSocket, ERROR, Frame},
    traffic::{BOARD_ID, BUS, PC_ID, Seen, Source, Witness},
};

/// How long everything may take to heal and to be delivered. Waiting longer would prove no less, only later.
pub(crate) const SETTLED: Duration = Duration::from_secs(90);
/// For so long nothing may change before the account: longer than any receipt or overdue echo takes.
pub(crate) const STILL: Duration = Duration::from_secs(3);
/// Frames a second.
const BOARD_RATE: u64 = 250;
const PC_RATE: u64 = 80;

/// The board.
pub(crate) struct Board {
    pub(crate) namespace: Namespace,
    pub(crate) witness: Witness,
    pub(crate) source: Source,
    /// Error frames are made here.
    pub(crate) errors: u32,
    history: &'static str,
    /// Of a board that is a virtual machine, which may be paused; and when it was, in microseconds since the Unix epoch.
    pub(crate) clock: Option<Clock>,
    pub(crate) stood: Vec<(u64, u64)>,
    pub(crate) serve: Option<Process>,
    /// What had been on the bus when the present process began to look, and the how many-th start that was.
    pub(crate) begun: usize,
    pub(crate) started: u64,
}

/// A PC that is joined to the board's bus.
pub(crate) struct Pc {
    pub(crate) namespace: Namespace,
    /// Of a PC that is a virtual machine.
    pub(crate) clock: Option<Clock>,
    pub(crate) address: String,
    pub(crate) witness: Witness,
    pub(crate) source: Source,
    pub(crate) connect: Option<Process>,
    /// What had been on its bus, and on the board's, and what it had made, when the present process began to look.
    pub(crate) begun: usize,
    pub(crate) begun_there: usize,
    pub(crate) made: u64,
    pub(crate) started: u64,
    /// Whether it had a process before.
    pub(crate) is_second: bool,
}

/// A PC that only reads.
pub(crate) struct Listener {
    pub(crate) namespace: Namespace,
    pub(crate) address: String,
    pub(crate) log: Arc<Mutex<Vec<Seen>>>,
    is_slow: bool,
    pub(crate) dump: Option<Reader>,
    pub(crate) begun: usize,
    pub(crate) begun_there: usize,
    pub(crate) started: u64,
    pub(crate) is_second: bool,
}

/// All of it.
pub(crate) struct Field {
    pub(crate) board: Board,
    pub(crate) pcs: [Pc; 3],
    pub(crate) relay: Relay,
    pub(crate) listeners: [Listener; 2],
    pub(crate) sender: Sender,
    pub(crate) sender_place: Namespace,
    pub(crate) cutter: Cutter,
    starts: u64,
}

/// What everyone says when all has come to rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) board: Told,
    pub(crate) pcs: [Told; 3],
    pub(crate) relay: Told,
}

/// Lays a cable from the board to the `number`-th PC: 10.0.N.1 and 10.0.N.2.
pub(crate) fn cable(board: &Namespace, pc: &Namespace, number: usize) {
    let (a, b) = (board.name(), pc.name());
    ip(&format!("link add wire{number} netns {a} type veth peer name wire netns {b}"));
    board.ip(&format!("addr add 10.0.{number}.1/24 dev wire{number}"));
    board.ip(&format!("link set wire{number} up"));
    pc.ip(&format!("addr add 10.0.{number}.2/24 dev wire"));
    pc.ip("link set wire up");
}

/// The `number`-th PC, joined to the board or to a relay by the cable of this number.
fn pc(there: &Namespace, number: usize, by: usize) -> Pc {
    let namespace = Namespace::new("pc");
    cable(there, &namespace, by);
    namespace.add_vcan(BUS, 72);
    // The second one's cable goes through a box that can cut a connection.
    let address =
        if number == 2 { format!("127.0.0.1:{}", Cutter::PORT) } else { format!("10.0.{by}.1") };
    Pc {
        clock: (number == 2).then(|| Clock::of(&namespace)),
        witness: Witness::start(&namespace),
        source: Source::start(&namespace, PC_ID[number - 1], PC_RATE),
        namespace,
        address,
        connect: None,
        begun: 0,
        begun_there: 0,
        made: 0,
        started: 0,
        is_second: false,
    }
}

fn listener(board: &Namespace, number: usize, is_slow: bool) -> Listener {
    let namespace = Namespace::new("pc");
    cable(board, &namespace, number);
    Listener {
        namespace,
        address: format!("10.0.{number}.1"),
        log: Arc::default(),
        is_slow,
        dump: None,
        begun: 0,
        begun_there: 0,
        started: 0,
        is_second: false,
    }
}

impl Field {
    /// Everything joined, and traffic everywhere.
    pub(crate) fn start(rng: &mut fastrand::Rng) -> Self {
        let namespace = Namespace::new("board");
        namespace.add_vcan(BUS, 72);
        let relay = Relay::new(&namespace);
        let pcs =
            [pc(&namespace, 1, 1), pc(&namespace, 2, 2), pc(&relay.namespace, 3, relay::TO_PC)];
        let listeners = [listener(&namespace, 3, false), listener(&namespace, 4, true)];
        let sender_place = Namespace::new("pc");
        cable(&namespace, &sender_place, 5);
        let board = Board {
            witness: Witness::start(&namespace),
            source: Source::start(&namespace, BOARD_ID, BOARD_RATE),
            clock: rng.bool().then(|| Clock::of(&namespace)),
            stood: Vec::new(),
            namespace,
            errors: 0,
            // The small one is overtaken by every longer cut.
            history: if rng.bool() { "64k" } else { "4M" },
            serve: None,
            begun: 0,
            started: 0,
        };
        let cutter = Cutter::start(&pcs[1].namespace, "10.0.2.1:22677".parse().unwrap());
        let sender = Sender::new();
        let mut field =
            Self { board, pcs, relay, listeners, sender, sender_place, cutter, starts: 0 };
        field.start_serve();
        field.start_relay();
        field.relay.waits_for_board();
        (0..3).for_each(|number| field.start_connect(number));
        (0..2).for_each(|number| field.start_dump(number));
        eventually("PC 3 is linked", PATIENCE, || {
            numbers::of_serve(&field.relay.namespace)
                .is_some_and(|told| relay::is_joined(&told, relay::TO_PC))
        });
        let is_up = |told: &Told| told.links.iter().filter(|link| link.up).count() >= 5;
        eventually("everyone is linked", PATIENCE, || {
            numbers::of_serve(&field.board.namespace).is_some_and(|told| is_up(&told))
        });
        field.sender.begin(&field.sender_place, "10.0.5.1");
        field.board.source.go_on();
        field.pcs.iter().for_each(|pc| pc.source.go_on());
        field
    }

    /// Where a process is to stand in the order of starts.
    fn next_start(&mut self) -> u64 {
        self.starts += 1;
        self.starts
    }

    /// Starts `serve`. The board's own frames pause meanwhile, so that it is known which ones it can have seen.
    pub(crate) fn start_serve(&mut self) {
        let started = self.next_start();
        let board = &mut self.board;
        board.source.pause();
        board.begun = board.witness.all().len();
        board.started = started;
        let arguments = ["serve", BUS, "--listen", "0.0.0.0", "--insecure", "--max-age", "500ms"];
        let arguments = [&arguments[..], &["--history", board.history]].concat();
        let serve = start(&board.namespace, board.clock.as_ref(), &arguments);
        serve.says("listening on");
        board.serve = Some(serve);
        self.board.waits_for("up");
        if started > 1 {
            self.board.source.go_on();
        }
    }

    /// Starts the `connect` of a PC, whose own frames pause meanwhile.
    pub(crate) fn start_connect(&mut self, number: usize) {
        let started = self.next_start();
        let begun_there = self.board.witness.all().len();
        let pc = &mut self.pcs[number];
        pc.source.pause();
        pc.begun = pc.witness.all().len();
        (pc.begun_there, pc.made, pc.started) = (begun_there, pc.source.made(), started);
        let arguments = ["connect", &pc.address, BUS, "--metrics", METRICS];
        let connect = start(&pc.namespace, pc.clock.as_ref(), &arguments);
        connect.says("metrics on");
        pc.connect = Some(connect);
        pc.waits_for("up");
        if pc.is_second {
            pc.source.go_on();
        }
        pc.is_second |= self.board.source.made() > 0;
    }

    /// Starts the relay.
    pub(crate) fn start_relay(&mut self) {
        let started = self.next_start();
        self.relay.start(started);
    }

    /// Starts a `dump`.
    pub(crate) fn start_dump(&mut self, number: usize) {
        let started = self.next_start();
        let begun_there = self.board.witness.all().len();
        let listener = &mut self.listeners[number];
        // Ends it, and waits until all it has printed is read.
        listener.dump = None;
        listener.begun = listener.log.lock().unwrap().len();
        (listener.begun_there, listener.started) = (begun_there, started);
        listener.is_second |= self.board.source.made() > 0;
        let Listener { namespace, address, is_slow, log, .. } = listener;
        listener.dump = Some(Reader::start(namespace, address, *is_slow, log));
    }

    /// Ends the traffic, waits until all is delivered that can be, and asks everyone.
    pub(crate) fn settle(&mut self) -> Numbers {
        self.board.source.pause();
        self.pcs.iter().for_each(|pc| pc.source.pause());
        for reader in self.listeners.iter().filter_map(|listener| listener.dump.as_ref()) {
            reader.is_slow.store(false, Ordering::Relaxed);
        }
        self.sender.finish();
        let (begin, mut since, mut last) = (Instant::now(), Instant::now(), self.told());
        loop {
            thread::sleep(Duration::from_millis(500));
            let now = self.told();
            if now != last {
                (since, last) = (Instant::now(), now);
            }
            let rests = last.0.as_ref().filter(|_| since.elapsed() >= STILL);
            if let Some(numbers) = rests.filter(|numbers| Self::at_rest(numbers)) {
                return numbers.clone();
            }
            assert!(begin.elapsed() < SETTLED, "not at rest after {SETTLED:?}: {last:#?}");
        }
    }

    fn told(&self) -> (Option<Numbers>, Vec<usize>) {
        let of_pc = |number: usize| numbers::of_connect(&self.pcs[number].namespace);
        let all = || {
            Some(Numbers {
                board: numbers::of_serve(&self.board.namespace)?,
                relay: numbers::of_serve(&self.relay.namespace)?,
                pcs: [of_pc(0)?, of_pc(1)?, of_pc(2)?],
            })
        };
        let logs = self.listeners.iter().map(|listener| listener.log.lock().unwrap().len());
        (all(), logs.collect())
    }

    fn at_rest(numbers: &Numbers) -> bool {
        let all = || numbers.pcs.iter().chain([&numbers.board, &numbers.relay]);
        // Of a controller that was error-passive last, nobody says that it is better.
        let is_up = all().all(|told| ["up", "error-passive"].contains(&told.state.as_str()));
        let at_board = [1, 2, 3, 4, relay::TO_BOARD];
        let is_joined = at_board.iter().all(|cable| relay::is_joined(&numbers.board, *cable))
            && [relay::TO_BOARD, relay::TO_PC]
                .iter()
                .all(|cable| relay::is_joined(&numbers.relay, *cable))
            && numbers.pcs.iter().all(|told| told.links[0].up);
        let is_sent = all().flat_map(|told| &told.links).all(|link| !link.up || link.behind == 0);
        is_up && is_joined && is_sent
    }
}

/// Starts `canspan` on a machine whose clock can stand, or on any other.
fn start(namespace: &Namespace, clock: Option<&Clock>, arguments: &[&str]) -> Process {
    match clock {
        Some(clock) => clock.canspan(namespace, arguments),
        None => Process::canspan(namespace, arguments),
    }
}

impl Board {
    pub(crate) fn waits_for(&self, state: &str) {
        eventually(&format!("the board's bus is {state}"), PATIENCE, || {
            numbers::of_serve(&self.namespace).is_some_and(|told| told.state == state)
        });
    }

    /// An error frame on the bus. `class` and `controller` as in `linux/can/error.h`.
    pub(crate) fn error(&mut self, class: u32, controller: u8, tx: u8) {
        let [a, b, c, d] = self.errors.to_le_bytes();
        self.errors += 1;
        let frame = Frame::classic(ERROR | class, &[0, controller, a, b, c, d, tx, 0]);
        let socket: CanSocket = self.namespace.can_sender(BUS);
        socket.send(&frame).expect("the board's bus takes an error frame");
    }
}

impl Pc {
    pub(crate) fn waits_for(&self, state: &str) {
        eventually(&format!("the PC's bus is {state}"), PATIENCE, || {
            numbers::of_connect(&self.namespace).is_some_and(|told| told.state == state)
        });
    }
}

/// What a process has in memory, in KB.
pub(crate) fn resident_kb(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
