//! canspan carries a CAN bus over TCP: nothing lost, doubled, reordered or stale in silence.
//!
//! A board in the field owns a bus (`canspan serve can0`), a PC joins it to a local interface
//! (`canspan connect board can0`), and the tools on the PC see and drive the board's bus. Both ends
//! run this same code; who dials and who listens is the only difference. The README is for users;
//! `docs/protocol.md` is for those who write another implementation; this page is for those who
//! read or use the code.
//!
//! # The one idea
//!
//! A bus has a history, and a link is a cursor into it.
//!
//! ```text
//! bus --seen--> [ history    ] --cursor--> link --TCP--> peer
//! bus <-offer-- [ tx queue   ] <---------- link <--TCP-- peer
//! ```
//!
//! What a bus shows is put into a bounded ring, in bus order, each frame with a position. A link
//! holds the position of the next frame for its peer and nothing more, so a cut costs nothing: the
//! next link says how far it had got, and the cursor is put there. What is no longer in the ring is
//! the exact loss, and both ends count it. Frames from peers wait in a queue until the bus takes
//! them, or until they are too old for it; either way the sender gets a receipt.
//!
//! # The layers
//!
//! The protocol decides, and touches nothing: it has no socket, no clock, no thread, no source of
//! chance, and allocates nothing. The shell touches everything, and decides nothing about frames: it
//! waits in one place, reads in batches, tells the protocol, and writes what the protocol says.
//!
//! - [`protocol`]: frames, history, transmit queue, links, messages. `no_std`, sans-IO. Begin here.
//! - `bus`: a CAN bus of this machine. SocketCAN in batches, its netlink side, and simulated ones.
//! - `net`: TCP. Dialling with growing pauses, listening, signals.
//! - `gateway`: the loop that joins buses, hubs and links, on one thread.
//! - `commands`: `serve`, `connect`, `dump` and `send`, each a gateway with something beside it.
//! - `cli`: the command line, from words to a valid command or a sentence that says what is wrong.
//! - `text`: frames as people write them, in the formats of `candump` and `cansend`.
//! - `logging`: the log, for a terminal or the journal.
//! - `random`: numbers that do not repeat, also on a board without entropy at boot.
//! - `service`: what the service manager is told, as sd_notify(3) has it.
//! - `sys`: the system calls no crate wraps as they are needed, and the only `unsafe`.
//!
//! # Features
//!
//! `std`, on by default, is everything but [`protocol`]. Without it the crate is `no_std`:
//!
//! ```text
//! cargo build --no-default-features --lib --target thumbv7em-none-eabihf
//! ```
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
pub mod random;
#[cfg(feature = "std")]
pub mod service;
#[cfg(feature = "std")]
pub mod sys;
#[cfg(feature = "std")]
pub mod text;
