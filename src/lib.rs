//! canspan carries a CAN bus over TCP.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod protocol;
