//! canspan carries a CAN bus over TCP.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

pub mod protocol;
