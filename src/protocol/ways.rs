//! Peers that more than one way leads to: another name, a dial of their own, or a ring over other nodes.
//! A frame goes one way only, and what neither way carried is counted.

use super::hub::{Hub, Memory};
use super::peer::Peer;
use super::time::Instant;
use super::wire::Refusal;

impl<M: Memory> Hub<M> {
    /// The peer may be one that we know by another record, too: it has two names, or dials us as well as
    /// we it. Only one link stays. Another record's stream is not gone on with: nothing is sent twice,
    /// and what neither link carried is lost. Returns how many frames that are, if there is such a record.
    pub(super) fn meet_other_names(
        &mut self,
        number: usize,
        history: u64,
    ) -> Result<Option<u64>, Refusal> {
        let is_dialled = self.peer(number).is_some_and(|peer| peer.dialled);
        let is_other = |other: usize, peer: &Peer| {
            other != number && peer.links > 0 && peer.history == history
        };
        let others =
            self.peers.as_ref().iter().enumerate().filter(|(other, peer)| is_other(*other, peer));
        let latest = others.max_by_key(|(_, peer)| (peer.link.is_some(), peer.last_used));
        let Some((latest, &other)) = latest else { return Ok(None) };
        if is_dialled && other.dialled && other.link.is_some() {
            self.meet(number, history);
            return Err(Refusal::LOOP);
        }
        let own = self.peer(number).ok_or(Refusal::FULL)?;
        let is_own_newer =
            own.links > 0 && own.history == history && own.last_used > other.last_used;
        if other.link.is_none() && is_own_newer {
            return Ok(None);
        }
        // What a third way carries meanwhile is not lost.
        let is_lost = other.outbound.wanted && !other.displaced;
        let lost = if is_lost { self.waiting(latest) } else { 0 };
        for record in 0..self.peers.as_ref().len() {
            if self.peer(record).is_some_and(|peer| is_other(record, peer)) {
                self.abandon(record);
            }
        }
        if let Some(peer) = self.peer_mut(number) {
            peer.displaced = other.displaced;
        }
        Ok(Some(lost))
    }

    /// The stream of a record is not gone on with, since its peer is linked by another.
    fn abandon(&mut self, record: usize) {
        self.settle(record);
        let head = self.history.head();
        if let Some(peer) = self.peer_mut(record) {
            peer.outbound.cursor = head;
            peer.outbound.receiver_lost();
            peer.displaced = true;
        }
        self.mark(record);
    }

    /// Whether a peer we dial was, when last heard, one that we dial by another name and are linked with.
    #[must_use]
    pub fn is_linked_by_another_name(&self, number: usize) -> bool {
        let Some(Peer { dialled: true, link: None, history, .. }) = self.peer(number).copied()
        else {
            return false;
        };
        let is_it = |peer: &Peer| peer.dialled && peer.history == history && peer.link.is_some();
        history != 0 && self.peers.as_ref().iter().any(is_it)
    }

    /// Where two processes have dialled each other, only our own link stays.
    pub(super) fn end_ring(&mut self, now: Instant, number: usize) {
        let Some(Peer { dialled: true, history, .. }) = self.peer(number).copied() else {
            return;
        };
        for other in 0..self.peers.as_ref().len() {
            self.settle(other);
            let is_it = |peer: &&mut Peer| !peer.dialled && peer.history == history;
            if let Some(peer) = self.peer_mut(other).filter(is_it) {
                peer.link = None;
                peer.last_used = now;
            }
        }
    }

    /// Whether something else joins the two buses, as far as we know.
    pub(super) fn is_displaced(&self, number: usize) -> bool {
        self.peer(number).is_some_and(|peer| peer.displaced)
    }

    /// A link to the peer was refused because something else joins the two buses already: what our
    /// bus shows until the next one is there reaches the peer's bus that way. Of what it had shown before
    /// the link came up, and no link carried, nobody can tell. `was_up`: both sides had greeted each other.
    /// `is_unread`: then the peer waited, and handled none of the frames it was sent.
    pub(super) fn displaced(&mut self, number: usize, was_up: bool, is_unread: bool) {
        self.note_news();
        self.settle(number);
        // A newer link of the peer's that stands is what joins them.
        let Some(&peer) = self.peer(number).filter(|peer| peer.link.is_none()) else { return };
        let came_up = peer.came_up;
        let mut outbound = peer.outbound;
        let mut open = 0;
        // A first link has nothing to go on with.
        if peer.links > u64::from(was_up) && outbound.wanted && !peer.displaced {
            let end = if was_up { came_up.head } else { self.other_way_began() };
            open = self.wanted_at_most(number, outbound.cursor, end);
            if is_unread && was_up {
                open += came_up.passed;
            }
        }
        if is_unread && was_up {
            outbound.progress = came_up.progress;
        }
        outbound.progress.frames += open;
        outbound.cursor = self.history.head();
        outbound.receiver_lost();
        if let Some(peer) = self.peer_mut(number) {
            peer.outbound = outbound;
            peer.displaced = true;
        }
        self.mark(number);
    }

    /// The peer goes on with a stream of so many frames, or speaks of its bus: it does not wait, or no more, for
    /// another way to go.
    pub(super) fn goes_on(&mut self, number: usize, frames: u64) -> Result<(), Refusal> {
        let peer = self.peer_mut(number).ok_or(Refusal::FULL)?;
        // It was not told that a link was refused, and goes on with what went another way: it is told now.
        if peer.displaced && frames > 0 {
            return Err(Refusal::RING);
        }
        peer.displaced = false;
        Ok(())
    }

    /// Who refuses us before the greetings has dialled us: where the newest such link's stream began.
    fn other_way_began(&self) -> u64 {
        let linked = self.peers.as_ref().iter().filter(|peer| !peer.dialled && peer.link.is_some());
        linked.map(|peer| peer.outbound.begun.position).max().unwrap_or(u64::MAX)
    }

    /// Another way may have joined the two buses until now: a new stream from here, or every frame it
    /// carried would come a second time, and those from the peer's bus would go back there.
    pub(super) fn begin_displaced(&mut self, number: usize, lost: u64) {
        let head = self.history.head();
        if let Some(peer) = self.peer_mut(number) {
            peer.outbound.receiver_lost();
            peer.outbound.begin(head, lost);
        }
        self.mark(number);
    }

    /// How many frames a record's stream still has to carry.
    pub(super) fn waiting(&self, number: usize) -> u64 {
        self.settled(number)
            .map_or(0, |peer| self.wanted_between(number, peer.outbound.cursor, u64::MAX))
    }
}
