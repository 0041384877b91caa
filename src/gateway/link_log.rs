//! What is logged of links that others dial: each coming and going, but never in a flood. Peers that
//! have carried frames have lines of their own, so that strangers cannot hide them.

use core::time::Duration;

use super::rate_limit::RateLimit;
use crate::protocol::time::Instant;

/// Lines for links of one kind in one [`SPAN`](super::rate_limit::SPAN). Chosen: of a board's usual clients each
/// that comes back after a cut is told; a thousand would fill the log, and are counted.
const LINES_MAX: u32 = 64;
/// The time over which the lines of peers that have carried nothing are counted. Chosen: whoever floods
/// a board with greetings for a night writes some megabytes.
const STRANGERS_SPAN: Duration = Duration::from_secs(300);
/// The same for connections that never became a link.
const FAILED_LINES_MAX: u32 = 10;

/// What was logged lately.
#[derive(Debug)]
pub(super) struct LinkLog {
    /// Links that came up: of strangers, and of peers that have carried frames.
    pub(super) up: [RateLimit; 2],
    /// The same for those that ended.
    pub(super) down: [RateLimit; 2],
    /// What links that others have dialled tell of their buses and of frames that are missing. Each link has a limit
    /// of its own besides, which is gone with it.
    pub(super) news: [RateLimit; 2],
    /// Connections that never became a link.
    pub(super) failed: RateLimit,
    /// Connections that the kernel could not give us.
    pub(super) not_accepted: RateLimit,
}

impl Default for LinkLog {
    fn default() -> Self {
        Self {
            up: [RateLimit::over(STRANGERS_SPAN, LINES_MAX), RateLimit::new(LINES_MAX)],
            down: [RateLimit::over(STRANGERS_SPAN, LINES_MAX), RateLimit::new(LINES_MAX)],
            news: [RateLimit::over(STRANGERS_SPAN, LINES_MAX), RateLimit::new(LINES_MAX)],
            failed: RateLimit::new(FAILED_LINES_MAX),
            not_accepted: RateLimit::new(1),
        }
    }
}

impl LinkLog {
    fn limits(&mut self) -> [(&mut RateLimit, &'static str); 8] {
        let Self { up: [up, known_up], down: [down, known_down], .. } = self;
        let Self { news: [news, known_news], failed, not_accepted, .. } = self;
        [
            (up, "links of peers that have carried nothing came up"),
            (known_up, "links came up"),
            (down, "links of peers that have carried nothing went down"),
            (known_down, "links went down"),
            (news, "times a peer that has carried nothing had news"),
            (known_news, "times a link had news"),
            (failed, "connections ended before there was a link"),
            (not_accepted, "times a connection could not be accepted"),
        ]
    }

    /// Whether a link that another side has dialled may tell its news now.
    pub(super) fn may_tell(&mut self, now: Instant, has_carried: bool) -> bool {
        let limit = self.news.get_mut(usize::from(has_carried));
        limit.and_then(|limit| limit.allow(now, 1)).is_some()
    }

    /// When to call [`LinkLog::catch_up`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let each = self.up.iter().chain(&self.down).chain(&self.news);
        let each = each.chain([&self.failed, &self.not_accepted]);
        each.map(RateLimit::poll_timeout).fold(None, Instant::earliest)
    }

    /// Logs the sums of what was left out.
    pub(super) fn catch_up(&mut self, now: Instant) {
        for (limit, what) in self.limits() {
            if let Some(sum) = limit.catch_up(now) {
                log::warn!("{sum} more {what}; they were not logged one by one");
            }
        }
    }

    /// The same at the end.
    pub(super) fn settle(&mut self) {
        for (limit, what) in self.limits() {
            if let Some(sum) = limit.settle() {
                log::warn!("{sum} more {what}; they were not logged one by one");
            }
        }
    }
}

/// What a line adds if it stands for several.
pub(super) fn more(sum: u64) -> String {
    match sum {
        0 | 1 => String::new(),
        _ => format!(" ({} more like it were not logged)", sum - 1),
    }
}
