//! A peer we dial, for ever: which bus of it, into which of ours, and when to try again.

use core::net::SocketAddr;
use core::time::Duration;

use super::memory::Heap;
use super::rate_limit::RateLimit;
use super::session::Session;
use crate::cli::Endpoint;
use crate::net::{self, Backoff};
use crate::protocol::time::Instant;
use crate::protocol::wire::Refusal;
use crate::protocol::{Ended, Hub, Link, LinkOptions, Place};

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
    /// In which order to try the peer's addresses.
    pub order: net::Order,
    /// What was logged lately of its links: that one came up, that one went down.
    pub(super) ups: RateLimit,
    pub(super) downs: RateLimit,
    backoff: Backoff,
    /// How often in a row a greeting was refused as older than another one.
    outdated: u32,
    /// When the bus came as a new one last.
    set_back_at: Option<Instant>,
    /// The last problem told and when, so that it is told once a minute at most.
    told: Option<(String, Instant)>,
}

/// How long a link must have lived before the next pause is a short one again: a peer that greets and
/// then breaks the rules would be dialled many times a second. Chosen: longer than it takes to break
/// them, shorter than any cut of a connection that is of use.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// Greetings in a row that are refused as outdated before the bus comes as a new one.
const OUTDATED_MAX: u32 = 2;
/// How often a bus may come as a new one. Chosen: a peer that refuses everybody costs the others of the bus
/// little by it.
const SET_BACK_EVERY: Duration = Duration::from_secs(60);
/// Lines of a kind for one dialled link in one [`SPAN`](super::rate_limit::SPAN).
const LINES_MAX: u32 = 5;
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
        Self {
            endpoint,
            wish,
            options,
            stage,
            order: net::Order::default(),
            ups: RateLimit::new(LINES_MAX),
            downs: RateLimit::new(LINES_MAX),
            backoff: Backoff::default(),
            outdated: 0,
            set_back_at: None,
            told: None,
        }
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

    /// A link to this address of the peer is up.
    pub fn reached(&mut self, address: SocketAddr) {
        self.told = None;
        self.outdated = 0;
        self.order = net::Order { first: Some(address), last: None };
    }

    /// A link is over: when to dial again. Returns whether the peer has heard of a later time of this
    /// process than there was.
    pub(super) fn link_ended(&mut self, now: Instant, session: &Session, ended: Ended) -> bool {
        let was_live = session.link.was_live();
        // The next one would soon end the same way.
        if was_live && !is_displaced(ended) && now.since(session.since) >= SETTLED_AFTER {
            self.backoff.reset();
        }
        if ended == Ended::NoGreeting || ended == Ended::NotCanspan {
            // Whatever listens there: another address of the name may be the peer's.
            self.order = net::Order { first: None, last: Some(session.peer) };
        }
        let is_cut = matches!(ended, Ended::Closed | Ended::Silent);
        if was_live && is_cut {
            self.retry_unreached(now)
        } else {
            self.retry(now)
        }
        // Once, and another greeting of ours may have overtaken this one on another way.
        let is_outdated = !was_live && ended == Ended::Refused(Refusal::REPLACED);
        self.outdated = if is_outdated { self.outdated + 1 } else { 0 };
        let is_set_back = self.outdated >= OUTDATED_MAX
            && self.set_back_at.is_none_or(|at| now.since(at) >= SET_BACK_EVERY);
        if is_set_back {
            self.outdated = 0;
            self.set_back_at = Some(now);
        }
        is_set_back
    }

    /// When to call [`Dialler::catch_up`].
    #[must_use]
    pub fn log_timeout(&self) -> Option<Instant> {
        Instant::earliest(self.ups.poll_timeout(), self.downs.poll_timeout())
    }

    /// Logs how often the link came and went without being told.
    pub fn catch_up(&mut self, now: Instant) {
        for (limit, what) in [(&mut self.ups, "up"), (&mut self.downs, "down")] {
            if let Some(sum) = limit.catch_up(now) {
                log::warn!("link to {} went {what} {sum} more times", self.endpoint);
            }
        }
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

/// Whether a link ended because something else joins the two buses.
fn is_displaced(ended: Ended) -> bool {
    let (Ended::Refused(why) | Ended::WeRefused(why)) = ended else { return false };
    [Refusal::LOOP, Refusal::RING, Refusal::REPLACED].contains(&why)
}
