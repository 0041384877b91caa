//! How it all is: every number an operator may ask for, taken in one moment.
//!
//! A [`Snapshot`] is built only when somebody asks; the way of a frame knows nothing of it. Only the
//! rates need to be watched over time, by the [`Meter`], at most once a second.

mod json;
mod metrics;
mod table;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::rc::Rc;

use heapless::Deque;

use super::dialler::{Stage, Wish};
use super::memory::Heap;
use super::session::Session;
use super::{BUSES_MAX, Gateway};
use crate::cli::ListenAddress;
use crate::net;
use crate::protocol::time::Instant;
use crate::protocol::wire::{BusStatus, Form};
use crate::protocol::{BusBits, Hub, PeerStatus};
use crate::random::fnv1a;

/// Rates are taken over one to two of these.
const PERIOD: Duration = Duration::from_secs(1);

/// Answers under way to those who ask how it all is; each may take 1 MiB. Others wait.
const ANSWERS_MAX: usize = 4;

/// The bit rates of a bus, in bit/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// The nominal one; none is known of a virtual bus.
    pub nominal: Option<u32>,
    /// The one of the data phase of CAN FD frames.
    pub data: Option<u32>,
}

/// What a bus had counted at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    frames: u64,
    bits: BusBits,
}

impl Reading {
    fn of(hub: &Hub<Heap>) -> Self {
        Self { frames: hub.frames_seen(), bits: hub.bits() }
    }
}

/// Remembers what the buses had counted a while ago, so that rates can be told.
pub(super) struct Meter {
    started: Instant,
    /// The older reading is the one rates count from.
    readings: Deque<(Instant, [Reading; BUSES_MAX]), 2>,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        let mut readings = Deque::new();
        let _ = readings.push_back((now, [Reading::default(); BUSES_MAX]));
        Self { started: now, readings }
    }

    /// To be called at every turn of the loop; nearly always it only looks at the time.
    pub(super) fn turn(&mut self, now: Instant, hubs: &[Hub<Heap>]) {
        if self.readings.back().is_some_and(|(at, _)| now.since(*at) < PERIOD) {
            return;
        }
        if self.readings.is_full() {
            self.readings.pop_front();
        }
        let mut reading = [Reading::default(); BUSES_MAX];
        for (place, hub) in reading.iter_mut().zip(hubs) {
            *place = Reading::of(hub);
        }
        let _ = self.readings.push_back((now, reading));
    }

    /// Frames and load of a bus: how many frames a second, and which part of the time the bus was
    /// busy, where its bit rates are known.
    fn rate(&self, now: Instant, bus: usize, hub: &Hub<Heap>, rates: Rates) -> (f64, Option<f64>) {
        let Some((at, readings)) = self.readings.front() else { return (0.0, None) };
        let seconds = now.since(*at).as_secs_f64().max(0.001);
        let before = readings.get(bus).copied().unwrap_or_default();
        let after = Reading::of(hub);
        let grown = |after: u64, before: u64| after.saturating_sub(before) as f64;
        let load = rates.nominal.map(|nominal| {
            let data = rates.data.unwrap_or(nominal);
            let busy = grown(after.bits.nominal, before.bits.nominal) / f64::from(nominal)
                + grown(after.bits.data, before.bits.data) / f64::from(data);
            busy / seconds
        });
        (grown(after.frames, before.frames) / seconds, load)
    }
}

/// A bus of this process at a moment.
#[derive(Clone, Debug)]
pub struct BusView {
    /// What peers call it.
    pub name: String,
    /// Whether it is of no use without a peer that dials us.
    pub expects_peer: bool,
    /// Its state, error counters, kernel overflow and age limit.
    pub status: BusStatus,
    /// Whether it takes frames: a virtual bus does, whatever error frames on it say.
    pub takes_frames: bool,
    /// How its controller is set, as far as that matters: `listen-only`, `one-shot`; `no-echo` where its driver
    /// confirms nothing. Empty as a rule.
    pub mode: String,
    /// Its bit rates.
    pub rates: Rates,
    /// Which part of the time it was busy in the last one or two seconds, without stuff bits.
    pub load: Option<f64>,
    /// Frames a second in the same time.
    pub frames_per_s: f64,
    /// Frames read from the bus since the start, ours not among them.
    pub received: u64,
    /// Frames sent to the bus since the start, and confirmed by it.
    pub sent: u64,
}

/// A link of this process, or what is remembered of one, at a moment.
#[derive(Clone, Debug)]
pub struct LinkView {
    /// The local bus; empty while it is not known which buses the peer has.
    pub bus: String,
    /// The peer's number on that bus.
    pub number: usize,
    /// Who it is: as it was typed, or its address; empty for an accepted one that is gone.
    pub peer: String,
    /// Whether we dial it.
    pub dialled: bool,
    /// Since when there is a connection that has passed the greeting; `None`: there is none.
    pub up_for: Option<Duration>,
    /// The last round trip measured.
    pub round_trip: Option<Duration>,
    /// The protocol's account.
    pub status: PeerStatus,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How long the process has been running.
    pub running: Duration,
    /// Every bus.
    pub buses: Vec<BusView>,
    /// Every link, and every peer that is remembered.
    pub links: Vec<LinkView>,
}

impl LinkView {
    /// Whether the peer has said goodbye and every frame of it has its end: each `canspan send` leaves such
    /// an account.
    fn is_closed(&self) -> bool {
        let PeerStatus { received, may_resume, .. } = &self.status;
        let is_gone = self.up_for.is_none() && !self.dialled;
        is_gone && !may_resume && received.accounted() >= received.frames
    }

    /// Tells one history of the peer from another. Not its id: who knows that can pass for the peer.
    fn history_tag(&self) -> u32 {
        (fnv1a(&self.status.history.to_le_bytes()) >> 32) as u32
    }
}

impl Snapshot {
    /// Whether every bus takes frames, every peer we dial is linked, and every bus that waits for a
    /// peer has one. Other peers that dial us may come and go.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let has_peer = |bus: &BusView| {
            self.links.iter().any(|link| link.bus == bus.name && link.up_for.is_some())
        };
        let is_joined = |bus: &BusView| !bus.expects_peer || has_peer(bus);
        self.buses.iter().all(|bus| bus.takes_frames && is_joined(bus))
            && self.links.iter().all(|link| !link.dialled || link.up_for.is_some())
    }
}

/// Whether it is still to learn which buses its peer has.
pub(super) fn is_asking(dialler: &&super::Dialler) -> bool {
    matches!(dialler.wish, Wish::Names) && dialler.stage != Stage::Stopped
}

/// Whether a peer is gone that never had anything to account for: whoever only greets would leave a row
/// otherwise.
fn left_nothing(status: &PeerStatus) -> bool {
    let PeerStatus { received, sent, .. } = status;
    let has_carried = received.frames + received.lost + sent.accounted() > 0;
    status.link.is_none() && !status.dialled && !has_carried
}

impl Gateway {
    /// Tells the numbers to Prometheus at an address.
    pub fn serve_metrics(&mut self, address: &ListenAddress) -> Result<(), String> {
        for listener in net::listen(address, "--metrics")? {
            let bound = listener.get_ref().local_addr().map_err(|error| error.to_string())?;
            log::info!("metrics on http://{bound}/metrics");
            let listener = Rc::new(listener);
            for _ in 0..net::metrics::SCRAPERS_MAX {
                let (listener, inbox) = (Rc::clone(&listener), self.runtime.inbox.clone());
                self.runtime.spawn(net::metrics::serve(listener, inbox));
            }
        }
        Ok(())
    }

    /// Answers who asks how it all is.
    pub(super) fn answer(&mut self, now: Instant) {
        if !self.is_asked {
            return;
        }
        for number in self.sessions.numbers() {
            let Some(form) = self.sessions.get(number).and_then(Session::is_asked) else {
                continue;
            };
            let answering = self.sessions.iter().filter(|session| session.is_answering()).count();
            if answering >= ANSWERS_MAX {
                return;
            }
            self.settle();
            let snapshot = self.snapshot(now);
            let text = match form {
                Form::Table => snapshot.table(),
                Form::Json => snapshot.json(),
            };
            if let Some(session) = self.sessions.get_mut(number) {
                session.answer(now, text, snapshot.is_up());
            }
            self.sessions.to_write.set(number);
        }
        self.is_asked = false;
    }

    /// Whether somebody waits for an answer who can be given one.
    pub(super) fn may_answer(&self) -> bool {
        let answering = || self.sessions.iter().filter(|session| session.is_answering()).count();
        self.is_asked
            && answering() < ANSWERS_MAX
            && self.sessions.iter().any(|session| session.is_asked().is_some())
    }

    /// How it all is now.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let buses = self.buses.iter().zip(&self.hubs).enumerate();
        let buses = buses.map(|(number, (bus, hub))| {
            let rates = bus.rates();
            let (frames_per_s, load) = self.meter.rate(now, number, hub, rates);
            BusView {
                name: hub.name().to_owned(),
                expects_peer: self.expecting.contains(&number),
                status: hub.status(),
                takes_frames: hub.takes_frames(),
                mode: bus.mode().to_string(),
                rates,
                load,
                frames_per_s,
                received: hub.frames_seen().saturating_sub(hub.frames_confirmed()),
                sent: hub.frames_confirmed(),
            }
        });
        let links = self.hubs.iter().enumerate().flat_map(|(hub_number, hub)| {
            hub.peers()
                .filter(|(_, status)| !left_nothing(status))
                .map(move |(number, status)| self.link_view(now, hub_number, hub, number, status))
        });
        let running = now.since(self.meter.started);
        Snapshot { running, buses: buses.collect(), links: links.chain(self.undecided()).collect() }
    }

    fn link_view(
        &self,
        now: Instant,
        hub_number: usize,
        hub: &Hub<Heap>,
        number: usize,
        status: PeerStatus,
    ) -> LinkView {
        let session = self.sessions.iter().find(|session| {
            let place = session.link.place();
            session.link.is_live()
                && session.link.was_live()
                && Some(session.link.id()) == status.link
                && place.is_some_and(|place| place.hub == hub_number && place.peer == number)
        });
        let peer = self.name_of(hub.name(), number, session.map(|session| session.link.id()));
        LinkView {
            bus: hub.name().to_owned(),
            number,
            peer,
            dialled: status.dialled,
            up_for: session.map(|session| now.since(session.since)),
            round_trip: session.and_then(|session| session.link.round_trip()),
            status,
        }
    }

    /// Peers of whom we do not know yet which buses they have.
    fn undecided(&self) -> impl Iterator<Item = LinkView> + '_ {
        self.diallers.iter().filter(is_asking).enumerate().map(|(number, dialler)| LinkView {
            bus: String::new(),
            number,
            peer: dialler.endpoint.to_string(),
            dialled: true,
            up_for: None,
            round_trip: None,
            status: PeerStatus::default(),
        })
    }
}
