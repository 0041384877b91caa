//! A CAN interface of the kernel, through everything that happens to it: absent, down, up, gone and
//! back with another index.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use super::bus::Offer;
use super::clock::{self, WallClock};
use super::memory::Heap;
use super::pace::Pace;
use super::state_log::StateLog;
use super::status::Rates;
use crate::bus::raw::FD_BYTES;
use crate::bus::{
    self, CanInterface, ConfigureError, CreateError, Health, Link, Namespace, OpenError, Received,
    SendStop, Settings,
};
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

/// When to look at an interface again though nothing was heard of it.
const RECHECK: Duration = Duration::from_millis(50);
/// How soon to ask a controller again that is not error-active: many a driver tells only of the way
/// into trouble, and somebody else may restart it.
const TROUBLE_RECHECK: Duration = Duration::from_secs(1);
/// How soon to try again what the kernel refused.
const RETRY: Duration = Duration::from_secs(1);

/// An interface, present or not.
pub struct Interface {
    name: String,
    /// The network namespace it is in, when that is not the process' own.
    namespace: Option<Rc<Namespace>>,
    can: Option<CanInterface>,
    max_age: MaxAge,
    /// How its controller is to be set, and the index of the interface for which that is settled.
    settings: Option<Settings>,
    settled: Option<u32>,
    /// Whether to make it, as a virtual one, when it is not there; and whether canspan did.
    create: bool,
    created: bool,
    pace: Pace,
    retry_at: Option<Instant>,
    recheck_at: Option<Instant>,
    overflow: u64,
    /// The last problem told, so that it is told once.
    told: String,
    states: StateLog,
}

impl Interface {
    /// The interface `name`, wherever it is now.
    #[must_use]
    pub fn new(name: String, max_age: MaxAge, create: bool) -> Self {
        Self {
            name,
            namespace: None,
            can: None,
            max_age,
            settings: None,
            settled: None,
            create,
            created: false,
            pace: Pace::default(),
            retry_at: None,
            recheck_at: None,
            overflow: 0,
            told: String::new(),
            states: StateLog::default(),
        }
    }

    /// Sets its controller so and switches it on, now and whenever it comes back.
    #[must_use]
    pub fn with_settings(self, settings: Option<Settings>) -> Self {
        Self { settings, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens it in this namespace, or says why that cannot be now nor by waiting.
    pub fn start(
        &mut self,
        now: Instant,
        hub: &mut Hub<Heap>,
        namespace: Option<Rc<Namespace>>,
    ) -> Result<(), String> {
        self.namespace.clone_from(&namespace);
        match bus::inside(namespace.as_deref(), || self.attach(now, hub)) {
            Ok(attached) => attached.map_err(|problem| problem.to_string()),
            Err(problem) => {
                self.tell(&problem);
                Ok(())
            }
        }
    }

    /// Lets go of everything that is in the namespace: it is gone, or another one now.
    pub(super) fn leave(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.detach(now, hub);
        // It goes with the namespace; one of its name in the next was made by somebody else.
        self.created = false;
    }

    pub(super) fn readable(&self, now: Instant, hub: &Hub<Heap>) -> Option<BorrowedFd<'_>> {
        let waits = self.pace.not_before(now).is_some() && !hub.is_busy();
        self.can.as_ref().filter(|_| !waits).map(AsFd::as_fd)
    }

    pub(super) fn poll_timeout(&self, now: Instant, hub: &Hub<Heap>) -> Option<Instant> {
        let turn = self.pace.not_before(now).filter(|_| !hub.is_busy() && self.can.is_some());
        let retry = self.retry_at.filter(|_| hub.is_busy());
        let check = Instant::earliest(self.recheck_at, self.states.poll_timeout());
        Instant::earliest(Instant::earliest(turn, retry), check)
    }

    /// Looks at the interface again: it may have come, gone, or been switched on or off.
    pub(super) fn check(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.recheck_at = None;
        let namespace = self.namespace.clone();
        if let Err(problem) = bus::inside(namespace.as_deref(), || self.check_here(now, hub)) {
            self.tell(&problem);
            self.recheck_at = Some(now + RETRY);
        }
    }

    /// The same, in the namespace it is in.
    fn check_here(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        if self.can.as_ref().is_some_and(|can| !can.is_present()) {
            self.detach(now, hub);
        }
        if self.can.is_none() {
            if let Err(problem) = self.attach(now, hub) {
                self.tell(&problem.to_string());
                self.recheck_at = Some(now + RETRY);
            }
        } else {
            self.configure(now);
            self.look(now, hub);
        }
    }

    /// Sets its controller, once for each time it comes.
    fn configure(&mut self, now: Instant) {
        let Some(settings) = self.settings else { return };
        let index = self.can.as_ref().map(CanInterface::index);
        if self.settled.is_some() && (index.is_none() || index == self.settled) {
            return;
        }
        match bus::configure(&self.name, &settings) {
            Ok((index, changed)) => {
                self.settled = Some(index);
                let how = if changed { "set to" } else { "is already" };
                log::info!("{}: {how} {settings}", self.name);
            }
            // Then there is nothing to open either, which is said.
            Err(ConfigureError::Absent) => {}
            Err(problem) => {
                self.tell(&problem.to_string());
                if problem.may_pass() {
                    self.recheck_at = Some(now + RETRY);
                } else {
                    self.settled = Link::by_name(&self.name).ok().map(|link| link.index);
                }
            }
        }
    }

    fn attach(&mut self, now: Instant, hub: &mut Hub<Heap>) -> Result<(), OpenError> {
        // Before it is open, so that switching it off for that is no news.
        self.configure(now);
        match CanInterface::open(&self.name) {
            Ok(can) => {
                // One of ours may be left from a process that was killed.
                self.created |= self.create && can.link().is_some_and(|link| link.is_made);
                self.can = Some(can);
                self.overflow = 0;
                self.told.clear();
                self.look(now, hub);
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
                self.recheck_at = Some(now + RETRY);
            }
        }
    }

    /// Tells the hub how the interface is.
    fn look(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        let Some(can) = &self.can else { return };
        let Some(link) = can.link() else { return self.detach(now, hub) };
        let is_virtual = can.is_virtual();
        let max_age = match self.max_age {
            MaxAge::ByBus => (!is_virtual).then_some(DEFAULT_MAX_AGE),
            MaxAge::Unlimited => None,
            MaxAge::Limit(limit) => Some(limit),
        };
        let real_max = link.tx_queue_len.clamp(1, REAL_HANDED_MAX) as usize;
        let handed_max = if is_virtual { HANDED_MAX } else { real_max };
        let is_fd = link.mtu >= FD_BYTES as u32;
        hub.set_policy(Policy { max_age, is_fd, is_virtual, handed_max, ..*hub.policy() });
        let known = Health::from(hub.status());
        let told = link.health();
        let health = match told {
            _ if !link.is_up => Health::unknown(BusState::Down),
            Some(told) => Health { errors: told.errors.or(known.errors), ..told },
            // What frames have told holds on.
            None if matches!(known.state, BusState::Absent | BusState::Down) => {
                Health::unknown(BusState::Up)
            }
            None => known,
        };
        if told.is_some_and(|told| !matches!(told.state, BusState::Up | BusState::Down)) {
            self.recheck_by(now + TROUBLE_RECHECK);
        }
        self.hear_out(hub, health.state);
        set_health(now, &self.name, &mut self.states, hub, health);
    }

    fn set_state(&mut self, now: Instant, hub: &mut Hub<Heap>, state: BusState) {
        if hub.status().state != state {
            self.hear_out(hub, state);
            set_health(now, &self.name, &mut self.states, hub, Health::unknown(state));
        }
    }

    /// Before a state in which what the bus was handed counts as failed: what it has shown was sent, though its echo was
    /// not read yet. Read later it would be nobody's any more, and go back to the peer it came from.
    fn hear_out(&mut self, hub: &mut Hub<Heap>, state: BusState) {
        if hub.status().state.takes_frames()
            && !state.takes_frames()
            && let Some(can) = &mut self.can
        {
            take_last(can, hub);
        }
    }

    fn recheck_by(&mut self, at: Instant) {
        self.recheck_at = Instant::earliest(self.recheck_at, Some(at));
    }

    fn detach(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        if let Some(mut can) = self.can.take() {
            take_last(&mut can, hub);
            let overflow = can.settle_overflow();
            hub.overflowed(overflow.saturating_sub(self.overflow));
        }
        self.retry_at = None;
        self.settled = None;
        self.set_state(now, hub, BusState::Absent);
    }

    pub(super) fn read(&mut self, now: Instant, hub: &mut Hub<Heap>, wall: &mut WallClock) -> bool {
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.check(now, hub);
        }
        self.states.catch_up(now, format_args!("{}: ", self.name));
        let mut total = 0;
        let mut is_all = false;
        for _ in 0..BATCHES_MAX {
            let Some(can) = &mut self.can else {
                is_all = true;
                break;
            };
            let count = match can.receive() {
                Ok(count) => count,
                Err(error) => {
                    self.failed(now, hub, &error);
                    is_all = true;
                    break;
                }
            };
            for index in 0..count {
                let Some(seen) = can.received(index) else { continue };
                if seen.own {
                    self.retry_at = None;
                }
                let namespace = self.namespace.as_deref();
                if let Some(pause) = judge(now, can, namespace, &mut self.states, hub, &seen) {
                    self.recheck_at = Instant::earliest(self.recheck_at, Some(now + pause));
                }
                hub.set_clock(wall.offset_for(now, seen.stamp_us));
                hub.seen(&seen.frame, seen.stamp_us, seen.own);
            }
            hub.overflowed(can.overflow().saturating_sub(self.overflow));
            self.overflow = can.overflow();
            total += count;
            if count < bus::BATCH {
                is_all = true;
                break;
            }
        }
        if total > 0 {
            self.pace.read(now, total);
        }
        is_all
    }

    fn failed(&mut self, now: Instant, hub: &mut Hub<Heap>, error: &std::io::Error) {
        if bus::is_gone(error) {
            self.detach(now, hub);
        } else if bus::is_down(error) {
            self.set_state(now, hub, BusState::Down);
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
        // The last moment to see that a frame has grown old.
        let is_aging = hub.policy().max_age.is_some() && hub.is_busy();
        let now = if is_aging { clock::now().max(now) } else { now };
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
                    self.set_state(now, hub, BusState::Down);
                    self.recheck_at = Some(now + RECHECK);
                }
                SendStop::Gone => self.detach(now, hub),
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
        let Some(can) = self.can.as_ref().filter(|can| !can.is_virtual()) else {
            return Rates::default();
        };
        let ask = || {
            let kernel = socketcan::CanInterface::open_iface(can.index());
            let known = |rate: Option<u32>| rate.filter(|rate| *rate > 0);
            let data = kernel.data_bit_timing().ok().flatten().map(|timing| timing.bitrate);
            Rates { nominal: known(kernel.bit_rate().ok().flatten()), data: known(data) }
        };
        bus::inside(self.namespace.as_deref(), ask).unwrap_or_default()
    }

    /// The process ends. An interface that other processes have open is left to them.
    pub(super) fn close(&mut self, is_shared: bool) {
        self.can = None;
        if self.created
            && !is_shared
            && let Ok(Err(problem)) =
                bus::inside(self.namespace.as_deref(), || bus::delete(&self.name))
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

/// Takes what an interface that is gone or down had seen before: the kernel keeps it for the socket, behind the one error.
fn take_last(can: &mut CanInterface, hub: &mut Hub<Heap>) {
    let mut told = false;
    loop {
        match can.receive() {
            Ok(0) => return,
            Ok(count) => {
                for seen in (0..count).filter_map(|index| can.received(index)) {
                    hub.seen(&seen.frame, seen.stamp_us, seen.own);
                }
            }
            Err(_) if !told => told = true,
            Err(_) => return,
        }
    }
}

/// Takes what a frame tells of the state. Returns when to ask the controller about it.
fn judge(
    now: Instant,
    can: &CanInterface,
    namespace: Option<&Namespace>,
    states: &mut StateLog,
    hub: &mut Hub<Heap>,
    seen: &Received,
) -> Option<Duration> {
    let known = Health::from(hub.status());
    // An error frame of our own is news of a peer's bus.
    let is_news = seen.frame.is_error() && !seen.own;
    let was_off = known.state == BusState::BusOff;
    if !is_news && (seen.frame.is_error() || !was_off) {
        return None;
    }
    let mut health = known.after(&seen.frame);
    let is_back = was_off && health.state != BusState::BusOff;
    // The frame may have waited here since before; the kernel knows.
    let ask = || bus::inside(namespace, || can.link()?.health()).ok().flatten();
    if let Some(told) = is_back.then(ask).flatten() {
        health = Health { errors: told.errors.or(health.errors), ..told };
    }
    set_health(now, can.name(), states, hub, health);
    match health.state {
        _ if can.is_virtual() => None,
        // The kernel tells of the restart a little before it does it.
        BusState::BusOff if is_back => Some(RECHECK),
        BusState::ErrorWarning | BusState::ErrorPassive | BusState::BusOff => Some(TROUBLE_RECHECK),
        _ => None,
    }
}

/// The one place where a change of state is made and told.
fn set_health(
    now: Instant,
    name: &str,
    states: &mut StateLog,
    hub: &mut Hub<Heap>,
    health: Health,
) {
    if hub.status().state != health.state {
        states.changed(now, format_args!("{name}: "), health);
    }
    hub.set_state(health.state, health.errors);
}
