//! A peer we dial, for ever: which bus of it, into which of ours, and when to try again.

use core::time::Duration;

use super::memory::Heap;
use crate::cli::Endpoint;
use crate::net::Backoff;
use crate::protocol::time::Instant;
use crate::protocol::{Hub, Link, LinkOptions, Place};

/// What is asked of the peer.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A link to one of its buses.
    Bus {
        /// What the peer calls the bus.
        remote: String,
        /// Where the link belongs on our side.
        place: Place,
    },
    /// The names of its buses.
    Names,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It tries again at this moment.
    Waiting(Instant),
    /// An attempt is under way.
    Dialling,
    /// There is a connection.
    Connected,
    /// It was told to stop.
    Stopped,
}

/// A peer we dial.
#[derive(Debug)]
pub struct Dialler {
    /// Where the peer is.
    pub endpoint: Endpoint,
    /// What is asked of it.
    pub wish: Wish,
    /// How links are set up.
    pub options: LinkOptions,
    /// How far it is.
    pub stage: Stage,
    backoff: Backoff,
    /// The last problem told and when, so that it is told once a minute at most.
    told: Option<(String, Instant)>,
}

/// How often the same problem is told. Chosen: a night without the board is some hundred lines.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Longest pause while the peer cannot be reached. Chosen: with the longest attempt, 3 s, a peer is
/// linked at most 5 s after it can be reached, and all that is sent meanwhile is a SYN.
const LONGEST_UNREACHED: Duration = Duration::from_secs(2);
/// Longest pause where the peer answers, and does not keep the link: what speaks against it does
/// not change in a moment.
const LONGEST_REFUSED: Duration = Duration::from_secs(5);

impl Dialler {
    /// A dialler that begins at `now`.
    #[must_use]
    pub fn new(endpoint: Endpoint, wish: Wish, options: LinkOptions, now: Instant) -> Self {
        let stage = Stage::Waiting(now);
        Self { endpoint, wish, options, stage, backoff: Backoff::default(), told: None }
    }

    /// A link for a new connection.
    #[must_use]
    pub fn link(&self, now: Instant, id: u32) -> Option<Link> {
        match &self.wish {
            Wish::Bus { remote, place } => Link::dial(now, id, *place, remote, self.options),
            Wish::Names => Some(Link::ask_for_buses(now, id, self.options)),
        }
    }

    /// Whether the peer is one that another dialler is linked with.
    #[must_use]
    pub fn is_linked_by_another_name(&self, hubs: &[Hub<Heap>]) -> bool {
        let Wish::Bus { place, .. } = &self.wish else { return false };
        hubs.get(place.hub).is_some_and(|hub| hub.is_linked_by_another_name(place.peer))
    }

    /// The peer was not reached: when to try again.
    pub fn retry_unreached(&mut self, now: Instant) {
        self.retry_within(now, LONGEST_UNREACHED);
    }

    /// The link is over, or there can be none: when to try again.
    pub fn retry(&mut self, now: Instant) {
        self.retry_within(now, LONGEST_REFUSED);
    }

    fn retry_within(&mut self, now: Instant, longest: Duration) {
        if self.stage != Stage::Stopped {
            self.stage = Stage::Waiting(now + self.backoff.pause(longest));
        }
    }

    /// A link is up.
    pub fn reached(&mut self) {
        self.told = None;
    }

    /// A link that was up has ended, and nothing speaks against the next one: it is dialled at once.
    pub fn settled(&mut self) {
        self.backoff.reset();
    }

    /// Whether a problem is news.
    pub fn is_news(&mut self, now: Instant, problem: &str) -> bool {
        let is_old =
            |(told, at): &(String, Instant)| told == problem && now.since(*at) < TELL_EVERY;
        let is_news = !self.told.as_ref().is_some_and(is_old);
        if is_news {
            self.told = Some((problem.to_owned(), now));
        }
        is_news
    }

    /// When to dial next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting(at) => Some(at),
            _ => None,
        }
    }
}
