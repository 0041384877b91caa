//! canspan carries a CAN bus over TCP.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

#[cfg(feature = "std")]
pub mod bus;
#[cfg(feature = "std")]
pub mod cli;
#[cfg(feature = "std")]
pub mod commands;
#[cfg(feature = "std")]
pub mod gateway;
#[cfg(feature = "std")]
pub mod logging;
#[cfg(feature = "std")]
pub mod net;
pub mod protocol;
#[cfg(feature = "std")]
pub mod sys;
#[cfg(feature = "std")]
pub mod text;
