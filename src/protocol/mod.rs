//! The protocol: no sockets, no clock, no allocation.

pub mod frame;

pub use frame::{Frame, Id, Kind};
