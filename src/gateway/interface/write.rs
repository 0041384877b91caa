//! Writing to an interface, and what becomes of frames in the kernel's hands.

use core::time::Duration;

use super::super::bus::Offer;
use super::super::clock::{self, WallClock};
use super::super::memory::Heap;
use super::{Interface, RECHECK, RETRY};
use crate::bus::{CanInterface, SendStop};
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;
use crate::protocol::{Echo, Hub, Outcome};

/// How soon to offer frames again after the transmit queue was full: about the time a classic
/// frame takes at 125 kbit/s. No event tells when there is room; an echo mostly comes first.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// The same after an error nobody has a name for.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// A controller is asked at most so often why an echo is overdue.
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// And made to forget what it holds at most so often, since others lose frames by it.
const FLUSH_PAUSE: Duration = Duration::from_secs(1);
/// How often to see whether it holds old frames; more seldom where they may be old.
const WATCH_EVERY: Duration = Duration::from_millis(25);

/// When what the controller holds was last dealt with, and when to see again.
#[derive(Debug, Default)]
pub(super) struct Watch {
    asked_at: Option<Instant>,
    flushed_at: Option<Instant>,
    pub(super) due: Option<Instant>,
}

impl Watch {
    /// Until when the controller's state says little, as it was switched off and on just before.
    pub(super) fn settles_at(&self, now: Instant) -> Option<Instant> {
        self.flushed_at.map(|at| at + FLUSH_PAUSE).filter(|until| *until > now)
    }
}

impl Interface {
    pub(in super::super) fn write(
        &mut self,
        now: Instant,
        hub: &mut Hub<Heap>,
        wall: &mut WallClock,
        offer: &mut Offer,
    ) -> bool {
        if self.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        // The last moment to see that a frame has grown old.
        let is_aging = hub.policy().max_age.is_some() && hub.is_busy();
        let now = if is_aging { clock::now().max(now) } else { now };
        self.retry_at = None;
        let mut moved = false;
        while let Some(can) = &mut self.can {
            let offered = hub.offer(now, offer);
            if offered == 0 {
                break;
            }
            let sent = can.send(offer.get(..offered).unwrap_or(&[]));
            moved |= sent.taken > 0;
            if matches!(sent.stop, SendStop::Unsupported) {
                hub.rejected(now, sent.taken, Outcome::Unsupported);
                moved = true;
                continue;
            }
            hub.taken(now, sent.taken);
            match sent.stop {
                SendStop::All | SendStop::Unsupported => continue,
                SendStop::Full => self.retry_at = Some(now + FULL_PAUSE),
                SendStop::Down => {
                    self.set_state(now, hub, BusState::Down);
                    self.recheck_by(now + RECHECK);
                }
                SendStop::Gone => self.detach(now, hub),
                SendStop::Other(error) => {
                    self.tell(&format!("{}: cannot be written: {error}", self.name));
                    self.retry_at = Some(now + ERROR_PAUSE);
                }
            }
            break;
        }
        if moved {
            self.account.soon(now);
            if self.has_set {
                self.watch.due.get_or_insert(now + WATCH_EVERY);
            }
            if hub.policy().is_virtual {
                // A virtual bus has echoed already.
                self.read(now, hub, wall);
            }
        }
        moved
    }

    /// What the controller holds too long: its state decides what that means, and where canspan has set
    /// it, it is made to forget frames that are too old. To be called when all echoes were read.
    pub(super) fn watch_handed(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.watch.due = None;
        if hub.policy().is_virtual || self.can.is_none() {
            return;
        }
        let may_ask = self.watch.asked_at.is_none_or(|at| now.since(at) >= ASK_PAUSE);
        if may_ask && hub.has_overdue_echo(now) {
            self.watch.asked_at = Some(now);
            self.look(now, hub);
        }
        let may_flush = self.watch.settles_at(now).is_none();
        // Without echo what was taken has left long ago.
        let is_watched = self.has_set && hub.policy().echo == Echo::Bus;
        if is_watched && may_flush && hub.is_handed_too_old(now) {
            self.watch.flushed_at = Some(now);
            self.flush(now, hub);
        }
        let max_age = hub.policy().max_age.filter(|_| is_watched && hub.is_busy());
        self.watch.due = max_age.map(|max_age| now + WATCH_EVERY.max(max_age / 4));
    }

    /// Makes the kernel and the controller forget what they were handed, which ends as failed.
    fn flush(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        let Some(restarted) = self.can.as_ref().map(CanInterface::restart) else { return };
        // What was sent before that has its echo in the socket.
        self.read_last(hub);
        match restarted {
            Ok(()) => {
                // It was down, if only for a moment.
                let before = hub.status();
                hub.set_state(BusState::Down, None);
                hub.set_state(before.state, before.errors);
                self.account.flushes.add(1);
                self.account.soon(now);
                self.look(now, hub);
            }
            Err(error) => {
                self.tell(&format!(
                    "{}: cannot be switched off and on to clear it of old frames: {error}; that \
                     needs the capability CAP_NET_ADMIN",
                    self.name
                ));
                self.has_set = false;
                self.look(now, hub);
                if hub.status().state == BusState::Down {
                    // To set it switches it on, too.
                    self.settled = None;
                    self.recheck_by(now + RETRY);
                }
            }
        }
    }
}
