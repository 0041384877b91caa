//! `canspan dump`, read line by line at any pace, and `canspan send`, fed line by line.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use crate::{
    lab::Namespace,
    process::canspan,
    sys,
    traffic::{SENDER_ID, Seen},
};

/// Between two runs of `send`. Each is a peer the board remembers, and a round may not have more than it can.
const PAUSE: Duration = Duration::from_secs(2);

/// A `dump` and who reads it.
pub(crate) struct Reader {
    child: Child,
    /// Reads slowly while this is set.
    pub(crate) is_slow: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts one; what it prints goes to `log`.
    pub(crate) fn start(
        namespace: &Namespace,
        address: &str,
        is_slow: bool,
        log: &Arc<Mutex<Vec<Seen>>>,
    ) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace.name(), &canspan(), "dump", address, "vcan0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("canspan dump");
        let out = BufReader::with_capacity(4096, child.stdout.take().unwrap());
        let is_slow = Arc::new(AtomicBool::new(is_slow));
        let (log, slow) = (Arc::clone(log), Arc::clone(&is_slow));
        let thread = Some(thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // What a process was killed in the middle of is no line.
                let Some(seen) = parse(&line) else { continue };
                log.lock().unwrap().push(seen);
                if slow.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }));
        Self { child, is_slow, thread }
    }

    pub(crate) fn signal(&self, number: libc::c_int) {
        sys::signal(self.child.id(), number);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A line of `candump -L`, whole.
fn parse(line: &str) -> Option<Seen> {
    let (id, data) = line.split_whitespace().nth(2)?.split_once('#')?;
    if data.len() != 16 {
        return None;
    }
    let bytes = u64::from_str_radix(data, 16).ok()?.to_be_bytes();
    Some(Seen::of(u32::from_str_radix(id, 16).ok()?, &bytes, 0))
}

/// What came of the frames given to `send`.
#[derive(Default)]
pub(crate) struct Fate {
    /// Numbers below this were given.
    pub(crate) given: AtomicU64,
    /// Runs that ended well: from which number on, up to which.
    pub(crate) confirmed: Mutex<Vec<(u64, u64)>>,
    /// Numbers it said were not sent, for certain.
    pub(crate) denied: Mutex<Vec<u64>>,
}

/// Someone who gives `send` a few frames again and again.
pub(crate) struct Sender {
    pub(crate) fate: Arc<Fate>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    /// One that has not begun.
    pub(crate) fn new() -> Self {
        Self { fate: Arc::default(), stop: Arc::default(), thread: None }
    }

    pub(crate) fn begin(&mut self, namespace: &Namespace, address: &str) {
        let (shared, stopped) = (Arc::clone(&self.fate), Arc::clone(&self.stop));
        let (namespace, address) = (namespace.name().to_owned(), address.to_owned());
        self.thread = Some(thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                send_some(&namespace, &address, &shared);
                thread::sleep(PAUSE);
            }
        }));
    }

    /// Waits for the last run.
    pub(crate) fn finish(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), JoinHandle::join).expect("the sender");
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn frame(number: u64) -> String {
    format!("{SENDER_ID:03X}#{:016X}", number.swap_bytes())
}

fn send_some(namespace: &str, address: &str, fate: &Fate) {
    const RUN: u64 = 20;
    let mut child = Command::new("ip")
        .args(["netns", "exec", namespace, &canspan(), "send", address, "vcan0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("canspan send");
    let first = fate.given.load(Ordering::Relaxed);
    fate.given.store(first + RUN, Ordering::Relaxed);
    let lines: String = (first..first + RUN).map(|number| frame(number) + "\n").collect();
    // It may have ended already, because the board was not there.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let run = child.wait_with_output().expect("canspan send");
    if run.status.success() {
        fate.confirmed.lock().unwrap().push((first, first + RUN));
    }
    let said = String::from_utf8_lossy(&run.stderr);
    for number in first..first + RUN {
        let denial = format!("{} was not sent: ", frame(number));
        let denied =
            said.lines().any(|line| line.contains(&denial) && !line.contains("may or may not"));
        // What a bus had when it failed nobody can be sure of.
        if denied && !said.contains("while it had the frame") {
            fate.denied.lock().unwrap().push(number);
        }
    }
}
