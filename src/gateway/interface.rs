//! A CAN interface of the kernel, through everything that happens to it: absent, down, up, gone and
//! back with another index.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};

use super::bus::{Offer, RECHECK};
use super::clock::WallClock;
use super::memory::Heap;
use super::pace::Pace;
use super::status::Rates;
use crate::bus::{self, CanInterface, CreateError, OpenError, SendStop};
use crate::cli::{DEFAULT_MAX_AGE, MaxAge};
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;
use crate::protocol::{HANDED_MAX, Hub, Outcome, Policy};

/// Batches read in one turn of the loop, so that a flood on one bus does not hold up the others.
const BATCHES_MAX: usize = 8;
/// Frames in the hands of a real interface at once: enough to keep a 1 Mbit/s bus full for 2 ms
/// until the next turn, few enough not to grow old in the driver, where nothing can recall them.
const REAL_HANDED_MAX: u32 = 16;
/// How soon to offer frames again after the transmit queue was full: about the time a classic
/// frame takes at 125 kbit/s. No event tells when there is room; an echo mostly comes first.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// The same after an error nobody has a name for.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// An interface, present or not.
pub struct Interface {
    name: String,
    can: Option<CanInterface>,
    max_age: MaxAge,
    /// Whether to make it, as a virtual one, when it is not there; and whether we did.
    create: bool,
    created: bool,
    pace: Pace,
    retry_at: Option<Instant>,
    recheck_at: Option<Instant>,
    overflow: u64,
    /// The last problem told, so that it is told once.
    told: String,
}

impl Interface {
    /// The interface `name`, wherever it is now.
    #[must_use]
    pub fn new(name: String, max_age: MaxAge, create: bool) -> Self {
        Self {
            name,
            can: None,
            max_age,
            create,
            created: false,
            pace: Pace::default(),
            retry_at: None,
            recheck_at: None,
            overflow: 0,
            told: String::new(),
        }
    }

    /// Opens it, or says why that cannot be now nor by waiting.
    pub fn start(&mut self, now: Instant, hub: &mut Hub<Heap>) -> Result<(), String> {
        self.attach(now, hub).map_err(|problem| problem.to_string())
    }

    pub(super) fn readable(&self, now: Instant, hub: &Hub<Heap>) -> Option<BorrowedFd<'_>> {
        let waits = self.pace.not_before(now).is_some() && !hub.is_busy();
        self.can.as_ref().filter(|_| !waits).map(AsFd::as_fd)
    }

    pub(super) fn poll_timeout(&self, now: Instant, hub: &Hub<Heap>) -> Option<Instant> {
        let turn = self.pace.not_before(now).filter(|_| !hub.is_busy() && self.can.is_some());
        let retry = self.retry_at.filter(|_| hub.is_busy());
        Instant::earliest(Instant::earliest(turn, retry), self.recheck_at)
    }

    /// Looks at the interface again: it may have come, gone, or been switched on or off.
    pub(super) fn check(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.recheck_at = None;
        if self.can.as_ref().is_some_and(|can| !can.is_present()) {
            self.detach(hub);
        }
        if self.can.is_none() {
            if let Err(problem) = self.attach(now, hub) {
                self.tell(&problem.to_string());
                self.recheck_at = Some(now + Duration::from_secs(1));
            }
        } else {
            self.look(hub);
        }
    }

    fn attach(&mut self, now: Instant, hub: &mut Hub<Heap>) -> Result<(), OpenError> {
        match CanInterface::open(&self.name) {
            Ok(can) => {
                self.can = Some(can);
                self.overflow = 0;
                self.told.clear();
                self.look(hub);
                Ok(())
            }
            Err(OpenError::Absent { .. }) if self.create => {
                self.make(now, hub);
                Ok(())
            }
            Err(OpenError::Absent { .. }) => {
                self.tell(&format!("waiting for the interface {}", self.name));
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }

    fn make(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        match bus::create_vcan(&self.name) {
            Ok(()) => {
                self.created = true;
                log::info!("{}: made this virtual interface", self.name);
                self.create = false;
                let _ = self.attach(now, hub);
                self.create = true;
            }
            Err(CreateError::Exists { .. }) => self.recheck_at = Some(now + RECHECK),
            Err(problem) => {
                self.tell(&problem.to_string());
                self.recheck_at = Some(now + Duration::from_secs(1));
            }
        }
    }

    /// Tells the hub how the interface is.
    fn look(&mut self, hub: &mut Hub<Heap>) {
        let Some(can) = &self.can else { return };
        let is_virtual = can.is_virtual();
        let max_age = match self.max_age {
            MaxAge::ByBus => (!is_virtual).then_some(DEFAULT_MAX_AGE),
            MaxAge::Unlimited => None,
            MaxAge::Limit(limit) => Some(limit),
        };
        let real_max = can.tx_queue_len().clamp(1, REAL_HANDED_MAX) as usize;
        let handed_max = if is_virtual { HANDED_MAX } else { real_max };
        let is_fd = can.is_fd();
        hub.set_policy(Policy { max_age, is_fd, is_virtual, handed_max, ..*hub.policy() });
        let state = if can.is_up() { BusState::Up } else { BusState::Down };
        self.set_state(hub, state);
    }

    fn set_state(&self, hub: &mut Hub<Heap>, state: BusState) {
        if hub.status().state != state {
            log::info!("{}: {}", self.name, state.name());
            hub.set_state(state, None);
        }
    }

    fn detach(&mut self, hub: &mut Hub<Heap>) {
        if let Some(mut can) = self.can.take() {
            let overflow = can.settle_overflow();
            hub.overflowed(overflow.saturating_sub(self.overflow));
        }
        self.retry_at = None;
        self.set_state(hub, BusState::Absent);
    }

    pub(super) fn read(&mut self, now: Instant, hub: &mut Hub<Heap>, wall: &mut WallClock) {
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.check(now, hub);
        }
        let mut total = 0;
        for _ in 0..BATCHES_MAX {
            let Some(can) = &mut self.can else { break };
            let count = match can.receive() {
                Ok(count) => count,
                Err(error) => {
                    self.failed(now, hub, &error);
                    break;
                }
            };
            for index in 0..count {
                let Some(seen) = can.received(index) else { continue };
                if seen.own {
                    self.retry_at = None;
                }
                hub.set_clock(wall.offset_for(now, seen.stamp_us));
                hub.seen(&seen.frame, seen.stamp_us, seen.own);
            }
            hub.overflowed(can.overflow().saturating_sub(self.overflow));
            self.overflow = can.overflow();
            total += count;
            if count < bus::BATCH {
                break;
            }
        }
        if total > 0 {
            self.pace.read(now, total);
        }
    }

    fn failed(&mut self, now: Instant, hub: &mut Hub<Heap>, error: &std::io::Error) {
        if bus::is_gone(error) {
            self.detach(hub);
        } else if bus::is_down(error) {
            self.set_state(hub, BusState::Down);
        } else {
            self.tell(&format!("{}: cannot be read: {error}", self.name));
        }
        // It may be up again already.
        self.recheck_at = Some(now + RECHECK);
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        hub: &mut Hub<Heap>,
        wall: &mut WallClock,
        offer: &mut Offer,
    ) -> bool {
        if self.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        self.retry_at = None;
        let mut moved = false;
        while let Some(can) = &mut self.can {
            let offered = hub.offer(now, offer);
            if offered == 0 {
                break;
            }
            let sent = can.send(offer.get(..offered).unwrap_or(&[]));
            moved |= sent.taken > 0;
            if matches!(sent.stop, SendStop::Unsupported) {
                hub.rejected(now, sent.taken, Outcome::Unsupported);
                moved = true;
                continue;
            }
            hub.taken(now, sent.taken);
            match sent.stop {
                SendStop::All | SendStop::Unsupported => continue,
                SendStop::Full => self.retry_at = Some(now + FULL_PAUSE),
                SendStop::Down => {
                    self.set_state(hub, BusState::Down);
                    self.recheck_at = Some(now + RECHECK);
                }
                SendStop::Gone => self.detach(hub),
                SendStop::Other(error) => {
                    self.tell(&format!("{}: cannot be written: {error}", self.name));
                    self.retry_at = Some(now + ERROR_PAUSE);
                }
            }
            break;
        }
        if moved && hub.policy().is_virtual {
            // A virtual bus has echoed already.
            self.read(now, hub, wall);
        }
        moved
    }

    /// Its bit rates, where it has any, which a virtual one has not. Asks the kernel.
    pub(super) fn rates(&self) -> Rates {
        self.can.as_ref().filter(|can| !can.is_virtual()).map_or_else(Rates::default, |can| {
            let kernel = socketcan::CanInterface::open_iface(can.index());
            let known = |rate: Option<u32>| rate.filter(|rate| *rate > 0);
            let data = kernel.data_bit_timing().ok().flatten().map(|timing| timing.bitrate);
            Rates { nominal: known(kernel.bit_rate().ok().flatten()), data: known(data) }
        })
    }

    pub(super) fn close(&mut self) {
        self.can = None;
        if self.created
            && let Err(problem) = bus::delete(&self.name)
        {
            log::warn!("{problem}");
        }
    }

    fn tell(&mut self, problem: &str) {
        if self.told != problem {
            log::warn!("{problem}");
            problem.clone_into(&mut self.told);
        }
    }
}
