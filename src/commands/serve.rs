//! `canspan serve`: owns buses, and lets peers join them.

use super::{BOARD_WINDOW, gateway, link_options, policy, side};
use crate::cli::{Serve, filters_of};
use crate::gateway::{Job, LINKS_MAX};
use crate::protocol::Policy;

struct Serving;
impl Job for Serving {}

pub(super) fn run(serve: Serve) -> Result<(), String> {
    let limits = serve.limits;
    let mut gateway = gateway(link_options(limits.heartbeat))?;
    for spec in &serve.buses {
        let read_only = serve.read_only;
        let policy = Policy { read_only, ..policy(spec, &limits, BOARD_WINDOW) };
        let side = side(spec, limits.max_age, false)?;
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
