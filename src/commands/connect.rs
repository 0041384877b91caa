//! `canspan connect`: joins a peer's buses to local ones.

use super::{LISTENER_WINDOW, gateway, link_options, policy, side};
use crate::cli::{BusPair, BusSpec, Connect, filters_of};
use crate::gateway::{Gateway, Job, Notice};
use crate::protocol::LinkOptions;

struct Connecting {
    connect: Connect,
}

impl Connecting {
    fn join(&self, gateway: &mut Gateway, pair: &BusPair) -> Result<(), String> {
        let limits = &self.connect.limits;
        let filters = filters_of(&self.connect.filters, &pair.remote);
        let options = LinkOptions { filters, ..link_options(limits.heartbeat) };
        let policy = policy(&pair.local, limits, LISTENER_WINDOW);
        let side = side(&pair.local, limits.max_age, self.connect.create, None)?;
        let queue_max = 2 * LISTENER_WINDOW as usize;
        let name = pair.local.name();
        let hub = gateway.add_bus(name, limits.history_bytes, policy, queue_max, side)?;
        gateway.dial(self.connect.endpoint.clone(), &pair.remote, hub, options)?;
        Ok(())
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
        gateway.stop_dialling(dialler);
        if names.is_empty() {
            return Err(format!("{} has no buses", self.connect.endpoint));
        }
        log::info!("{} has {}", self.connect.endpoint, names.join(", "));
        for name in names {
            let local = BusSpec::Interface(name.clone());
            self.join(gateway, &BusPair { remote: name.clone(), local })?;
        }
        Ok(())
    }
}

pub(super) fn run(connect: Connect) -> Result<(), String> {
    let options = link_options(connect.limits.heartbeat);
    let mut gateway = gateway(options)?;
    for address in &connect.metrics {
        gateway.serve_metrics(address)?;
    }
    let buses = connect.buses.clone();
    let mut job = Connecting { connect };
    for pair in &buses {
        job.join(&mut gateway, pair)?;
    }
    if buses.is_empty() {
        gateway.ask_for_buses(job.connect.endpoint.clone(), options);
    }
    gateway.run(&mut job)
}
