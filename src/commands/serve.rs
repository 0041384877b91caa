//! `canspan serve`: owns buses, and lets peers join them.

use super::{gateway, link_options, policy, queue_max, side, window};
use crate::bus::sim::SimSource;
use crate::cli::{BusSpec, DEFAULT_MAX_AGE, MaxAge, Serve, filters_of};
use crate::gateway::Job;
use crate::protocol::{Policy, Role};
use crate::service::Manager;

struct Serving;
impl Job for Serving {}

/// Whoever serves a bus takes commands for it, and old ones are dangerous behind a virtual interface,
/// too: another process may carry them on from there. Through a simulated bus frames keep their age, and
/// whoever puts them on a bus in the end has his own limit.
fn max_age(spec: &BusSpec, given: MaxAge) -> MaxAge {
    match (given, spec) {
        (MaxAge::ByBus, BusSpec::Interface(_)) => MaxAge::Limit(DEFAULT_MAX_AGE),
        (MaxAge::ByBus, BusSpec::Sim { .. }) => MaxAge::Unlimited,
        (given, _) => given,
    }
}

pub(super) fn run(serve: Serve) -> Result<(), String> {
    let limits = &serve.limits;
    let mut gateway = gateway(link_options(limits))?;
    for spec in &serve.buses {
        // What a controller that only listens is given to send vanishes without a word.
        let is_mute = serve.settings.is_some_and(|settings| settings.listen_only);
        let is_interface = matches!(spec, BusSpec::Interface(_));
        let read_only = serve.read_only || is_mute && is_interface;
        let max_age = max_age(spec, limits.max_age);
        let role = match spec {
            BusSpec::Interface(_) => Role::Owner,
            // Without traffic of its own it is there for others to meet.
            BusSpec::Sim { source: SimSource::Silent, .. } => Role::Relay,
            BusSpec::Sim { .. } => Role::Owner,
        };
        let policy = Policy { read_only, role, ..policy(spec, max_age, window(spec)) };
        let side = side(spec, max_age, serve.create, serve.settings)?;
        let name = spec.name();
        let hub =
            gateway.add_bus(name, limits.history_bytes, policy, queue_max(window(spec)), side)?;
        if let Some(hub) = gateway.hub(hub) {
            hub.set_filters(filters_of(&serve.filters, name), filters_of(&serve.tx_filters, name));
        }
        for endpoint in &serve.dial {
            gateway.dial(endpoint.clone(), name, hub, link_options(limits))?;
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

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn a_served_interface_has_an_age_limit_by_default() {
        let spec = |text: &str| text.parse::<BusSpec>().unwrap();
        let limit = MaxAge::Limit(Duration::from_millis(500));
        assert_eq!(max_age(&spec("vcan0"), MaxAge::ByBus), limit);
        assert_eq!(max_age(&spec("sim:hub"), MaxAge::ByBus), MaxAge::Unlimited);
        for given in [MaxAge::Unlimited, MaxAge::Limit(Duration::from_secs(1))] {
            assert_eq!(max_age(&spec("can0"), given), given);
            assert_eq!(max_age(&spec("sim:hub"), given), given);
        }
    }
}
