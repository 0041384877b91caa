//! Interfaces in another network namespace than the process' own, as it comes and goes.

use core::time::Duration;
use std::rc::Rc;

use super::siblings::Siblings;
use super::{Gateway, claims};
use crate::bus::{LinkWatch, Namespace, inside};
use crate::protocol::Ended;
use crate::protocol::time::Instant;

/// How often to look whether the namespace is still the same. No event tells: what a container's
/// manager does with it is mounting and ending processes, which only asking shows.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the interfaces are.
#[derive(Default)]
pub(super) struct Home {
    namespace: Option<Rc<Namespace>>,
    look_at: Option<Instant>,
}

impl Home {
    /// The namespace, if it is not the process' own.
    pub(super) fn namespace(&self) -> Option<Rc<Namespace>> {
        self.namespace.clone()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }
}

/// Watches the interfaces of a namespace; `None` while that is not there.
pub(super) fn watch(namespace: Option<&Namespace>) -> Result<Option<LinkWatch>, String> {
    if namespace.is_some_and(|namespace| !namespace.is_there()) {
        return Ok(None);
    }
    let watch = inside(namespace, LinkWatch::open)?;
    let failed = |error| format!("cannot watch the machine's interfaces (netlink): {error}");
    watch.map(Some).map_err(failed)
}

impl Gateway {
    /// All interfaces are in this namespace; to be said before there are any.
    pub fn set_namespace(&mut self, namespace: Namespace) {
        let namespace = Some(Rc::new(namespace));
        self.claims.move_to(namespace.clone());
        self.home = Home { namespace, look_at: Some(self.now + LOOK_EVERY) };
    }

    /// Goes where the namespace is now. An error when it can never come back.
    pub(super) fn follow_namespace(&mut self, now: Instant) -> Result<(), String> {
        let Some(namespace) = self.home.namespace() else { return Ok(()) };
        if self.home.look_at.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.home.look_at = Some(now + LOOK_EVERY);
        if !namespace.renew()? {
            return Ok(());
        }
        // Whatever is left open would keep the old one alive.
        self.watch = None;
        self.waiter.are_interfaces_watched = false;
        self.claims.move_to(Some(Rc::clone(&namespace)));
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            bus.siblings = None;
            bus.leave(now, hub);
        }
        if namespace.is_there() {
            self.move_in(now, &namespace)?;
        }
        for (number, (bus, hub)) in self.buses.iter_mut().zip(&mut self.hubs).enumerate() {
            bus.check(now, hub);
            self.to_write.set(number);
        }
        Ok(())
    }

    /// The buses are others to their peers now, who have to be greeted anew; the links resume.
    fn move_in(&mut self, now: Instant, namespace: &Namespace) -> Result<(), String> {
        self.watch = watch(Some(namespace))?;
        self.waiter.are_interfaces_watched = false;
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            let Some(interface) = bus.interface() else { continue };
            let identify = || {
                let id = claims::bus_id(interface)?;
                Some((id, Siblings::open(interface, id)))
            };
            if let Ok(Some((id, siblings))) = inside(Some(namespace), identify) {
                hub.set_bus_id(id);
                bus.siblings = siblings;
            }
        }
        for session in self.sessions.iter_mut() {
            let place = session.link.place();
            let bus = place.and_then(|place| self.buses.get(place.hub));
            if bus.is_some_and(|bus| bus.interface().is_some()) {
                session.link.close(now, &mut self.hubs, Ended::Finished);
            }
        }
        self.sessions.mark_all();
        Ok(())
    }
}
