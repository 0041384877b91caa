//! The command line: what was typed, and what it means.
//!
//! Two stages, as in ripgrep. `words` and `typed` take the arguments apart without judging them;
//! `meaning` makes a [`Command`] of them, once, and tells the operator in a sentence what does not
//! make sense. The rest of the program never sees a raw string.

mod address;
mod bus_spec;
mod error;
mod filter;
mod help;
mod meaning;
mod namespace;
mod quantity;
mod typed;
mod words;

use core::time::Duration;
use std::ffi::OsString;

pub use address::{DEFAULT_PORT, Endpoint, ListenAddress};
pub use bus_spec::{BusPair, BusSpec, parse_name};
pub use error::{CliError, ValueError};
pub use filter::{BusFilter, filtered_stranger, filters_of};
pub use meaning::frame_to_send;

use crate::bus::{NamespaceSpec, Settings};
use crate::protocol::frame::Frame;

/// Age limit of frames toward a bus that is served, and toward a real one, unless told otherwise: longer than any sound link needs,
/// shorter than a person at a control takes to be surprised by what he did before.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_millis(500);
/// Silence after which a heartbeat is sent. A peer is given up after three of them, so a dead one
/// is noticed in less than 3 s.
pub const DEFAULT_HEARTBEAT: Duration = Duration::from_millis(900);
/// Bytes of history of a bus: 20 s of a full 1 Mbit/s bus and some more.
pub const DEFAULT_HISTORY: usize = 4 << 20;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Text for standard output, and success: help or the version.
    Print(String),
    /// Run a command.
    Run {
        /// What to do.
        command: Box<Command>,
        /// Whether to log at debug level.
        verbose: bool,
    },
}

/// A command with its options, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Own buses and let peers join them.
    Serve(Serve),
    /// Join the buses of a peer to local ones.
    Connect(Connect),
    /// Print the frames of a peer's buses.
    Dump(Dump),
    /// Send frames to a peer's bus.
    Send(SendFrames),
    /// Request the status of a running canspan.
    Status(Status),
}

/// `canspan serve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// The buses, at least one, no two of one name.
    pub buses: Vec<BusSpec>,
    /// Where to listen, at least one, no two the same. Not beyond this machine unless
    /// `--insecure` was given.
    pub listen: Vec<ListenAddress>,
    /// Whether to make interfaces that are missing.
    pub create: bool,
    /// Peers to dial for buses of the same names.
    pub dial: Vec<Endpoint>,
    /// Whether nothing from peers may reach the buses.
    pub read_only: bool,
    /// How the controllers of all interfaces are to be set; `None`: as they are.
    pub settings: Option<Settings>,
    /// Which frames leave the buses toward peers.
    pub filters: Vec<BusFilter>,
    /// Which frames of peers may be sent to the buses.
    pub tx_filters: Vec<BusFilter>,
    /// Where to tell the numbers, under the same condition as for `listen`.
    pub metrics: Vec<ListenAddress>,
    /// What holds for every link and history.
    pub limits: Limits,
}

/// `canspan connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Who dials.
    pub way: Way,
    /// Which buses; none means all of the peer we dial, under their names.
    pub buses: Vec<BusPair>,
    /// Whether to make local interfaces that are missing.
    pub create: bool,
    /// The network namespace the local interfaces are in; `None`: the process' own.
    pub netns: Option<NamespaceSpec>,
    /// Which frames to ask for, by what the peer calls the bus.
    pub filters: Vec<BusFilter>,
    /// Where to tell the numbers. Not beyond this machine unless `--insecure` was given.
    pub metrics: Vec<ListenAddress>,
    /// What holds for every link and history.
    pub limits: Limits,
}

/// Which side of `canspan connect` dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// We dial the peer.
    Dial {
        /// The peer.
        endpoint: Endpoint,
        /// Where `canspan status` is answered.
        status: Vec<ListenAddress>,
    },
    /// Peers dial us, at these addresses, at least one, under the same condition as for `serve`.
    Listen(Vec<ListenAddress>),
}

/// `canspan dump`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// The peer.
    pub endpoint: Endpoint,
    /// The names of the peer's buses; none means all.
    pub buses: Vec<String>,
    /// Which frames to ask for.
    pub filters: Vec<BusFilter>,
    /// How much of the past to begin with.
    pub last: Option<Duration>,
}

/// `canspan send`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendFrames {
    /// The peer.
    pub endpoint: Endpoint,
    /// The name of the peer's bus.
    pub bus: String,
    /// What to send.
    pub frames: FrameInput,
}

/// `canspan status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whom to ask.
    pub endpoint: Endpoint,
    /// Whether JSON is wanted.
    pub json: bool,
    /// Whether to ask again and again.
    pub watch: bool,
    /// Whether to fail unless everything is up.
    pub check: bool,
}

/// Where the frames to send come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameInput {
    /// The command line; at least one.
    Given(Vec<Frame>),
    /// Standard input, one a line, each for [`frame_to_send`].
    Stdin,
}

/// What `serve` and `connect` have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for the history of each bus.
    pub history_bytes: usize,
    /// How old a frame may be when it is put on a bus.
    pub max_age: MaxAge,
    /// Silence after which a heartbeat is sent; a peer is given up after three of them.
    pub heartbeat: Duration,
    /// The longest a frame waits for others to share a packet with.
    pub hold: Duration,
}

/// How old a frame may be when it is put on a bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxAge {
    /// By the interface: [`DEFAULT_MAX_AGE`] toward a real bus, no limit toward a virtual one, where
    /// what comes late is no command but what was missed.
    #[default]
    ByBus,
    /// No limit, toward any bus.
    Unlimited,
    /// This limit, toward any bus.
    Limit(Duration),
}

/// Reads the command line, without the program's own name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, CliError> {
    let words = words::Words::split(arguments)?;
    if words.help {
        return Ok(Request::Print(help::text(words.command)));
    }
    if words.version {
        return Ok(Request::Print(concat!("canspan ", env!("CARGO_PKG_VERSION"), "\n").to_owned()));
    }
    let typed = typed::Typed::read(&words)?;
    let command = meaning::resolve(typed).map_err(|error| error.of_command(words.command))?;
    Ok(Request::Run { command: Box::new(command), verbose: words.verbose })
}

#[cfg(test)]
mod tests;
