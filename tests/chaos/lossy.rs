//! A board with a real controller, as far as the kernel can tell, whose echoes are lost now and then.
//!
//! No process is ended here either. The controller's driver does not confirm, so what the interface took counts as
//! `taken`; what reaches the line the adapter itself knows.

use core::time::Duration;
use std::{collections::HashMap, thread};

use crate::{
    account::{AGE_LIMIT_US, AGE_SLACK_US},
    controller::Adapter,
    faults::hold,
    field::{SETTLED, STILL, cable},
    lab::{Namespace, eventually},
    numbers::{self, METRICS, Told},
    process::{Process, SOON},
    traffic::{BUS, Source, Witness},
};

const ID: u32 = 0x601;
/// Commands a second.
const RATE: u64 = 40;
/// The number of the cable.
const CABLE: usize = 13;

/// The board, and the PC that commands it.
pub(crate) struct Lossy {
    board: Namespace,
    adapter: Adapter,
    pc: Namespace,
    witness: Witness,
    source: Source,
    serve: Process,
    connect: Process,
}

impl Lossy {
    pub(crate) fn start() -> Self {
        let (board, pc) = (Namespace::new("board"), Namespace::new("pc"));
        cable(&board, &pc, CABLE);
        pc.add_vcan(BUS, 72);
        let adapter = Adapter::plug(&board, "can0");
        let arguments = [
            "serve",
            "can0",
            "--bitrate=500k",
            "--max-age=500ms",
            "--listen=0.0.0.0",
            "--insecure",
        ];
        let serve = Process::canspan(&board, &arguments);
        eventually("the adapter is open", SOON, || adapter.heard().contains("S6\rO\r"));
        // There is a queue to wait in, of as many frames as most drivers have.
        board.tc("qdisc add dev can0 clsact");
        let address = format!("10.0.{CABLE}.1");
        let bus = format!("can0:{BUS}");
        let connect = Process::canspan(&pc, &["connect", &address, &bus, "--metrics", METRICS]);
        connect.says("its bus is up");
        let (witness, source) = (Witness::start(&pc), Source::start(&pc, ID, RATE));
        source.go_on();
        Self { board, adapter, pc, witness, source, serve, connect }
    }

    /// Something fails, and is whole again when this returns; what it was.
    pub(crate) fn fail(&mut self, rng: &mut fastrand::Rng) -> &'static str {
        let length = Duration::from_millis(rng.u64(100..4_000));
        match rng.u8(0..6) {
            0..3 => {
                self.board.tc("filter add dev can0 ingress matchall action drop");
                thread::sleep(length);
                self.board.tc("filter del dev can0 ingress");
                "echoes lost"
            }
            3 => {
                let link = format!("link set wire{CABLE}");
                self.board.ip(&format!("{link} down"));
                thread::sleep(length);
                self.board.ip(&format!("{link} up"));
                "cable of the controller's board pulled"
            }
            4 => {
                hold(length, |signal| self.serve.signal(signal));
                "serve of the controller's board stopped"
            }
            _ => {
                hold(length, |signal| self.connect.signal(signal));
                "connect to the controller's board stopped"
            }
        }
    }

    fn told(&self) -> Option<(Told, Told)> {
        let (serve, connect) = (numbers::of_serve(&self.board)?, numbers::of_connect(&self.pc)?);
        let rests =
            serve.links.iter().chain(&connect.links).all(|link| link.up && link.behind == 0);
        (rests && serve.links.len() == 1).then_some((serve, connect))
    }

    /// Ends the traffic, waits until all is delivered, and checks the account against the line.
    pub(crate) fn check(&self) -> u64 {
        // The way to the line is open in the end, however many echoes were lost.
        let is_new = |from: usize| {
            let new = format!("t{ID:03X}");
            self.adapter.heard()[from..].contains(&new)
        };
        let before = self.adapter.heard().len();
        eventually("the controller is given frames", SETTLED, || is_new(before));
        self.source.pause();
        let mut last = None;
        eventually("the controller's board and its PC are at rest", SETTLED, || {
            let before = last.take();
            last = self.told();
            thread::sleep(STILL / 2);
            last.is_some() && before == last
        });
        let (serve, connect) = last.expect("there are numbers");
        let (to, from) = (&connect.links[0].to_peer, &serve.links[0].from_peer);
        assert_eq!(to, from, "the controller's board: the two ends' accounts differ");
        let made = self.source.made();
        assert_eq!(to.accounted() + connect.overflow, made, "to the controller: {to:?}");

        let given: HashMap<_, _> =
            self.witness.all().iter().map(|seen| (seen.number, seen.at_us)).collect();
        let head = format!("t{ID:03X}8");
        let mut next = 0;
        let mut on_line = 0;
        for (word, at_us) in self.adapter.words() {
            let Some(data) = word.strip_prefix(&head) else { continue };
            let number = u64::from_str_radix(data, 16).expect("eight bytes").swap_bytes();
            assert!(number >= next, "on the line: {number}, where {next} is the next");
            (next, on_line) = (number + 1, on_line + 1);
            let age_us = at_us.saturating_sub(given[&number]);
            assert!(
                age_us <= AGE_LIMIT_US + AGE_SLACK_US,
                "on the line: command {number} was {} ms old",
                age_us / 1000
            );
        }
        let sure = to.of("sent") + to.of("taken");
        let most = sure + to.of("unconfirmed") + to.of("failed");
        assert!((sure..=most).contains(&on_line), "{on_line} were on the line, counted {to:?}");
        made
    }
}
