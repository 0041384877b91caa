//! An interface comes, is set up, and goes.

use super::super::memory::Heap;
use super::losses::Losses;
use super::{Interface, RECHECK, RETRY};
use crate::bus::{self, CanInterface, ConfigureError, CreateError, Link, OpenError};
use crate::protocol::Hub;
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;

impl Interface {
    /// Looks at it, in the network namespace it is in.
    pub(super) fn check_here(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.look(now, hub);
        if self.can.is_none() {
            if let Err(problem) = self.attach(now, hub) {
                self.tell(&problem.to_string());
                self.recheck_by(now + RETRY);
            }
        } else if self.configure(now) {
            self.look(now, hub);
        }
    }

    /// Sets its controller, once for each time it comes. Returns whether that was tried now.
    fn configure(&mut self, now: Instant) -> bool {
        let Some(settings) = self.settings else { return false };
        let index = self.can.as_ref().map(CanInterface::index);
        if self.settled.is_some() && (index.is_none() || index == self.settled) {
            return false;
        }
        self.has_set = false;
        match bus::configure(&self.name, &settings) {
            Ok((index, changed)) => {
                self.settled = Some(index);
                self.has_set = true;
                let how = if changed { "set to" } else { "is already" };
                log::info!("{}: {how} {settings}", self.name);
            }
            // Then there is nothing to open either, which is said.
            Err(ConfigureError::Absent) => {}
            Err(problem) => {
                self.tell(&problem.to_string());
                if problem.may_pass() {
                    self.recheck_by(now + RETRY);
                } else {
                    self.settled = Link::by_name(&self.name).ok().map(|link| link.index);
                }
            }
        }
        true
    }

    pub(super) fn attach(&mut self, now: Instant, hub: &mut Hub<Heap>) -> Result<(), OpenError> {
        // Before it is open, so that switching it off for that is no news.
        self.configure(now);
        match CanInterface::open(&self.name) {
            Ok(can) => {
                // One of ours may be left from a process that was killed.
                self.created |= self.create && can.link().is_ok_and(|link| link.is_made);
                self.losses = Losses::begin(&can);
                self.can = Some(can);
                self.opened = self.opened.wrapping_add(1);
                self.told.clear();
                self.look(now, hub);
                Ok(())
            }
            Err(OpenError::Absent { .. }) if self.create => {
                self.make(now, hub);
                Ok(())
            }
            Err(OpenError::Absent { .. }) => {
                self.tell(&format!("waiting for the interface {}", self.name));
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    }

    fn make(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        match bus::create_vcan(&self.name) {
            Ok(()) => {
                self.created = true;
                log::info!("{}: made this virtual interface", self.name);
                self.create = false;
                if let Err(problem) = self.attach(now, hub) {
                    self.tell(&problem.to_string());
                    self.recheck_by(now + RETRY);
                }
                self.create = true;
            }
            Err(CreateError::Exists { .. }) => self.recheck_by(now + RECHECK),
            Err(problem) => {
                self.tell(&problem.to_string());
                self.recheck_by(now + RETRY);
            }
        }
    }

    pub(super) fn detach(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.read_last(hub);
        self.settle(hub);
        self.can = None;
        self.retry_at = None;
        self.settled = None;
        self.has_set = false;
        self.set_state(now, hub, BusState::Absent);
    }
}
