//! A CAN bus.

pub mod sim;
