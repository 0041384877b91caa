//! What frames tell of a bus' state.
//!
//! ```text
//!             warning, passive            bus-off
//!      up  <------------------> warning,  ------->  bus-off
//!       ^        active         passive               |
//!       +---------------------------------------------+
//!         restarted, active, or any frame that is none of errors
//! ```
//! A controller reports changes of its state as error frames (`linux/can/error.h`). On a virtual
//! bus they are whatever somebody sent, and count all the same. Whether an interface is there and
//! switched on is not told by frames: from down or absent no frame leads away.

use socketcan::CanErrorFrame;
use socketcan::errors::{
    CAN_ERR_BUSOFF, CAN_ERR_CNT, CAN_ERR_CRTL, CAN_ERR_RESTARTED, CanError, ControllerProblems,
};

use crate::protocol::frame::Frame;
use crate::protocol::wire::{BusState, BusStatus};

/// The classes of error that tell of the state. The others are left out before decoding: they may
/// flood, and more than two classes in one frame would cost an allocation.
const CLASSES: u32 = CAN_ERR_CRTL | CAN_ERR_BUSOFF | CAN_ERR_RESTARTED | CAN_ERR_CNT;

/// Whether a controller tells in this frame that it had no room for frames that came
/// (`CAN_ERR_CRTL_RX_OVERFLOW` in `linux/can/error.h`): at least one was lost.
#[must_use]
pub fn is_overrun(frame: &Frame) -> bool {
    const RX_OVERFLOW: u8 = 0x01;
    let is_controller = frame.is_error() && frame.id().bits() & CAN_ERR_CRTL != 0;
    is_controller && frame.data().get(1).is_some_and(|problem| problem & RX_OVERFLOW != 0)
}

/// A bus' state, with its controller's error counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The state.
    pub state: BusState,
    /// Transmit and receive error counters, as last told; `None` where they are not.
    pub errors: Option<(u8, u8)>,
}

impl From<BusStatus> for Health {
    fn from(status: BusStatus) -> Self {
        Self { state: status.state, errors: status.errors }
    }
}

impl Health {
    /// In this state, with counters unknown.
    #[must_use]
    pub fn unknown(state: BusState) -> Self {
        Self { state, errors: None }
    }

    /// How the bus is once it has shown this frame.
    ///
    /// Bus-off ends with the controller's restart (`CAN_ERR_RESTARTED`), with its return to
    /// error-active, or with any frame that is no error frame, since none is seen or sent off the
    /// bus. Warning and passive do not end it: a driver may report them late.
    #[must_use]
    pub fn after(self, frame: &Frame) -> Self {
        if !self.state.takes_frames() && self.state != BusState::BusOff {
            return self;
        }
        if !frame.is_error() {
            let is_off = self.state == BusState::BusOff;
            return if is_off { Self::unknown(BusState::Up) } else { self };
        }
        let class = frame.id().bits() & CLASSES;
        let known = CanErrorFrame::new_error(class, frame.data()).ok().filter(|_| class != 0);
        known.map_or(self, |known| self.told(&CanError::from(known)))
    }

    fn told(self, error: &CanError) -> Self {
        let problems = error.controller().unwrap_or_else(ControllerProblems::empty);
        let passive = ControllerProblems::RX_PASSIVE | ControllerProblems::TX_PASSIVE;
        let warning = ControllerProblems::RX_WARNING | ControllerProblems::TX_WARNING;
        let was_off = self.state == BusState::BusOff;
        let state = if error.is_bus_off() {
            BusState::BusOff
        } else if error.is_restarted() {
            BusState::Up
        } else if problems.intersects(passive) && !was_off {
            BusState::ErrorPassive
        } else if problems.intersects(warning) && !was_off {
            BusState::ErrorWarning
        } else if problems.contains(ControllerProblems::ACTIVE) {
            BusState::Up
        } else {
            self.state
        };
        // A controller that comes back begins to count anew; nobody says with what.
        let is_back = was_off && state != BusState::BusOff;
        Self { state, errors: error.counters().or_else(|| self.errors.filter(|_| !is_back)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::Id;
    use BusState::{Absent, BusOff, Down, ErrorPassive, ErrorWarning, Up};

    const RX_WARNING: u8 = 0x04;
    const TX_WARNING: u8 = 0x08;
    const TX_PASSIVE: u8 = 0x20;
    const ACTIVE: u8 = 0x40;

    fn error(class: u32, controller: u8, errors: (u8, u8)) -> Frame {
        Frame::error(class, &[0, controller, 0, 0, 0, 0, errors.0, errors.1]).unwrap()
    }

    fn state(state: BusState, frame: &Frame) -> BusState {
        Health::unknown(state).after(frame).state
    }

    #[test]
    fn a_controller_goes_off_the_bus_and_comes_back() {
        let mut health = Health::unknown(Up);
        for (class, controller, errors, expected) in [
            (CAN_ERR_CRTL | CAN_ERR_CNT, RX_WARNING | TX_WARNING, (97, 96), ErrorWarning),
            (CAN_ERR_CRTL | CAN_ERR_CNT, TX_PASSIVE, (128, 96), ErrorPassive),
            (CAN_ERR_BUSOFF | CAN_ERR_CNT, 0, (255, 96), BusOff),
            (CAN_ERR_RESTARTED | CAN_ERR_CNT, 0, (0, 0), Up),
            (CAN_ERR_CRTL | CAN_ERR_CNT, RX_WARNING, (0, 99), ErrorWarning),
            (CAN_ERR_CRTL | CAN_ERR_CNT, ACTIVE, (0, 90), Up),
        ] {
            health = health.after(&error(class, controller, errors));
            assert_eq!(health, Health { state: expected, errors: Some(errors) });
        }
    }

    #[test]
    fn counters_come_only_with_their_class_and_with_any_other() {
        let known = Health { state: ErrorPassive, errors: Some((130, 1)) };
        // Before Linux 6.0 nobody sets the class, and the bytes may hold anything.
        assert_eq!(known.after(&error(CAN_ERR_CRTL, TX_WARNING, (7, 7))).errors, Some((130, 1)));
        let bus_error = libc::CAN_ERR_BUSERROR | libc::CAN_ERR_PROT | CAN_ERR_CNT;
        let counted = Health { errors: Some((136, 2)), ..known };
        assert_eq!(known.after(&error(bus_error, 0xFF, (136, 2))), counted);
        let off = known.after(&error(CAN_ERR_BUSOFF, 0, (0, 0)));
        assert_eq!(off, Health { state: BusOff, ..known });
        assert_eq!(off.after(&error(CAN_ERR_RESTARTED, 0, (9, 9))), Health::unknown(Up));
    }

    #[test]
    fn bus_off_ends_with_any_ordinary_frame_and_not_with_late_news() {
        let frame = Frame::data_frame(Id::Standard(1), &[]).unwrap();
        assert_eq!(state(BusOff, &frame), Up);
        assert_eq!(state(BusOff, &Frame::remote(Id::Standard(1), 0).unwrap()), Up);
        assert_eq!(state(BusOff, &error(CAN_ERR_CRTL, ACTIVE, (0, 0))), Up);
        for late in [
            error(CAN_ERR_CRTL, TX_PASSIVE, (0, 0)),
            error(CAN_ERR_CRTL, TX_WARNING, (0, 0)),
            error(libc::CAN_ERR_BUSERROR, 0, (0, 0)),
            error(CAN_ERR_CNT, 0, (0, 0)),
            error(CAN_ERR_BUSOFF | CAN_ERR_RESTARTED, ACTIVE, (0, 0)),
        ] {
            assert_eq!(state(BusOff, &late), BusOff, "{late:?}");
        }
        assert_eq!(state(ErrorPassive, &frame), ErrorPassive);
    }

    #[test]
    fn nothing_else_is_a_change() {
        let overflow = error(CAN_ERR_CRTL, 0x03, (0, 0));
        let others = error(0x1FFF_FFFF & !CLASSES, 0xFF, (1, 1));
        let short = Frame::error(CAN_ERR_CRTL, &[]).unwrap();
        for before in [Up, ErrorWarning, ErrorPassive, BusOff] {
            for frame in [overflow, others, short] {
                assert_eq!(Health::unknown(before).after(&frame), Health::unknown(before));
            }
        }
        for before in [Absent, Down] {
            assert_eq!(state(before, &error(CAN_ERR_BUSOFF, ACTIVE, (0, 0))), before);
        }
    }

    #[test]
    fn overrun_is_told_by_its_class_and_bit() {
        assert!(is_overrun(&error(CAN_ERR_CRTL | CAN_ERR_CNT, 0x05, (0, 0))));
        for other in [
            error(CAN_ERR_CRTL, 0x02, (0, 0)),
            error(CAN_ERR_BUSOFF, 0x01, (0, 0)),
            Frame::error(CAN_ERR_CRTL, &[]).unwrap(),
            Frame::data_frame(Id::Extended(CAN_ERR_CRTL), &[1, 1]).unwrap(),
        ] {
            assert!(!is_overrun(&other), "{other:?}");
        }
    }

    #[test]
    fn any_error_frame_is_read_without_a_panic() {
        for bit in 0..29 {
            for byte in 0..=u8::MAX {
                let _ = Health::unknown(Up).after(&error(1 << bit, byte, (byte, byte)));
            }
        }
    }
}
