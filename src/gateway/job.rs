//! What a command does beside the loop.

use std::os::fd::BorrowedFd;

use super::Gateway;
use crate::protocol::Ended;
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;

/// What a command wants to know of.
#[derive(Debug)]
pub enum Notice<'n> {
    /// A dialled link is up.
    Up,
    /// The peer's bus has this state.
    PeerBus(BusState),
    /// The peer has these buses.
    Buses(Vec<String>),
    /// A dialled link is over.
    Ended(Ended),
    /// An attempt to dial failed.
    Unreachable(&'n str),
}

/// What a command does beside the loop.
pub trait Job {
    /// Something happened to what `dialler` dials. An error ends the gateway.
    fn notice(
        &mut self,
        gateway: &mut Gateway,
        dialler: usize,
        notice: &Notice<'_>,
    ) -> Result<(), String> {
        let _ = (gateway, dialler, notice);
        Ok(())
    }

    /// After each turn of the loop. `true`: all is done. An error ends the gateway.
    fn turn(&mut self, gateway: &mut Gateway, now: Instant) -> Result<bool, String> {
        let _ = (gateway, now);
        Ok(false)
    }

    /// What the job wants to read, if anything; it is told by [`Job::read`].
    fn input(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// There is something to read.
    fn read(&mut self) {}

    /// When the job wants a turn without anything having happened.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
