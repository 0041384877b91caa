//! What fails: cables, connections, processes, interfaces, addresses, the bus itself.

use core::time::Duration;
use std::{collections::BTreeMap, process::Command, thread, time::Instant};

use crate::{
    Sides,
    cutter::Cut,
    field::Field,
    lab::Namespace,
    process::{Process, SOON},
    sys,
    traffic::BUS,
};

/// Classes of error in `linux/can/error.h`, and the controller's states in `data[1]`.
const CONTROLLER: u32 = 0x04;
pub(crate) const BUS_OFF: u32 = 0x40;
const RESTARTED: u32 = 0x100;
pub(crate) const COUNTERS: u32 = 0x200;
const TX_PASSIVE: u8 = 0x20;

/// The cables.
const CABLES: usize = 7;

/// Faults from a seed.
pub(crate) struct Storm {
    rng: fastrand::Rng,
    begin: Instant,
    /// Whether processes are ended in this round. Where none is, the accounts of both ends must agree in everything.
    kills: bool,
    /// When each cable that is bad is to be good again.
    bad: [Option<Instant>; CABLES],
    /// The last part of each PC's address.
    addresses: [u8; CABLES],
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Storm {
    pub(crate) fn new(mut rng: fastrand::Rng) -> Self {
        let kills = rng.u8(0..3) > 0;
        Self {
            rng,
            begin: Instant::now(),
            kills,
            bad: [None; CABLES],
            addresses: [2; CABLES],
            counts: BTreeMap::new(),
        }
    }

    /// Faults for so long; in the end everything is whole again.
    pub(crate) fn rage(&mut self, field: &mut Field, sides: &mut Sides, length: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < length {
            thread::sleep(self.between(50, 1_500));
            self.heal(field, Instant::now());
            match self.rng.u8(0..10) {
                0 => {
                    let kind = sides.joined.fail(&mut self.rng);
                    self.note(kind);
                }
                1 => {
                    let kind = sides.lossy.as_mut().map(|lossy| lossy.fail(&mut self.rng));
                    kind.into_iter().for_each(|kind| self.note(kind));
                }
                _ => self.fail(field),
            }
        }
        self.heal(field, Instant::now() + Duration::from_secs(3600));
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from_ms..to_ms))
    }

    fn note(&mut self, kind: &'static str) {
        *self.counts.entry(kind).or_default() += 1;
        log(kind, self.begin.elapsed());
    }

    fn fail(&mut self, field: &mut Field) {
        match self.rng.u8(0..100) {
            0..32 => self.cable(field),
            32..43 => self.connection(field),
            43..53 => self.stop(field),
            53..60 => self.pause(field),
            60..73 if self.kills => self.end(field),
            73..84 => self.interface(field),
            84..91 => self.bus(field),
            91..95 => self.burst(field),
            95..100 => self.address(field),
            _ => {}
        }
    }

    /// A cable goes bad for a while.
    fn cable(&mut self, field: &Field) {
        let number = self.rng.usize(0..CABLES);
        if self.bad[number].is_some() {
            return;
        }
        // As seen from either end: what the board sends, or what it gets.
        let near = format!("wire{}", number + 1);
        let (namespace, wire) = if self.rng.bool() {
            (near_end(field, number), near.as_str())
        } else {
            (place(field, number), "wire")
        };
        let (kind, netem) = match self.rng.u8(0..8) {
            0 | 1 => ("cable pulled", None),
            2 | 3 => ("cable loses every packet", Some("loss 100%".to_owned())),
            4 => ("cable loses packets", Some(format!("loss {}%", self.rng.u8(2..20)))),
            5 => ("cable is slow", Some(format!("delay {0}ms {0}ms", self.rng.u8(5..60)))),
            6 => ("cable reorders", Some("delay 15ms reorder 25% 50%".to_owned())),
            _ => ("cable is narrow", Some(format!("rate {}kbit", self.rng.u16(30..300)))),
        };
        match &netem {
            None => near_end(field, number).ip(&format!("link set {near} down")),
            Some(netem) => namespace.tc(&format!("qdisc add dev {wire} root netem {netem}")),
        }
        self.bad[number] = Some(Instant::now() + self.between(200, 9_000));
        self.note(kind);
        log(&format!("cable {}", number + 1), self.begin.elapsed());
    }

    fn heal(&mut self, field: &Field, now: Instant) {
        for number in 0..CABLES {
            if self.bad[number].is_none_or(|until| until > now) {
                continue;
            }
            self.bad[number] = None;
            for (namespace, wire) in [
                (near_end(field, number), format!("wire{}", number + 1)),
                (place(field, number), "wire".to_owned()),
            ] {
                // One of them has it, or none.
                let _ = Command::new("tc")
                    .args(["-n", namespace.name(), "qdisc", "del", "dev", &wire, "root"])
                    .output();
            }
            near_end(field, number).ip(&format!("link set wire{} up", number + 1));
        }
    }

    fn connection(&mut self, field: &Field) {
        let (how, kind) = match self.rng.u8(0..5) {
            0 | 1 => (Cut::Both, "connection reset"),
            2 => (Cut::ServerUnaware, "connection forgotten, the board unaware"),
            3 => (Cut::Forgotten, "connection forgotten, both unaware"),
            _ => (Cut::ClientUnaware, "connection forgotten, the PC unaware"),
        };
        if field.cutter.cut(how) {
            self.note(kind);
        }
    }

    /// A process does nothing for a while.
    fn stop(&mut self, field: &mut Field) {
        let length = self.between(100, 5_000);
        let (pc, number) = (self.rng.usize(0..3), self.rng.usize(0..2));
        match self.rng.u8(0..4) {
            0 => {
                self.note("serve stopped and continued");
                let serve = field.board.serve.as_mut().unwrap();
                hold(length, |signal| serve.signal(signal));
            }
            1 => {
                self.note("connect stopped and continued");
                let connect = field.pcs[pc].connect.as_mut().unwrap();
                hold(length, |signal| connect.signal(signal));
            }
            2 => {
                self.note("relay stopped and continued");
                field.relay.holds(length, false);
            }
            _ => {
                self.note("dump stopped and continued");
                let dump = field.listeners[number].dump.as_mut().unwrap();
                hold(length, |signal| dump.signal(signal));
            }
        }
    }

    /// A virtual machine is paused: its clock stands, too.
    fn pause(&mut self, field: &mut Field) {
        let length = self.between(300, 5_000);
        let number = self.rng.usize(0..field.pcs.len());
        let (board, pc) = (&mut field.board, &mut field.pcs[number]);
        if let (Some(clock), true) = (&mut board.clock, self.rng.bool()) {
            self.note("the board's machine paused");
            let from_us = sys::now_us();
            clock.stands(board.serve.as_mut().unwrap(), length);
            board.stood.push((from_us, sys::now_us()));
        } else if let Some(clock) = &mut pc.clock {
            self.note("a PC's machine paused");
            // Nothing runs on it meanwhile, and what has run is read.
            pc.source.pause();
            thread::sleep(Duration::from_millis(200));
            clock.stands(pc.connect.as_mut().unwrap(), length);
            pc.source.go_on();
        } else {
            self.note("the relay's machine paused");
            field.relay.holds(length, true);
        }
    }

    /// More frames at once than anything takes in one turn, and then silence.
    fn burst(&mut self, field: &Field) {
        self.note("burst and silence");
        let count = self.rng.u64(1_000..3_000);
        let source = if self.rng.bool() {
            &field.board.source
        } else {
            &field.pcs[self.rng.usize(0..field.pcs.len())].source
        };
        source.burst(count);
        thread::sleep(self.between(200, 1_500));
        source.go_on();
    }

    /// A process ends, in order or not, and is started again after a while.
    fn end(&mut self, field: &mut Field) {
        let (pc, number) = (self.rng.usize(0..3), self.rng.usize(0..2));
        let is_killed = self.rng.bool();
        let after = if self.rng.bool() { Duration::ZERO } else { self.between(0, 3_000) };
        match self.rng.u8(0..5) {
            0 | 1 => {
                self.note(if is_killed { "serve killed" } else { "serve ended" });
                end(field.board.serve.take().unwrap(), is_killed);
                thread::sleep(after);
                field.start_serve();
            }
            2 => {
                self.note(if is_killed { "connect killed" } else { "connect ended" });
                end(field.pcs[pc].connect.take().unwrap(), is_killed);
                thread::sleep(after);
                field.start_connect(pc);
            }
            3 => {
                self.note(if is_killed { "relay killed" } else { "relay ended" });
                end(field.relay.process.take().unwrap(), is_killed);
                thread::sleep(after);
                field.start_relay();
            }
            _ => {
                self.note("dump killed");
                field.listeners[number].dump = None;
                thread::sleep(after);
                field.start_dump(number);
            }
        }
    }

    /// A CAN interface goes down and up, or away and back as a new one.
    fn interface(&mut self, field: &mut Field) {
        let length = self.between(0, 2_500);
        let is_deleted = self.rng.bool();
        match self.rng.usize(0..4) {
            3 if is_deleted => {
                self.note("the board's interface removed");
                let board = &mut field.board;
                // Under traffic: what is on the bus in its last moment is on the bus.
                board.namespace.ip(&format!("link del {BUS}"));
                board.source.pause();
                thread::sleep(length);
                board.waits_for("absent");
                board.namespace.ip(&format!("link add {BUS} mtu 72 type vcan"));
                board.witness.watch_anew(&board.namespace);
                board.namespace.ip(&format!("link set {BUS} up"));
                board.waits_for("up");
                board.source.go_on();
            }
            3 => {
                self.note("the board's interface down");
                down_and_up(&field.board.namespace, length);
            }
            number if is_deleted => {
                self.note("a PC's interface removed");
                let pc = &mut field.pcs[number];
                pc.namespace.ip(&format!("link del {BUS}"));
                pc.source.pause();
                thread::sleep(length);
                pc.waits_for("absent");
                pc.namespace.ip(&format!("link add {BUS} mtu 72 type vcan"));
                pc.witness.watch_anew(&pc.namespace);
                pc.namespace.ip(&format!("link set {BUS} up"));
                pc.waits_for("up");
                pc.source.go_on();
            }
            number => {
                self.note("a PC's interface down");
                down_and_up(&field.pcs[number].namespace, length);
            }
        }
    }

    /// The board's controller is in trouble, by what its error frames say.
    fn bus(&mut self, field: &mut Field) {
        let board = &mut field.board;
        if self.rng.bool() {
            self.note("error-passive");
            board.error(CONTROLLER | COUNTERS, TX_PASSIVE, 130);
            return;
        }
        self.note("bus-off");
        // Any other frame would say that the bus is alive.
        board.source.pause();
        board.error(BUS_OFF | COUNTERS, 0, 255);
        thread::sleep(self.between(50, 1_500));
        board.error(RESTARTED | COUNTERS, 0, 0);
        board.source.go_on();
    }

    /// A PC gets another address; its connections lead nowhere from then on.
    fn address(&mut self, field: &Field) {
        self.note("address changed");
        let number = self.rng.usize(0..CABLES);
        let old = self.addresses[number];
        self.addresses[number] = if old == 250 { 2 } else { old + 1 };
        let place = place(field, number);
        place.ip(&format!("addr del 10.0.{}.{old}/24 dev wire", number + 1));
        place.ip(&format!("addr add 10.0.{}.{}/24 dev wire", number + 1, self.addresses[number]));
    }
}

/// The namespace at the far end of a cable: a PC's, or the relay's on its way to the board.
fn place(field: &Field, number: usize) -> &Namespace {
    match number {
        0 | 1 => &field.pcs[number].namespace,
        2 | 3 => &field.listeners[number - 2].namespace,
        5 => &field.relay.namespace,
        6 => &field.pcs[2].namespace,
        _ => &field.sender_place,
    }
}

/// The namespace at the end where they are many.
fn near_end(field: &Field, number: usize) -> &Namespace {
    if number == 6 { &field.relay.namespace } else { &field.board.namespace }
}

pub(crate) fn hold(length: Duration, mut signal: impl FnMut(libc::c_int)) {
    signal(libc::SIGSTOP);
    thread::sleep(length);
    signal(libc::SIGCONT);
}

fn end(mut process: Process, is_killed: bool) {
    if is_killed {
        process.signal(libc::SIGKILL);
        process.finish(SOON);
    } else {
        process.signal(libc::SIGTERM);
        process.finish(SOON).succeeded();
    }
}

fn down_and_up(namespace: &Namespace, length: Duration) {
    namespace.ip(&format!("link set {BUS} down"));
    thread::sleep(length);
    namespace.ip(&format!("link set {BUS} up"));
}

/// What happens, as it happens, for whoever looks for the reason of a failure.
fn log(kind: &str, after: Duration) {
    if std::env::var_os("CANSPAN_CHAOS_VERBOSE").is_some() {
        println!("      {:>7.2} s: {kind}", after.as_secs_f64());
    }
}
