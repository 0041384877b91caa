//! The loop that joins buses, histories and links.
//!
//! One thread waits in one place for everything, reads what is there, asks the protocol, and writes
//! what the protocol says. It decides nothing about frames: that is the hubs' and links' part.
//!
//! ```text
//! wait -> tasks, signals -> buses read -> links read -> timers -> buses write -> links write -> wait
//! ```

mod bus;
mod claims;
pub mod clock;
pub mod dialler;
mod interface;
mod link_log;
mod links;
mod memory;
mod namespace;
pub mod pace;
mod places;
mod print;
mod rate_limit;
mod report;
pub mod runtime;
mod service;
mod session;
mod siblings;
mod state_log;
mod status;
mod wait;

use core::cell::RefCell;
use core::time::Duration;
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

pub use bus::{Bus, Side};
pub use interface::{Interface, Mode};
pub use memory::{Heap, HeapSlots, HeapTable, history_memory};
pub use print::Printer;
pub use report::{counters, reason};
pub use status::{BusView, LinkView, Rates, Snapshot};

pub use crate::protocol::{BUSES_MAX, LINKS_MAX};

use crate::bus::{LinkWatch, inside};
use crate::cli::{Endpoint, ListenAddress};
use crate::net;
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;
use crate::protocol::{Ended, Hub, LinkOptions, PeerStatus, Policy};
use crate::random::random_id;
use claims::Claims;
use clock::WallClock;
use dialler::{Dialler, Stage, Wish};
use link_log::{LinkLog, more};
use namespace::{Home, watch};
use places::SESSIONS_MAX;
use rate_limit::RateLimit;
use runtime::{Input, Runtime, Signal};
use service::Service;
use session::Session;
use siblings::Siblings;
use status::Meter;

/// Peers that are gone and have carried nothing that the report at the end lists for each bus. Chosen: who floods a
/// board with greetings fills one screen of its log.
const STRANGERS_TOLD: usize = 64;
/// How long the end may take: what was accepted is delivered first, within a second in all.
const END_WITHIN: Duration = Duration::from_millis(800);
/// How long the buses are read at the end. Chosen: 4 MiB, the largest buffer of a socket, take a small
/// board a tenth of that.
const LAST_READ: Duration = Duration::from_millis(300);
/// How often buses and links are given a turn before the loop looks for input again.
const ROUNDS_MAX: usize = 4;
/// Bytes read from a connection at once: four of the largest records.
const READ_SIZE: usize = 16 * 1024;

/// What a command wants to know of.
#[derive(Debug)]
pub enum Notice<'n> {
    /// A dialled link is up.
    Up,
    /// The peer's bus has this state.
    PeerBus(BusState),
    /// The peer has these buses.
    Buses(Vec<String>),
    /// A dialled link is over.
    Ended(Ended),
    /// An attempt to dial failed.
    Unreachable(&'n str),
}

/// What a command does beside the loop.
pub trait Job {
    /// Something happened to what `dialler` dials. An error ends the gateway.
    fn notice(
        &mut self,
        gateway: &mut Gateway,
        dialler: usize,
        notice: &Notice<'_>,
    ) -> Result<(), String> {
        let _ = (gateway, dialler, notice);
        Ok(())
    }

    /// After each turn of the loop. `true`: all is done. An error ends the gateway.
    fn turn(&mut self, gateway: &mut Gateway, now: Instant) -> Result<bool, String> {
        let _ = (gateway, now);
        Ok(false)
    }

    /// What the job wants to read, if anything; it is told by [`Job::read`].
    fn input(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// There is something to read.
    fn read(&mut self) {}

    /// When the job wants a turn without anything having happened.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// A gateway: its buses with their hubs, its links, and what it dials.
pub struct Gateway {
    hubs: Vec<Hub<Heap>>,
    buses: Vec<Bus>,
    sessions: Vec<Session>,
    diallers: Vec<Dialler>,
    accept_options: LinkOptions,
    /// The hubs that are of no use without a peer that dials.
    expecting: Vec<usize>,
    claims: Claims,
    runtime: Runtime,
    watch: Option<LinkWatch>,
    home: Home,
    wall: WallClock,
    /// The time of the loop's present turn.
    now: Instant,
    printer: Option<Rc<RefCell<Printer>>>,
    buffer: Box<[u8]>,
    next_link: u32,
    end_by: Option<Instant>,
    /// Whether the last round moved frames to a bus, so that there may be more.
    has_bus_work: bool,
    /// The buses that are not waited for now: a bit for each.
    paced: u32,
    link_log: LinkLog,
    told_wait: RateLimit,
    resolver: net::Resolver,
    meter: Meter,
    service: Option<Service>,
}

impl Gateway {
    /// A gateway without buses. It answers signals from now on.
    pub fn new(accept_options: LinkOptions) -> io::Result<Self> {
        let runtime = Runtime::new()?;
        let signals = net::signals()?;
        runtime.spawn(net::watch_signals(signals, runtime.inbox.clone()));
        Ok(Self {
            hubs: Vec::with_capacity(BUSES_MAX),
            buses: Vec::with_capacity(BUSES_MAX),
            sessions: Vec::with_capacity(SESSIONS_MAX),
            diallers: Vec::new(),
            accept_options: guarded(accept_options),
            expecting: Vec::new(),
            claims: Claims::new(),
            runtime,
            watch: None,
            home: Home::default(),
            wall: WallClock::default(),
            now: clock::now(),
            printer: None,
            buffer: vec![0; READ_SIZE].into_boxed_slice(),
            next_link: 1,
            end_by: None,
            has_bus_work: false,
            paced: 0,
            link_log: LinkLog::default(),
            told_wait: RateLimit::new(1),
            resolver: net::Resolver::default(),
            meter: Meter::new(clock::now()),
            service: None,
        })
    }

    /// Adds a bus and returns the number of its hub. `queue_max`: frames toward it at most.
    pub fn add_bus(
        &mut self,
        name: &str,
        history_bytes: usize,
        policy: Policy,
        queue_max: usize,
        side: Side,
    ) -> Result<usize, String> {
        if self.hubs.len() == BUSES_MAX {
            return Err(format!("one process serves at most {BUSES_MAX} buses; start another"));
        }
        let history = history_memory(history_bytes)
            .map_err(|problem| format!("no room for the history of {name}: {problem}"))?;
        let id = random_id();
        let mut hub = Hub::new(name, id, history, HeapSlots::with_room(queue_max))
            .ok_or_else(|| format!("the bus name {name} is too long"))?;
        hub.set_secret(random_id());
        hub.set_policy(policy);
        hub.set_clock(self.wall.offset_us(clock::now()));
        let mut bus = Bus::new(side, &mut hub);
        match &mut bus.side {
            Side::Interface(interface) => {
                let namespace = self.home.namespace();
                if self.watch.is_none() {
                    self.watch = watch(namespace.as_deref())?;
                }
                interface.start(clock::now(), &mut hub, namespace.clone())?;
                let identify = || {
                    let id = claims::bus_id(interface.name())?;
                    Some((id, Siblings::open(interface.name(), id)))
                };
                if let Ok(Some((bus_id, siblings))) = inside(namespace.as_deref(), identify) {
                    hub.set_bus_id(bus_id);
                    bus.siblings = siblings;
                }
            }
            Side::Print(printer) => self.printer = Some(Rc::clone(printer)),
            Side::Sim(_) | Side::Feed => {}
        }
        self.hubs.push(hub);
        self.buses.push(bus);
        Ok(self.hubs.len() - 1)
    }

    /// Listens at an address that `option` gave.
    pub fn listen(&mut self, address: &ListenAddress, option: &str) -> Result<(), String> {
        for listener in net::listen(address, option)? {
            let bound = listener.get_ref().local_addr().map_err(|error| error.to_string())?;
            log::info!("listening on {bound}");
            self.runtime.spawn(net::accept(listener, self.runtime.inbox.clone()));
        }
        Ok(())
    }

    /// All is up only while a peer has joined this bus.
    pub fn expect_peer(&mut self, hub: usize) {
        self.expecting.push(hub);
    }

    /// Dials a peer for a link of one of its buses to one of ours.
    pub fn dial(
        &mut self,
        endpoint: Endpoint,
        remote: &str,
        hub: usize,
        options: LinkOptions,
    ) -> Result<usize, String> {
        let now = clock::now();
        let peer = self.hubs.get_mut(hub).and_then(|hub| hub.dial(now));
        let peer = peer.ok_or("there is no room for another peer")?;
        let place = crate::protocol::Place { hub, peer };
        let wish = Wish::Bus { remote: remote.to_owned(), place };
        self.diallers.push(Dialler::new(endpoint, wish, guarded(options), now));
        Ok(self.diallers.len() - 1)
    }

    /// Dials a peer for the names of its buses.
    pub fn ask_for_buses(&mut self, endpoint: Endpoint, options: LinkOptions) -> usize {
        self.diallers.push(Dialler::new(endpoint, Wish::Names, options, clock::now()));
        self.diallers.len() - 1
    }

    /// Does not dial it any more.
    pub fn stop_dialling(&mut self, dialler: usize) {
        if let Some(dialler) = self.diallers.get_mut(dialler) {
            dialler.stage = Stage::Stopped;
        }
    }

    /// What the peer of a dialled link said of itself in its greeting (`Hello::features`); 0 while there
    /// is no link.
    #[must_use]
    pub fn peer_features(&self, dialler: usize) -> u32 {
        let session = self.sessions.iter().find(|session| session.dialler == Some(dialler));
        session.map_or(0, |session| session.link.peer_features())
    }

    /// The hub with this number.
    pub fn hub(&mut self, number: usize) -> Option<&mut Hub<Heap>> {
        self.hubs.get_mut(number)
    }

    /// What the wall clock says, in microseconds since the Unix epoch.
    pub fn stamp_us(&mut self, now: Instant) -> u64 {
        self.wall.stamp_us(now)
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.end_by.is_some()
    }

    /// Begins the end: what was accepted is delivered, then all links are closed.
    pub fn end(&mut self, now: Instant) {
        if self.end_by.is_some() {
            return;
        }
        self.end_by = Some(now + END_WITHIN);
        if let Some(service) = &mut self.service {
            service.stopping();
            service.note();
        }
        let read_by = clock::now() + LAST_READ;
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            // What waits in the kernel was accepted, too.
            while !bus.read(now, hub, &mut self.wall) && clock::now() < read_by {}
            hub.close();
        }
        for dialler in &mut self.diallers {
            dialler.stage = Stage::Stopped;
        }
    }

    /// Runs until a signal, or until the job is done.
    pub fn run(&mut self, job: &mut dyn Job) -> Result<(), String> {
        self.tell_ready(self.now);
        let result = self.turns(job);
        self.settle();
        for bus in &mut self.buses {
            bus.close();
        }
        self.report();
        result
    }

    /// Counts the losses of which no frame has told, before somebody is told numbers.
    fn settle(&mut self) {
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            bus.settle(hub);
        }
    }

    fn turns(&mut self, job: &mut dyn Job) -> Result<(), String> {
        loop {
            let now = self.now;
            self.input(now, job)?;
            self.pass_time(now);
            self.follow_namespace(now)?;
            self.tell_news(now, job)?;
            self.answer(now);
            self.meter.turn(now, &self.hubs);
            if job.turn(self, now)? {
                self.end(now);
            }
            for _ in 0..ROUNDS_MAX {
                self.output(now);
                if !self.has_output() {
                    break;
                }
            }
            self.bury(now, job)?;
            self.redial(now);
            self.tell_manager(now);
            if self.is_finished(now) {
                return Ok(());
            }
            self.wait(job)?;
        }
    }

    /// Whether everything that was accepted is where it belongs, or the time for that is over.
    fn is_finished(&mut self, now: Instant) -> bool {
        let Some(end_by) = self.end_by else { return false };
        let hubs = &self.hubs;
        let delivered = self.sessions.iter().all(|session| session.link.is_delivered(hubs))
            && hubs.iter().all(|hub| !hub.is_busy() || !hub.takes_frames())
            && self.printer.as_ref().is_none_or(|printer| !printer.borrow().is_waiting());
        if !delivered && now < end_by {
            return false;
        }
        for session in &mut self.sessions {
            session.link.close(now, &mut self.hubs, Ended::Finished);
            session.write(now, &mut self.hubs);
            session.discard(&mut self.buffer);
        }
        self.link_log.settle();
        true
    }

    /// Takes what tasks bring.
    fn input(&mut self, now: Instant, job: &mut dyn Job) -> Result<(), String> {
        while let Some(input) = self.runtime.next_input() {
            match input {
                Input::Signal(Signal::End) => self.end(now),
                Input::Signal(Signal::Report) => {
                    self.settle();
                    self.report();
                }
                Input::Scraped(reply) => {
                    self.settle();
                    // Whoever asked may be gone.
                    let _ = reply.try_send(self.snapshot(now).metrics());
                }
                Input::NotAccepted(error) => {
                    if let Some(sum) = self.link_log.not_accepted.allow(now, 1) {
                        log::warn!("cannot accept a connection: {error}; retrying{}", more(sum));
                    }
                }
                Input::Accepted(stream, peer) => self.accept(now, stream, peer),
                Input::Dialled(dialler, Ok((stream, peer))) => {
                    self.connected(now, dialler, stream, peer);
                }
                Input::Dialled(number, Err(problem)) => {
                    let Some(dialler) = self.diallers.get_mut(number) else { continue };
                    if dialler.is_news(now, &problem) {
                        log::warn!("{problem}; retrying");
                    }
                    dialler.retry_unreached(now);
                    job.notice(self, number, &Notice::Unreachable(&problem))?;
                }
            }
        }
        Ok(())
    }

    fn pass_time(&mut self, now: Instant) {
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            let is_due = |hub: &Hub<Heap>| hub.poll_timeout().is_some_and(|at| at <= now);
            let wants_read = bus.poll_timeout(now, hub).is_some_and(|at| at <= now);
            // First what the bus showed: an echo that waits to be read is not overdue.
            if (wants_read || is_due(hub)) && bus.read(now, hub, &mut self.wall) && is_due(hub) {
                hub.handle_timeout(now);
            }
        }
        for session in &mut self.sessions {
            session.handle_timeout(now, &mut self.hubs);
        }
        for dialler in &mut self.diallers {
            dialler.catch_up(now);
        }
        self.link_log.catch_up(now);
    }

    /// Gives buses and links what is for them.
    fn output(&mut self, now: Instant) {
        self.has_bus_work = false;
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            self.has_bus_work |= bus.write(now, hub, &mut self.wall);
            if let Some(siblings) = &mut bus.siblings {
                siblings.write(now, hub);
            }
        }
        for session in &mut self.sessions {
            session.write(now, &mut self.hubs);
        }
    }

    /// Whether [`Gateway::output`] may find more to do.
    fn has_output(&self) -> bool {
        self.has_bus_work || self.sessions.iter().any(Session::has_output)
    }

    /// What the operator calls a peer: as it was typed, or its address, or that it is gone.
    fn name_of(&self, bus: &str, peer: usize, link: Option<u32>) -> String {
        let is_it = |place: &crate::protocol::Place| {
            place.peer == peer && self.hubs.get(place.hub).is_some_and(|hub| hub.name() == bus)
        };
        let dialled = self.diallers.iter().find(|dialler| match &dialler.wish {
            Wish::Bus { place, .. } => is_it(place),
            Wish::Names => false,
        });
        let session = self.sessions.iter().find(|session| Some(session.link.id()) == link);
        match (dialled, session) {
            (Some(dialler), _) => dialler.endpoint.to_string(),
            (None, Some(session)) => session.peer.to_string(),
            (None, None) => "gone".to_owned(),
        }
    }

    /// Prints the counters of every peer.
    pub fn report(&self) {
        for (hub, bus) in self.hubs.iter().zip(&self.buses) {
            if bus.is_bus() {
                log::info!(
                    "bus {} state={} frames={} overflow={} overrun={} dropped={}",
                    hub.name(),
                    hub.status().state.name(),
                    hub.frames_seen(),
                    hub.status().overflow,
                    hub.status().overrun,
                    hub.status().dropped
                );
            }
            // Where there is no bus either, a peer that was never linked with is nothing to tell of.
            let counts = |status: &PeerStatus| bus.is_bus() || status.links > 0;
            let mut strangers = 0;
            for (number, status) in hub.peers().filter(|(_, status)| counts(status)) {
                let is_gone = status.link.is_none() && !status.dialled;
                strangers += usize::from(is_gone && !hub.has_carried(number));
                if strangers > STRANGERS_TOLD && is_gone && !hub.has_carried(number) {
                    continue;
                }
                let name = self.name_of(hub.name(), number, status.link);
                log::info!("{}", counters(hub, &name, &status));
            }
            if strangers > STRANGERS_TOLD {
                let more = strangers - STRANGERS_TOLD;
                log::info!(
                    "bus {}: {more} more peers are gone and have carried nothing",
                    hub.name()
                );
            }
        }
    }
}

/// All links wait until it is sure that no other process joins the same two buses.
fn guarded(options: LinkOptions) -> LinkOptions {
    LinkOptions { holds: true, ..options }
}
