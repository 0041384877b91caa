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

use super::filter::Filters;
use super::held::Held;
use super::hub::{Hub, Memory};
use super::limits::BUSES_MAX;
use super::peer::PeerNumber;
use super::ring::{PROBE_EVERY, PROBE_WAIT};
use super::stream::Stamps;
use super::time::Instant;
use super::wire::{
    BUS_NAME_MAX, BusState, BusStatus, FEATURE_PROBE, Form, From, LENGTH_MAX, MESSAGE_MAX, Refusal,
};

/// How long the preambles and greetings may take. Chosen: ten round trips of a bad radio link.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer is gone when it was silent for this many of its heartbeats.
pub const HEARTBEATS_MISSED: u32 = 3;
/// Receipts are this far apart where the peer is in no hurry, unless a quarter of the window waits for one. Chosen: the
/// packets of receipts then add 3 bytes a frame at 1,000 frames/s, and the kernel's delayed
/// acknowledgement (40 ms) always finds one to travel with.
pub const RECEIPT_INTERVAL: Duration = Duration::from_millis(25);
/// How far apart heartbeats are until the clocks' difference is known well. Chosen: with the round
/// trips it takes, frames on a good path are judged rightly within half a second.
pub(super) const SETTLING_INTERVAL: Duration = Duration::from_millis(100);
/// How far apart heartbeats are at most before the link has carried a frame: a third of the silence that
/// is allowed then.
const UNPROVEN_INTERVAL: Duration = Duration::from_secs(10);
/// Most bytes of the names of a peer's buses.
pub const BUS_LIST_MAX: usize = BUSES_MAX * (BUS_NAME_MAX + 1);

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
    /// The longest a frame of ours waits for others to share a packet with; zero: it leaves at once.
    /// Receipts are as far apart at least, either way.
    pub hold: Duration,
    /// Whether those who dial us may join our buses, and not only ask how it all is.
    pub serves: bool,
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
            hold: Duration::ZERO,
            serves: true,
        }
    }
}

/// Who may join where places are scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Whoever greets.
    Anybody,
    /// Who has carried frames before, or replaces a link of its own.
    Known,
    /// Who replaces a link of its own.
    Linked,
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
    pub(super) probe: bool,
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

/// A link that waits: nothing but greetings was handled or is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    /// What for.
    pub(super) until: Until,
    /// What is to be told when it is up.
    pub(super) restarted: bool,
}

/// What a link waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    /// For [`Link::release`]; the bus at its other end has this identity.
    Released(u64),
    /// For its probe to come back, no longer than this.
    Probed(Instant),
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
    /// The frames that wait for the peer.
    pub(super) held: Held,
    pub(super) input: Vec<u8, { LENGTH_MAX + MESSAGE_MAX }>,
    pub(super) outbox: Outbox,
    pub(super) heard: Instant,
    pub(super) silence_max: Duration,
    /// What it becomes once the link has carried a frame.
    pub(super) silence_announced: Duration,
    /// Whether frames came, or receipts for ours.
    pub(super) has_carried: bool,
    /// Who may join, on the accepting side.
    pub(super) admission: Admission,
    pub(super) next_ping: Instant,
    pub(super) receipt_interval: Duration,
    pub(super) next_receipt: Instant,
    pub(super) status_told: Option<u32>,
    pub(super) peer_state: Option<BusState>,
    /// When our greeting was made.
    pub(super) greeted_at: Instant,
    pub(super) echo: Option<(u64, Instant)>,
    pub(super) round_trip: Option<Duration>,
    pub(super) stamps_out: Stamps,
    pub(super) stamps_in: Stamps,
    /// Whether the peer has said where its stream stands.
    pub(super) has_start: bool,
    /// Whether it was asked for more to send until there was nothing. If not, the connection takes
    /// no more, and nothing is gained by waking up to say more.
    pub(super) is_drained: bool,
    pub(super) buses: String<BUS_LIST_MAX>,
    /// Which of our frames the peer asks for.
    pub(super) asked: Option<Filters>,
    pub(super) is_filter_told: bool,
    /// What the peer's greeting said of it.
    pub(super) peer_features: u32,
    /// When it was released.
    pub(super) up_at: Instant,
    pub(super) next_probe: Instant,
    /// Which probes of the hub's it has passed on.
    pub(super) probe_cursor: u64,
    pub(super) events: Deque<Event, 8>,
    pub(super) ended: Option<Ended>,
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
            held: Held::default(),
            input: Vec::new(),
            outbox: Outbox::default(),
            heard: now,
            silence_max: GREETING_TIMEOUT,
            silence_announced: GREETING_TIMEOUT,
            has_carried: false,
            admission: Admission::Anybody,
            next_ping: now,
            receipt_interval: RECEIPT_INTERVAL,
            next_receipt: now,
            status_told: None,
            peer_state: None,
            greeted_at: now,
            echo: None,
            round_trip: None,
            stamps_out: Stamps::default(),
            stamps_in: Stamps::default(),
            has_start: false,
            is_drained: true,
            buses: String::new(),
            asked: None,
            is_filter_told: false,
            peer_features: 0,
            up_at: now,
            next_probe: now,
            probe_cursor: 0,
            events: Deque::new(),
            ended: None,
        }
    }

    /// Says who may join. To be called before a greeting is handled.
    pub fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Whether it is still open whether the peer joins a bus, asks for something, or says nothing.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.phase != Phase::Live && self.ended.is_none()
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
        match self.hold.filter(|_| self.ended.is_none())?.until {
            Until::Released(bus_id) => Some(bus_id),
            Until::Probed(_) => None,
        }
    }

    /// Whether it takes no input now: until [`Link::release`], or for some time until it is sure
    /// that it closes no ring. [`Link::handle_input`] is to be called when it does again, with what
    /// it did not take, or with nothing.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.hold.is_some() && self.ended.is_none()
    }

    /// Nothing that the shell knows of speaks against the link.
    pub fn release<M: Memory>(&mut self, now: Instant, hubs: &[Hub<M>]) {
        let Some(Hold { restarted, .. }) = self.hold.filter(|_| self.on_hold().is_some()) else {
            return;
        };
        let hub = self.place.and_then(|place| hubs.get(place.hub));
        self.up_at = now;
        self.next_probe = now + PROBE_EVERY;
        if self.probes() && hub.is_some_and(|hub| hub.has_other_ways(self.id)) {
            self.outbox.probe = true;
            let wait = self.place.zip(hub).map_or(PROBE_WAIT, |(at, hub)| hub.probe_wait(at.peer));
            self.hold = Some(Hold { until: Until::Probed(now + wait), restarted });
        } else {
            self.hold = None;
            self.event(Event::Up { restarted });
        }
    }

    /// Whether to send probes: who dials does, where the other side knows them.
    fn probes(&self) -> bool {
        self.asks_for.is_some() && self.peer_probes()
    }

    /// Whether the peer passes probes on.
    pub(super) fn peer_probes(&self) -> bool {
        self.peer_features & FEATURE_PROBE != 0
    }

    /// What the peer said of itself in its greeting, one bit each, as
    /// [`FEATURE_RELAY`](super::wire::FEATURE_RELAY); 0 before.
    #[must_use]
    pub fn peer_features(&self) -> u32 {
        self.peer_features
    }

    /// How long the link has been up, if we are the side that counts.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.asks_for.is_some().then(|| now.since(self.up_at))
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
        let was_up = self.phase == Phase::Live;
        let gave_way = was_up && hub.link_of(place.peer) != Some(self.id);
        if was_up {
            hub.leave(now, place.peer, self.id, reason == Ended::Bye);
        }
        hub.forget_probes(self.id);
        if let Ended::Refused(Refusal::LOOP | Refusal::RING)
        | Ended::WeRefused(Refusal::LOOP | Refusal::RING) = reason
        {
            let said_nothing = self.hold.is_some() || matches!(reason, Ended::Refused(_));
            let is_unread = said_nothing && self.options.wants_frames && !self.has_start;
            if !gave_way {
                hub.displaced(place.peer, was_up, is_unread);
            }
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

    /// When [`Link::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout<M: Memory>(&self, hubs: &[Hub<M>]) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let mut next = self.heard + self.silence_max;
        if let Some(Hold { until: Until::Probed(until), .. }) = self.hold {
            // The peer must not take it for dead meanwhile.
            return Some(until.min(self.next_ping));
        }
        if self.phase == Phase::Live && self.hold.is_none() {
            next = next.min(self.next_ping);
            if self.probes() {
                next = next.min(self.next_probe);
            }
            let waits = |place: Place| hubs.get(place.hub).map(|hub| hub.has_receipt(place.peer));
            if self.is_drained {
                // A receipt goes along with them.
                if let Held::Until(until) = self.held {
                    next = next.min(until);
                } else if self.place.and_then(waits) == Some(true) {
                    next = next.min(self.next_receipt);
                }
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
        if let Some(Hold { until: Until::Probed(until), restarted }) = self.hold {
            if now >= until {
                self.notice_ring(now, hubs);
                if self.ended.is_some() {
                    return;
                }
                // What the peer said meanwhile waits to be handled.
                self.heard = now;
                self.hold = None;
                self.event(Event::Up { restarted });
            } else if now >= self.next_ping {
                self.ping_is_due(now, hubs);
            }
            return;
        }
        if self.phase == Phase::Live && self.probes() && now >= self.next_probe {
            self.next_probe = now + PROBE_EVERY;
            let hub = self.place.and_then(|place| hubs.get(place.hub));
            self.outbox.probe = hub.is_some_and(|hub| hub.has_other_ways(self.id));
        }
        let carries = |place: Place| hubs.get(place.hub).map(|hub| hub.has_carried(place.peer));
        self.proven(self.place.and_then(carries) == Some(true));
        if now >= self.heard + self.silence_max {
            let reason = if self.phase == Phase::Live { Ended::Silent } else { Ended::NoGreeting };
            self.close(now, hubs, reason);
        } else if self.phase == Phase::Live && now >= self.next_ping {
            self.ping_is_due(now, hubs);
        }
    }

    fn ping_is_due<M: Memory>(&mut self, now: Instant, hubs: &[Hub<M>]) {
        let knows = |place: Place| hubs.get(place.hub).map(|hub| hub.knows_clock(place.peer));
        let is_settled = self.place.and_then(knows) == Some(true);
        let settling = if is_settled { Duration::MAX } else { SETTLING_INTERVAL };
        let unproven = if self.has_carried { Duration::MAX } else { UNPROVEN_INTERVAL };
        self.next_ping = now + self.options.heartbeat.min(settling).min(unproven);
        self.outbox.ping = true;
    }
}
