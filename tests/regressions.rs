//! One test for each fault that was found in use, named after the behaviour; none needs CAN.

use core::time::Duration;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

struct Running(Child);

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_canspan"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits until standard error has a line with `text`, and gives that line.
    fn says(&mut self, text: &str) -> String {
        let mut lines = BufReader::new(self.0.stderr.as_mut().unwrap()).lines();
        lines.by_ref().map(Result::unwrap).find(|line| line.contains(text)).expect(text)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port nobody listens on.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// Stamp in seconds and counter of a line of `canspan dump` whose frame was made by `sim:x?rate=`.
fn stamp_and_counter(line: &str) -> (f64, u64) {
    let (stamp, rest) = line.trim_start_matches('(').split_once(')').unwrap();
    let (_, data) = rest.split_once('#').unwrap();
    (stamp.parse().unwrap(), u64::from_str_radix(data, 16).unwrap())
}

#[test]
fn a_gateway_that_was_stopped_puts_nothing_on_its_bus_that_has_grown_old_meanwhile() {
    const RATE: f64 = 1_000.0;
    let at = format!("127.0.0.1:{}", free_port());
    let mut server = Running::start(&["serve", "sim:b", "--max-age", "500ms", "--listen", &at]);
    server.says("listening");
    let mut dump = Running::start(&["dump", &at, "b"]);
    dump.says("link up");
    let mut client = Running::start(&["connect", &at, "b:sim:x?rate=1000"]);
    client.says("link up");
    let mut lines = BufReader::new(dump.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut frames: Vec<_> = lines.by_ref().take(1_000).map(|l| stamp_and_counter(&l)).collect();
    for _ in 0..3 {
        server.signal(Signal::STOP);
        // Not a race: the longer the stop, the older what waits.
        std::thread::sleep(Duration::from_millis(1_500));
        server.signal(Signal::CONT);
        frames.extend(lines.by_ref().take(700).map(|line| stamp_and_counter(&line)));
    }
    let offset = |(stamp, counter): &(f64, u64)| stamp - *counter as f64 / RATE;
    let youngest = frames.iter().map(offset).fold(f64::MAX, f64::min);
    let oldest = frames.iter().map(offset).fold(f64::MIN, f64::max) - youngest;
    assert!(oldest < 0.6, "a frame was {oldest} s old on the bus");
    assert!(frames.is_sorted_by_key(|(_, counter)| *counter));
}

#[test]
fn send_that_is_ended_before_it_could_send_does_not_succeed() {
    // It accepts, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let mut send = Running::start(&["send", &at, "b", "123#11"]);
    let (_connection, _) = listener.accept().unwrap();
    send.signal(Signal::TERM);
    assert_eq!(send.exit_code(), Some(1));
}

#[test]
fn send_takes_no_longer_than_the_bus() {
    let at = format!("127.0.0.1:{}", free_port());
    let mut server = Running::start(&["serve", "sim:b?rate=1", "--listen", &at]);
    server.says("listening");
    let start = std::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(Running::start(&["send", &at, "b", "123#11"]).exit_code(), Some(0));
    }
    assert!(start.elapsed() < Duration::from_secs(4), "ten took {:?}", start.elapsed());
}

#[test]
fn many_short_visits_do_not_cost_a_peer_its_resume() {
    let at = format!("127.0.0.1:{}", free_port());
    let mut server = Running::start(&["serve", "sim:b?rate=500", "--listen", &at]);
    server.says("listening");
    let mut dump = Running::start(&["dump", &at, "b"]);
    dump.says("link up");
    let mut lines = BufReader::new(dump.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = stamp_and_counter(&lines.next().unwrap()).1;
    // Stopped, it is given up; and what it has not seen must outlast more visitors than places.
    dump.signal(Signal::STOP);
    server.says("nothing was heard");
    for _ in 0..120 {
        assert_eq!(Running::start(&["send", &at, "b", "123#11"]).exit_code(), Some(0));
    }
    dump.signal(Signal::CONT);
    let counters: Vec<u64> = lines
        .by_ref()
        .take(3_000)
        .filter(|line| !line.ends_with(" 123#11"))
        .map(|line| stamp_and_counter(&line).1)
        .collect();
    let whole = counters.iter().zip(first + 1..).all(|(counter, expected)| *counter == expected);
    assert!(whole, "frames are missing after the visits");
}

/// Passes on what either side says, until one of them ends it.
fn relay(client: TcpStream, server: TcpStream) {
    let copy = |stream: &TcpStream| stream.try_clone().unwrap();
    for (mut from, mut to) in [(copy(&client), copy(&server)), (server, client)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

#[test]
fn a_greeting_that_a_proxy_has_held_up_neither_doubles_a_frame_nor_ends_the_link() {
    let at = format!("127.0.0.1:{}", free_port());
    let mut server = Running::start(&["serve", "sim:b?rate=1000", "--listen", &at]);
    server.says("listening");
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap().to_string();
    let (links, counted) = mpsc::channel();
    let there = at.clone();
    thread::spawn(move || {
        // The first client is let go; what it has said, the proxy has.
        let (mut first, _) = proxy.accept().unwrap();
        let mut greeting = [0; 4096];
        let count = first.read(&mut greeting).unwrap();
        links.send(greeting[..count].to_vec()).unwrap();
        drop(first);
        while let Ok((client, _)) = proxy.accept() {
            relay(client, TcpStream::connect(&there).unwrap());
            // Nobody counts any more when the test is over.
            let _ = links.send(Vec::new());
        }
    });
    let mut dump = Running::start(&["dump", &address, "b"]);
    let mut lines = BufReader::new(dump.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut counters: Vec<u64> =
        lines.by_ref().take(500).map(|line| stamp_and_counter(&line).1).collect();
    let greeting = counted.recv().unwrap();
    let mut late = TcpStream::connect(&at).unwrap();
    late.write_all(&greeting).unwrap();
    // Until it is told what became of it.
    let _ = late.read_to_end(&mut Vec::new());
    counters.extend(lines.by_ref().take(1_500).map(|line| stamp_and_counter(&line).1));
    let wrong = counters.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(wrong, None, "a frame is missing, doubled or out of order");
    assert_eq!(counted.try_iter().count(), 1, "the link that works was ended");
}
