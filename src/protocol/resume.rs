//! Where the streams between a hub and a peer go on when a new link is there.
//!
//! The receiver says how far it got; the sender goes back to there, or as near as its history
//! reaches, and finds what is gone by counting what it had sent since.

use core::time::Duration;

use super::filter::Filters;
use super::history::{Cursor, Entry, Origin};
use super::hub::{Hub, Memory};
use super::peer::{CameUp, Counters, Inbound, Outbound, Progress, total};
use super::time::Instant;
use super::wire::{From, Hello, Refusal, Seen};

/// Most frames looked at where a peer has refused a link. Chosen: what takes some milliseconds on a small
/// board; more than a cut of ten seconds leaves waiting is a number that only bounds.
const WALK_MAX: u64 = 65_536;

impl<M: Memory> Hub<M> {
    /// What to say of the peer's history in a greeting.
    pub(super) fn seen_of(&mut self, number: usize) -> Option<Seen> {
        // What is done is in the totals from here on, not in a receipt.
        while self.pop_done(number).is_some() {}
        let peer = self.peer(number)?;
        let Inbound { started, progress, done, .. } = peer.inbound;
        // Who is known and has sent nothing yet is told so: a peer that hears nothing was forgotten.
        let is_known = peer.history != 0 && (peer.dialled || peer.links > 1);
        (started || is_known).then_some(Seen { history: peer.history, progress, done })
    }

    /// A link to a peer has both greetings: sets both streams to where they go on.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        number: usize,
        link: u32,
        hello: &Hello<'_>,
        filters: Filters,
    ) -> Result<(), Refusal> {
        self.note_news();
        if self.is_own(hello) {
            return Err(Refusal::LOOP);
        }
        self.settle(number);
        let known = self.peer(number).ok_or(Refusal::FULL)?;
        let is_known = known.links > 0 && known.history == hello.history;
        // What was counted for the peer was counted with its filters; others need a new process.
        if is_known && *self.asked_by(known) != filters {
            return Err(Refusal::PROTOCOL);
        }
        let filter_use = self.filter_use(&filters).ok_or(Refusal::FULL)?;
        let lost = self.meet_other_names(number, hello.history)?;
        let is_new = self.meet(number, hello.history);
        self.asks_with(number, filter_use);
        if lost.is_some() || self.is_displaced(number) {
            self.begin_displaced(number, lost.unwrap_or(0));
        } else if self.is_unknown(number) {
            self.begin_unknown(now, number, hello);
        } else if !is_new {
            self.resume(number, hello);
        }
        self.end_ring(now, number);
        let head = self.history.head();
        let peer = self.peer_mut(number).ok_or(Refusal::FULL)?;
        let outbound = &mut peer.outbound;
        outbound.window = hello.window;
        outbound.max_age_us = hello.max_age_us;
        outbound.wanted = hello.window > 0;
        if !outbound.wanted {
            outbound.begin(head, 0);
        }
        peer.came_up = CameUp { progress: outbound.progress, head: head.position, passed: 0 };
        peer.link = Some(link);
        peer.may_resume = hello.window > 0;
        peer.features = hello.features;
        peer.links += 1;
        peer.last_used = now;
        self.mark(number);
        Ok(())
    }

    /// Takes note of the peer's history; `true` if it is not the one we knew.
    pub(super) fn meet(&mut self, number: usize, history: u64) -> bool {
        self.settle(number);
        let Some(peer) = self.peer_mut(number).filter(|peer| peer.history != history) else {
            return false;
        };
        let had_one = peer.history != 0;
        if had_one {
            peer.restarts += 1;
            peer.outbound.receiver_lost();
            self.restart_inbound(number);
        }
        self.set_history(number, history);
        self.mark(number);
        had_one
    }

    /// Whether nothing was ever sent to the peer under its present record, and we do not dial it.
    fn is_unknown(&self, number: usize) -> bool {
        self.peer(number).is_some_and(|peer| peer.links == 0 && !peer.dialled)
    }

    pub(super) fn restart_inbound(&mut self, number: usize) {
        while self.pop_done(number).is_some() {}
        self.queue.orphan(number);
        if let Some(peer) = self.peer_mut(number) {
            let Inbound { progress, done, before, .. } = peer.inbound;
            let before = before.plus(&Counters::of_stream(&progress, &done));
            peer.inbound = Inbound { before, ..Inbound::default() };
        }
    }

    /// Where the stream begins for a peer that is not in our table.
    fn begin_unknown(&mut self, now: Instant, number: usize, hello: &Hello<'_>) {
        let (cursor, missed) = match (hello.seen, hello.from) {
            // Its record was given away: which frames are its own is not known any more.
            (Some(seen), _) if seen.history == self.id() => {
                let head = self.history.head();
                let missed = head.position.checked_sub(seen.progress.position);
                let missed = missed.filter(|_| seen.is_possible());
                let outbound = self.peer_mut(number).map(|peer| &mut peer.outbound);
                if let (Some(outbound), Some(missed)) = (outbound, missed) {
                    let lost = seen.progress.lost + missed;
                    let position = head.position;
                    outbound.begin_after(
                        head,
                        Progress { position, lost, ..seen.progress },
                        seen.done,
                    );
                    return;
                }
                (head, 0)
            }
            // It followed our predecessor: it is to miss nothing since our start.
            (Some(_), _) | (None, From::Oldest) => {
                (self.history.tail(), self.history.tail().position)
            }
            (None, From::Last(past_us)) => {
                (self.history.since(now - Duration::from_micros(past_us)), 0)
            }
            (None, From::Now) => (self.history.head(), 0),
        };
        if let Some(peer) = self.peer_mut(number) {
            peer.outbound.begin(cursor, if hello.seen.is_some() { missed } else { 0 });
        }
    }

    /// Goes on with a stream: from where the receiver says it is, from its beginning if it has
    /// nothing of it, or, where its account cannot be ours, with a new stream from here.
    fn resume(&mut self, number: usize, hello: &Hello<'_>) {
        let Some(peer) = self.peer(number) else { return };
        let outbound = peer.outbound;
        let seen = match hello.seen {
            Some(seen) => Some(seen).filter(|seen| seen.history == self.id()),
            // Who dials us forgets nothing: it never heard of this stream. Whom we dial knew us once, and
            // has forgotten it: of what was written to it nobody can tell what became.
            None if peer.dialled && outbound.progress.frames > outbound.begun.frames => None,
            None if total(&outbound.done) > total(&outbound.begun_done) => None,
            None => Some(Seen {
                history: self.id(),
                progress: outbound.begun,
                done: outbound.begun_done,
            }),
        };
        let resumed = seen.and_then(|seen| self.rewound(outbound, &seen));
        if let Some(peer) = self.peer_mut(number) {
            match resumed {
                Some(resumed) => peer.outbound = resumed,
                None => peer.outbound.receiver_lost(),
            }
        }
    }

    /// A stream set back to where the receiver says it is, or as near as the history reaches;
    /// `None` if its account does not fit what was sent. Walks no more than a block of the history.
    fn rewound(&self, mut outbound: Outbound, seen: &Seen) -> Option<Outbound> {
        let Outbound { begun, begun_done, progress: front, dropped, .. } = outbound;
        let (mut progress, mut done) = (seen.progress, seen.done);
        if !seen.is_possible() || progress.position > front.position {
            return None;
        }
        if progress.position < begun.position {
            // It has not heard yet where the stream begins.
            (progress.frames == begun.frames && progress.wanted() <= begun.wanted())
                .then_some(())?;
            (progress, done) = (begun, begun_done);
        }
        if progress.wanted() > front.wanted() {
            return None;
        }
        let tail = self.history.tail();
        if progress.position < tail.position {
            progress.lost += dropped.checked_sub(progress.wanted())?;
            progress.position = tail.position;
        }
        outbound.cursor = self.history.seek(progress.position);
        outbound.progress = progress;
        outbound.done = done;
        Some(outbound)
    }

    /// How many frames from `cursor` up to position `end` are meant for the peer. Walks them all: not
    /// for a greeting.
    pub(super) fn wanted_between(&self, number: usize, mut cursor: Cursor, end: u64) -> u64 {
        let mut wanted = 0;
        while cursor.position < end {
            let Some(entry) = self.history.next(&mut cursor) else { break };
            wanted += u64::from(self.is_for(number, &entry));
        }
        wanted
    }

    /// The same where it is many, with a bounded walk: every position beyond counts.
    pub(super) fn wanted_at_most(&self, number: usize, cursor: Cursor, end: u64) -> u64 {
        let end = end.min(self.position());
        let near = end.min(cursor.position.saturating_add(WALK_MAX));
        self.wanted_between(number, cursor, near) + end.saturating_sub(near.max(cursor.position))
    }

    /// Whether a frame of our history is meant for a peer.
    pub(super) fn is_for(&self, number: usize, entry: &Entry) -> bool {
        self.filters.passes(&entry.frame)
            && self.passes_asked(number, entry)
            && !self.is_own_frame(number, entry)
    }

    /// Whether a peer brought a frame of our history, by this record or another.
    pub(super) fn is_own_frame(&self, number: usize, entry: &Entry) -> bool {
        let Some(peer) = self.peer(number) else { return false };
        match entry.origin {
            Origin::Bus => false,
            Origin::Peer(from) if usize::from(from) == number => entry.position >= peer.joined,
            Origin::Peer(from) => {
                self.peer(from.into()).is_some_and(|from| peer.has_brought(from, entry.position))
            }
        }
    }
}
