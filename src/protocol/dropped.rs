//! What the history drops: which peers have lost how many frames, exactly.
//!
//! A dropped frame is counted once for each set of filters that peers ask with, and not for each peer:
//!
//! ```text
//!                                tail                 head
//! history  dropped ...............|--------------------|
//! a stream        |--------|
//!               begun    cursor
//! ```
//!
//! The frames meant for a peer before the tail are those that passed its filters since its stream began, less
//! its own. How many were meant for it before its cursor, its [`Progress`](super::Progress) says. Where the tail has
//! passed the cursor, the difference is lost. It is calculated when it is asked for, by [`Peer::settle`]; only
//! when the tail passes the place where a stream began, or where a link came up, it must be done then. The first
//! of these places is kept.

use super::filter::Filters;
use super::history::{Cursor, Entry, Origin};
use super::hub::{Hub, Memory};
use super::limits::PEERS_MAX;
use super::peer::Peer;
use super::table::Table;

/// A set of filters that peers ask with.
#[derive(Clone, Copy, Debug)]
pub struct FilterUse {
    filters: Filters,
    /// Peers that ask with it.
    peers: u32,
    /// Dropped frames that passed it.
    passed: u64,
}

/// The use of the filters that let every frame pass: the first one, which is always there.
pub(super) const ALL: u16 = 0;

impl FilterUse {
    pub(super) const ALL: Self = Self { filters: Filters::ALL, peers: 1, passed: 0 };
}

impl Peer {
    /// Counts what was dropped since the last time, where the history begins at `tail` now and so many
    /// dropped frames `passed` the peer's filters.
    pub(super) fn settle(&mut self, tail: Cursor, passed: u64) {
        let is_standby = self.is_standby();
        let Self { outbound, came_up, .. } = self;
        if let Some(counted) = outbound.counted.filter(|_| outbound.wanted) {
            let passed = passed.saturating_sub(counted);
            outbound.dropped += passed.saturating_sub(outbound.dropped_own);
        }
        let has_begun = outbound.counted.is_some() || outbound.begun.position <= tail.position;
        outbound.counted = has_begun.then_some(passed);
        outbound.dropped_own = 0;
        if outbound.cursor.position > tail.position {
            return;
        }
        if outbound.cursor.position < tail.position {
            let before = outbound.progress.wanted();
            if outbound.wanted && !is_standby {
                let lost = outbound.dropped.saturating_sub(before);
                outbound.progress.lost += lost;
                came_up.passes_all(outbound.cursor.position, lost);
            } else {
                outbound.dropped = before;
            }
        }
        outbound.cursor = tail;
        outbound.progress.position = tail.position;
    }
}

impl<M: Memory> Hub<M> {
    /// Makes room in the history. The work is one frame's, whatever the history's size and however many peers
    /// there are.
    pub(super) fn drop_oldest(&mut self) {
        let Some(entry) = self.history.drop_oldest() else { return };
        if self.filters.passes(&entry.frame) {
            for usage in self.filter_uses.as_mut().iter_mut().filter(|usage| usage.peers > 0) {
                usage.passed += u64::from(usage.filters.passes(&entry.frame));
            }
            if let Origin::Peer(from) = entry.origin {
                self.count_own(from.into(), &entry);
            }
        }
        if self.history.tail().position >= self.next_mark {
            self.settle_marked();
        }
    }

    /// A dropped frame came from this peer: for each of its records it is one less that was meant for it.
    fn count_own(&mut self, from: usize, entry: &Entry) {
        let mut number = from;
        for _ in 0..PEERS_MAX {
            let is_own = self.is_own_frame(number, entry) && self.passes_asked(number, entry);
            let Some(peer) = self.peer_mut(number) else { return };
            if is_own && peer.outbound.counted.is_some() {
                peer.outbound.dropped_own += 1;
            }
            number = peer.next_name.into();
            if number == from {
                return;
            }
        }
    }

    /// Settles the peers for which something begins where the history does now.
    fn settle_marked(&mut self) {
        let tail = self.history.tail();
        let uses = self.filter_uses.as_ref();
        let mut next = u64::MAX;
        for peer in self.peers.as_mut() {
            let (begun, up) = peer.marks();
            if begun == tail.position || up == tail.position {
                peer.settle(
                    tail,
                    uses.get(usize::from(peer.filter_use)).map_or(0, |usage| usage.passed),
                );
            }
            let later = [begun, up].into_iter().filter(|mark| *mark > tail.position);
            next = next.min(later.min().unwrap_or(u64::MAX));
        }
        self.next_mark = next;
    }

    fn passed(&self, peer: &Peer) -> u64 {
        let usage = self.filter_uses.as_ref().get(usize::from(peer.filter_use));
        usage.map_or(0, |usage| usage.passed)
    }

    /// Counts what was dropped of a peer's stream by now. To be done before anything looks at the stream or
    /// changes it.
    pub(super) fn settle(&mut self, number: usize) {
        let tail = self.history.tail();
        let Some(passed) = self.peer(number).map(|peer| self.passed(peer)) else { return };
        if let Some(peer) = self.peer_mut(number) {
            peer.settle(tail, passed);
        }
    }

    /// The same, where nothing is to be changed.
    pub(super) fn settled(&self, number: usize) -> Option<Peer> {
        let mut peer = *self.peer(number)?;
        peer.settle(self.history.tail(), self.passed(&peer));
        Some(peer)
    }

    /// A peer's stream has begun anew, or its link come up.
    pub(super) fn mark(&mut self, number: usize) {
        self.settle(number);
        let tail = self.history.tail().position;
        let Some((begun, up)) = self.peer(number).map(Peer::marks) else { return };
        let later = [begun, up].into_iter().filter(|mark| *mark > tail);
        self.next_mark = self.next_mark.min(later.min().unwrap_or(u64::MAX));
    }

    /// Which frames a peer asks for.
    pub(super) fn asked_by(&self, peer: &Peer) -> &Filters {
        let usage = self.filter_uses.as_ref().get(usize::from(peer.filter_use));
        usage.map_or(&Filters::ALL, |usage| &usage.filters)
    }

    /// Whether a frame passes the filters a peer asks with.
    pub(super) fn passes_asked(&self, number: usize, entry: &Entry) -> bool {
        self.peer(number).is_some_and(|peer| self.asked_by(peer).passes(&entry.frame))
    }

    /// The use of such filters, an old one or a new one. `None` where there is no room for it.
    pub(super) fn filter_use(&mut self, filters: &Filters) -> Option<u16> {
        let uses = self.filter_uses.as_ref();
        let same = uses.iter().position(|usage| usage.filters == *filters);
        let found = same.or_else(|| uses.iter().position(|usage| usage.peers == 0));
        let unused = FilterUse { filters: *filters, peers: 0, passed: 0 };
        let index = match found {
            Some(index) => index,
            None => {
                let amount = uses.len();
                self.filter_uses.reserve(amount + 1);
                self.filter_uses.add(unused).then_some(amount)?
            }
        };
        let usage = self.filter_uses.as_mut().get_mut(index)?;
        if usage.filters != *filters {
            *usage = unused;
        }
        u16::try_from(index).ok()
    }

    /// A peer asks with these filters from now on.
    pub(super) fn asks_with(&mut self, number: usize, filter_use: u16) {
        self.settle(number);
        let uses = self.filter_uses.as_mut();
        let Some(peer) = self.peers.as_mut().get_mut(number) else { return };
        if let Some(old) = uses.get_mut(usize::from(peer.filter_use)) {
            old.peers -= u32::from(peer.filter_use != ALL);
        }
        if let Some(new) = uses.get_mut(usize::from(filter_use)) {
            new.peers += u32::from(filter_use != ALL);
            peer.outbound.counted = peer.outbound.counted.map(|_| new.passed);
        }
        peer.filter_use = filter_use;
    }
}
