//! The loop that joins buses, histories and links.
//!
//! One thread waits in one place for everything, reads what is there, asks the protocol, and writes
//! what the protocol says. It decides nothing about frames: that is the hubs' and links' part.
//!
//! The loop is in the module `event_loop`; its lines are its picture.

mod bus;
mod claims;
pub mod clock;
pub mod dialler;
mod event_loop;
mod interface;
mod job;
mod link_log;
mod links;
mod marks;
mod memory;
mod namespace;
mod places;
mod poller;
mod print;
mod rate_limit;
mod report;
pub mod runtime;
mod service;
mod session;
mod sessions;
mod siblings;
mod state_log;
mod status;
mod timers;
mod wait;

use core::cell::RefCell;
use std::io;
use std::rc::Rc;

pub use bus::{Bus, Side};
pub use interface::{Interface, Mode};
pub use job::{Job, Notice};
pub use memory::{Heap, HeapSlots, HeapTable, history_memory};
pub use print::Printer;
pub use report::{counters, reason};
pub use status::{BusView, LinkView, Rates, Snapshot};

pub use crate::protocol::{BUSES_MAX, LINKS_MAX};

use crate::bus::{LinkWatch, inside};
use crate::cli::{Endpoint, ListenAddress};
use crate::net;
use crate::protocol::time::Instant;
use crate::protocol::{Hub, LinkOptions, Policy};
use crate::random::random_id;
use claims::Claims;
use clock::WallClock;
use dialler::{Dialler, Stage, Wish};
use link_log::LinkLog;
use namespace::{Home, watch};
use runtime::Runtime;
use service::Service;
use sessions::Sessions;
use siblings::Siblings;
use status::Meter;
use wait::Waiter;

type BusMarks = marks::Marks<{ BUSES_MAX.div_ceil(64) }>;

/// Bytes read from a connection at once: four of the largest records.
const READ_SIZE: usize = 16 * 1024;

/// A gateway: its buses with their hubs, its links, and what it dials.
pub struct Gateway {
    hubs: Vec<Hub<Heap>>,
    buses: Vec<Bus>,
    sessions: Sessions,
    /// The buses to be read, and those that may have something to send to.
    to_read: BusMarks,
    to_write: BusMarks,
    /// Up to which news of each hub its links were asked for output.
    asked_for: [u32; BUSES_MAX],
    /// Whether somebody waits for an answer.
    is_asked: bool,
    waiter: Waiter,
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
    link_log: LinkLog,
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
            sessions: Sessions::default(),
            to_read: BusMarks::default(),
            to_write: BusMarks::default(),
            asked_for: [0; BUSES_MAX],
            is_asked: false,
            waiter: Waiter::new()?,
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
            link_log: LinkLog::default(),
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
        self.to_read.set(self.buses.len());
        self.to_write.set(self.buses.len());
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
}

/// All links wait until it is sure that no other process joins the same two buses.
fn guarded(options: LinkOptions) -> LinkOptions {
    LinkOptions { holds: true, ..options }
}
