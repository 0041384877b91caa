//! A hop between the board and one PC: a relay that dials the board and has no interface of its own.

use core::time::Duration;

use crate::{
    account::{Order, fits},
    clock::Clock,
    field::{Field, Numbers, cable},
    lab::{Namespace, eventually},
    numbers::{self, Link, PATIENCE, Told, Way},
    process::Process,
    traffic::{BUS, PC_ID, Seen},
};

/// Which PC is behind it; the number of its cable to the board, and of that to the PC.
pub(crate) const BEHIND: usize = 2;
pub(crate) const TO_BOARD: usize = 6;
pub(crate) const TO_PC: usize = 7;

pub(crate) struct Relay {
    pub(crate) namespace: Namespace,
    pub(crate) clock: Clock,
    pub(crate) process: Option<Process>,
    /// Where the present process stands in the order of starts; whether there was one before it.
    pub(crate) started: u64,
    pub(crate) is_second: bool,
}

impl Relay {
    pub(crate) fn new(board: &Namespace) -> Self {
        let namespace = Namespace::new("relay");
        cable(board, &namespace, TO_BOARD);
        let clock = Clock::of(&namespace);
        Self { namespace, clock, process: None, started: 0, is_second: false }
    }

    pub(crate) fn start(&mut self, started: u64) {
        let bus = format!("sim:{BUS}");
        let board = format!("10.0.{TO_BOARD}.1");
        let arguments = ["serve", &bus, "--dial", &board, "--listen", "0.0.0.0", "--insecure"];
        let process = self.clock.canspan(&self.namespace, &arguments);
        process.says("listening on");
        self.process = Some(process);
        self.is_second = self.started > 0;
        self.started = started;
    }

    /// It is joined to the board.
    pub(crate) fn waits_for_board(&self) {
        eventually("the relay is linked", PATIENCE, || {
            numbers::of_serve(&self.namespace).is_some_and(|told| is_joined(&told, TO_BOARD))
        });
    }

    /// It stands still, its clock with it or not.
    pub(crate) fn holds(&mut self, length: Duration, is_paused: bool) {
        let process = self.process.as_mut().unwrap();
        if is_paused {
            self.clock.stands(process, length);
        } else {
            crate::faults::hold(length, |signal| process.signal(signal));
        }
    }
}

/// Whether there is a live link over a cable.
pub(crate) fn is_joined(told: &Told, cable: usize) -> bool {
    told.links.iter().filter(|link| link.up && link.is_over(cable)).count() == 1
}

/// The accounts on either side of the relay, against each other and against the two buses.
///
/// What the relay's own bus was shown only the relay knows, so each of its counts is held against that of the other end
/// where both are of one life. Where none of the three was started again, they are one account from bus to bus.
pub(crate) fn check(field: &Field, numbers: &Numbers, board: &[Seen], order: &Order) {
    let (relay, pc) = (&field.relay, &field.pcs[BEHIND]);
    let told = &numbers.relay;
    let (up, down) = (live(told, TO_BOARD), live(told, TO_PC));
    let at_board = live(&numbers.board, TO_BOARD);
    let at_pc = &numbers.pcs[BEHIND].links[0];

    // The board's end and the relay's.
    if relay.started > field.board.started || field.board.started == 1 {
        assert_eq!(at_board.to_peer, up.from_peer, "the board and the relay differ");
        assert_eq!(at_board.from_peer, up.to_peer, "the board and the relay differ");
        // All of the board's bus that is not the relay's own, as far as the relay is the first.
        if !relay.is_second {
            let meant = board[field.board.begun..].iter().filter(|s| s.source != PC_ID[BEHIND]);
            let meant = meant.count() as u64;
            let accounted = at_board.to_peer.accounted();
            let least = meant.saturating_sub(numbers.board.overflow);
            assert!(
                (least..=meant).contains(&accounted),
                "the board to the relay: {meant} frames were meant for it, {accounted} are accounted for"
            );
        }
    }
    // The relay's end and the PC's.
    if pc.started > relay.started || !relay.is_second {
        assert_eq!(down.to_peer, at_pc.from_peer, "the relay and PC 3 differ");
        assert_eq!(down.from_peer, at_pc.to_peer, "the relay and PC 3 differ");
    }
    // What it took in on one side is all that it has for the other.
    let taken = |links: &mut dyn Iterator<Item = &Link>| {
        links.fold(Way::default(), |sum, link| sum.plus(&link.from_peer)).passed_on()
    };
    let from_pc = taken(&mut told.links.iter().filter(|link| !link.is_over(TO_BOARD)));
    let from_board = taken(&mut told.links.iter().filter(|link| link.is_over(TO_BOARD)));
    assert_eq!(up.to_peer.accounted(), from_pc, "the relay to the board: {up:?}");
    let accounted = down.to_peer.accounted();
    let is_all = accounted == from_board;
    assert!(
        is_all || pc.is_second && pc.started > relay.started && accounted < from_board,
        "the relay to PC 3: it has taken {from_board} frames, and {accounted} are accounted for"
    );
    // From bus to bus.
    if !relay.is_second && !pc.is_second {
        let arrived = board.iter().filter(|seen| seen.source == PC_ID[BEHIND]).count() as u64;
        if field.board.started == 1 {
            fits("the relay to the board", arrived, &up.to_peer);
        }
        let shown = pc.witness.all().iter().filter(|seen| seen.source != PC_ID[BEHIND]).count();
        fits("the relay to PC 3", shown as u64, &down.to_peer);
        assert!(shown <= order.len(), "PC 3 was shown more than there was");
    }
}

fn live(told: &Told, cable: usize) -> &Link {
    let mut links = told.links.iter();
    links.find(|link| link.up && link.is_over(cable)).expect("it was there before")
}
