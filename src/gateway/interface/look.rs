//! How an interface is: what the kernel tells when it is asked, and what frames tell.

use core::time::Duration;
use std::io;

use super::super::memory::Heap;
use super::mode::Mode;
use super::{Interface, RECHECK, RETRY};
use crate::bus::raw::FD_BYTES;
use crate::bus::{Health, Link, Received};
use crate::cli::{DEFAULT_MAX_AGE, MaxAge};
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;
use crate::protocol::{Echo, HANDED_MAX, Hub, Policy};

/// Frames in the hands of a real interface at once: enough to keep a 1 Mbit/s bus full for 2 ms
/// until the next turn, few enough not to grow old in the driver, where nothing can recall them.
const REAL_HANDED_MAX: u32 = 16;
/// How soon to ask a controller again that is not error-active: many a driver tells only of the way
/// into trouble, and somebody else may restart it.
const TROUBLE_RECHECK: Duration = Duration::from_secs(1);
/// How long a virtual bus is shown in the state of somebody's error frame when nothing follows:
/// it has no controller that could be asked. Chosen: a controller in trouble repeats itself sooner.
const HEARSAY: Duration = Duration::from_secs(10);

impl Interface {
    /// Tells the hub how the interface is.
    pub(super) fn look(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        let Some(can) = &self.can else { return };
        let (link, is_virtual) = match can.link() {
            Ok(link) => (link, can.is_virtual()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.detach(now, hub),
            // That says nothing about the interface: what is open goes on.
            Err(error) => {
                let name = &self.name;
                self.tell(&format!(
                    "{name}: the kernel does not tell its state: {error}; retrying"
                ));
                return self.recheck_by(now + RETRY);
            }
        };
        self.set_policy(hub, &link, is_virtual);
        self.compare_settings(&link);
        let known = Health::from(hub.status());
        let told = link.health();
        let health = match told {
            _ if !link.is_up => Health::unknown(BusState::Down),
            Some(told) => Health { errors: told.errors.or(known.errors), ..told },
            // What frames have told holds on.
            None if matches!(known.state, BusState::Absent | BusState::Down) => {
                Health::unknown(BusState::Up)
            }
            None => known,
        };
        if told.is_some_and(|told| !matches!(told.state, BusState::Up | BusState::Down)) {
            self.recheck_by(now + TROUBLE_RECHECK);
        }
        self.read_before_failing(hub, health.state);
        self.set_health(now, hub, health);
    }

    fn set_policy(&mut self, hub: &mut Hub<Heap>, link: &Link, is_virtual: bool) {
        let mode = Mode::of(link, is_virtual);
        for line in mode.news(self.mode, &self.name) {
            log::info!("{}: {line}", self.name);
        }
        self.mode = mode;
        let max_age = match self.max_age {
            MaxAge::ByBus => (!is_virtual).then_some(DEFAULT_MAX_AGE),
            MaxAge::Unlimited => None,
            MaxAge::Limit(limit) => Some(limit),
        };
        let real_max = link.tx_queue_len.clamp(1, REAL_HANDED_MAX) as usize;
        hub.set_policy(Policy {
            max_age,
            read_only: self.is_read_only || mode.listen_only,
            is_fd: link.mtu >= FD_BYTES as u32,
            is_virtual,
            handed_max: if is_virtual { HANDED_MAX } else { real_max },
            echo: if mode.no_echo { Echo::Kernel } else { Echo::Bus },
            one_shot: mode.one_shot,
            paced: is_virtual,
            ..*hub.policy()
        });
    }

    /// Says so when somebody else has set the controller otherwise, and leaves it as it is: to set it
    /// again would switch a bus off that others use.
    fn compare_settings(&mut self, link: &Link) {
        let Some((settings, set)) = self.settings.zip(link.controller) else { return };
        let is_other = self.has_set && link.is_up && !settings.is_met_by(&set);
        if is_other && !self.is_set_otherwise {
            log::warn!(
                "{}: another program has set the controller: it has {} bit/s and other modes than \
                 `{settings}`, or one of both; it is left so, restart canspan to set it again",
                self.name,
                set.timing.bitrate
            );
        }
        self.is_set_otherwise = is_other;
    }

    pub(super) fn set_state(&mut self, now: Instant, hub: &mut Hub<Heap>, state: BusState) {
        if hub.status().state != state {
            self.read_before_failing(hub, state);
            self.set_health(now, hub, Health::unknown(state));
        }
    }

    /// Reads what the bus has shown before a state in which all it was handed counts as failed: it was
    /// sent. Read later, the echo would match no pending frame and be sent back to its origin.
    fn read_before_failing(&mut self, hub: &mut Hub<Heap>, state: BusState) {
        let by_hearsay = hub.policy().is_virtual && state == BusState::BusOff;
        if hub.takes_frames() && !state.takes_frames() && !by_hearsay {
            self.read_last(hub);
        }
    }

    /// The one place where a change of state is made and told. What a controller goes through just
    /// after it was switched off and on is none: else it would be told at each time, here and by peers.
    fn set_health(&mut self, now: Instant, hub: &mut Hub<Heap>, health: Health) {
        let known = hub.status().state;
        if let Some(until) = self.watch.settles_at(now)
            && known.takes_frames()
            && health.state.takes_frames()
        {
            self.recheck_by(until);
            return hub.set_state(known, health.errors);
        }
        if known != health.state {
            self.states.changed(now, format_args!("{}: ", self.name), health);
        }
        hub.set_state(health.state, health.errors);
    }

    /// Takes what a frame tells of the state.
    pub(super) fn set_state_by_frame(
        &mut self,
        now: Instant,
        hub: &mut Hub<Heap>,
        seen: &Received,
    ) {
        let known = Health::from(hub.status());
        // An error frame of our own is news of a peer's bus.
        let is_news = seen.frame.is_error() && !seen.own;
        let was_off = known.state == BusState::BusOff;
        if !is_news && (seen.frame.is_error() || !was_off) {
            return;
        }
        let Some(can) = &self.can else { return };
        let is_virtual = can.is_virtual();
        let mut health = known.after(&seen.frame);
        let is_back = was_off && health.state != BusState::BusOff;
        // The frame may have waited here since before; the kernel knows.
        let ask = || can.link().ok().and_then(|link| link.health());
        if let Some(told) = is_back.then(ask).flatten() {
            health = Health { errors: told.errors.or(health.errors), ..told };
        }
        self.set_health(now, hub, health);
        match health.state {
            BusState::ErrorWarning | BusState::ErrorPassive | BusState::BusOff if is_virtual => {
                self.hearsay_until = Some(now + HEARSAY);
            }
            _ if is_virtual => self.hearsay_until = None,
            // The kernel tells of the restart a little before it does it.
            BusState::BusOff if is_back => self.recheck_by(now + RECHECK),
            BusState::ErrorWarning | BusState::ErrorPassive | BusState::BusOff => {
                self.recheck_by(now + TROUBLE_RECHECK);
            }
            _ => {}
        }
    }

    /// Ends the state of a virtual bus that somebody's error frame told long ago.
    pub(super) fn forget_hearsay(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        if self.hearsay_until.is_some_and(|until| until <= now) {
            self.hearsay_until = None;
            if !matches!(hub.status().state, BusState::Absent | BusState::Down) {
                self.set_health(now, hub, Health::unknown(BusState::Up));
            }
        }
    }
}
