//! The everyday readers as anybody starts them: `candump` and python-can, with the kernel's default socket buffer.
//!
//! What a tool on the PC sees is shown by these. A reader with a large buffer hides what they lose.

use core::time::Duration;
use std::{thread, time::Instant};

use crate::{
    lab::Namespace,
    numbered::Account,
    process::{Process, SOON},
};

/// A frame that `candump` printed: the kernel's stamp in microseconds, and its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printed {
    pub(crate) at_us: u64,
    pub(crate) number: u64,
}

/// `candump -L` of one interface.
pub(crate) struct Candump {
    process: Process,
}

impl Candump {
    /// Starts it; returns once it listens.
    pub(crate) fn start(namespace: &Namespace, interface: &str) -> Self {
        Self { process: Process::candump(namespace, &["-L", interface]) }
    }

    /// The numbered frames with this id so far.
    pub(crate) fn printed(&self, id: u32) -> Vec<Printed> {
        self.process.out().lines().filter_map(|line| parse(line, id)).collect()
    }

    /// The same, once there are so many; fewer when the time is up.
    pub(crate) fn wait_for(&self, id: u32, count: u64, patience: Duration) -> Vec<Printed> {
        let deadline = Instant::now() + patience;
        loop {
            let printed = self.printed(id);
            if printed.len() as u64 >= count || Instant::now() > deadline {
                return printed;
            }
            // Rarely: looking takes time from the reader itself.
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asserts that it printed the numbers below `count`, each once, in order.
    pub(crate) fn has_all(&self, id: u32, count: u64, patience: Duration) -> Vec<Printed> {
        let printed = self.wait_for(id, count, patience);
        is_whole("candump", count, printed.iter().map(|printed| printed.number));
        printed
    }
}

/// A line of `candump -L`: `(1700000000.123456) vcan0 100#0011223344556677`.
fn parse(line: &str, id: u32) -> Option<Printed> {
    let mut words = line.split_whitespace();
    let (seconds, micros) = words.next()?.strip_prefix('(')?.strip_suffix(')')?.split_once('.')?;
    let at_us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    let (who, data) = words.nth(1)?.split_once('#')?;
    // A line that is not whole yet is not counted.
    if u32::from_str_radix(who, 16).ok()? != id || data.len() != 16 {
        return None;
    }
    Some(Printed { at_us, number: u64::from_str_radix(data, 16).ok()?.swap_bytes() })
}

fn is_whole(reader: &str, count: u64, numbers: impl Iterator<Item = u64>) {
    let mut account = Account::new(count);
    numbers.for_each(|number| account.enter(number));
    let tally = account.close();
    println!("    {reader}: {} of {count}", tally.received);
    tally.is_perfect(count);
}

/// The times between two frames, in microseconds, the longest first.
pub(crate) fn gaps_us(printed: &[Printed]) -> Vec<u64> {
    let gap = |pair: &[Printed]| pair[1].at_us.saturating_sub(pair[0].at_us);
    let mut gaps: Vec<u64> = printed.windows(2).map(gap).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    gaps
}

const READER: &str = r#"
import can, sys
count, id = int(sys.argv[1]), int(sys.argv[2])
numbers = []
with can.Bus(interface="socketcan", channel="vcan0") as bus:
    print("ready", flush=True)
    while len(numbers) < count:
        message = bus.recv(timeout=10)
        if message is None:
            break
        if message.arbitration_id == id:
            numbers.append(int.from_bytes(message.data, "little"))
print(*numbers)
"#;

/// A Python that has python-can and can-isotp.
pub(crate) fn python() -> String {
    std::env::var("CANSPAN_PYTHON")
        .expect("CANSPAN_PYTHON names a Python with python-can and can-isotp; tests/run sets it up")
}

/// A python-can program that reads numbered frames of `vcan0`.
pub(crate) struct PythonCan {
    process: Process,
    count: u64,
}

impl PythonCan {
    /// Starts it; returns once it listens.
    pub(crate) fn start(namespace: &Namespace, id: u32, count: u64) -> Self {
        let (number, id) = (count.to_string(), id.to_string());
        let process = Process::start(namespace, &python(), &["-c", READER, &number, &id]);
        process.prints_lines(1, 3 * SOON);
        Self { process, count }
    }

    /// Asserts that it got all numbers, each once, in order. It waits 10 s for the next one.
    pub(crate) fn has_all(self, patience: Duration) {
        let out = self.process.finish(patience).succeeded().out;
        let numbers = out.lines().nth(1).expect("a line of numbers");
        let numbers = numbers.split_whitespace().map(|number| number.parse().unwrap());
        is_whole("python-can", self.count, numbers);
    }
}
