//! A peer we dial, for ever: which bus of it, into which of ours, and when to try again.

use crate::cli::Endpoint;
use crate::net::Backoff;
use crate::protocol::time::Instant;
use crate::protocol::{Link, LinkOptions, Place};

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
const TELL_EVERY: core::time::Duration = core::time::Duration::from_secs(60);

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

    /// The attempt, or the link, is over: when to try again.
    pub fn retry(&mut self, now: Instant) {
        if self.stage != Stage::Stopped {
            self.stage = Stage::Waiting(now + self.backoff.pause());
        }
    }

    /// Both sides have greeted each other.
    pub fn reached(&mut self) {
        self.backoff.reset();
        self.told = None;
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
