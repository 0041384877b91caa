//! What the service manager is told of the gateway, in one line: each bus with its state and links.

use core::fmt::Write as _;

use super::Gateway;
use super::dialler::Wish;
use super::status::is_asking;
use crate::protocol::Hub;
use crate::protocol::time::Instant;
use crate::service::Manager;

/// The manager, and what it may not know yet.
pub(super) struct Service {
    manager: Manager,
    /// The sum of all buses' versions when they were last looked at.
    versions: u32,
    /// Whether something has changed since the last status.
    is_news: bool,
}

impl Service {
    fn new(manager: Manager) -> Self {
        Self { manager, versions: 0, is_news: true }
    }

    /// Links have come or gone.
    pub(super) fn note(&mut self) {
        self.is_news = true;
    }

    /// The end has begun.
    pub(super) fn stopping(&mut self) {
        self.manager.stopping();
    }

    /// When it wants a turn without anything having happened.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let status = self.is_news.then(|| self.manager.status_at());
        Instant::earliest(self.manager.poll_timeout(), status)
    }
}

impl Gateway {
    /// Tells `manager` from now on that the gateway runs, and how it stands.
    pub fn tell(&mut self, manager: Option<Manager>) {
        self.service = manager.map(Service::new);
    }

    /// Everything is set up.
    pub(super) fn tell_ready(&mut self, now: Instant) {
        if let Some(service) = &mut self.service {
            service.manager.ready(now);
        }
    }

    /// To be called at every turn of the loop; what it costs does not grow with frames.
    pub(super) fn tell_manager(&mut self, now: Instant) {
        let Some(service) = &mut self.service else { return };
        let versions = self.hubs.iter().map(Hub::status_version).fold(0, u32::wrapping_add);
        service.is_news |= versions != service.versions;
        service.versions = versions;
        if service.is_news && service.manager.status_at() <= now {
            service.is_news = false;
            let line = self.status_line();
            if let Some(service) = &mut self.service {
                service.manager.status(now, &line);
            }
        }
        if let Some(service) = &mut self.service {
            service.manager.turn(now);
        }
    }

    /// As in `can0 up, 2 links; can1 absent, no link to board`.
    fn status_line(&self) -> String {
        let mut line = if self.is_ending() { "ending: " } else { "" }.to_owned();
        let mut separator = "";
        for (number, hub) in self.hubs.iter().enumerate() {
            let _ = write!(line, "{separator}{} {}", hub.name(), hub.status().state.name());
            self.write_link_count(&mut line, number);
            separator = "; ";
        }
        for dialler in self.diallers.iter().filter(is_asking) {
            let _ = write!(line, "{separator}asking {} for its buses", dialler.endpoint);
            separator = "; ";
        }
        line
    }

    fn write_link_count(&self, line: &mut String, hub: usize) {
        let live = || self.sessions.iter().filter(|session| session.link.is_live());
        let mut dials = false;
        for (number, dialler) in self.diallers.iter().enumerate() {
            if matches!(&dialler.wish, Wish::Bus { place, .. } if place.hub == hub) {
                let is_linked = live().any(|session| session.dialler == Some(number));
                let how = if is_linked { "linked" } else { "no link" };
                let _ = write!(line, ", {how} to {}", dialler.endpoint);
                dials = true;
            }
        }
        let is_accepted = |session: &&super::session::Session| {
            session.dialler.is_none() && session.link.place().is_some_and(|place| place.hub == hub)
        };
        match live().filter(is_accepted).count() {
            0 if dials => {}
            0 => line.push_str(", no links"),
            1 => line.push_str(", 1 link"),
            links => {
                let _ = write!(line, ", {links} links");
            }
        }
    }
}
