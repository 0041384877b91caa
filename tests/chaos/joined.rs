//! Two boards on one bus of a PC: a `connect` for each, and what one board's bus goes through is not the other's fault.
//!
//! No process is ended here, so the accounts are of everything there ever was, and exact.

use core::time::Duration;
use std::collections::HashMap;
use std::thread;

use crate::{
    account::{AGE_LIMIT_US, AGE_SLACK_US, fits, in_order},
    faults::{BUS_OFF, COUNTERS, hold},
    field::{SETTLED, STILL, cable},
    lab::{Namespace, eventually},
    numbers::{self, METRICS, MORE_METRICS, PATIENCE, Told},
    process::Process,
    sys::{ERROR, Frame},
    traffic::{BUS, ERROR_ID, Seen, Source, Witness},
};

const BOARD_ID: [u32; 2] = [0x501, 0x502];
const PC_ID: u32 = 0x503;
/// Frames a second of each.
const RATE: u64 = 40;
/// The numbers of their cables.
const CABLES: [usize; 2] = [11, 12];
const LISTEN: [&str; 2] = [METRICS, MORE_METRICS];

struct Bus {
    namespace: Namespace,
    witness: Witness,
    source: Source,
}

impl Bus {
    fn new(role: &str, id: u32) -> Self {
        let namespace = Namespace::new(role);
        namespace.add_vcan(BUS, 72);
        let (witness, source) = (Witness::start(&namespace), Source::start(&namespace, id, RATE));
        Self { namespace, witness, source }
    }
}

/// The two boards and the PC.
pub(crate) struct Joined {
    boards: [Bus; 2],
    pc: Bus,
    serves: [Process; 2],
    connects: [Process; 2],
    /// Error frames of each board.
    errors: [u32; 2],
}

/// What everyone says in the end: of each board its `serve` and the `connect` to it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Numbers([(Told, Told); 2]);

impl Joined {
    pub(crate) fn start() -> Self {
        let boards = [Bus::new("board", BOARD_ID[0]), Bus::new("board", BOARD_ID[1])];
        let pc = Bus::new("pc", PC_ID);
        // At the PC each has the name of its cable.
        for (board, number) in boards.iter().zip(CABLES) {
            cable(&pc.namespace, &board.namespace, number);
        }
        let serves = [0, 1].map(|number| {
            let arguments = ["serve", BUS, "--listen", "0.0.0.0", "--insecure", "--max-age=500ms"];
            let serve = Process::canspan(&boards[number].namespace, &arguments);
            serve.says("listening on");
            serve
        });
        let connects = [0, 1].map(|number| {
            let address = format!("10.0.{}.2", CABLES[number]);
            let arguments = ["connect", &address, BUS, "--metrics", LISTEN[number]];
            let connect = Process::canspan(&pc.namespace, &arguments);
            connect.says("link up");
            connect
        });
        let all = Self { boards, pc, serves, connects, errors: [0; 2] };
        eventually("both boards are joined", PATIENCE, || all.told().is_some());
        all.buses().for_each(|bus| bus.source.go_on());
        all
    }

    fn buses(&self) -> impl Iterator<Item = &Bus> {
        self.boards.iter().chain([&self.pc])
    }

    /// Something fails, and is whole again when this returns; what it was.
    pub(crate) fn fail(&mut self, rng: &mut fastrand::Rng) -> &'static str {
        let (number, length) = (rng.usize(0..2), Duration::from_millis(rng.u64(100..4_000)));
        match rng.u8(0..6) {
            0 | 1 => {
                self.bus_off(number);
                "bus-off of one board of two"
            }
            2 => {
                let link = format!("link set wire{}", CABLES[number]);
                self.pc.namespace.ip(&format!("{link} down"));
                thread::sleep(length);
                self.pc.namespace.ip(&format!("{link} up"));
                "cable of one board of two pulled"
            }
            3 => {
                hold(length, |signal| self.connects[number].signal(signal));
                "connect of one board of two stopped"
            }
            4 => {
                hold(length, |signal| self.serves[number].signal(signal));
                "serve of one board of two stopped"
            }
            _ => {
                self.boards[number].source.burst(rng.u64(1_000..2_500));
                thread::sleep(Duration::from_millis(500));
                self.boards[number].source.go_on();
                "burst and silence of one board of two"
            }
        }
    }

    /// Nobody says that it is over, but the next frame of that bus.
    fn bus_off(&mut self, number: usize) {
        let board = &self.boards[number];
        // The numbers of the two boards' error frames differ.
        let which = self.errors[number] * 2 + u32::try_from(number).unwrap_or(0);
        self.errors[number] += 1;
        let [a, b, c, d] = which.to_le_bytes();
        let frame = Frame::classic(ERROR | BUS_OFF | COUNTERS, &[0, 0, a, b, c, d, 255, 0]);
        board.source.pause();
        board.namespace.can_sender(BUS).send(&frame).expect("a vcan takes error frames");
        thread::sleep(Duration::from_millis(300));
        board.source.go_on();
    }

    fn told(&self) -> Option<Numbers> {
        let one = |number: usize| {
            let serve = numbers::of_serve(&self.boards[number].namespace)?;
            let connect = numbers::of_connect_at(&self.pc.namespace, LISTEN[number])?;
            let links = serve.links.iter().chain(&connect.links);
            let rests = links.clone().all(|link| link.up && link.behind == 0);
            (rests && serve.links.len() == 1).then_some((serve, connect))
        };
        Some(Numbers([one(0)?, one(1)?]))
    }

    /// Ends the traffic, waits until all is delivered, and checks every account.
    pub(crate) fn check(&self) -> u64 {
        self.buses().for_each(|bus| bus.source.pause());
        let mut last = None;
        eventually("the two boards and their PC are at rest", SETTLED, || {
            let before = last.take();
            last = self.told();
            thread::sleep(STILL / 2);
            last.is_some() && before == last
        });
        let numbers = last.expect("there are numbers");
        let pc = self.pc.witness.all().clone();
        is_in_order("the PC of two boards", &pc);
        let mut made = self.pc.source.made();
        for (number, (serve, connect)) in numbers.0.iter().enumerate() {
            let board = self.boards[number].witness.all().clone();
            made += self.boards[number].source.made() + u64::from(self.errors[number]);
            self.check_board(number, &board, &pc, (serve, connect));
        }
        made
    }

    fn check_board(&self, number: usize, board: &[Seen], pc: &[Seen], told: (&Told, &Told)) {
        let (serve, connect) = told;
        let name = format!("board {} of two", number + 1);
        let is_own = |seen: &&Seen| source(seen) == BOARD_ID[number];
        let (at_board, at_pc) = (&serve.links[0], &connect.links[0]);
        is_in_order(&name, board);
        assert_eq!(at_board.to_peer, at_pc.from_peer, "{name}: the two ends' accounts differ");
        assert_eq!(at_board.from_peer, at_pc.to_peer, "{name}: the two ends' accounts differ");

        let own = self.boards[number].source.made() + u64::from(self.errors[number]);
        let seen = board.iter().filter(is_own).count() as u64;
        assert_eq!(seen, own, "{name}: the witness missed frames");
        let accounted = at_board.to_peer.accounted() + serve.overflow;
        assert_eq!(accounted, own, "{name}: {:?}", at_board.to_peer);
        fits(&name, pc.iter().filter(is_own).count() as u64, &at_board.to_peer);

        // Toward it goes all that the PC's bus has of anybody else.
        let others = pc.len() as u64 - pc.iter().filter(is_own).count() as u64;
        let accounted = at_pc.to_peer.accounted() + connect.overflow;
        assert_eq!(accounted, others, "to {name}: {:?}", at_pc.to_peer);
        fits(&format!("to {name}"), board.len() as u64 - seen, &at_pc.to_peer);
        let given: HashMap<_, _> = pc.iter().map(|seen| (seen.key(), seen.at_us)).collect();
        for seen in board.iter().filter(|seen| !is_own(seen)) {
            let age_us = seen.at_us.saturating_sub(given[&seen.key()]);
            assert!(
                age_us <= AGE_LIMIT_US + AGE_SLACK_US,
                "to {name}: {seen:?} was {} ms old",
                age_us / 1000
            );
        }
    }
}

/// On whose bus a frame was made.
fn source(seen: &Seen) -> u32 {
    match seen.source {
        ERROR_ID => BOARD_ID[usize::from(seen.number % 2 == 1)],
        source => source,
    }
}

/// The frames of each source are in order, none twice; the error frames of the two boards are two sources.
fn is_in_order(name: &str, frames: &[Seen]) {
    let apart = |seen: &Seen| match seen.source {
        ERROR_ID => Seen { source: ERROR_ID + source(seen), ..*seen },
        _ => *seen,
    };
    in_order(name, &frames.iter().map(apart).collect::<Vec<_>>());
}
