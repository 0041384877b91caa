//! Whoever reaches the port may be anybody: an honest client beside a hostile one loses nothing and does not wait.

use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    io,
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use canspan::protocol::{
    Outcome, Progress,
    wire::{From, Hello, Message, Seen, Skip},
};

use crate::{
    cutter::{Cut, Cutter},
    lab::{BOARD, Namespace, Pair, eventually, ip, status},
    numbered::Generator,
    plain::{Candump, gaps_us},
    process::{Process, SOON},
    stranger::{Stranger, greeting},
    sys::{BATCH, Frame},
    talk::record,
};

const ID: u32 = 0x100;

/// How many machines of somebody else the board can tell apart.
const OTHERS: u8 = 6;

/// Where the board is for the `number`-th of them.
fn port(number: u8) -> String {
    format!("10.0.8.{}:22677", 100 + number)
}

/// Adds a place with a cable of its own to the board, which has an address there for each machine that it stands for.
fn outside(pair: &Pair) -> Namespace {
    let there = Namespace::new("outside");
    let (board, name) = (pair.board.name(), there.name());
    ip(&format!("link add outside netns {board} type veth peer name outside netns {name}"));
    pair.board.ip("link set outside up");
    there.ip("link set outside up");
    for number in 0..OTHERS {
        let (board, other) = (100 + number, 200 + number);
        pair.board.ip(&format!("addr add 10.0.8.{board}/24 dev outside"));
        there.ip(&format!("addr add 10.0.8.{other}/24 dev outside"));
        there.ip(&format!("route add 10.0.8.{board}/32 dev outside src 10.0.8.{other}"));
    }
    there
}

/// The board serves to everybody, and the honest client is linked.
fn joined(pair: &Pair) -> (Process, Process) {
    let arguments = ["serve", "vcan0", "--listen", "0.0.0.0", "--insecure"];
    let server = Process::canspan(&pair.board, &arguments);
    server.says("listening on");
    (server, pair.connect(&["vcan0"]))
}

/// Something that is done again and again until the test has seen enough.
struct Attack {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Attack {
    /// Does `once` with a number, with `pause` after each.
    fn start(
        place: &Namespace,
        pause: Duration,
        mut once: impl FnMut(u64) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = place.spawn(move || {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                // The other side may refuse, or close at any word.
                drop(once(number));
                number += 1;
                thread::sleep(pause);
            }
            number
        });
        Self { ends, thread }
    }

    /// Ends it: how often it was done.
    fn stop(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("the attack")
    }
}

/// Numbered frames of the board's bus at 4,000 a second, all of which must come to the PC's; the 99th percentile of their
/// way in microseconds.
///
/// Both buses are read with large buffers: at this rate a machine that is busy elsewhere makes bursts of its own, which no
/// everyday reader survives, on the board's bus neither.
fn honest(pair: &Pair, id: u32) -> u64 {
    const COUNT: u64 = 8_000;
    let [there, here] = [&pair.board, &pair.pc].map(|place| {
        let socket = place.can_only("vcan0", id);
        thread::spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < COUNT as usize {
                let batch = socket.receive(SOON / 2).unwrap();
                assert!(!batch.frames.is_empty(), "{} of {COUNT} frames came", seen.len());
                assert_eq!(batch.overflow, 0, "the test reads too slowly");
                seen.extend(batch.frames.iter().map(Frame::number).zip(batch.stamps_us));
            }
            seen
        })
    });
    Generator::start(pair.board.can_sender("vcan0"), id, COUNT, 4_000).finish();
    let (there, here) = (there.join().unwrap(), here.join().unwrap());
    let numbers = |seen: &[(u64, u64)]| seen.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    assert_eq!(numbers(&there), numbers(&here), "frames are missing, doubled or swapped");
    let way = |((_, from), (_, to)): (&(u64, u64), &(u64, u64))| to.saturating_sub(*from);
    let mut ways: Vec<u64> = there.iter().zip(&here).map(way).collect();
    ways.sort_unstable();
    let at = |percent: usize| ways[(ways.len() - 1) * percent / 100];
    println!("    p50 {} us, p99 {} us", at(50), at(99));
    at(99)
}

/// A greeting that says the sender has everything of a history.
fn seen(history: u64, position: u64) -> Option<Seen> {
    let progress = Progress { position, frames: 0, lost: 0, stale: 0 };
    Some(Seen { history, progress, done: [0; Outcome::COUNT] })
}

#[test]
fn hostile_peers_neither_delay_nor_cost_frames() {
    let pair = Pair::new();
    let there = outside(&pair);
    let (server, client) = joined(&pair);
    // Other work on the machine only ever adds to the times: the best of a few counts.
    let quiet = (0..2).map(|round| honest(&pair, ID + round)).min().unwrap_or_default();

    // Greet, and fall silent: they would be allowed to for half an hour.
    let silent = there.run(|| {
        let greet = |number: u64| {
            let mut stranger = Stranger::dials(&port(0))?;
            stranger
                .greets(Hello { heartbeat_ms: 600_000, ..greeting("vcan0", 5_000 + number) })?;
            Ok::<_, io::Error>(stranger)
        };
        (0..64).map(greet).collect::<Vec<_>>()
    });
    // Whole greetings, again and again, by a known peer and by unknown ones.
    let greets = Attack::start(&there, Duration::from_millis(20), |number| {
        let mut stranger = Stranger::dials(&port(1))?;
        stranger.greets(greeting("vcan0", 6_000 + number % 7)).map(drop)
    });
    // One that takes no record to its end, byte by byte.
    let slow = Attack::start(&there, Duration::from_millis(100), {
        let mut stranger = None;
        move |number| {
            if number % 50 == 0 {
                stranger = Some(Stranger::dials(&port(2))?);
            }
            let byte = if number % 50 == 0 { 0x7F } else { 0x80 };
            stranger.as_mut().map_or(Ok(()), |stranger| stranger.says_bytes(&[byte]))
        }
    });
    let garbage = Attack::start(&there, Duration::from_millis(20), |number| {
        Stranger::dials(&port(3))?
            .says_bytes(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().repeat(64))
    });
    // Connections that say nothing, and are closed.
    let knocks =
        Attack::start(&there, Duration::from_millis(5), |_| Stranger::dials(&port(4)).map(drop));
    // Skips that each tell of a loss.
    let skips = Attack::start(&there, Duration::from_millis(1), {
        let mut stranger = None;
        move |number| {
            if number % 4_000 == 0 {
                let mut new = Stranger::dials(&port(5))?;
                new.greets(greeting("vcan0", 7_000))?;
                new.says(&Message::Start(Progress { position: 0, frames: 0, lost: 0, stale: 0 }))?;
                stranger = Some(new);
            }
            let skip = record(&Message::Skip(Skip { positions: 1, lost: 1, stale: 0 })).repeat(8);
            stranger.as_mut().map_or(Ok(()), |stranger| stranger.says_bytes(&skip))
        }
    });
    let asked = Process::canspan(&pair.pc, &["status", BOARD, "--check"]).finish(SOON);
    let lines = server.err().lines().count();
    let begin = Instant::now();
    let mut beside = u64::MAX;
    // The attackers run on the same processor: one slice of the scheduler's, 3 ms, is theirs, however quick we are.
    let limit = (2 * quiet).max(4_000);
    for round in 0..3 {
        beside = beside.min(honest(&pair, ID + 0x10 + round));
        if beside <= limit {
            break;
        }
    }
    let told = server.err().lines().count() - lines;
    let seconds = begin.elapsed().as_secs().max(1) as usize;
    // A new client is let in beside them, and does not wait until they are gone.
    let second = Process::canspan(&pair.pc, &["dump", BOARD, "vcan0"]);
    second.says("link up");
    let counts = [greets, slow, garbage, knocks, skips].map(Attack::stop);
    drop(silent);
    println!(
        "    greetings, bytes, garbage, knocks, skips: {counts:?}; {told} lines of log in {seconds} s"
    );
    assert_eq!(asked.code(), 0, "status is refused beside 64 silent strangers: {asked:?}");
    assert!(beside <= limit, "p99 is {beside} us beside hostile peers, {quiet} us without");
    // Each link is told, up to as many as there can be: its coming, its end, and its counters.
    assert!(told <= 3 * 64 + 5 * seconds, "{told} lines of log in {seconds} s");
    assert_eq!(client.err().matches("link up").count(), 1, "the honest link was made anew");
}

/// Whom a client has dialled knows the id of its history. A greeting with it and the last of all times must not lock the
/// client out elsewhere.
#[test]
fn a_greeting_from_the_future_locks_nobody_out() {
    let pair = Pair::new();
    let there = outside(&pair);
    let arguments = ["serve", "vcan0", "--listen", "0.0.0.0", "--insecure"];
    let server = Process::canspan(&pair.board, &arguments);
    server.says("listening on");
    let address = format!("127.0.0.1:{}", Cutter::PORT);
    let bound = address.clone();
    let listener = pair.pc.run(move || TcpListener::bind(bound)).unwrap();
    let client = Process::canspan(&pair.pc, &["connect", &address, "vcan0"]);
    let history = Stranger::is_dialled(&listener).unwrap();
    drop(listener);
    let cutter = Cutter::start(&pair.pc, format!("{BOARD}:22677").parse().unwrap());
    client.says("link up");
    there.run(move || {
        let mut stranger = Stranger::dials(&port(0)).unwrap();
        drop(stranger.greets(Hello { clock_us: u64::MAX, ..greeting("vcan0", history) }));
    });
    let candump = Candump::start(&pair.pc, "vcan0");
    // Whatever became of its link, it has one again.
    cutter.cut(Cut::Both);
    client.says_times("link up", 2, SOON);
    Generator::start(pair.board.can_sender("vcan0"), ID, 100, 500).finish();
    candump.has_all(ID, 100, SOON);
}

/// A history of 64 MB is gone through for a peer that greets, and nobody waits for that.
#[test]
fn greetings_with_large_history_delay_no_client() {
    /// Frames a second that the other client gets.
    const RATE: u64 = 1_000;
    /// What may come on top of a gap without greetings.
    const MORE_US: u64 = 10_000;
    /// Of the longest gaps, the one that is compared: each greeting makes one, and chance makes fewer.
    const TENTH: usize = 9;
    let pair = Pair::new();
    let there = outside(&pair);
    let arguments = ["serve", "vcan0", "--listen", "0.0.0.0", "--insecure", "--history", "64M"];
    let server = Process::canspan(&pair.board, &arguments);
    server.says("listening on");
    let history = there.run(|| {
        // It was here before anything was on the bus.
        let mut stranger = Stranger::dials(&port(1)).unwrap();
        stranger.greets(greeting("vcan0", 9_000)).unwrap().expect("a greeting")
    });
    let begin = Instant::now();
    fill(&pair);
    println!("    the history was filled in {:?}", begin.elapsed());
    let _client = pair.connect(&["vcan0"]);
    let candump = Candump::start(&pair.pc, "vcan0");
    let mut gaps = [0; 2];
    for (gap, id) in gaps.iter_mut().zip([ID, ID + 1]) {
        let greets = (id > ID).then(|| {
            Attack::start(&there, Duration::from_millis(100), move |number| {
                let mut stranger = Stranger::dials(&port(0))?;
                let hello = Hello {
                    clock_us: 6_000_000 + number,
                    seen: seen(history, 0),
                    from: From::Oldest,
                    // It takes none of them.
                    window: 1,
                    ..greeting("vcan0", 9_000)
                };
                stranger.greets(hello).map(drop)
            })
        });
        Generator::start(pair.board.can_sender("vcan0"), id, 3 * RATE, RATE).finish();
        let printed = candump.has_all(id, 3 * RATE, SOON);
        let all = gaps_us(&printed);
        *gap = all[TENTH];
        let count = greets.map_or(0, Attack::stop);
        println!("    the longest gaps beside {count} greetings: {:?} us", &all[..=TENTH]);
        assert!(id == ID || count > TENTH as u64, "only {count} greetings");
    }
    assert!(gaps[1] <= gaps[0] + MORE_US, "greetings delay another client");
}

/// Puts on the board's bus what its history of 64 MB holds, as fast as `serve` takes it.
fn fill(pair: &Pair) {
    /// So many of the largest frames fill it.
    const FRAMES: u64 = 930_000;
    /// What `serve` has room for while it waits for the processor, and how long it may take.
    const AT_ONCE: usize = 4_096;
    const PAUSE: Duration = Duration::from_millis(20);
    let socket = pair.board.can_sender("vcan0");
    let frame = [Frame::fd(0x7FF, 0, &[0xA5; 64]); BATCH];
    eventually("the history is full", 4 * SOON, || {
        for _ in 0..20 {
            for _ in 0..AT_ONCE / BATCH {
                assert_eq!(socket.send_batch(&frame).unwrap(), BATCH);
            }
            thread::sleep(PAUSE);
        }
        status(&pair.board, "127.0.0.1")["buses"][0]["received"].as_u64().unwrap() > FRAMES
    });
}
