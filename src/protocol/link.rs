//! A link: one connection to a peer, from the first byte to the last.
//!
//! It touches no socket and no clock. The contract is five verbs:
//!
//! - [`Link::handle_input`]: bytes arrived;
//! - [`Link::handle_timeout`]: the moment of [`Link::poll_timeout`] has come;
//! - [`Link::poll_transmit`]: fill a buffer with what is to be sent; to be called after any of the
//!   above, after anything happened to the hub, and again while it returns bytes;
//! - [`Link::poll_event`]: what the operator should hear of;
//! - [`Link::ended`]: why it is over; send what `poll_transmit` still has, then close.
//!
//! ```text
//! preamble -> greeting -> live -> ended
//! ```

use core::time::Duration;

use heapless::{Deque, String, Vec};

use super::clock::PeerClock;
use super::filter::Filters;
use super::hub::{Hub, Memory};
use super::peer::PeerNumber;
use super::record::split_record;
use super::stream::Stamps;
use super::time::Instant;
use super::wire::{
    BUS_NAME_MAX, BusState, BusStatus, FILLER, Form, From, Hello, LENGTH_MAX, MAGIC, MESSAGE_MAX,
    MODE_PLAIN, Message, PREAMBLE_SIZE, Ping, Refusal, VERSION,
};

/// How long the preambles and greetings may take. Chosen: ten round trips of a bad radio link.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer is gone when it was silent for this many of its heartbeats.
pub const HEARTBEATS_MISSED: u32 = 3;
/// Receipts are this far apart where the peer is in no hurry, unless a quarter of the window waits for one. Chosen: the
/// packets of receipts then add 3 bytes a frame at 1,000 frames/s, and the kernel's delayed
/// acknowledgement (40 ms) always finds one to travel with.
pub const RECEIPT_INTERVAL: Duration = Duration::from_millis(25);
/// Most bytes of the names of a peer's buses.
pub const BUS_LIST_MAX: usize = 16 * (BUS_NAME_MAX + 1);

/// Bounds on the heartbeat a peer may announce (milliseconds): a mistake must neither end every
/// link nor keep a dead one for a day.
const HEARTBEAT_RANGE_MS: core::ops::RangeInclusive<u32> = 10..=600_000;

/// What a link is set up with.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// How often to say something at least.
    pub heartbeat: Duration,
    /// Whether to ask for the peer's frames.
    pub wants_frames: bool,
    /// How far apart receipts for our frames may be.
    pub receipts: Duration,
    /// Where the peer's frames are to begin, if it does not know us.
    pub from: From,
    /// Which of the peer's frames to ask for; the same for all links of a peer.
    pub filters: Filters,
    /// Whether to wait for [`Link::release`] between the greetings and all else.
    pub holds: bool,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(1),
            wants_frames: true,
            receipts: RECEIPT_INTERVAL,
            from: From::Now,
            filters: Filters::ALL,
            holds: false,
        }
    }
}

/// Why a link is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The connection was closed or reset.
    Closed,
    /// The peer ended it on purpose.
    Bye,
    /// We ended it on purpose.
    Finished,
    /// The peer gave the list of its buses.
    Listed,
    /// Somebody asked how it all is: send [`report`](super::report)s, then close.
    Asked(Form),
    /// Nothing was heard for too long.
    Silent,
    /// The greetings did not come in time.
    NoGreeting,
    /// A newer link of the same peer has taken over.
    Replaced,
    /// The peer refused it.
    Refused(Refusal),
    /// We refused it.
    WeRefused(Refusal),
    /// What came first is not a canspan preamble.
    NotCanspan,
    /// The peer speaks another version of the protocol.
    Version(u8),
    /// The peer wants a mode we do not have.
    Mode(u8),
}

/// What an operator should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Both sides have greeted each other.
    Up {
        /// Whether the peer came back with a new history.
        restarted: bool,
    },
    /// The peer's stream stands where this many frames are missing since it was last heard.
    Missing(u64),
    /// The peer's bus has another state than it was last told to have.
    Bus(BusStatus),
    /// The peer has said which buses it has: [`Link::buses`].
    Buses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Preamble,
    Greeting,
    Live,
}

/// What waits to be said besides frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outbox {
    pub(super) preamble: bool,
    pub(super) hello: bool,
    pub(super) start: bool,
    pub(super) list: bool,
    pub(super) ping: bool,
    pub(super) bye: bool,
    pub(super) refuse: Option<Refusal>,
}

/// Where a live link belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which hub.
    pub hub: usize,
    /// Which of its peers.
    pub peer: PeerNumber,
}

/// A link that waits to be released.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// The bus at its other end.
    bus_id: u64,
    /// What is to be told when it is up.
    restarted: bool,
}

/// One connection to a peer.
#[derive(Debug)]
pub struct Link {
    pub(super) id: u32,
    pub(super) options: LinkOptions,
    /// The bus the dialling side asks for; `None` on the accepting side.
    pub(super) asks_for: Option<String<BUS_NAME_MAX>>,
    pub(super) phase: Phase,
    pub(super) place: Option<Place>,
    pub(super) hold: Option<Hold>,
    input: Vec<u8, { LENGTH_MAX + MESSAGE_MAX }>,
    pub(super) outbox: Outbox,
    pub(super) heard: Instant,
    pub(super) silence_max: Duration,
    pub(super) next_ping: Instant,
    pub(super) receipt_interval: Duration,
    pub(super) next_receipt: Instant,
    pub(super) status_told: Option<u32>,
    peer_state: Option<BusState>,
    pub(super) clock: PeerClock,
    pub(super) echo: Option<(u64, Instant)>,
    round_trip: Option<Duration>,
    pub(super) stamps_out: Stamps,
    stamps_in: Stamps,
    /// Whether the peer has said where its stream stands.
    has_start: bool,
    /// Whether it was asked for more to send until there was nothing. If not, the connection takes
    /// no more, and nothing is gained by waking up to say more.
    pub(super) is_drained: bool,
    buses: String<BUS_LIST_MAX>,
    /// Which of our frames the peer asks for.
    asked: Option<Filters>,
    pub(super) is_filter_told: bool,
    events: Deque<Event, 8>,
    ended: Option<Ended>,
}

impl Link {
    /// A link we dial for a peer of a hub, [asking for](Hub::dial) a bus of the peer's.
    #[must_use]
    pub fn dial(
        now: Instant,
        id: u32,
        place: Place,
        bus: &str,
        options: LinkOptions,
    ) -> Option<Self> {
        let mut link = Self::accept(now, id, options);
        link.asks_for = Some(String::try_from(bus).ok()?);
        link.place = Some(place);
        link.outbox.preamble = true;
        link.outbox.hello = true;
        Some(link)
    }

    /// A link we dial to learn which buses a peer has.
    #[must_use]
    pub fn ask_for_buses(now: Instant, id: u32, options: LinkOptions) -> Self {
        let mut link = Self::accept(now, id, options);
        link.asks_for = Some(String::new());
        link.outbox.preamble = true;
        link.outbox.hello = true;
        link
    }

    /// A link somebody dialled to us.
    #[must_use]
    pub fn accept(now: Instant, id: u32, options: LinkOptions) -> Self {
        Self {
            id,
            options,
            asks_for: None,
            phase: Phase::Preamble,
            place: None,
            hold: None,
            input: Vec::new(),
            outbox: Outbox::default(),
            heard: now,
            silence_max: GREETING_TIMEOUT,
            next_ping: now,
            receipt_interval: RECEIPT_INTERVAL,
            next_receipt: now,
            status_told: None,
            peer_state: None,
            clock: PeerClock::default(),
            echo: None,
            round_trip: None,
            stamps_out: Stamps::default(),
            stamps_in: Stamps::default(),
            has_start: false,
            is_drained: true,
            buses: String::new(),
            asked: None,
            is_filter_told: false,
            events: Deque::new(),
            ended: None,
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Where it belongs, once that is known.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// Whether both sides have greeted each other and it is not over.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live && self.ended.is_none()
    }

    /// Whether both sides have greeted each other at some time, and no hold was left.
    #[must_use]
    pub fn was_live(&self) -> bool {
        self.phase == Phase::Live && self.hold.is_none()
    }

    /// The identity of the peer's bus, while the link waits for [`Link::release`]: nothing but
    /// greetings was handled or is sent.
    #[must_use]
    pub fn on_hold(&self) -> Option<u64> {
        self.hold.filter(|_| self.ended.is_none()).map(|hold| hold.bus_id)
    }

    /// Nothing speaks against the link. [`Link::handle_input`] is to be called next, with what it
    /// did not take, or with nothing.
    pub fn release(&mut self) {
        if self.on_hold().is_some()
            && let Some(Hold { restarted, .. }) = self.hold.take()
        {
            self.event(Event::Up { restarted });
        }
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Whether the bytes that arrived so far ended with a whole record.
    #[must_use]
    pub fn is_between_records(&self) -> bool {
        self.input.is_empty()
    }

    /// The last round trip measured, with the time either side took to answer taken off.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The names of the peer's buses, if it was asked for them.
    pub fn buses(&self) -> impl Iterator<Item = &str> {
        self.buses.split('\n').filter(|name| !name.is_empty())
    }

    /// What the operator should hear next.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The connection is closed, or `reason` ends it.
    pub fn close<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>], reason: Ended) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(reason);
        match reason {
            Ended::Finished => self.outbox.bye = true,
            Ended::Replaced => self.outbox.refuse = Some(Refusal::REPLACED),
            Ended::WeRefused(refusal) => {
                // The reason is of use only behind a preamble.
                self.outbox.preamble |= self.phase == Phase::Preamble;
                self.outbox.refuse = Some(refusal);
            }
            _ => {}
        }
        let Some(place) = self.place else { return };
        let Some(hub) = hubs.get_mut(place.hub) else { return };
        if self.phase == Phase::Live {
            hub.leave(now, place.peer, self.id, reason == Ended::Bye);
        }
        if matches!(reason, Ended::Refused(Refusal::LOOP) | Ended::WeRefused(Refusal::LOOP)) {
            hub.displaced(place.peer);
        }
    }

    /// Whether the peer has everything of our history and has said what became of it.
    #[must_use]
    pub fn is_delivered<M: Memory>(&self, hubs: &[Hub<M>]) -> bool {
        !self.is_live()
            || self
                .place
                .and_then(|place| Some(hubs.get(place.hub)?.is_delivered(place.peer)))
                .unwrap_or(true)
    }

    /// Bytes arrived from the peer. Returns how many were taken: all, unless the link has ended or
    /// is [on hold](Link::on_hold).
    pub fn handle_input<M: Memory>(
        &mut self,
        now: Instant,
        mut bytes: &[u8],
        hubs: &mut [Hub<M>],
    ) -> usize {
        let arrived = bytes.len();
        // Greeting drop by drop must not take longer than greeting at once.
        if !bytes.is_empty() && self.phase == Phase::Live {
            self.heard = now;
        }
        if self.input.is_empty() && self.is_open() {
            // Nearly always: nothing is left over, and nothing needs to be copied.
            let used = self.parse(now, bytes, hubs);
            bytes = bytes.get(used..).unwrap_or(&[]);
        }
        // What was buffered when the hold began is looked at again without new bytes.
        let mut look_again = bytes.is_empty() && !self.input.is_empty();
        while self.is_open() && (look_again || !bytes.is_empty()) {
            look_again = false;
            let room = self.input.capacity() - self.input.len();
            let (taken, rest) = bytes.split_at(room.min(bytes.len()));
            // There is room, or whole records to parse: parsing leaves less than one behind.
            let _ = self.input.extend_from_slice(taken);
            bytes = rest;
            let mut input = core::mem::take(&mut self.input);
            let used = self.parse(now, &input, hubs);
            input.copy_within(used.., 0);
            input.truncate(input.len() - used);
            self.input = input;
        }
        arrived - bytes.len()
    }

    /// Whether what arrives is to be handled now.
    fn is_open(&self) -> bool {
        self.ended.is_none() && self.hold.is_none()
    }

    /// Handles what is complete in `input` and returns how much that was.
    fn parse<M: Memory>(&mut self, now: Instant, input: &[u8], hubs: &mut [Hub<M>]) -> usize {
        let mut rest = input;
        while self.is_open() {
            if self.phase == Phase::Preamble {
                match self.check_preamble(now, rest, hubs) {
                    Some(after) => rest = after,
                    None => break,
                }
            }
            while let Some((&FILLER, after)) = rest.split_first() {
                rest = after;
            }
            match split_record(rest) {
                Ok(Some((record, after))) => {
                    rest = after;
                    if let Err(refusal) = self.handle_record(now, record, hubs) {
                        self.close(now, hubs, Ended::WeRefused(refusal));
                    }
                }
                Ok(None) => break,
                Err(refusal) => self.close(now, hubs, Ended::WeRefused(refusal)),
            }
        }
        input.len() - rest.len()
    }

    /// The input after the preamble; `None` while it is incomplete, or if it ends the link.
    fn check_preamble<'a, M: Memory>(
        &mut self,
        now: Instant,
        input: &'a [u8],
        hubs: &mut [Hub<M>],
    ) -> Option<&'a [u8]> {
        let wrong = input.iter().zip(MAGIC).any(|(byte, expected)| *byte != expected);
        if wrong {
            self.close(now, hubs, Ended::NotCanspan);
            return None;
        }
        let (preamble, rest) = input.split_at_checked(PREAMBLE_SIZE)?;
        let fields = preamble.get(MAGIC.len()..).unwrap_or(&[]);
        self.outbox.preamble |= self.asks_for.is_none();
        match *fields {
            [VERSION, MODE_PLAIN, 0] => {
                self.phase = Phase::Greeting;
                Some(rest)
            }
            [VERSION, mode, _] => {
                self.close(now, hubs, Ended::Mode(mode));
                None
            }
            [version, ..] => {
                self.close(now, hubs, Ended::Version(version));
                None
            }
            [] => None,
        }
    }

    fn handle_record<M: Memory>(
        &mut self,
        now: Instant,
        record: &[u8],
        hubs: &mut [Hub<M>],
    ) -> Result<(), Refusal> {
        let (message, rest) = postcard::take_from_bytes(record).map_err(|_| Refusal::PROTOCOL)?;
        if !rest.is_empty() {
            return Err(Refusal::PROTOCOL);
        }
        match (self.phase, message) {
            (_, Message::Refuse(refusal)) => self.close(now, hubs, Ended::Refused(refusal)),
            (Phase::Greeting, Message::Hello(hello)) => self.greeted(now, &hello, hubs)?,
            (Phase::Greeting, Message::Buses(names)) if self.is_asking() => {
                self.buses = String::try_from(names).map_err(|_| Refusal::PROTOCOL)?;
                self.event(Event::Buses);
                self.close(now, hubs, Ended::Listed);
            }
            (Phase::Greeting, Message::Filter(text)) if self.asked.is_none() => {
                self.asked = Some(text.parse().map_err(|_| Refusal::PROTOCOL)?);
            }
            (Phase::Greeting, Message::Ask(form)) if self.asks_for.is_none() => {
                self.close(now, hubs, Ended::Asked(form));
            }
            (Phase::Live, message) => {
                let place = self.place.ok_or(Refusal::PROTOCOL)?;
                let hub = hubs.get_mut(place.hub).ok_or(Refusal::PROTOCOL)?;
                if hub.link_of(place.peer) != Some(self.id) {
                    self.close(now, hubs, Ended::Replaced);
                    return Ok(());
                }
                if self.handle_live(now, &message, hub, place.peer)? {
                    self.close(now, hubs, Ended::Bye);
                }
            }
            _ => return Err(Refusal::PROTOCOL),
        }
        Ok(())
    }

    fn is_asking(&self) -> bool {
        self.asks_for.as_ref().is_some_and(|bus| bus.is_empty())
    }

    fn greeted<M: Memory>(
        &mut self,
        now: Instant,
        hello: &Hello<'_>,
        hubs: &mut [Hub<M>],
    ) -> Result<(), Refusal> {
        if hello.history == 0 || self.is_asking() {
            return Err(Refusal::PROTOCOL);
        }
        if self.asks_for.is_none() {
            if hello.bus.is_empty() {
                self.outbox.list = true;
                self.close(now, hubs, Ended::Listed);
                return Ok(());
            }
            let hub = hubs.iter().position(|hub| hub.name() == hello.bus);
            let hub = hub.ok_or(Refusal::NO_SUCH_BUS)?;
            let ours = hubs.get_mut(hub).ok_or(Refusal::NO_SUCH_BUS)?;
            let peer = ours.admit(now, hello)?;
            self.place = Some(Place { hub, peer });
            self.outbox.hello = true;
        }
        let place = self.place.ok_or(Refusal::PROTOCOL)?;
        let hub = hubs.get_mut(place.hub).ok_or(Refusal::PROTOCOL)?;
        let restarts = hub.peer_status(place.peer).map_or(0, |status| status.restarts);
        let filters = self.asked.unwrap_or(Filters::ALL);
        hub.begin(now, place.peer, self.id, hello, filters)?;
        let status = hub.peer_status(place.peer);
        let restarted = status.is_some_and(|status| status.restarts > restarts);
        self.clock.sample(now, hello.clock_us);
        let (least, most) = HEARTBEAT_RANGE_MS.into_inner();
        let heartbeat = Duration::from_millis(u64::from(hello.heartbeat_ms.clamp(least, most)));
        self.silence_max = heartbeat * HEARTBEATS_MISSED;
        self.receipt_interval = Duration::from_micros(u64::from(hello.receipts_us));
        self.phase = Phase::Live;
        self.heard = now;
        self.outbox.start = true;
        if self.options.holds {
            self.hold = Some(Hold { bus_id: hello.bus_id, restarted });
        } else {
            self.event(Event::Up { restarted });
        }
        Ok(())
    }

    /// Handles a message on a live link; `true` if it ends it.
    fn handle_live<M: Memory>(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        hub: &mut Hub<M>,
        peer: PeerNumber,
    ) -> Result<bool, Refusal> {
        match *message {
            Message::Start(_) if self.has_start || !self.options.wants_frames => {
                return Err(Refusal::PROTOCOL);
            }
            Message::Frames(_) | Message::Skip(_) if !self.has_start => {
                return Err(Refusal::PROTOCOL);
            }
            Message::Start(start) => {
                self.has_start = true;
                let missing = hub.started(peer, start)?;
                if missing > 0 {
                    self.event(Event::Missing(missing));
                }
            }
            Message::Clock(offset_us) => self.stamps_in.offset_us = Some(offset_us),
            Message::Frames(frames) => {
                let offset_us = self.stamps_in.offset_us.ok_or(Refusal::PROTOCOL)?;
                let clock = &self.clock;
                let born = |stamp_us: u64| {
                    let theirs = stamp_us.wrapping_add_signed(offset_us.wrapping_neg());
                    clock.ours(now, theirs)
                };
                hub.receive(peer, frames, &mut self.stamps_in.last_us, born)?;
            }
            Message::Skip(skip) => {
                hub.skipped(peer, &skip)?;
                // Cannot overflow: both are part of a possible progress.
                let missing = skip.lost + skip.stale;
                if missing > 0 {
                    self.event(Event::Missing(missing));
                }
            }
            Message::Receipt(runs) => hub.receipt_of(peer, runs)?,
            Message::Ping(ping) => self.pinged(now, &ping),
            Message::Bus(status) => {
                hub.peer_max_age(peer, status.max_age_us);
                if self.peer_state.replace(status.state) != Some(status.state) {
                    self.event(Event::Bus(status));
                }
            }
            Message::Bye => return Ok(true),
            Message::Hello(_)
            | Message::Refuse(_)
            | Message::Buses(_)
            | Message::Ask(_)
            | Message::Filter(_)
            | Message::Report(_) => {
                return Err(Refusal::PROTOCOL);
            }
        }
        Ok(false)
    }

    fn pinged(&mut self, now: Instant, ping: &Ping) {
        self.clock.sample(now, ping.clock_us);
        self.echo = Some((ping.clock_us, now));
        if ping.echo_us > 0 {
            let sent = Instant::from_micros(ping.echo_us.saturating_add(ping.held_us));
            self.round_trip = Some(now.since(sent));
        }
    }

    /// An operator who does not listen misses the oldest news.
    fn event(&mut self, event: Event) {
        if self.events.is_full() {
            self.events.pop_front();
        }
        let _ = self.events.push_back(event);
    }

    /// When [`Link::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout<M: Memory>(&self, hubs: &[Hub<M>]) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let mut next = self.heard + self.silence_max;
        if self.phase == Phase::Live && self.hold.is_none() {
            next = next.min(self.next_ping);
            let waits = |place: Place| hubs.get(place.hub).map(|hub| hub.has_receipt(place.peer));
            if self.is_drained && self.place.and_then(waits) == Some(true) {
                next = next.min(self.next_receipt);
            }
            let looks_on = |place: Place| hubs.get(place.hub).map(|hub| hub.looks_on(place.peer));
            if self.is_drained && self.place.and_then(looks_on) == Some(true) {
                next = self.heard;
            }
        }
        Some(next)
    }

    /// The time has come for a heartbeat, a receipt, or to give the peer up.
    pub fn handle_timeout<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>]) {
        if self.ended.is_some() {
            return;
        }
        if now >= self.heard + self.silence_max {
            let reason = if self.phase == Phase::Live { Ended::Silent } else { Ended::NoGreeting };
            self.close(now, hubs, reason);
        } else if self.phase == Phase::Live && now >= self.next_ping {
            self.next_ping = now + self.options.heartbeat;
            self.outbox.ping = true;
        }
    }
}
