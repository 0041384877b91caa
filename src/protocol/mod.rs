//! The protocol: no sockets, no clock, no allocation.

mod clock;
pub mod entry;
pub mod frame;
pub mod history;
mod hub;
mod link;
mod output;
mod peer;
mod queue;
mod resume;
mod stream;
pub mod time;
pub mod wire;

pub use frame::{Frame, Id, Kind};
pub use hub::{Hub, Memory, PeerStatus, Policy};
pub use link::{
    BUS_LIST_MAX, Ended, Event, GREETING_TIMEOUT, HEARTBEATS_MISSED, Link, LinkOptions, Place,
    RECEIPT_INTERVAL,
};
pub use output::RECORD_MAX;
pub use peer::{Counters, Outcome, PeerNumber, Progress};
pub use queue::{ECHO_OVERDUE, HANDED_MAX, OFFER_MAX, PEERS_MAX, Slot, Slots};
