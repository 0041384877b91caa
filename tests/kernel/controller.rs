//! A real CAN controller as far as the kernel can tell: a serial adapter (`slcan`) whose firmware is this test.
//!
//! Its driver is a full one: bit rate, modes and state by netlink, error frames with counters, bus-off that takes the
//! carrier away. It has no automatic restart, and no CAN FD.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use crate::{
    lab::{Namespace, ip},
    sys,
};

/// The adapter. Dropping it pulls the plug.
pub(crate) struct Adapter {
    line: File,
    said: Arc<Mutex<String>>,
    /// How much had been said when, in microseconds since the Unix epoch.
    times: Arc<Mutex<Vec<(usize, u64)>>>,
    stuck: Arc<AtomicBool>,
    /// How long a frame takes on the line, in microseconds.
    frame_us: Arc<AtomicU64>,
    driver: Option<OwnedFd>,
}

impl Adapter {
    /// Plugs one in that becomes `interface` of a namespace; it is down.
    pub(crate) fn plug(namespace: &Namespace, interface: &str) -> Self {
        let (line, driver, name) = sys::serial_can().unwrap_or_else(|error| {
            panic!(
                "this kernel has no serial CAN adapters (slcan): {error}; LAB_OPTIONS=--uml takes one that has"
            )
        });
        ip(&format!("link set {name} netns {}", namespace.name()));
        if name != interface {
            namespace.ip(&format!("link set {name} name {interface}"));
        }
        let said = Arc::new(Mutex::new(String::new()));
        let times = Arc::<Mutex<Vec<(usize, u64)>>>::default();
        let noted = Arc::clone(&times);
        let stuck = Arc::new(AtomicBool::new(false));
        let (mut reader, into, is_stuck) =
            (line.try_clone().unwrap(), Arc::clone(&said), Arc::clone(&stuck));
        let frame_us = Arc::<AtomicU64>::default();
        let pace = Arc::clone(&frame_us);
        thread::spawn(move || {
            let mut bytes = [0; 256];
            loop {
                while is_stuck.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
                let (began, frame) = (Instant::now(), pace.load(Ordering::Relaxed));
                // The end of the line is an error here.
                let Ok(count @ 1..) = reader.read(&mut bytes) else { return };
                let mut said = into.lock().unwrap();
                said.push_str(&String::from_utf8_lossy(&bytes[..count]));
                noted.lock().unwrap().push((said.len(), sys::now_us()));
                drop(said);
                let frames = bytes[..count].iter().filter(|byte| **byte == b'\r').count() as u64;
                thread::sleep(
                    Duration::from_micros(frame * frames).saturating_sub(began.elapsed()),
                );
            }
        });
        Self { line, said, times, stuck, frame_us, driver: Some(driver) }
    }

    /// The firmware says something to the driver: `sw097032` for a state with receive and transmit counters
    /// (a: active, w: warning, p: passive, b: bus-off), `t1232AABB` for a frame.
    pub(crate) fn say(&mut self, words: &str) {
        write!(self.line, "{words}\r").unwrap();
    }

    /// All the driver has said to the firmware, a carriage return after each.
    pub(crate) fn heard(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The same word by word, and when each was whole, in microseconds since the Unix epoch.
    pub(crate) fn words(&self) -> Vec<(String, u64)> {
        let (said, times) = (self.heard(), self.times.lock().unwrap().clone());
        let (mut end, mut words) = (0, Vec::new());
        for word in said.split_inclusive('\r') {
            end += word.len();
            // Of what came last it may not be noted yet.
            let Some((_, at_us)) = times.get(times.partition_point(|(length, _)| *length < end))
            else {
                break;
            };
            words.push((word.trim_end_matches('\r').to_owned(), *at_us));
        }
        words
    }

    /// Takes no more frames from the driver than so many in a second, as a bus does whose bit rate allows no more.
    pub(crate) fn limit(&self, frames_per_s: u64) {
        self.frame_us.store(1_000_000 / frames_per_s, Ordering::Relaxed);
    }

    /// Takes frames from the driver no more, as a controller nobody acknowledges; or takes them again.
    pub(crate) fn stick(&self, is_stuck: bool) {
        self.stuck.store(is_stuck, Ordering::Relaxed);
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        self.stick(false);
        self.driver = None;
    }
}
