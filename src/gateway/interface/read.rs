//! Reading an interface, and what is to be done about it as time goes by.

use super::super::clock::WallClock;
use super::super::memory::Heap;
use super::{Interface, RECHECK};
use crate::bus::{self, Received, is_overrun};
use crate::protocol::Hub;
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;

/// Batches read in one turn of the loop, so that a flood on one bus does not hold up the others.
const BATCHES_MAX: usize = 8;
/// Batches read of an interface that is down or gone: more than its socket holds, so that this ends
/// though it comes back meanwhile.
const LAST_BATCHES_MAX: usize = 1024;
/// Frames that waited together from which on the kernel is asked whether it had to drop some. Chosen:
/// a socket with the kernel's default buffer holds more than twice as many.
const LONG_QUEUE: usize = 2 * bus::BATCH;
impl Interface {
    /// Takes what the bus shows. Returns whether that was all.
    pub(in super::super) fn read(
        &mut self,
        now: Instant,
        hub: &mut Hub<Heap>,
        wall: &mut WallClock,
    ) -> bool {
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.check(now, hub);
        }
        self.forget_hearsay(now, hub);
        self.states.catch_up(now, format_args!("{}: ", self.name));
        let is_all = self.read_waiting(now, hub, wall);
        if is_all {
            self.watch_handed(now, hub);
        }
        if self.account.due.is_some_and(|at| at <= now) {
            self.account(now, hub);
        }
        is_all
    }

    fn read_waiting(&mut self, now: Instant, hub: &mut Hub<Heap>, wall: &mut WallClock) -> bool {
        let mut total = 0;
        let mut is_all = false;
        for _ in 0..BATCHES_MAX {
            let Some(can) = &mut self.can else {
                is_all = true;
                break;
            };
            let count = match can.receive() {
                Ok(count) => count,
                Err(error) => {
                    self.read_failed(now, hub, &error);
                    is_all = true;
                    break;
                }
            };
            for index in 0..count {
                let Some(seen) = self.can.as_ref().and_then(|can| can.received(index)) else {
                    continue;
                };
                self.take(now, hub, &seen);
                hub.set_clock(wall.offset_for(now, seen.stamp_us));
                hub.seen(&seen.frame, seen.stamp_us, seen.own);
            }
            self.tell_overflow(hub);
            total += count;
            if count < bus::BATCH {
                is_all = true;
                break;
            }
        }
        self.waited += total;
        if is_all {
            if self.waited >= LONG_QUEUE {
                self.settle_overflow(hub);
            }
            self.waited = 0;
        }
        if total > 0 {
            self.account.soon(now);
        }
        is_all
    }

    /// What a frame tells beside being one.
    fn take(&mut self, now: Instant, hub: &mut Hub<Heap>, seen: &Received) {
        if seen.own {
            self.retry_at = None;
        }
        // On a virtual bus it is news of somebody else's controller.
        if !seen.own && !hub.policy().is_virtual && is_overrun(&seen.frame) {
            self.losses.overran(hub);
        }
        self.set_state_by_frame(now, hub, seen);
    }

    fn read_failed(&mut self, now: Instant, hub: &mut Hub<Heap>, error: &std::io::Error) {
        if bus::is_gone(error) {
            self.detach(now, hub);
        } else if bus::is_down(error) {
            self.set_state(now, hub, BusState::Down);
        } else {
            self.tell(&format!("{}: cannot be read: {error}", self.name));
        }
        // It may be up again already.
        self.recheck_by(now + RECHECK);
    }

    /// Reads what an interface that is gone or down had seen before: the kernel keeps it for the
    /// socket, behind the one error.
    pub(super) fn read_last(&mut self, hub: &mut Hub<Heap>) {
        let Some(can) = &mut self.can else { return };
        let mut told = false;
        for _ in 0..LAST_BATCHES_MAX {
            match can.receive() {
                Ok(0) => break,
                Ok(count) => {
                    for seen in (0..count).filter_map(|index| can.received(index)) {
                        hub.seen(&seen.frame, seen.stamp_us, seen.own);
                    }
                }
                Err(_) if !told => told = true,
                Err(_) => break,
            }
        }
        self.settle_overflow(hub);
    }

    fn tell_overflow(&mut self, hub: &mut Hub<Heap>) {
        if let Some(can) = &self.can {
            self.losses.overflowed(hub, can.overflow());
        }
    }

    fn settle_overflow(&mut self, hub: &mut Hub<Heap>) {
        if let Some(can) = &mut self.can {
            self.losses.overflowed(hub, can.settle_overflow());
        }
    }

    /// Tells the hub of all losses there are by now, though no frame came that tells of them.
    pub(in super::super) fn settle(&mut self, hub: &mut Hub<Heap>) {
        self.settle_overflow(hub);
        if let Some(Ok(counted)) = self.can.as_ref().map(bus::CanInterface::statistics) {
            self.losses.counted(hub, counted);
        }
    }

    /// While frames come or go: reads the kernel's counters, and tells of what went wrong since.
    fn account(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.settle(hub);
        self.account.unconfirmed_are(hub.frames_unconfirmed());
        let name = &self.name;
        if let Some(count) = self.account.unconfirmed.take(now) {
            let why = match (self.mode.one_shot, hub.policy().is_virtual) {
                (true, _) => "the controller is one-shot and gives them up after one attempt",
                (false, true) => "their echoes were lost, by an overflow of the socket's buffer?",
                (false, false) => "does something drop their echoes, or does nobody acknowledge?",
            };
            log::warn!("{name}: frames handed over and not confirmed: {count}; {why}");
        }
        if let Some(times) = self.account.flushes.take(now) {
            log::warn!(
                "{name}: switched off and on to clear old frames from the controller, times: {times}; is \
                 another node on the bus, with the same bit rate?"
            );
        }
        self.account.due = None;
        if hub.is_busy() || self.account.is_waiting() {
            self.account.soon(now);
        }
    }
}
