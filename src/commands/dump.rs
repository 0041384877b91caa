//! `canspan dump`: prints the frames of a peer's buses, with the peer's stamps.

use core::cell::RefCell;
use std::rc::Rc;

use super::{LISTENER_WINDOW, SMALL_HISTORY, gateway, names};
use crate::cli::{DEFAULT_HEARTBEAT, Dump, filters_of};
use crate::gateway::{Gateway, Job, Notice, Printer, Side, reason};
use crate::protocol::time::{Instant, micros};
use crate::protocol::wire::{From, Refusal};
use crate::protocol::{Ended, LinkOptions, Policy};

struct Dumping {
    dump: Dump,
    printer: Rc<RefCell<Printer>>,
    options: LinkOptions,
}

impl Dumping {
    fn join(&self, gateway: &mut Gateway, name: &str) -> Result<(), String> {
        let policy = Policy { window: LISTENER_WINDOW, ..Policy::default() };
        let side = Side::Print(Rc::clone(&self.printer));
        let hub =
            gateway.add_bus(name, SMALL_HISTORY, policy, 2 * LISTENER_WINDOW as usize, side)?;
        let options = LinkOptions { filters: filters_of(&self.dump.filters, name), ..self.options };
        gateway.dial(self.dump.endpoint.clone(), name, hub, options)?;
        Ok(())
    }
}

impl Job for Dumping {
    fn notice(
        &mut self,
        gateway: &mut Gateway,
        dialler: usize,
        notice: &Notice<'_>,
    ) -> Result<(), String> {
        match notice {
            Notice::Buses(names) => {
                gateway.stop_dialling(dialler);
                let names = names::usable(&self.dump.endpoint, names)?;
                let filters = &self.dump.filters;
                if let Some(problem) = names::filtered_nothing(&self.dump.endpoint, filters, &names)
                {
                    return Err(problem);
                }
                names.iter().try_for_each(|name| self.join(gateway, name))
            }
            // A name or an address that is wrong now stays wrong.
            Notice::Ended(Ended::Refused(
                refusal @ (Refusal::NO_SUCH_BUS | Refusal::NOT_SERVED),
            )) => Err(format!("{}: {}", self.dump.endpoint, reason(Ended::Refused(*refusal)))),
            _ => Ok(()),
        }
    }

    fn turn(&mut self, _: &mut Gateway, _: Instant) -> Result<bool, String> {
        Ok(self.printer.borrow().is_closed())
    }
}

pub(super) fn run(dump: Dump) -> Result<(), String> {
    let from = dump.last.map_or(From::Now, |past| From::Last(micros(past)));
    let options = LinkOptions { heartbeat: DEFAULT_HEARTBEAT, from, ..LinkOptions::default() };
    let mut gateway = gateway(options)?;
    let buses = dump.buses.clone();
    let mut job = Dumping { dump, printer: Rc::default(), options };
    for name in &buses {
        job.join(&mut gateway, name)?;
    }
    if buses.is_empty() {
        gateway.ask_for_buses(job.dump.endpoint.clone(), options);
    }
    gateway.run(&mut job)
}
