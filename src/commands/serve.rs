//! `canspan serve`: owns buses, and lets peers join them.

use super::{BOARD_WINDOW, gateway, link_options, policy, side};
use crate::cli::{BusSpec, Serve, filters_of};
use crate::gateway::{Job, LINKS_MAX};
use crate::protocol::Policy;

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
        let policy = Policy { read_only, ..policy(spec, &limits, BOARD_WINDOW) };
        let side = side(spec, limits.max_age, false, serve.settings)?;
        let queue_max = LINKS_MAX * BOARD_WINDOW as usize;
        let name = spec.name();
        let hub = gateway.add_bus(name, limits.history_bytes, policy, queue_max, side)?;
        if let Some(hub) = gateway.hub(hub) {
            hub.set_filters(filters_of(&serve.filters, name), filters_of(&serve.tx_filters, name));
        }
    }
    for address in &serve.listen {
        gateway.listen(address)?;
    }
    for address in &serve.metrics {
        gateway.serve_metrics(address)?;
    }
    gateway.run(&mut Serving)
}
