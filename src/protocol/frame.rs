//! A CAN frame: everything SocketCAN can say, and nothing it cannot.
//!
//! A [`Frame`] that exists is valid: identifiers fit their width, lengths fit their kind, unused
//! data bytes are zero. Constructors return `None` for anything else, so the rest of the program
//! never checks again.

use core::fmt;

/// Data bytes a classic frame can carry (ISO 11898-1; `CAN_MAX_DLEN` in `linux/can.h`).
pub const CLASSIC_DATA_MAX: usize = 8;
/// Data bytes an FD frame can carry (ISO 11898-1; `CANFD_MAX_DLEN` in `linux/can.h`).
pub const FD_DATA_MAX: usize = 64;
/// Highest raw DLC of a classic frame (`CAN_MAX_RAW_DLC` in `linux/can.h`).
pub const RAW_DLC_MAX: u8 = 15;

/// An 11-bit or a 29-bit identifier. A 29-bit identifier that would fit in 11 bits stays 29-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// 11 bits, at most `0x7FF`.
    Standard(u16),
    /// 29 bits, at most `0x1FFF_FFFF`.
    Extended(u32),
}

impl Id {
    /// Highest 11-bit identifier (`CAN_SFF_MASK`).
    pub const STANDARD_MAX: u16 = 0x7FF;
    /// Highest 29-bit identifier (`CAN_EFF_MASK`).
    pub const EXTENDED_MAX: u32 = 0x1FFF_FFFF;

    /// The identifier's bits, without its width.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Standard(bits) => u32::from(bits),
            Self::Extended(bits) => bits,
        }
    }

    fn is_valid(self) -> bool {
        match self {
            Self::Standard(bits) => bits <= Self::STANDARD_MAX,
            Self::Extended(bits) => bits <= Self::EXTENDED_MAX,
        }
    }
}

/// What sort of frame it is, with what only that sort has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A classic data frame. `raw_dlc` is 9 to 15 where the DLC on the wire said more than the
    /// eight bytes it carries (`len8_dlc`), else equal to the length.
    Data {
        /// DLC as on the wire, 0 to 15.
        raw_dlc: u8,
    },
    /// A classic remote request; it has a DLC and no data.
    Remote {
        /// DLC as on the wire, 0 to 15.
        raw_dlc: u8,
    },
    /// A CAN FD frame.
    Fd {
        /// `canfd_frame.flags` as the kernel gave it: [`Frame::BRS`], [`Frame::ESI`], FDF.
        flags: u8,
    },
    /// An error frame the kernel made up; the identifier holds the error class.
    Error,
}

/// One CAN frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    id: Id,
    kind: Kind,
    len: u8,
    data: [u8; FD_DATA_MAX],
}

impl Frame {
    /// Bit rate switch (`CANFD_BRS` in `linux/can.h`).
    pub const BRS: u8 = 0x01;
    /// Error state indicator (`CANFD_ESI` in `linux/can.h`).
    pub const ESI: u8 = 0x02;

    /// A data frame with id 0 and no data, to make buffers of.
    pub const EMPTY: Self = Self {
        id: Id::Standard(0),
        kind: Kind::Data { raw_dlc: 0 },
        len: 0,
        data: [0; FD_DATA_MAX],
    };

    /// A classic data frame of 0 to 8 bytes.
    #[must_use]
    pub fn data_frame(id: Id, data: &[u8]) -> Option<Self> {
        let raw_dlc = u8::try_from(data.len()).ok()?;
        Self::build(id, Kind::Data { raw_dlc }, data)
    }

    /// A classic data frame of eight bytes whose DLC on the wire is 9 to 15.
    #[must_use]
    pub fn long_dlc(id: Id, raw_dlc: u8, data: &[u8; CLASSIC_DATA_MAX]) -> Option<Self> {
        (raw_dlc > 8).then_some(())?;
        Self::build(id, Kind::Data { raw_dlc }, data)
    }

    /// A remote request with a DLC of 0 to 15.
    #[must_use]
    pub fn remote(id: Id, raw_dlc: u8) -> Option<Self> {
        Self::build(id, Kind::Remote { raw_dlc }, &[])
    }

    /// A CAN FD frame of 0 to 64 bytes. Lengths between the DLC steps are kept as they are: the
    /// kernel carries them on a virtual bus, and rounds up on a real one.
    #[must_use]
    pub fn fd(id: Id, flags: u8, data: &[u8]) -> Option<Self> {
        Self::build(id, Kind::Fd { flags }, data)
    }

    /// An error frame: `class` is `can_id` without its flag bits (`linux/can/error.h`).
    #[must_use]
    pub fn error(class: u32, data: &[u8]) -> Option<Self> {
        Self::build(Id::Extended(class), Kind::Error, data)
    }

    /// Any frame from its parts, or `None` where they do not fit together.
    #[must_use]
    pub fn build(id: Id, kind: Kind, data: &[u8]) -> Option<Self> {
        let fits = match kind {
            Kind::Data { raw_dlc } => {
                data.len() == usize::from(raw_dlc).min(CLASSIC_DATA_MAX) && raw_dlc <= RAW_DLC_MAX
            }
            Kind::Remote { raw_dlc } => data.is_empty() && raw_dlc <= RAW_DLC_MAX,
            Kind::Fd { .. } => data.len() <= FD_DATA_MAX,
            Kind::Error => data.len() <= CLASSIC_DATA_MAX && matches!(id, Id::Extended(_)),
        };
        if !fits || !id.is_valid() {
            return None;
        }
        let mut frame = Self { id, kind, len: 0, data: [0; FD_DATA_MAX] };
        frame.data.get_mut(..data.len())?.copy_from_slice(data);
        frame.len = u8::try_from(data.len()).ok()?;
        Some(frame)
    }

    /// The identifier; for an error frame its class, as 29 bits.
    #[must_use]
    pub fn id(&self) -> Id {
        self.id
    }

    /// What sort of frame it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The data bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.data.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Whether `echo` is this frame as the kernel gives it back: it marks every FD frame as FD
    /// (`CANFD_FDF`, set by `can_send` since Linux 5.14), whatever the flags said.
    #[must_use]
    pub fn is_echoed_by(&self, echo: &Self) -> bool {
        let (Kind::Fd { flags: sent }, Kind::Fd { flags: seen }) = (self.kind, echo.kind) else {
            return self == echo;
        };
        (sent ^ seen) & (Self::BRS | Self::ESI) == 0
            && self.id == echo.id
            && self.data() == echo.data()
    }

    /// Whether it is a CAN FD frame, which a classic interface cannot send.
    #[must_use]
    pub fn is_fd(&self) -> bool {
        matches!(self.kind, Kind::Fd { .. })
    }

    /// Whether it is an error frame, which cannot be sent to a bus.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self.kind, Kind::Error)
    }
}

/// Bits frames took on the wire, by the rate they are sent at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusBits {
    /// At the nominal rate.
    pub nominal: u64,
    /// At the data rate of CAN FD frames with a bit rate switch.
    pub data: u64,
}

impl BusBits {
    /// Adds a frame with the pause after it, without stuff bits (ISO 11898-1), which add 20 % at
    /// most and depend on the bits. An error frame counts as the error flag with its delimiter.
    pub fn add(&mut self, frame: &Frame) {
        let extended = matches!(frame.id, Id::Extended(_));
        let data = 8 * u64::from(frame.len);
        match frame.kind {
            // Start 1, id 11, RTR, IDE, r0, DLC 4, CRC 16, ACK 2, end 7, pause 3.
            Kind::Data { .. } | Kind::Remote { .. } => {
                self.nominal += data + if extended { 67 } else { 47 };
            }
            Kind::Fd { flags } => {
                // Up to BRS, and from the CRC's delimiter on; between them ESI, DLC, data, the
                // count of stuff bits, the CRC, and the stuff bits that are always in both.
                let outer = if extended { 36 + 13 } else { 17 + 13 };
                let inner = 1 + 4 + data + if frame.len > 16 { 4 + 21 + 7 } else { 4 + 17 + 6 };
                self.nominal += outer;
                let fast = flags & Frame::BRS != 0;
                *(if fast { &mut self.data } else { &mut self.nominal }) += inner;
            }
            Kind::Error => self.nominal += 6 + 8 + 3,
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:02X?}", self.kind, self.id, self.data())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_exists_is_valid() {
        assert!(Frame::data_frame(Id::Standard(0x800), &[]).is_none());
        assert!(Frame::data_frame(Id::Extended(0x2000_0000), &[]).is_none());
        assert!(Frame::data_frame(Id::Standard(1), &[0; 9]).is_none());
        assert!(Frame::remote(Id::Standard(1), 16).is_none());
        assert!(Frame::fd(Id::Standard(1), 0, &[0; 65]).is_none());
        assert!(Frame::long_dlc(Id::Standard(1), 8, &[0; 8]).is_none());
        assert!(Frame::build(Id::Standard(4), Kind::Error, &[0; 8]).is_none());
        assert!(Frame::build(Id::Standard(4), Kind::Data { raw_dlc: 3 }, &[0; 2]).is_none());
    }

    #[test]
    fn bits_on_the_bus_are_those_of_the_standard() {
        let bits = |frame: Option<Frame>| {
            let mut bits = BusBits::default();
            bits.add(&frame.unwrap());
            (bits.nominal, bits.data)
        };
        let (short, long) = (Id::Standard(1), Id::Extended(1));
        assert_eq!(bits(Frame::data_frame(short, &[])), (47, 0));
        assert_eq!(bits(Frame::data_frame(short, &[0; 8])), (111, 0));
        assert_eq!(bits(Frame::data_frame(long, &[0; 8])), (131, 0));
        assert_eq!(bits(Frame::remote(short, 8)), (47, 0));
        assert_eq!(bits(Frame::fd(short, Frame::BRS, &[0; 16])), (30, 160));
        assert_eq!(bits(Frame::fd(long, 0, &[0; 64])), (49 + 549, 0));
    }

    #[test]
    fn width_of_the_identifier_is_part_of_it() {
        let short = Frame::data_frame(Id::Standard(0x123), &[1]);
        let long = Frame::data_frame(Id::Extended(0x123), &[1]);
        assert_ne!(short, long);
        assert_eq!(long.map(|frame| frame.id().bits()), Some(0x123));
    }
}
