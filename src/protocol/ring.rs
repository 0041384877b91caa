//! Rings: a link that leads a bus back to itself over whatever other links and processes. A frame
//! would run in it for ever, so the newest link of a ring is closed.
//!
//! Who dials a link sends a [`Probe`] over it, when it comes up and every [`PROBE_EVERY`]. Every
//! node passes a probe on over all other links of the bus, once. If it comes back to the bus it
//! started from, there is a ring; and if no link on its way was younger, the link it started on is
//! the one to close.
//!
//! ```text
//! A --probe--> B --> C --> A : the link from A to B is in a ring
//! ```
//!
//! A new link carries nothing else for [`PROBE_WAIT`] if its bus has other ways to anywhere, so
//! that a ring is noticed before a frame runs in it.

use core::time::Duration;

use heapless::{Deque, Vec};

use super::hub::{Hub, Memory};
use super::time::{Instant, micros};
use super::wire::Probe;

/// How long a new link waits for its probe to come back. Chosen: the round trip of a bad radio
/// link. A probe that comes later still closes the link, and the next one waits twice as long as that
/// took, so that a frame or two may run in a long ring once, but not at every try.
pub const PROBE_WAIT: Duration = Duration::from_millis(200);
/// How long a new link waits at most. Chosen: nobody builds a ring that is slower.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(4);
/// How often a link is probed: it bounds how long a ring can last whose links came up together.
/// Chosen: as long as a dead peer may stay unnoticed.
pub const PROBE_EVERY: Duration = Duration::from_secs(3);
/// Links a probe passes at most. Chosen: four times the longest chain anybody should build.
pub const HOPS_MAX: u8 = 32;
/// Probes a peer may have passed on in a second, so that it can neither flood all links of a bus nor keep
/// the probes of others from passing. Chosen: as many nodes' links as a hub remembers tokens of.
const PASSED_PER_SECOND: u32 = 64;

/// How many probes a peer may still have passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    second: Instant,
    used: u32,
}

impl Budget {
    /// Takes one off; `false` if there is none left in this second.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if now.since(self.second) >= Duration::from_secs(1) {
            *self = Self { second: now, used: 0 };
        }
        self.used += 1;
        self.used <= PASSED_PER_SECOND
    }
}

/// A probe that one of our links has sent.
#[derive(Clone, Copy, Debug)]
struct Issued {
    token: u64,
    link: u32,
    at: Instant,
    /// How long the link had been up then (microseconds).
    age_us: u64,
}

/// What a hub knows of probes.
#[derive(Debug, Default)]
pub(super) struct Probes {
    issued: Deque<Issued, 32>,
    /// Those of others that were passed on.
    seen: Deque<u64, 64>,
    /// Those to be passed on, with the link each came over, if one; the oldest is number `first`.
    passing: Deque<(Probe, Option<u32>), 16>,
    first: u64,
    /// The links to be closed.
    closing: Vec<u32, 8>,
    has_siblings: bool,
    made: u64,
    /// Makes tokens what nobody can guess.
    secret: u64,
}

impl<M: Memory> Hub<M> {
    /// Whether other processes have the bus open and may join it to others.
    pub fn set_siblings(&mut self, has_siblings: bool) {
        self.probes.has_siblings = has_siblings;
    }

    /// Makes the tokens of probes something nobody can guess, who could pretend that there is a ring.
    pub fn set_secret(&mut self, secret: u64) {
        self.probes.secret = secret;
    }

    /// Whether a ring is possible: the bus has a way to others besides this link.
    pub(super) fn has_other_ways(&self, link: u32) -> bool {
        self.probes.has_siblings
            || self.peers.as_ref().iter().any(|peer| peer.link.is_some_and(|other| other != link))
    }

    /// A probe for a link of ours that was up for `age`.
    pub(super) fn issue_probe(&mut self, now: Instant, link: u32, age: Duration) -> Probe {
        self.probes.made += 1;
        let number = mix(u64::from(link) << 32 ^ self.probes.made);
        let token = mix(self.id() ^ mix(self.probes.secret ^ number));
        let age_us = micros(age);
        make_room(&mut self.probes.issued);
        let _ = self.probes.issued.push_back(Issued { token, link, at: now, age_us });
        Probe { token, youngest_us: age_us, hops: HOPS_MAX }
    }

    /// Whether one more probe of a peer's may be passed on in this second.
    pub(super) fn may_pass_probe(&mut self, now: Instant, number: usize) -> bool {
        self.peer_mut(number).is_some_and(|peer| peer.probe_budget.take(now))
    }

    /// A probe came over a link that was up for `age` and that we dialled; or that the peer
    /// dialled (`None`), who has counted its age.
    pub fn probed(&mut self, now: Instant, probe: Probe, link: u32, age: Option<Duration>) {
        let youngest_us = probe.youngest_us.min(age.map_or(u64::MAX, micros));
        self.pass_probe(now, Probe { youngest_us, ..probe }, Some(link));
    }

    /// A probe came from another process that has the bus open.
    pub fn probed_by_sibling(&mut self, now: Instant, probe: Probe) {
        self.pass_probe(now, probe, None);
    }

    fn pass_probe(&mut self, now: Instant, probe: Probe, link: Option<u32>) {
        self.note_news();
        let probes = &mut self.probes;
        let issued = probes.issued.iter().find(|issued| issued.token == probe.token).copied();
        if let Some(issued) = issued {
            let is_news = !probes.closing.contains(&issued.link);
            if issued.age_us <= probe.youngest_us && link != Some(issued.link) && is_news {
                let _ = probes.closing.push(issued.link);
                self.wait_longer(issued.link, now.since(issued.at));
            }
            return;
        }
        let is_known = probes.seen.iter().any(|token| *token == probe.token);
        let hops = probe.hops.min(HOPS_MAX).saturating_sub(1);
        if hops == 0 || is_known {
            return;
        }
        make_room(&mut probes.seen);
        let _ = probes.seen.push_back(probe.token);
        probes.first += u64::from(make_room(&mut probes.passing));
        let _ = probes.passing.push_back((Probe { hops, ..probe }, link));
    }

    /// A probe of this link's came back so late.
    fn wait_longer(&mut self, link: u32, took: Duration) {
        if let Some(peer) = self.peers.as_mut().iter_mut().find(|peer| peer.link == Some(link)) {
            peer.probe_wait = peer.probe_wait.max(took * 2).min(PROBE_WAIT_MAX);
        }
    }

    /// How long the next link to a peer waits for its probe.
    pub(super) fn probe_wait(&self, number: usize) -> Duration {
        self.peer(number).map_or(PROBE_WAIT, |peer| peer.probe_wait)
    }

    /// The next probe to be passed on to `link`; `None`: to the other processes that have the bus
    /// open. `cursor` is where the last call ended, 0 at first.
    pub fn next_probe(&self, cursor: &mut u64, link: Option<u32>) -> Option<Probe> {
        let probes = &self.probes;
        *cursor = (*cursor).max(probes.first);
        loop {
            let index = usize::try_from(*cursor - probes.first).ok()?;
            let (probe, from) = probes.passing.iter().nth(index)?;
            *cursor += 1;
            if *from != link {
                return Some(*probe);
            }
        }
    }

    /// Where a new link begins to pass probes on.
    pub(super) fn probe_cursor(&self) -> u64 {
        self.probes.first + self.probes.passing.len() as u64
    }

    /// Whether a link of ours was found to close a ring; it is told once.
    pub(super) fn closes_ring(&mut self, link: u32) -> bool {
        let closing = &mut self.probes.closing;
        let found = closing.iter().position(|closing| *closing == link);
        found.map(|index| closing.swap_remove(index)).is_some()
    }

    /// A link is over: its probes mean nothing any more.
    pub(super) fn forget_probes(&mut self, link: u32) {
        self.probes.issued.retain(|issued| issued.link != link);
        self.probes.closing.retain(|closing| *closing != link);
    }
}

/// Drops the oldest where there is no room; returns whether it did.
fn make_room<T, const N: usize>(queue: &mut Deque<T, N>) -> bool {
    queue.is_full() && queue.pop_front().is_some()
}

/// Spreads the bits of a number: the finisher of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
