//! What the test itself puts on a bus and sees there: sources of numbered frames, and a witness of everything.

use core::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{
    lab::{Namespace, eventually},
    process::SOON,
    sys::{BATCH, CanSocket, ERROR, Frame},
};

/// The name of every bus.
pub(crate) const BUS: &str = "vcan0";
/// Ids of who made a frame.
pub(crate) const BOARD_ID: u32 = 0x100;
pub(crate) const PC_ID: [u32; 3] = [0x201, 0x202, 0x203];
pub(crate) const SENDER_ID: u32 = 0x301;
/// Stands for every error frame, whose ids say what the error is.
pub(crate) const ERROR_ID: u32 = 0x400;

/// A frame on a bus: who made it, the how many-th it was, and when the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) source: u32,
    pub(crate) number: u64,
    pub(crate) at_us: u64,
}

impl Seen {
    /// What is told apart by who looks: an error frame is numbered where a real one has details.
    pub(crate) fn of(id: u32, data: &[u8], at_us: u64) -> Self {
        let mut bytes = [0; 8];
        bytes[..data.len().min(8)].copy_from_slice(&data[..data.len().min(8)]);
        if id & ERROR != 0 {
            let number = u64::from(u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]));
            return Self { source: ERROR_ID, number, at_us };
        }
        Self { source: id, number: u64::from_le_bytes(bytes), at_us }
    }

    pub(crate) fn key(&self) -> (u32, u64) {
        (self.source, self.number)
    }
}

/// Everything that was on a bus, in order, over all interfaces it has had.
pub(crate) struct Witness {
    log: Arc<Mutex<Vec<Seen>>>,
    /// How often it took all there was to see.
    emptied: Arc<AtomicU64>,
    overflow: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Of an interface there is; it may be down.
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let mut witness = Self {
            log: Arc::default(),
            emptied: Arc::default(),
            overflow: Arc::default(),
            stop: Arc::default(),
            thread: None,
        };
        witness.watch(namespace);
        witness
    }

    fn watch(&mut self, namespace: &Namespace) {
        let socket = namespace.can(BUS);
        let (log, emptied) = (Arc::clone(&self.log), Arc::clone(&self.emptied));
        let (stop, overflow) = (Arc::clone(&self.stop), Arc::clone(&self.overflow));
        self.thread = Some(thread::spawn(move || {
            let mut is_gone = false;
            while !stop.load(Ordering::Relaxed) {
                let batch = match socket.receive(Duration::from_millis(10)) {
                    Ok(batch) => batch,
                    Err(error) if is_down(&error) => continue,
                    // What it had seen before is still to be read.
                    Err(error) if is_absent(&error) => {
                        is_gone = true;
                        continue;
                    }
                    Err(error) => panic!("the witness: {error}"),
                };
                let taken = batch.frames.len();
                overflow.fetch_max(batch.overflow, Ordering::Relaxed);
                let frames = batch.frames.iter().zip(batch.stamps_us);
                let seen = frames.map(|(frame, at)| Seen::of(frame.id(), frame.data(), at));
                log.lock().unwrap().extend(seen);
                emptied.fetch_add(u64::from(taken < BATCH), Ordering::Relaxed);
                if is_gone && taken == 0 {
                    return;
                }
            }
        }));
    }

    /// Its interface was deleted and there is a new one, which is still down.
    pub(crate) fn watch_anew(&mut self, namespace: &Namespace) {
        self.thread.take().unwrap().join().expect("the witness");
        self.watch(namespace);
    }

    /// Waits until it has seen all that was on the bus before; what that is, and a little more where there is traffic.
    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<Seen>> {
        let before = self.emptied.load(Ordering::Relaxed);
        eventually("the witness has seen all", SOON, || {
            // The first time it may have looked before.
            self.emptied.load(Ordering::Relaxed) >= before + 2
        });
        assert_eq!(self.overflow.load(Ordering::Relaxed), 0, "the witness was too slow");
        self.log.lock().unwrap()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[derive(Default)]
struct Control {
    pauses: AtomicBool,
    is_pausing: AtomicBool,
    stop: AtomicBool,
    made: AtomicU64,
    /// Frames to be made at once, whatever the rate.
    owed: AtomicU64,
}

/// Makes numbered frames at some rate, whatever happens to the interface: what the kernel does not take is not made.
pub(crate) struct Source {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Begins pausing.
    pub(crate) fn start(namespace: &Namespace, id: u32, rate: u64) -> Self {
        let control = Arc::new(Control::default());
        control.pauses.store(true, Ordering::Relaxed);
        let shared = Arc::clone(&control);
        let thread = Some(namespace.spawn(move || make(&shared, id, rate)));
        Self { control, thread }
    }

    /// Makes no frame any more, until it goes on.
    pub(crate) fn pause(&self) {
        self.control.pauses.store(true, Ordering::Relaxed);
        eventually("the source pauses", SOON, || self.control.is_pausing.load(Ordering::Relaxed));
    }

    pub(crate) fn go_on(&self) {
        self.control.is_pausing.store(false, Ordering::Relaxed);
        self.control.pauses.store(false, Ordering::Relaxed);
    }

    /// So many frames at once, and then silence, until it goes on.
    pub(crate) fn burst(&self, count: u64) {
        self.pause();
        let before = self.made();
        self.control.owed.store(count, Ordering::Relaxed);
        self.go_on();
        eventually("a burst is made", SOON, || self.made() >= before + count);
        self.pause();
    }

    /// How many frames the kernel took.
    pub(crate) fn made(&self) -> u64 {
        self.control.made.load(Ordering::Relaxed)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.control.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn make(control: &Control, id: u32, rate: u64) {
    let mut socket = None;
    let mut next = 0_u64;
    let mut since = Instant::now();
    let mut due = 0.0;
    while !control.stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(4));
        let passed = since.elapsed();
        since = Instant::now();
        if control.pauses.load(Ordering::Relaxed) {
            control.is_pausing.store(true, Ordering::Relaxed);
            continue;
        }
        // A machine that was busy elsewhere owes no flood.
        due = (due + passed.as_secs_f64() * rate as f64).min(20.0);
        due += control.owed.swap(0, Ordering::Relaxed) as f64;
        if socket.is_none() {
            socket = CanSocket::open_here(BUS).ok().inspect(|socket| socket.mute().unwrap());
        }
        while due >= 1.0 {
            let Some(open) = &socket else { break };
            match open.send(&Frame::classic(id, &next.to_le_bytes())) {
                Ok(()) => {
                    next += 1;
                    due -= 1.0;
                    control.made.store(next, Ordering::Relaxed);
                }
                Err(error) if is_down(&error) => break,
                Err(error) if is_absent(&error) => socket = None,
                Err(error) => panic!("the source {id:X}: {error}"),
            }
        }
    }
}

fn is_down(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}
