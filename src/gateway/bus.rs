//! A bus as the gateway's loop drives it: what it shows goes to its hub, what the hub offers goes
//! to it. Every decision is the hub's.

use core::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::clock::WallClock;
use super::interface::{Interface, Mode};
use super::memory::Heap;
use super::print::Printer;
use super::siblings::Siblings;
use super::status::Rates;
use crate::bus::sim::Source;
use crate::protocol::time::Instant;
use crate::protocol::wire::BusState;
use crate::protocol::{Frame, Hub, OFFER_MAX};

/// Frames offered in one system call's worth.
pub(super) type Offer = [Frame; OFFER_MAX];

/// A bus of this process.
pub struct Bus {
    /// Where its frames come from and go to.
    pub side: Side,
    /// Other processes that have it open.
    pub(super) siblings: Option<Siblings>,
    /// Which of its descriptors is waited for: the how many-th it has had.
    pub(super) watched: u32,
    offer: Box<Offer>,
}

/// Where a bus' frames come from and go to.
pub enum Side {
    /// A CAN interface of the kernel.
    Interface(Box<Interface>),
    /// Inside this process: what is sent is on the bus at once.
    Sim(Source),
    /// Standard output.
    Print(Rc<RefCell<Printer>>),
    /// A command that gives frames to the hub itself, and takes none.
    Feed,
}

impl Bus {
    /// A bus with this side; the hub is told how it is.
    #[must_use]
    pub fn new(side: Side, hub: &mut Hub<Heap>) -> Self {
        if !matches!(side, Side::Interface(_)) {
            hub.set_state(BusState::Up, None);
        }
        Self { side, siblings: None, watched: 0, offer: Box::new([Frame::EMPTY; OFFER_MAX]) }
    }

    /// Whether it is a bus, and not a command's end of a link.
    #[must_use]
    pub fn is_bus(&self) -> bool {
        matches!(self.side, Side::Interface(_) | Side::Sim(_))
    }

    /// The interface behind it, if one is.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        match &self.side {
            Side::Interface(interface) => Some(interface.name()),
            _ => None,
        }
    }

    /// What to wait for before there is something to read, and the how many-th such descriptor it is.
    pub fn descriptor(&self) -> Option<(BorrowedFd<'_>, u32)> {
        match &self.side {
            Side::Interface(interface) => interface.descriptor(),
            _ => None,
        }
    }

    /// When to drive it next without being woken.
    pub fn poll_timeout(&self, hub: &Hub<Heap>) -> Option<Instant> {
        match &self.side {
            Side::Interface(interface) => interface.poll_timeout(hub),
            Side::Sim(source) => source.next_due().map(Instant::from_micros),
            Side::Print(_) | Side::Feed => None,
        }
    }

    /// Takes what the bus shows. Returns whether that was all.
    pub fn read(&mut self, now: Instant, hub: &mut Hub<Heap>, wall: &mut WallClock) -> bool {
        match &mut self.side {
            Side::Interface(interface) => interface.read(now, hub, wall),
            Side::Sim(source) => {
                while let Some(frame) = source.poll(now.as_micros()) {
                    hub.set_clock(wall.offset_us(now));
                    hub.seen(&frame, wall.stamp_us(now), false);
                }
                if let Some(failure) = source.take_failure() {
                    log::error!("{}: {failure}; the bus stays silent", hub.name());
                }
                true
            }
            Side::Print(_) | Side::Feed => true,
        }
    }

    /// Gives it what its hub offers. Returns whether anything moved.
    pub fn write(&mut self, now: Instant, hub: &mut Hub<Heap>, wall: &mut WallClock) -> bool {
        let offer = &mut self.offer;
        match &mut self.side {
            Side::Interface(interface) => interface.write(now, hub, wall, offer),
            Side::Sim(_) => relay_all(now, hub, offer),
            Side::Feed => take_all(now, hub, wall, offer, |_, _, _| true),
            Side::Print(printer) => {
                let mut printer = printer.borrow_mut();
                take_all(now, hub, wall, offer, |hub, index, frame| {
                    printer.line(hub.offered_stamp(index), hub.name(), frame)
                })
            }
        }
    }

    /// Something about the machine's interfaces has changed.
    pub fn check(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        if let Side::Interface(interface) = &mut self.side {
            interface.check(now, hub);
        }
    }

    /// The network namespace of the machine's interfaces is gone, or another one now.
    pub(super) fn leave(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        if let Side::Interface(interface) = &mut self.side {
            interface.leave(now, hub);
        }
    }

    /// Its bit rates, where it has any.
    pub(super) fn rates(&self) -> Rates {
        match &self.side {
            Side::Interface(interface) => interface.rates(),
            _ => Rates::default(),
        }
    }

    /// What of its controller and driver matters to those who send: nothing on most.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match &self.side {
            Side::Interface(interface) => interface.mode(),
            _ => Mode::default(),
        }
    }

    /// Tells the hub of all losses there are by now, though no frame came that tells of them: before
    /// a report, and before the end.
    pub fn settle(&mut self, hub: &mut Hub<Heap>) {
        if let Side::Interface(interface) = &mut self.side {
            interface.settle(hub);
        }
    }

    /// The process ends.
    pub fn close(&mut self) {
        if let Side::Interface(interface) = &mut self.side {
            interface.close(self.siblings.as_ref().is_some_and(Siblings::has_others));
        }
    }
}

/// Offers a bus inside this process takes in one turn, so that others have theirs.
const OFFERS_MAX: usize = 16;

/// A bus inside this process takes every frame at once, and adds nothing to its age: who gets it next
/// must not take an old command for a new one. So each keeps its stamp, and the clock it was made by.
/// Returns whether anything moved, and there may be more.
fn relay_all(now: Instant, hub: &mut Hub<Heap>, frames: &mut Offer) -> bool {
    let mut moved = false;
    for _ in 0..OFFERS_MAX {
        let offered = hub.offer(now, frames);
        let mut births = [(0, 0); OFFER_MAX];
        for (index, birth) in births.iter_mut().enumerate().take(offered) {
            let stamp_us = hub.offered_stamp(index);
            let seen_us = hub.offered_seen(index).as_micros();
            *birth = (stamp_us, stamp_us.wrapping_sub(seen_us).cast_signed());
        }
        hub.taken(now, offered);
        for (frame, (stamp_us, offset_us)) in frames.iter().zip(births).take(offered) {
            hub.set_clock(offset_us);
            hub.seen(frame, stamp_us, true);
        }
        moved |= offered > 0;
        if offered < OFFER_MAX {
            break;
        }
    }
    moved
}

/// A bus that takes every frame at once, as long as `each` has room for it. Returns whether anything
/// moved, and there may be more.
fn take_all(
    now: Instant,
    hub: &mut Hub<Heap>,
    wall: &mut WallClock,
    frames: &mut Offer,
    mut each: impl FnMut(&Hub<Heap>, usize, &Frame) -> bool,
) -> bool {
    let mut moved = false;
    for _ in 0..OFFERS_MAX {
        let offered = hub.offer(now, frames);
        let offer = frames.iter().take(offered).enumerate();
        let taken = offer.take_while(|(index, frame)| each(hub, *index, frame)).count();
        hub.taken(now, taken);
        let stamp_us = wall.stamp_us(now);
        hub.set_clock(wall.offset_us(now));
        for frame in frames.iter().take(taken) {
            hub.seen(frame, stamp_us, true);
        }
        moved |= taken > 0;
        if taken == 0 || taken < offered {
            break;
        }
    }
    moved
}
