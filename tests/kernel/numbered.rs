//! Numbered frames: a stream whose every loss, double and swap is seen and counted exactly.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::sys::{BATCH, CanSocket, Frame};

/// A stream in the making: classic 8-byte frames whose data is their number, from 0.
pub(crate) struct Generator {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Generator {
    /// Starts sending `count` frames with this id at `rate` a second.
    pub(crate) fn start(socket: CanSocket, id: u32, count: u64, rate: u64) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (progress, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let start = Instant::now();
            let mut next = 0;
            while next < count && !stopped.load(Ordering::Relaxed) {
                let due = (start.elapsed().as_micros() as u64 * rate / 1_000_000 + 1).min(count);
                while next < due {
                    let end = due.min(next + BATCH as u64);
                    let frames: Vec<Frame> =
                        (next..end).map(|n| Frame::classic(id, &n.to_le_bytes())).collect();
                    next += socket.send_batch(&frames).expect("the vcan takes frames") as u64;
                    progress.store(next, Ordering::Relaxed);
                }
                let wake = Duration::from_micros((next * 1_000_000).div_ceil(rate))
                    .max(start.elapsed() + TICK);
                thread::sleep(wake.saturating_sub(start.elapsed()));
            }
        });
        Self { sent, stop, thread }
    }

    /// How many frames are on the bus so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether frames are still to be sent.
    pub(crate) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits for the last frame; how many were sent.
    pub(crate) fn finish(self) -> u64 {
        self.thread.join().expect("the generator");
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends before the last frame; how many were sent.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

/// The shortest sleep: what is due meanwhile goes in one system call.
const TICK: Duration = Duration::from_micros(1000);
/// After the last frame was seen, how long to watch for one that comes twice.
const AFTERMATH: Duration = Duration::from_millis(300);

/// What a checker saw of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Numbers seen, each once.
    pub(crate) received: u64,
    /// Numbers never seen.
    pub(crate) lost: u64,
    /// Frames whose number was seen before.
    pub(crate) doubled: u64,
    /// Frames that came after one with a higher number.
    pub(crate) reordered: u64,
    /// Frames with a number that was never sent.
    pub(crate) foreign: u64,
    /// Frames the checker's own socket had no room for: a fault of the test, not of the product.
    pub(crate) overflow: u32,
}

impl Tally {
    /// Asserts that exactly `count` frames came, each once, in order.
    pub(crate) fn is_perfect(&self, count: u64) {
        let perfect = Self { received: count, ..Self::default() };
        assert_eq!(*self, perfect, "the stream of {count} frames is not whole");
    }
}

/// A checker at work on a stream.
pub(crate) struct Checker {
    received: Arc<AtomicU64>,
    thread: JoinHandle<Tally>,
}

impl Checker {
    /// Starts to check a stream of `count` frames, on a socket that receives nothing else. It ends when all have
    /// come, or when none came for `patience`.
    pub(crate) fn start(socket: CanSocket, count: u64, patience: Duration) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&received);
        let thread = thread::spawn(move || {
            let mut account = Account::new(count);
            loop {
                let whole = account.tally.received == count;
                let batch = socket
                    .receive(if whole { AFTERMATH } else { patience })
                    .expect("the vcan gives frames");
                if batch.frames.is_empty() {
                    return account.close();
                }
                account.tally.overflow = batch.overflow;
                batch.frames.iter().for_each(|frame| account.enter(frame.number()));
                progress.store(account.tally.received, Ordering::Relaxed);
            }
        });
        Self { received, thread }
    }

    /// How many frames have come so far, each counted once.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits for the end of the stream.
    pub(crate) fn finish(self) -> Tally {
        self.thread.join().expect("the checker")
    }
}

/// The numbers seen so far.
pub(crate) struct Account {
    seen: Vec<bool>,
    next: u64,
    tally: Tally,
}

impl Account {
    /// Of a stream of `count` frames.
    pub(crate) fn new(count: u64) -> Self {
        Self {
            seen: vec![false; usize::try_from(count).unwrap()],
            next: 0,
            tally: Tally::default(),
        }
    }

    /// Enters a frame's number.
    pub(crate) fn enter(&mut self, number: u64) {
        let Some(seen) = usize::try_from(number).ok().and_then(|n| self.seen.get_mut(n)) else {
            self.tally.foreign += 1;
            return;
        };
        if core::mem::replace(seen, true) {
            self.tally.doubled += 1;
        } else {
            self.tally.received += 1;
            self.tally.reordered += u64::from(number < self.next);
        }
        self.next = self.next.max(number + 1);
    }

    /// The result.
    pub(crate) fn close(mut self) -> Tally {
        self.tally.lost = self.seen.len() as u64 - self.tally.received;
        self.tally
    }
}

#[test]
fn an_account_tells_loss_doubles_and_swaps_apart() {
    let mut account = Account::new(6);
    [0, 1, 1, 3, 2, 5, 9].into_iter().for_each(|number| account.enter(number));
    let told = Tally { received: 5, lost: 1, doubled: 1, reordered: 1, foreign: 1, overflow: 0 };
    assert_eq!(account.close(), told);
}
