//! canspan carries a CAN bus over TCP.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod bus;
#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod logging;
pub mod protocol;
#[cfg(feature = "std")]
pub mod text;
