//! ISO-TP over the gateway: blocks of 4 KB to an ECU, as in a flash, by can-isotp at both ends.
//!
//! Wherever the sender waits for the ECU, the gateway adds to the transfer; how much, a request and its answer of one
//! frame each tell, by the same two programs. A transfer may take at most [`LIMIT`] times what it takes on a bus that
//! both are on, and that for each wait. The request is measured on a quiet bus even where the transfer is not alone:
//! how much later a frame is beside others is the gateway's to answer for.
//!
//! What is compared is measured in turn, so that other work on the machine slows both, and the median of the rounds
//! counts. Other frames pass the gateway while the one bus is measured, too: what they take of the lab's only processor
//! would else count as latency.

use std::{
    fs,
    io::Write,
    process::{ChildStdin, Stdio},
};

use crate::{
    lab::{Namespace, Pair, scratch},
    numbered::Generator,
    plain::python,
    process::{Process, SOON},
};

/// How many times as long as explained a transfer may take.
const LIMIT: f64 = 1.25;
/// Frames from one flow control to the next (0: all of them), and other frames a second on the ECU's bus: none, and
/// those of half a bus of 500 kbit/s.
const CASES: [(usize, u64); 4] = [(8, 0), (8, 2_200), (0, 0), (0, 2_200)];
/// A round measures everything; more rounds than the fewest only while the limit is not met.
const ROUNDS: core::ops::RangeInclusive<usize> = 5..=12;
/// In a round and on each bus; a window has as many requests as a transfer of small blocks has waits.
const WINDOWS: usize = 3;
const REQUESTS: usize = 75;
const TRANSFERS: usize = 3;

/// An ECU and a tester that asks it.
struct Programs {
    _ecu: Process,
    tester: Process,
    input: ChildStdin,
    answered: usize,
}

impl Programs {
    fn start(ecu: &Namespace, tester: &Namespace) -> Self {
        let script = scratch().join("flash.py");
        fs::write(&script, include_str!("flash.py")).unwrap();
        let script = script.to_str().unwrap();
        let ecu = Process::start(ecu, &python(), &[script, "ecu", "vcan0"]);
        let arguments = [script, "tester", "vcan0"];
        let mut tester = Process::start_fed(tester, &python(), &arguments, Stdio::piped());
        let input = tester.input();
        ecu.prints_lines(1, 3 * SOON);
        tester.prints_lines(1, 3 * SOON);
        Self { _ecu: ecu, tester, input, answered: 0 }
    }

    /// What the tester has to say to a command: milliseconds, and how often it waited for the ECU.
    fn ask(&mut self, command: &str) -> (f64, f64) {
        writeln!(self.input, "{command}").unwrap();
        self.answered += 1;
        let lines = self.tester.prints_lines(1 + self.answered, 6 * SOON);
        let (ms, waits) = lines[self.answered].split_once(' ').expect("two numbers");
        (ms.parse().unwrap(), waits.parse().unwrap())
    }
}

/// The two buses: one that tester and ECU are both on, and the board's with the gateway between.
struct Buses {
    one: Programs,
    far: Programs,
}

/// Milliseconds on either bus.
#[derive(Clone, Copy)]
struct Both {
    one: f64,
    far: f64,
}

impl Buses {
    /// Medians of `count` runs of a command in turn, and how often the last waited for the ECU.
    fn ask(&mut self, command: &str, count: usize) -> (Both, f64) {
        let (mut one, mut far, mut waits) = (vec![], vec![], 0.0);
        for _ in 0..count {
            one.push(self.one.ask(command).0);
            let told = self.far.ask(command);
            far.push(told.0);
            waits = told.1;
        }
        (Both { one: median(one), far: median(far) }, waits)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A round's figures of one case, in milliseconds.
struct Transfer {
    waits: f64,
    took: Both,
    expected: f64,
}

/// A case, and its rounds.
struct Case {
    block_size: usize,
    others: u64,
    rounds: Vec<Transfer>,
}

impl Case {
    fn measure(&mut self, buses: &mut Buses, board: &Namespace, hop: f64) {
        let generator = (self.others > 0)
            .then(|| Generator::start(board.can_sender("vcan0"), 0x123, u64::MAX, self.others));
        let (took, waits) = buses.ask(&format!("transfer {}", self.block_size), TRANSFERS);
        generator.map(Generator::stop);
        self.rounds.push(Transfer { waits, took, expected: took.one + waits * hop });
    }

    fn median(&self, of: impl Fn(&Transfer) -> f64) -> f64 {
        median(self.rounds.iter().map(of).collect())
    }

    fn ratio(&self) -> f64 {
        self.median(|round| round.took.far / round.expected)
    }

    fn print(&self) {
        let all = self.rounds.iter().map(|round| round.took.far / round.expected);
        let all: Vec<String> = all.map(|ratio| format!("{ratio:.2}")).collect();
        println!(
            "    | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {} |",
            self.block_size,
            self.others,
            self.rounds[0].waits,
            self.median(|round| round.took.one),
            self.median(|round| round.took.far),
            self.median(|round| round.expected),
            self.ratio(),
            all.join(" ")
        );
    }
}

#[test]
fn isotp_transfer_takes_what_its_waits_explain() {
    let (pair, alone) = (Pair::new(), Namespace::new("one"));
    alone.add_vcan("vcan0", 72);
    let _gateway = pair.joined();
    let mut buses =
        Buses { one: Programs::start(&alone, &alone), far: Programs::start(&pair.board, &pair.pc) };
    let mut cases =
        CASES.map(|(block_size, others)| Case { block_size, others, rounds: Vec::new() });
    let mut requests = Vec::new();
    while requests.len() < *ROUNDS.start()
        || (requests.len() < *ROUNDS.end() && cases.iter().any(|case| case.ratio() > LIMIT))
    {
        let (request, _) = buses.ask(&format!("request {REQUESTS}"), WINDOWS);
        requests.push(request);
        cases
            .iter_mut()
            .for_each(|case| case.measure(&mut buses, &pair.board, request.far - request.one));
    }
    let of = |bus: fn(&Both) -> f64| median(requests.iter().map(bus).collect());
    println!(
        "    a request and its answer: {:.2} ms on one bus, {:.2} ms over the gateway",
        of(|both| both.one),
        of(|both| both.far)
    );
    println!(
        "    | block size | others/s | waits | one bus, ms | over the gateway, ms | expected, ms | ratio | of each round |"
    );
    cases.iter().for_each(Case::print);
    for case in &cases {
        let (size, others, ratio) = (case.block_size, case.others, case.ratio());
        assert!(ratio <= LIMIT, "block size {size} beside {others} frames/s: {ratio:.2} times");
    }
}
