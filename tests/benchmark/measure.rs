//! Latency between two CAN sockets of this process, by one clock: from just before the send to just after the receive.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use std::{
    io,
    sync::{Arc, LazyLock},
    thread,
    time::Instant,
};

use crate::{
    lab::Namespace,
    sys::{BATCH, CanSocket, Frame},
};

/// The frames that are measured, their answers, and all others.
const ASK: u32 = 0x123;
const ANSWER: u32 = 0x124;
const OTHER: u32 = 0x200;
/// Numbers from here on end a stream, each its own. The others are nanoseconds since [`EPOCH`] and round trips.
const ENDS: u64 = u64::MAX / 2;
/// The shortest sleep of a sender: what is due meanwhile follows back to back.
const TICK: Duration = Duration::from_micros(450);
/// By how much at most a sleep is longer than asked for: a sender in step with the kernel's tick is never seen
/// working by a clock that only the tick moves, or always.
const JITTER_US: u64 = 100;
/// Above this rate a reader takes many frames in a system call.
const SINGLE_READS: u64 = 8_000;
/// How long traffic runs before anything is measured beside it.
const SETTLING: Duration = Duration::from_millis(200);
/// After how long a question counts as lost.
const UNANSWERED: Duration = Duration::from_millis(1_200);
/// How long a stream's end may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

/// Common to all streams, so that what is late from an earlier one is seen to be that.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn now_ns() -> u64 {
    EPOCH.elapsed().as_nanos() as u64
}

/// A number that no other stream or round trip has.
fn fresh_number() -> u64 {
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn numbered(id: u32, number: u64) -> Frame {
    Frame::classic(id, &number.to_le_bytes())
}

/// Times of frames, in the order in which they came.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The p-th percentile in microseconds; none of an empty one.
    pub(crate) fn percentile(&self, p: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = sorted.len().checked_sub(1)? * p / 100;
        Some(sorted[place].as_secs_f64() * 1e6)
    }

    /// The first `count`, and those after them.
    pub(crate) fn split(mut self, count: usize) -> (Self, Self) {
        let rest = self.0.split_off(count.min(self.0.len()));
        (self, Self(rest))
    }
}

/// Sends frames at `rate` a second until `count` are sent or `stop` is set; how many were sent.
fn send_paced(
    socket: &CanSocket,
    rate: u64,
    count: u64,
    stop: &AtomicBool,
    make: impl Fn() -> Frame,
) -> u64 {
    let start = Instant::now();
    let mut next = 0;
    while next < count && !stop.load(Ordering::Relaxed) {
        // Once a turn: in User-Mode Linux it is a system call like any other.
        let now = start.elapsed();
        let due = (now.as_micros() as u64 * rate / 1_000_000 + 1).min(count);
        while next < due {
            let frames = vec![make(); BATCH.min((due - next) as usize)];
            next += socket.send_batch(&frames).expect("the vcan takes frames") as u64;
        }
        let wake = Duration::from_micros((next * 1_000_000).div_ceil(rate)).max(now + TICK)
            + Duration::from_micros(fastrand::u64(0..JITTER_US));
        thread::sleep(wake - now);
    }
    next
}

/// Whether a frame arrives within `patience`; one is sent again and again, since none is kept before a link is up.
pub(crate) fn arrives(from: &Namespace, to: &Namespace, patience: Duration) -> io::Result<bool> {
    let (sender, receiver) = (from.can_sender("vcan0"), to.can_only("vcan0", OTHER));
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        sender.send(&numbered(OTHER, fresh_number()))?;
        if !receiver.receive(Duration::from_millis(100))?.frames.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One way at `rate` frames a second. An error when not even the end of the stream arrived.
pub(crate) fn one_way(
    from: &Namespace,
    to: &Namespace,
    rate: u64,
    count: u64,
) -> io::Result<Times> {
    let (sender, receiver) = (from.can_sender("vcan0"), to.can_only("vcan0", ASK));
    let (begin, end) = (now_ns(), ENDS + fresh_number());
    let reader = thread::spawn(move || read_times(&receiver, begin, end, rate));
    send_paced(&sender, rate, count, &AtomicBool::new(false), || numbered(ASK, now_ns()));
    // Again and again, since a gateway that loses frames may lose this one.
    let deadline = Instant::now() + PATIENCE;
    while !reader.is_finished() && Instant::now() < deadline {
        sender.send(&numbered(ASK, end))?;
        let again = Instant::now() + Duration::from_millis(100);
        while !reader.is_finished() && Instant::now() < again {
            thread::sleep(Duration::from_millis(2));
        }
    }
    reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Takes the frames sent since `begin` until the one with the number `end`.
fn read_times(receiver: &CanSocket, begin: u64, end: u64, rate: u64) -> io::Result<Times> {
    let mut times = Vec::new();
    loop {
        let frames = if rate <= SINGLE_READS {
            vec![receiver.next()?]
        } else {
            receiver.receive(PATIENCE)?.frames
        };
        let now = now_ns();
        if frames.is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        for number in frames.iter().map(Frame::number) {
            if number == end {
                return Ok(Times(times));
            }
            if (begin..ENDS).contains(&number) {
                times.push(Duration::from_nanos(now - number));
            }
        }
    }
}

/// Who answers: at once, or as a control unit does, when the frames that came with the question are read long since.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    AtOnce,
    /// 1 to 2 ms later, which are not counted.
    Later,
}

/// There and back: a frame, and its answer. It ends after `count` or when the time is up. Also says how many of them
/// had no answer. An error when not even the end arrived.
pub(crate) fn round_trip(
    from: &Namespace,
    to: &Namespace,
    answer: Answer,
    count: u64,
    at_most: Duration,
) -> io::Result<(Times, u64)> {
    let (asks, answers) = (to.can_only("vcan0", ASK), from.can_only("vcan0", ANSWER));
    let end = ENDS + fresh_number();
    let unit = thread::spawn(move || answer_all(&asks, answer, end));
    let times = ask(&answers, from.can_sender("vcan0"), count, at_most);
    while !unit.is_finished() {
        answers.send(&numbered(ASK, end))?;
        thread::sleep(Duration::from_millis(10));
    }
    let answered = unit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    times.and_then(|times| answered.map(|()| times))
}

/// Answers each number with the same, and how many microseconds it took above it.
fn answer_all(asks: &CanSocket, answer: Answer, end: u64) -> io::Result<()> {
    loop {
        let number = asks.next()?.number();
        if number == end {
            return Ok(());
        }
        let took_us = match answer {
            Answer::AtOnce => 0,
            Answer::Later => {
                let start = Instant::now();
                thread::sleep(Duration::from_micros(fastrand::u64(1_000..2_000)));
                start.elapsed().as_micros() as u64
            }
        };
        asks.send(&numbered(ANSWER, number | took_us << 32))?;
    }
}

/// Asks one question after the other. A thread answers, by `instead`, what nobody answered for long.
fn ask(
    answers: &CanSocket,
    instead: CanSocket,
    count: u64,
    at_most: Duration,
) -> io::Result<(Times, u64)> {
    let (begin, mut times, mut lost) = (Instant::now(), Vec::new(), 0);
    let asked = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| answer_instead(&instead, &asked));
        let ask_one = |_| -> io::Result<()> {
            let (start, number) = (Instant::now(), fresh_number());
            asked.store(number, Ordering::Relaxed);
            answers.send(&numbered(ASK, number))?;
            loop {
                // Another's is one that comes late, after a loss.
                match answers.next()?.number() {
                    answer if answer == ENDS + number => lost += 1,
                    answer if answer < ENDS && answer & u64::from(u32::MAX) == number => {
                        let took = Duration::from_micros(answer >> 32);
                        times.push(start.elapsed().saturating_sub(took));
                    }
                    _ => continue,
                }
                return Ok(());
            }
        };
        let result = (0..count).take_while(|_| begin.elapsed() < at_most).try_for_each(ask_one);
        asked.store(ENDS, Ordering::Relaxed);
        result
    })?;
    Ok((Times(times), lost))
}

/// Answers a question that has been the last one asked for [`UNANSWERED`], until the last one is [`ENDS`].
fn answer_instead(socket: &CanSocket, asked: &AtomicU64) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_millis(50));
        match asked.load(Ordering::Relaxed) {
            ENDS => return,
            number if number != last => (last, since) = (number, Instant::now()),
            number if since.elapsed() > UNANSWERED => {
                // The asker's own time-out says what is wrong with a bus that does not take it.
                let _ = socket.send(&numbered(ANSWER, ENDS + number));
            }
            _ => {}
        }
    }
}

/// Other traffic on a bus, beside which something is measured; it ends when dropped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Traffic {
    /// Starts `rate` frames a second, none at 0, and returns when the gateways had time to see it.
    pub(crate) fn start(bus: &Namespace, rate: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        if rate == 0 {
            return Self { stop, thread: None };
        }
        let (socket, stopped) = (bus.can_sender("vcan0"), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            send_paced(&socket, rate, u64::MAX, &stopped, || Frame::classic(OTHER, &[0; 8]));
        });
        thread::sleep(SETTLING);
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
