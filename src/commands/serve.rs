//! `canspan serve`: owns buses, and lets peers join them.

use super::{gateway, link_options, policy, queue_max, side, window};
use crate::cli::{BusSpec, Serve, filters_of};
use crate::gateway::Job;
use crate::protocol::Policy;
use crate::service::Manager;

struct Serving;
impl Job for Serving {}

pub(super) fn run(serve: Serve) -> Result<(), String> {
    let limits = serve.limits;
    let mut gateway = gateway(link_options(limits.heartbeat))?;
    for spec in &serve.buses {
        // What a controller that only listens is given to send vanishes without a word.
        let is_mute = serve.settings.is_some_and(|settings| settings.listen_only);
        let is_interface = matches!(spec, BusSpec::Interface(_));
        let read_only = serve.read_only || is_mute && is_interface;
        let policy = Policy { read_only, ..policy(spec, &limits, window(spec)) };
        let side = side(spec, limits.max_age, serve.create, serve.settings)?;
        let name = spec.name();
        let hub =
            gateway.add_bus(name, limits.history_bytes, policy, queue_max(window(spec)), side)?;
        if let Some(hub) = gateway.hub(hub) {
            hub.set_filters(filters_of(&serve.filters, name), filters_of(&serve.tx_filters, name));
        }
        for endpoint in &serve.dial {
            gateway.dial(endpoint.clone(), name, hub, link_options(limits.heartbeat))?;
        }
    }
    for address in &serve.listen {
        gateway.listen(address, "--listen")?;
    }
    for address in &serve.metrics {
        gateway.serve_metrics(address)?;
    }
    gateway.tell(Manager::from_environment());
    gateway.run(&mut Serving)
}
