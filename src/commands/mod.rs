//! The commands: each sets up a gateway and runs it.

mod connect;
mod dump;
mod failure;
mod names;
mod send;
mod serve;
mod status;

use std::io;

pub use failure::{Failure, not_written};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::bus::Settings;
use crate::bus::sim::{SimError, Source};
use crate::cli::{BusSpec, Command, Limits, MaxAge};
use crate::gateway::{Gateway, Interface, Side};
use crate::protocol::{LinkOptions, Policy};

/// Frames from one peer under way to a bus of a board at once. Chosen: 16 ms of a full 1 Mbit/s
/// bus; 64 peers that flood a stuck bus take some 1 MiB, and 1,024 of them 16 MiB.
const BOARD_WINDOW: u32 = 128;
/// The same for one who listens to a board: 200 ms, a long path, of a full 1 Mbit/s bus with 8-byte frames.
const LISTENER_WINDOW: u32 = 1_728;
/// Room from the start for this many peers whose every frame waits for a receipt.
const LISTENERS_MAX: usize = 16;
/// History of a process that has no bus of its own to tell of.
const SMALL_HISTORY: usize = 64 * 1024;

/// Runs a command to its end.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve::run(serve)?,
        Command::Connect(connect) => connect::run(connect)?,
        Command::Dump(dump) => dump::run(dump)?,
        Command::Send(send) => send::run(send)?,
        Command::Status(status) => status::run(&status)?,
    }
    Ok(())
}

fn gateway(options: LinkOptions) -> Result<Gateway, String> {
    raise_descriptor_limit();
    Gateway::new(options).map_err(|error: io::Error| format!("cannot start: {error}"))
}

/// Lets the process have as many descriptors as it may: each link is one, and the usual soft limit, 1,024, is there for
/// programs that use select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused it has what it had.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn link_options(limits: &Limits) -> LinkOptions {
    let Limits { heartbeat, hold, .. } = *limits;
    LinkOptions { heartbeat, hold, ..LinkOptions::default() }
}

/// Frames from one peer under way to a bus at once: what is sent inside this process waits for nothing.
fn window(spec: &BusSpec) -> u32 {
    match spec {
        BusSpec::Interface(_) => BOARD_WINDOW,
        BusSpec::Sim { .. } => LISTENER_WINDOW,
    }
}

/// Room for frames toward a bus that many peers may join, before it grows with them.
fn queue_max(window: u32) -> usize {
    LISTENERS_MAX * window as usize
}

/// A bus of the command line. `max_age`: the same as in its policy.
fn side(
    spec: &BusSpec,
    max_age: MaxAge,
    create: bool,
    settings: Option<Settings>,
) -> Result<Side, String> {
    match spec {
        BusSpec::Interface(name) => {
            let interface = Interface::new(name.clone(), max_age, create);
            Ok(Side::Interface(Box::new(interface.with_settings(settings))))
        }
        BusSpec::Sim { source, .. } => {
            Source::open(source).map(Side::Sim).map_err(|error| match error {
                SimError::Unreadable(path, error) => {
                    let why = failure::sentence(&error);
                    format!("the trace {} cannot be read: {why}", path.display())
                }
                error => error.to_string(),
            })
        }
    }
}

/// What holds for a bus before more is known of it.
fn policy(spec: &BusSpec, max_age: MaxAge, window: u32) -> Policy {
    let max_age = match max_age {
        MaxAge::Limit(limit) => Some(limit),
        MaxAge::ByBus | MaxAge::Unlimited => None,
    };
    let is_virtual = matches!(spec, BusSpec::Sim { .. });
    Policy { max_age, is_virtual, window, ..Policy::default() }
}
