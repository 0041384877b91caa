//! canspan carries a CAN bus over TCP.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

#[cfg(feature = "std")]
pub mod bus;
pub mod protocol;
#[cfg(feature = "std")]
pub mod sys;
