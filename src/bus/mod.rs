//! A CAN bus of this machine, as the gateway sees it.
//!
//! The idea: an interface is a thing that may be absent, down, or up, at any time, and the gateway
//! outlives all of it. So nothing here waits or tries again by itself. [`CanInterface`] moves
//! frames in batches and says plainly what stopped it; [`LinkWatch`] wakes the gateway when
//! something about the interfaces has changed; the gateway then decides.
//!
//! ```text
//!   gateway   CanInterface::receive, send      LinkWatch::drain      create_vcan, configure
//!                    |        ^                       ^                    |
//!   here       raw::decode  raw::encode               |                    |
//!                    |        |                       |                    |
//!   sys         recvmmsg   sendmmsg              rtnetlink: Link, changes, new interfaces
//! ```

pub mod controller;
pub mod namespace;
pub mod netlink;
pub mod raw;
mod route;
pub mod sim;
pub mod socketcan;
pub mod state;

pub use crate::sys::BATCH;
pub use controller::{ConfigureError, Controller, Settings, configure};
pub use namespace::{Namespace, NamespaceSpec, inside};
pub use netlink::{CreateError, DeleteError, Link, LinkWatch, Statistics, create_vcan, delete};
pub use socketcan::{CanInterface, OpenError, Received, SendOutcome, SendStop, is_down, is_gone};
pub use state::{Health, is_overrun};
