//! A hub's records of its peers: who gets one, who keeps his, who is given away.

use super::dropped::ALL;
use super::hub::{Hub, Memory};
use super::limits::PEERS_MAX;
use super::link::Admission;
use super::peer::{CameUp, Peer, Uncounted};
use super::policy::Role;
use super::table::Table;
use super::time::Instant;
use super::wire::{FEATURE_OWNER, FEATURE_PROBE, FEATURE_RELAY, Hello, Refusal};

impl<M: Memory> Hub<M> {
    /// Begins a new history under another id, as a new process would: for a bus whose present one is
    /// refused by a peer that has heard more of it than this process remembers, since the machine was
    /// set back to an earlier state. Every link to the bus ends, and what was not known to have
    /// arrived is counted.
    pub fn renew(&mut self, now: Instant, id: u64) {
        self.note_news();
        for number in 0..self.peers.as_ref().len() {
            let waiting = self.waiting(number);
            self.settle(number);
            let Some(peer) = self.peer_mut(number) else { continue };
            if peer.outbound.wanted {
                peer.outbound.progress.lost += waiting;
            }
            peer.link = None;
            peer.last_used = now;
        }
        self.id = id.max(1);
        self.history.clear();
        let head = self.history.head();
        self.next_mark = u64::MAX;
        for number in 0..self.peers.as_ref().len() {
            let Some(peer) = self.peer_mut(number) else { continue };
            peer.outbound.cursor = head;
            peer.outbound.receiver_lost();
            peer.outbound.uncounted = Uncounted::default();
            (peer.joined, peer.named) = (0, 0);
            peer.came_up = CameUp::default();
            self.mark(number);
        }
    }

    /// A record for a peer we dial. `None` where there is no room for another.
    pub fn dial(&mut self, now: Instant) -> Option<usize> {
        let number = self.make_room(now, 0)?;
        let cursor = self.history.tail();
        let peer = self.peer_mut(number)?;
        peer.dialled = true;
        peer.outbound.wanted = true;
        peer.outbound.begin(cursor, 0);
        self.dials = true;
        self.mark(number);
        Some(number)
    }

    /// What a greeting says of us to a peer: [`Hello::features`].
    pub(super) fn features(&self, number: usize) -> u32 {
        let leads_on = |(other, peer): (usize, &Peer)| {
            let leads = peer.features & (FEATURE_OWNER | FEATURE_RELAY) != 0;
            other != number && peer.link.is_some() && leads
        };
        let role = match self.policy.role {
            Role::Owner => FEATURE_OWNER,
            Role::Relay => FEATURE_RELAY,
            Role::Copy if self.peers.as_ref().iter().enumerate().any(leads_on) => FEATURE_RELAY,
            Role::Copy => 0,
        };
        FEATURE_PROBE | role
    }

    /// Whether there is a peer we dial.
    #[must_use]
    pub fn dials(&self) -> bool {
        self.dials
    }

    /// Whether a greeting comes from our own bus: from us, or from another process that has it open.
    pub(super) fn is_own(&self, hello: &Hello<'_>) -> bool {
        hello.history == self.id || hello.bus_id == self.bus_id()
    }

    /// Whether a peer with this history may have one more link.
    pub(super) fn has_place(&self, admission: Admission, history: u64) -> bool {
        let is_known = |peer: &Peer| match admission {
            Admission::Anybody => true,
            Admission::Known => peer.has_carried() || peer.link.is_some(),
            Admission::Linked => peer.link.is_some(),
        };
        let mut known = self.peers.as_ref().iter().filter(|peer| peer.history == history);
        admission == Admission::Anybody || known.any(is_known)
    }

    /// Whether a peer ever sent a frame, or confirmed one.
    #[must_use]
    pub fn has_carried(&self, number: usize) -> bool {
        self.peer(number).is_some_and(Peer::has_carried)
    }

    /// The record of the peer with this history, an old one or a new one.
    pub(super) fn admit(&mut self, now: Instant, hello: &Hello<'_>) -> Result<usize, Refusal> {
        let history = hello.history;
        // Whom we dial has our frames already: it would get them twice, and send them back.
        let dialled = |peer: &Peer| peer.dialled && peer.history == history && peer.link.is_some();
        if self.is_own(hello) || self.peers.as_ref().iter().any(dialled) {
            return Err(Refusal::LOOP);
        }
        let known =
            self.peers.as_ref().iter().position(|peer| peer.history == history && !peer.dialled);
        // One that was held up on its way: since it was made the peer has given that link up, and has seen
        // more. Or the peer was set back to an earlier state, and what it says of the streams is not true
        // any more: it comes back with a new history.
        let is_late = |peer: &Peer| hello.clock_us < peer.heard_us;
        if known.and_then(|number| self.peer(number)).is_some_and(is_late) {
            return Err(Refusal::REPLACED);
        }
        known.or_else(|| self.make_room(now, history)).ok_or(Refusal::FULL)
    }

    /// Finds or frees a record. Forgotten is who has no reason to come back, else who never carried a
    /// frame, else who was unheard of for longest.
    fn make_room(&mut self, now: Instant, history: u64) -> Option<usize> {
        let number = self.peers.as_ref().len();
        let joined = self.position();
        let fresh = |number: usize| Peer::new(number as u16, now, joined);
        if number < PEERS_MAX && self.queue.make_lanes(number + 1, self.policy.window) {
            self.peers.reserve(number + 1);
            if self.peers.add(fresh(number)) {
                self.set_history(number, history);
                return Some(number);
            }
        }
        let queue = &self.queue;
        let (number, _) = self
            .peers
            .as_ref()
            .iter()
            .enumerate()
            .filter(|(lane, peer)| peer.link.is_none() && !peer.dialled && queue.is_empty(*lane))
            .min_by_key(|(_, peer)| (peer.may_resume, peer.has_carried(), peer.last_used))?;
        self.queue.forget_ghosts(number);
        self.set_history(number, 0);
        self.asks_with(number, ALL);
        *self.peer_mut(number)? = fresh(number);
        self.set_history(number, history);
        Some(number)
    }

    /// The record is of the peer with this history from now on.
    pub(super) fn set_history(&mut self, number: usize, history: u64) {
        let head = self.position();
        let peers = self.peers.as_mut();
        let own = number as u16;
        let Some(after) = peers.get(number).map(|peer| peer.next_name) else { return };
        if let Some(before) = peers.iter_mut().find(|peer| peer.next_name == own) {
            before.next_name = after;
        }
        let is_other = |(other, peer): &(usize, &mut Peer)| {
            *other != number && history != 0 && peer.history == history
        };
        let other = peers.iter_mut().enumerate().find(is_other);
        let next_name = other.map_or(own, |(_, peer)| core::mem::replace(&mut peer.next_name, own));
        if let Some(peer) = peers.get_mut(number) {
            (peer.history, peer.named, peer.next_name) = (history, head, next_name);
        }
    }
}
