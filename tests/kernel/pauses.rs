//! A virtual machine that is paused: no command is refused for long because of it, and none that is old passes.

use core::time::Duration;
use std::{collections::HashMap, thread, time::Instant};

use crate::{
    clock::Clock,
    lab::{BOARD, Namespace, Pair, eventually},
    process::{Process, SOON},
    sys::{CanSocket, Frame},
};

const COMMAND: u32 = 0x200;
const LIMIT_US: u64 = 500_000;
/// What the two clocks' difference may be misjudged by.
const SLACK_US: u64 = 50_000;
/// How long after a pause commands may count as stale.
const RECOVERS: Duration = Duration::from_secs(2);

/// A process and its clock.
struct Machine {
    process: Process,
    clock: Clock,
}

impl Machine {
    fn start(namespace: &Namespace, arguments: &[&str]) -> Self {
        let clock = Clock::of(namespace);
        Self { process: clock.canspan(namespace, arguments), clock }
    }

    /// Pauses it while `meanwhile` runs.
    fn pause(&mut self, meanwhile: impl FnOnce()) {
        self.clock.stands_while(&mut self.process, meanwhile);
    }
}

/// A board and a PC on two machines whose clocks can stand.
struct Machines {
    pair: Pair,
    board: Machine,
    pc: Machine,
    /// Where commands are given, and who sees it; and the board's bus.
    source: CanSocket,
    given: CanSocket,
    bus: CanSocket,
    next: u64,
    /// When the kernel saw each command on either bus.
    given_us: HashMap<u64, u64>,
    put_us: HashMap<u64, u64>,
}

impl Machines {
    fn start() -> Self {
        let pair = Pair::new();
        let serve = ["serve", "vcan0", "--max-age", "500ms", "--listen", BOARD, "--insecure"];
        let board = Machine::start(&pair.board, &serve);
        board.process.says("listening on");
        let pc = Machine::start(&pair.pc, &["connect", BOARD, "vcan0"]);
        pc.process.says("link up");
        let source = pair.pc.can_sender("vcan0");
        let given = pair.pc.can_only("vcan0", COMMAND);
        let bus = pair.board.can_only("vcan0", COMMAND);
        let (given_us, put_us) = (HashMap::new(), HashMap::new());
        let mut all = Self { pair, board, pc, source, given, bus, next: 0, given_us, put_us };
        // Both have some idea of the other's clock.
        all.commands(Duration::from_millis(1_500));
        all.look();
        assert_eq!(all.put_us.len() as u64, all.next, "not every command passes before the pause");
        all
    }

    fn command(&mut self) {
        self.source.send(&Frame::classic(COMMAND, &self.next.to_le_bytes())).unwrap();
        self.next += 1;
    }

    /// 50 commands a second for so long.
    fn commands(&mut self, length: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < length {
            self.command();
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Takes note of what has been on the two buses; no command is older than its limit on the board's.
    fn look(&mut self) {
        for (socket, into) in [(&self.given, &mut self.given_us), (&self.bus, &mut self.put_us)] {
            loop {
                let batch = socket.receive(Duration::from_millis(150)).unwrap();
                into.extend(batch.frames.iter().map(Frame::number).zip(batch.stamps_us));
                if batch.frames.is_empty() {
                    break;
                }
            }
        }
        for (number, put) in &self.put_us {
            let age = put.saturating_sub(self.given_us[number]);
            assert!(
                age <= LIMIT_US + SLACK_US,
                "command {number} was {} ms old on the bus",
                age / 1000
            );
        }
    }

    /// Commands pass again in time, and from then on each does.
    fn recovers(&mut self, what: &str) {
        self.commands(RECOVERS);
        let from = self.next;
        self.commands(Duration::from_secs(3));
        self.look();
        let stale = (from..self.next).filter(|number| !self.put_us.contains_key(number)).count();
        println!("    {what}: {stale} of {} later commands are stale", self.next - from);
        assert_eq!(stale, 0, "{what}: commands are stale long after it");
    }
}

#[test]
fn commands_pass_soon_after_a_short_pause() {
    for length in [600, 2_500].map(Duration::from_millis) {
        let mut all = Machines::start();
        all.pc.pause(|| thread::sleep(length));
        all.recovers(&format!("the PC was paused for {length:?}"));
        // The longer one comes near to what a peer is given up after.
        let links = all.pc.process.err().matches("link up").count();
        assert!(links == 1 || length > Duration::from_secs(1), "the link was made anew");
    }
}

#[test]
fn commands_given_while_a_board_stood_are_stale() {
    for length in [1_500, 6_000].map(Duration::from_millis) {
        let mut all = Machines::start();
        let Machines { board, source, next, .. } = &mut all;
        board.pause(|| {
            for _ in 0..10 {
                source.send(&Frame::classic(COMMAND, &next.to_le_bytes())).unwrap();
                *next += 1;
            }
            thread::sleep(length);
        });
        // After the longer one the link is made anew.
        let up = 1 + usize::from(length > Duration::from_secs(4));
        all.pc.process.says_times("link up", up, SOON);
        all.recovers(&format!("the board was paused for {length:?}"));
    }
}

/// The link is gone when the machine is paused, and another one is made after it.
#[test]
fn commands_from_before_a_long_pause_never_pass() {
    for (real, jump) in [(4_000, 0), (1_000, 3_600_000)] {
        let mut all = Machines::start();
        all.pair.plug(false);
        let from = all.next;
        (0..20).for_each(|_| all.command());
        // Its process has read them.
        thread::sleep(Duration::from_millis(100));
        all.pc.pause(|| thread::sleep(Duration::from_millis(real)));
        // The rest of an hour, for everyone but the PC.
        all.board.clock.shift(jump * 1_000);
        all.pair.plug(true);
        eventually("a new command passes", 2 * SOON, || {
            all.command();
            all.look();
            all.put_us.keys().max() >= Some(&(from + 20))
        });
        let old = (from..from + 20).filter(|number| all.put_us.contains_key(number)).count();
        assert_eq!(old, 0, "commands from before a pause of {real} ms and {jump} ms passed");
    }
}

/// The board's process was restarted while the machine was paused: only the PC can know how the two clocks stood before.
#[test]
fn commands_from_before_a_pause_never_pass_a_restarted_board() {
    for length in [900, 4_000].map(Duration::from_millis) {
        let mut all = Machines::start();
        all.pair.plug(false);
        let serve = ["serve", "vcan0", "--max-age", "500ms", "--listen", BOARD, "--insecure"];
        all.board.process.signal(libc::SIGKILL);
        all.board.process.finish(SOON);
        all.board.process = all.board.clock.canspan(&all.pair.board, &serve);
        let from = all.next;
        (0..20).for_each(|_| all.command());
        // Its process has read them.
        thread::sleep(Duration::from_millis(100));
        all.pc.pause(|| thread::sleep(length));
        all.pair.plug(true);
        eventually("a new command passes", 2 * SOON, || {
            all.command();
            all.look();
            all.put_us.keys().max() >= Some(&(from + 20))
        });
        assert!(all.pc.process.err().contains("the peer was restarted meanwhile"));
    }
}

/// One direction is slow for as long as nobody remembers it to have been quick: the uplink is too narrow.
#[test]
fn commands_behind_a_narrow_uplink_are_no_younger() {
    let mut all = Machines::start();
    all.pair.pc.tc("qdisc add dev wire root netem rate 40kbit");
    all.commands(Duration::from_secs(30));
    all.pair.pc.tc("qdisc del dev wire root");
    all.recovers("the uplink was narrow");
}
