//! `canspan connect`: joins a peer's buses to local ones.

use super::{LISTENER_WINDOW, gateway, link_options, names, policy, queue_max, side};
use crate::bus::Namespace;
use crate::cli::{BusPair, BusSpec, Connect, Endpoint, Way, filters_of};
use crate::gateway::{Gateway, Job, Notice};
use crate::protocol::LinkOptions;
use crate::service::Manager;

struct Connecting {
    connect: Connect,
}

impl Connecting {
    /// Joins a bus of the peer we dial to one of ours.
    fn join(&self, gateway: &mut Gateway, host: &Endpoint, pair: &BusPair) -> Result<(), String> {
        let filters = filters_of(&self.connect.filters, &pair.remote);
        let options = LinkOptions { filters, ..link_options(&self.connect.limits) };
        let hub = self.open(gateway, pair, 2 * LISTENER_WINDOW as usize)?;
        gateway.dial(host.clone(), &pair.remote, hub, options)?;
        Ok(())
    }

    /// Lets peers that dial us join a bus of theirs to one of ours.
    fn offer(&self, gateway: &mut Gateway, pair: &BusPair) -> Result<(), String> {
        let hub = self.open(gateway, pair, queue_max(LISTENER_WINDOW))?;
        if let Some(hub) = gateway.hub(hub) {
            hub.set_alias(&pair.remote);
            hub.set_asks(filters_of(&self.connect.filters, &pair.remote));
        }
        gateway.expect_peer(hub);
        Ok(())
    }

    fn open(&self, gateway: &mut Gateway, pair: &BusPair, room: usize) -> Result<usize, String> {
        let limits = &self.connect.limits;
        let policy = policy(&pair.local, limits.max_age, LISTENER_WINDOW);
        let side = side(&pair.local, limits.max_age, self.connect.create, None)?;
        gateway.add_bus(pair.local.name(), limits.history_bytes, policy, room, side)
    }
}

impl Job for Connecting {
    fn notice(
        &mut self,
        gateway: &mut Gateway,
        dialler: usize,
        notice: &Notice<'_>,
    ) -> Result<(), String> {
        let Notice::Buses(names) = notice else { return Ok(()) };
        let Way::Dial { endpoint, .. } = &self.connect.way else { return Ok(()) };
        gateway.stop_dialling(dialler);
        let names = names::usable(endpoint, names)?;
        log::info!("{endpoint} has {}", names.join(", "));
        // The peer chose the names: what is wrong with one is no reason not to join the others.
        if let Some(problem) = names::filtered_nothing(endpoint, &self.connect.filters, &names) {
            log::warn!("{problem}; all frames of the others are asked for");
        }
        let mut joined = 0;
        for name in &names {
            let local = BusSpec::Interface(name.clone());
            match self.join(gateway, endpoint, &BusPair { remote: name.clone(), local }) {
                Ok(()) => joined += 1,
                Err(problem) => log::warn!("{endpoint}: its bus {name} is left out: {problem}"),
            }
        }
        if joined == 0 {
            return Err(format!("no bus of {endpoint} can be joined to an interface here"));
        }
        Ok(())
    }
}

pub(super) fn run(connect: Connect) -> Result<(), String> {
    let serves = matches!(connect.way, Way::Listen(_));
    let options = LinkOptions { serves, ..link_options(&connect.limits) };
    let mut gateway = gateway(options)?;
    if let Some(spec) = connect.netns.clone() {
        gateway.set_namespace(Namespace::new(spec)?);
    }
    for address in &connect.metrics {
        gateway.serve_metrics(address)?;
    }
    let mut job = Connecting { connect };
    let Connect { buses, way, .. } = &job.connect;
    match way {
        Way::Dial { endpoint, status } => {
            for address in status {
                gateway.listen(address, "--status")?;
            }
            for pair in buses {
                job.join(&mut gateway, endpoint, pair)?;
            }
            if buses.is_empty() {
                gateway.ask_for_buses(endpoint.clone(), options);
            }
        }
        Way::Listen(addresses) => {
            for pair in buses {
                job.offer(&mut gateway, pair)?;
            }
            for address in addresses {
                gateway.listen(address, "--listen")?;
            }
        }
    }
    gateway.tell(Manager::from_environment());
    gateway.run(&mut job)
}
