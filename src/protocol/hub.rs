//! One bus: its history, its transmit queue, and what is remembered of its peers.
//!
//! ```text
//! bus --seen--> [ history ] --next_record--> link
//! bus <--offer-- [ queue ] <--receive------- link
//! ```
//!
//! The shell tells what the bus showed ([`Hub::seen`]) and asks what to send ([`Hub::offer`]);
//! links fetch records for their peers and bring what came from them.

use heapless::String;

use super::dropped::FilterUse;
use super::filter::Filters;
use super::frame::{BusBits, Frame};
use super::history::{History, Origin};
use super::peer::{Counters, Outcome, Peer};
use super::policy::{Echo, Policy};
use super::queue::{Lane, Queue, Rules, Slot};
use super::ring::Probes;
use super::table::Table;
use super::time::Instant;
use super::wire::{BUS_NAME_MAX, BusState, BusStatus};

/// How far the wall clock may drift from where a hub believes it before it takes a new offset.
/// Chosen: small against any age limit, and an offset is sent at most every two seconds even while
/// NTP slews the clock by its most, 500 ppm.
const CLOCK_TOLERANCE_US: u64 = 1_000;

/// Where a hub keeps its frames: heap buffers on a PC, static ones on a microcontroller.
pub trait Memory {
    /// Room for the history.
    type Blocks: AsRef<[u8]> + AsMut<[u8]>;
    /// Room for the transmit queue.
    type Slots: Table<Slot>;
    /// Room for what is remembered of each peer, [`PEERS_MAX`](super::PEERS_MAX) at most.
    type Peers: Table<Peer> + Default;
    /// Room for the ends of each peer's part of the transmit queue: for as many peers.
    type Lanes: Table<Lane> + Default;
    /// Room for the sets of filters that peers ask with: for one of each peer, and one more.
    type FilterUses: Table<FilterUse> + Default;
}

/// How it stands with one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerStatus {
    /// The id of its history.
    pub history: u64,
    /// The link it has now.
    pub link: Option<u32>,
    /// Whether we dial it.
    pub dialled: bool,
    /// Frames from it toward our bus, over all its links.
    pub received: Counters,
    /// Frames of our bus to it, over all its links.
    pub sent: Counters,
    /// Frames of our history it has not been sent yet.
    pub behind: u64,
    /// How often it came back with a new history.
    pub restarts: u64,
    /// How many links it has had.
    pub links: u64,
    /// Whether it may come back for what it has missed: it wants frames, and did not end its last link
    /// on purpose.
    pub may_resume: bool,
}

/// One bus with everything the protocol keeps for it.
#[derive(Debug)]
pub struct Hub<M: Memory> {
    name: String<BUS_NAME_MAX>,
    /// Another name by which peers may ask for it.
    alias: String<BUS_NAME_MAX>,
    pub(super) id: u64,
    bus_id: u64,
    pub(super) history: History<M::Blocks>,
    pub(super) queue: Queue<M::Slots, M::Lanes>,
    pub(super) peers: M::Peers,
    pub(super) filter_uses: M::FilterUses,
    /// Whether we dial one of them: such a record is never given away.
    pub(super) dials: bool,
    /// The first place in the history that its tail must not pass before [peers are settled](Peer::settle).
    pub(super) next_mark: u64,
    pub(super) policy: Policy,
    /// Which frames leave the bus, and which may be sent to it.
    pub(super) filters: Filters,
    pub(super) tx_filters: Filters,
    /// Which frames to ask those for who dial us.
    pub(super) asks: Filters,
    status: BusStatus,
    /// Counts changes of the status, so that links see that there is news.
    status_version: u32,
    offset_us: i64,
    seen: u64,
    confirmed: u64,
    bits: BusBits,
    pub(super) probes: Probes,
    pub(super) is_closing: bool,
    /// Counts what may concern any link of the bus, or the bus itself.
    pub(super) news: u32,
}

impl<M: Memory> Hub<M> {
    /// A hub for the bus `name` whose history has the random id `id`. `None` where the name is
    /// too long, the id 0, or the memory too small.
    #[must_use]
    pub fn new(name: &str, id: u64, blocks: M::Blocks, slots: M::Slots) -> Option<Self> {
        let mut filter_uses = M::FilterUses::default();
        filter_uses.reserve(1);
        filter_uses.add(FilterUse::ALL).then_some(())?;
        Some(Self {
            name: String::try_from(name).ok()?,
            alias: String::new(),
            id: (id != 0).then_some(id)?,
            bus_id: id,
            history: History::new(blocks)?,
            queue: Queue::new(slots),
            peers: M::Peers::default(),
            filter_uses,
            dials: false,
            next_mark: u64::MAX,
            policy: Policy::default(),
            filters: Filters::ALL,
            tx_filters: Filters::ALL,
            asks: Filters::ALL,
            status: BusStatus::default(),
            status_version: 0,
            offset_us: 0,
            seen: 0,
            confirmed: 0,
            bits: BusBits::default(),
            probes: Probes::default(),
            is_closing: false,
            news: 0,
        })
    }

    /// The bus' name toward peers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets peers ask for the bus by another name, too; one that is too long is none.
    pub fn set_alias(&mut self, alias: &str) {
        self.alias = String::try_from(alias).unwrap_or_default();
    }

    pub(super) fn alias(&self) -> &str {
        &self.alias
    }

    /// Which frames to ask those for who dial us. To be called before there is a peer.
    pub fn set_asks(&mut self, filters: Filters) {
        self.asks = filters;
    }

    /// The id of its history.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The identity of its bus over all processes that have it open; the history's id where only
    /// this one can have it.
    #[must_use]
    pub fn bus_id(&self) -> u64 {
        self.bus_id
    }

    /// Other processes may have the bus open, too, and call it so.
    pub fn set_bus_id(&mut self, bus_id: u64) {
        self.bus_id = bus_id;
    }

    /// Position of the next frame to come.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.history.head().position
    }

    /// What the owner allows.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Changes what the owner allows.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        let max_age_us = policy.max_age.map_or(0, super::time::micros);
        self.set_status(BusStatus { max_age_us, ..self.status });
    }

    /// Which frames leave the bus toward peers, and which of theirs may be sent to it. To be called
    /// before there is a peer: what was counted for one was counted with the filters of then.
    pub fn set_filters(&mut self, leaving: Filters, sent: Filters) {
        self.filters = leaving;
        self.tx_filters = sent;
    }

    /// How the bus is.
    #[must_use]
    pub fn status(&self) -> BusStatus {
        self.status
    }

    /// Another number whenever the status has changed.
    pub(crate) fn status_version(&self) -> u32 {
        self.status_version
    }

    /// Another number whenever something has happened that may concern any link of the bus, or the bus: all its links
    /// are to be asked for what they have to say then. What a link itself is told concerns that one only.
    #[must_use]
    pub fn news(&self) -> u32 {
        self.news
    }

    pub(super) fn note_news(&mut self) {
        self.news = self.news.wrapping_add(1);
    }

    fn set_status(&mut self, status: BusStatus) {
        if status != self.status {
            self.status = status;
            self.status_version = self.status_version.wrapping_add(1);
            self.note_news();
        }
    }

    /// The bus has this state now. One that takes no frames has dropped what it held; going
    /// bus-off also clears what waits, since commands must not run when it comes back. A virtual bus is
    /// off by hearsay only, whatever error frames on it say: that is shown, and changes nothing.
    pub fn set_state(&mut self, state: BusState, errors: Option<(u8, u8)>) {
        let took_frames = self.takes_frames();
        let was_off = self.status.state == BusState::BusOff;
        let was_active = self.rules().is_active;
        self.set_status(BusStatus { state, errors, ..self.status });
        if !was_active && self.rules().is_active {
            self.queue.active_again();
        }
        if took_frames && !self.takes_frames() {
            self.queue.fail_handed(Outcome::Failed);
        }
        if state == BusState::BusOff && !was_off && !self.policy.is_virtual {
            self.queue.clear(Outcome::Failed);
        }
    }

    /// Whether frames can be handed to the bus now.
    #[must_use]
    pub fn takes_frames(&self) -> bool {
        let is_off_by_hearsay = self.policy.is_virtual && self.status.state == BusState::BusOff;
        self.status.state.takes_frames() || is_off_by_hearsay
    }

    /// What holds for frames toward the bus now.
    fn rules(&self) -> Rules {
        let Policy { max_age, handed_max, is_virtual, one_shot, paced, .. } = self.policy;
        let is_active = matches!(self.status.state, BusState::Up | BusState::ErrorWarning);
        Rules { max_age, handed_max, is_virtual, one_shot, is_active, paced }
    }

    /// The kernel dropped `frames` more frames before they could be read.
    pub fn overflowed(&mut self, frames: u64) {
        if frames > 0 {
            self.queue.echoes_lost();
            self.set_status(BusStatus { overflow: self.status.overflow + frames, ..self.status });
        }
    }

    /// The controller told `times` more that it had lost frames.
    pub fn overran(&mut self, times: u64) {
        self.set_status(BusStatus { overrun: self.status.overrun + times, ..self.status });
    }

    /// The kernel dropped `frames` more frames before they reached any socket: echoes may be among
    /// them.
    pub fn dropped(&mut self, frames: u64) {
        if frames > 0 {
            self.queue.echoes_lost();
            self.set_status(BusStatus { dropped: self.status.dropped + frames, ..self.status });
        }
    }

    /// The wall clock is `offset_us` ahead of the monotonic one. To be told before frames are.
    pub fn set_clock(&mut self, offset_us: i64) {
        if offset_us.abs_diff(self.offset_us) > CLOCK_TOLERANCE_US {
            self.offset_us = offset_us;
        }
    }

    /// From now on only what was accepted before is finished: the bus' own frames are not taken
    /// any more, the echoes of what peers sent are.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.note_news();
    }

    /// The bus showed a frame, at `stamp_us` microseconds since the Unix epoch. `own`: it is the
    /// echo of one we sent.
    pub fn seen(&mut self, frame: &Frame, stamp_us: u64, own: bool) {
        let outcome = match self.policy.echo {
            Echo::Bus => Outcome::Sent,
            Echo::Kernel => Outcome::Taken,
        };
        self.note_news();
        let rules = self.rules();
        let lane = if own { self.queue.confirm(frame, outcome, rules) } else { None };
        if !own && !frame.is_error() {
            self.queue.heard();
        }
        if own && lane.is_none() {
            // A peer's, given up too long ago to know whose: it must not go back to it.
            self.set_status(BusStatus { overflow: self.status.overflow + 1, ..self.status });
            return;
        }
        if self.is_closing && lane.is_none() {
            return;
        }
        while self.history.is_full() {
            self.drop_oldest();
        }
        let origin = lane.map_or(Origin::Bus, |lane| Origin::Peer(lane as u16));
        self.seen += 1;
        self.confirmed += u64::from(own);
        self.bits.add(frame);
        let _ = self.history.append(frame, stamp_us, self.offset_us, origin);
    }

    /// Copies the next frames for the bus to `out` and returns how many. To be followed by
    /// [`Hub::taken`], or [`Hub::rejected`].
    pub fn offer(&mut self, now: Instant, out: &mut [Frame]) -> usize {
        let before = self.queue.count_waiting();
        let offered = if self.takes_frames() {
            self.queue.offer(now, self.rules(), out)
        } else {
            self.queue.drop_all_stale(now, self.policy.max_age);
            0
        };
        if self.queue.count_waiting() + offered != before {
            // Some have grown too old, which their peers are to be told.
            self.note_news();
        }
        offered
    }

    /// Whether frames wait to be offered.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.queue.count_waiting() > 0
    }

    /// When its owner's bus showed the `index`-th frame offered (microseconds since the Unix epoch).
    #[must_use]
    pub fn offered_stamp(&self, index: usize) -> u64 {
        self.queue.offered_stamp(index)
    }

    /// When that was on our own monotonic clock.
    #[must_use]
    pub fn offered_seen(&self, index: usize) -> Instant {
        self.queue.offered_born(index)
    }

    /// The bus took the first `count` frames of the last offer; the others will be offered again.
    pub fn taken(&mut self, now: Instant, count: usize) {
        self.queue.taken(now, count);
    }

    /// The bus took the first `taken` frames of the last offer and can never send the one after.
    pub fn rejected(&mut self, now: Instant, taken: usize, outcome: Outcome) {
        self.queue.rejected(now, taken, outcome);
        self.note_news();
    }

    /// Whether frames wait for the bus or for its confirmation.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.queue.is_busy()
    }

    /// Lets old frames go and gives up on echoes that are overdue. To be called when the hub was told
    /// of everything its bus had shown by then: an echo that waits to be read is not overdue.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.queue.drop_all_stale(now, self.policy.max_age);
        self.queue.give_up_echoes(now, self.rules());
        self.note_news();
    }

    /// When [`Hub::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.next_timeout(self.rules())
    }

    /// Whether [`Hub::handle_timeout`] will give up a frame in the kernel's hands, since no echo came for
    /// too long. On a real bus that is right only where the controller is error-active: who can ask
    /// it is to do so before, and to tell [`Hub::set_state`].
    #[must_use]
    pub fn has_overdue_echo(&self, now: Instant) -> bool {
        self.queue.overdue_at(self.rules()).is_some_and(|at| at <= now)
    }

    /// Whether the oldest frame in the kernel's hands is over the age limit: it would be on the bus, old,
    /// if somebody acknowledged it now.
    #[must_use]
    pub fn is_handed_too_old(&self, now: Instant) -> bool {
        let born = self.queue.oldest_handed_born();
        born.zip(self.policy.max_age).is_some_and(|(born, limit)| now.since(born) > limit)
    }

    /// The peers known, by number.
    pub fn peers(&self) -> impl Iterator<Item = (usize, PeerStatus)> + '_ {
        (0..self.peers.as_ref().len())
            .filter_map(|number| Some((number, self.peer_status(number)?)))
    }

    /// How it stands with a peer.
    #[must_use]
    pub fn peer_status(&self, number: usize) -> Option<PeerStatus> {
        let peer = self.settled(number)?;
        let (inbound, outbound) = (&peer.inbound, &peer.outbound);
        let mut done = inbound.done;
        self.queue.unreported(number, |outcome| super::peer::count(&mut done, outcome, 1));
        let received = Counters::of_stream(&inbound.progress, &done).plus(&inbound.before);
        let sent = Counters::of_stream(&outbound.progress, &outbound.done).plus(&outbound.before);
        Some(PeerStatus {
            history: peer.history,
            link: peer.link,
            dialled: peer.dialled,
            received,
            sent,
            behind: if outbound.wanted && !peer.is_standby() {
                self.position().saturating_sub(outbound.cursor.position)
            } else {
                0
            },
            restarts: peer.restarts,
            links: peer.links,
            may_resume: peer.may_resume,
        })
    }

    /// Frames of peers that were handed to the bus and never confirmed.
    #[must_use]
    pub fn frames_unconfirmed(&self) -> u64 {
        self.queue.unconfirmed()
    }

    pub(super) fn peer(&self, number: usize) -> Option<&Peer> {
        self.peers.as_ref().get(number)
    }

    pub(super) fn peer_mut(&mut self, number: usize) -> Option<&mut Peer> {
        self.peers.as_mut().get_mut(number)
    }

    /// Frames the history has taken since the start.
    #[must_use]
    pub fn frames_seen(&self) -> u64 {
        self.seen
    }

    /// How many of them we had sent.
    #[must_use]
    pub fn frames_confirmed(&self) -> u64 {
        self.confirmed
    }

    /// The bits they took.
    #[must_use]
    pub fn bits(&self) -> BusBits {
        self.bits
    }
}
