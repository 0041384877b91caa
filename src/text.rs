//! Frames as people and can-utils write them.
//!
//! [`parse_frame`] reads what `cansend` takes, [`AsText`] writes it back, [`write_log_line`] and
//! [`parse_log_line`] add the time and the bus as `candump -L` prints them. Nothing here allocates.
//!
//! Where `cansend` is lenient by accident we refuse instead: it sends `800#` as `000#`, drops a
//! ninth data byte and ignores what follows `R5`. A frame that is not what was typed has no
//! business on a bus.

mod error;
mod log_line;
mod visible;

use core::fmt;

pub use error::{ParseFrameError, ParseLogError};
pub use log_line::{LogLine, parse_log_line, write_log_line};
pub use visible::{Visible, is_visible};

use crate::protocol::frame::{CLASSIC_DATA_MAX, FD_DATA_MAX, Frame, Id, Kind, RAW_DLC_MAX};

/// Marks an error frame in an 8-digit identifier (`CAN_ERR_FLAG` in `linux/can.h`).
const ERROR_FLAG: u32 = 0x2000_0000;
/// Marks an FD frame in its own flags (`CANFD_FDF` in `linux/can.h`). Older kernels leave it out,
/// today's can-utils always put it in, and so do we: the text of a frame is then the same
/// whichever kernel it crossed.
const FDF: u8 = 0x04;
/// `canfd_frame.flags` is written as one hexadecimal digit.
const FLAGS_MASK: u8 = 0x0F;
/// The data lengths above eight that an FD frame can have on the wire (ISO 11898-1).
const FD_STEPS: [usize; 7] = [12, 16, 20, 24, 32, 48, 64];

/// Reads a frame in the syntax of `cansend`.
///
/// Like `cansend` it rounds the length of an FD frame up to the next one that exists on the wire
/// and pads with zeros. Error frames (`20000004#0004000000000000`) are read too; whether one may
/// be sent is for the caller to say.
pub fn parse_frame(text: &str) -> Result<Frame, ParseFrameError> {
    let frame = parse_exact(text)?;
    let len = frame.data().len();
    let steps = FD_STEPS.iter().copied().find(|step| *step >= len);
    let (Kind::Fd { .. }, true, Some(padded)) = (frame.kind(), len > CLASSIC_DATA_MAX, steps)
    else {
        return Ok(frame);
    };
    let mut data = [0; FD_DATA_MAX];
    for (to, from) in data.iter_mut().zip(frame.data()) {
        *to = *from;
    }
    let data = data.get(..padded).unwrap_or(&data);
    Frame::build(frame.id(), frame.kind(), data).ok_or(ParseFrameError::Impossible)
}

/// Reads a frame without rounding its length: a virtual bus carries FD lengths between the steps,
/// and a log of it must come back as it was.
fn parse_exact(text: &str) -> Result<Frame, ParseFrameError> {
    let (digits, body) = text.split_once('#').ok_or(ParseFrameError::NoSeparator)?;
    let address = parse_address(digits)?;
    let frame = match (address, body.strip_prefix('#'), body.strip_prefix(['R', 'r'])) {
        (Address::Error(_), Some(_), _) | (Address::Error(_), _, Some(_)) => {
            return Err(ParseFrameError::ErrorWithoutData);
        }
        (Address::Error(class), None, None) => parse_error(class, body)?,
        (Address::Id(id), Some(body), _) => parse_fd(id, body)?,
        (Address::Id(id), _, Some(body)) => parse_remote(id, body)?,
        (Address::Id(id), None, None) => parse_data(id, body)?,
    };
    frame.ok_or(ParseFrameError::Impossible)
}

/// What stands before the `#`.
#[derive(Clone, Copy)]
enum Address {
    Id(Id),
    Error(u32),
}

fn parse_address(digits: &str) -> Result<Address, ParseFrameError> {
    let mut bits = 0_u32;
    for digit in digits.chars() {
        // Longer than eight digits is refused below; the bits shifted out do not matter.
        bits = bits << 4 | u32::from(nibble(digit).ok_or(ParseFrameError::IdDigit(digit))?);
    }
    match digits.len() {
        3 => match u16::try_from(bits) {
            Ok(bits) if bits <= Id::STANDARD_MAX => Ok(Address::Id(Id::Standard(bits))),
            _ => Err(ParseFrameError::StandardTooHigh(bits)),
        },
        8 if bits <= Id::EXTENDED_MAX => Ok(Address::Id(Id::Extended(bits))),
        8 if bits & !Id::EXTENDED_MAX == ERROR_FLAG => Ok(Address::Error(bits & !ERROR_FLAG)),
        8 => Err(ParseFrameError::ExtendedTooHigh(bits)),
        5 => Err(ParseFrameError::Xl),
        digits => Err(ParseFrameError::IdWidth(digits)),
    }
}

fn parse_error(class: u32, body: &str) -> Result<Option<Frame>, ParseFrameError> {
    let mut buffer = [0; CLASSIC_DATA_MAX];
    Ok(Frame::error(class, parse_bytes(body, &mut buffer)?))
}

fn parse_fd(id: Id, body: &str) -> Result<Option<Frame>, ParseFrameError> {
    let mut rest = body.chars();
    let flags = rest.next().and_then(nibble).ok_or(ParseFrameError::Flags)? | FDF;
    let mut buffer = [0; FD_DATA_MAX];
    Ok(Frame::fd(id, flags, parse_bytes(rest.as_str(), &mut buffer)?))
}

fn parse_remote(id: Id, body: &str) -> Result<Option<Frame>, ParseFrameError> {
    let (len, raw_dlc) = split_raw_dlc(body)?;
    let mut digits = len.chars();
    let len = match (digits.next(), digits.next()) {
        (None, _) => 0,
        (Some(digit), None) => nibble(digit).unwrap_or(u8::MAX),
        _ => u8::MAX,
    };
    match (len, raw_dlc) {
        (8, Some(raw_dlc)) => Ok(Frame::remote(id, raw_dlc)),
        (_, Some(_)) => Err(ParseFrameError::RawDlcWithoutEight),
        (0..=8, None) => Ok(Frame::remote(id, len)),
        _ => Err(ParseFrameError::RemoteLength),
    }
}

fn parse_data(id: Id, body: &str) -> Result<Option<Frame>, ParseFrameError> {
    let (body, raw_dlc) = split_raw_dlc(body)?;
    let mut buffer = [0; CLASSIC_DATA_MAX];
    let data = parse_bytes(body, &mut buffer)?;
    let Some(raw_dlc) = raw_dlc else { return Ok(Frame::data_frame(id, data)) };
    let data = data.try_into().map_err(|_| ParseFrameError::RawDlcWithoutEight)?;
    Ok(Frame::long_dlc(id, raw_dlc, data))
}

/// Takes a `_9` to `_F` off the end.
fn split_raw_dlc(body: &str) -> Result<(&str, Option<u8>), ParseFrameError> {
    let Some((body, suffix)) = body.split_once('_') else { return Ok((body, None)) };
    let mut digits = suffix.chars();
    let raw_dlc = digits.next().and_then(nibble).filter(|dlc| (9..=RAW_DLC_MAX).contains(dlc));
    match (raw_dlc, digits.next()) {
        (Some(_), None) => Ok((body, raw_dlc)),
        _ => Err(ParseFrameError::RawDlc),
    }
}

/// Reads pairs of hexadecimal digits, with or without a dot between the pairs.
fn parse_bytes<'b>(text: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], ParseFrameError> {
    let max = buffer.len();
    let mut len = 0;
    let mut digits = text.chars().peekable();
    loop {
        digits.next_if_eq(&'.');
        let Some(high) = digits.next() else { break };
        let high = nibble(high).ok_or(ParseFrameError::DataDigit(high))?;
        let low = digits.next().filter(|low| *low != '.').ok_or(ParseFrameError::HalfByte)?;
        let low = nibble(low).ok_or(ParseFrameError::DataDigit(low))?;
        *buffer.get_mut(len).ok_or(ParseFrameError::TooLong(max))? = high << 4 | low;
        len += 1;
    }
    Ok(buffer.get(..len).unwrap_or(&[]))
}

fn nibble(digit: char) -> Option<u8> {
    digit.to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// A frame as `cansend` takes it and `candump -L` prints it: `123#DEADBEEF`.
#[derive(Clone, Copy, Debug)]
pub struct AsText<'f>(pub &'f Frame);

impl fmt::Display for AsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        match (frame.kind(), frame.id()) {
            (Kind::Error, id) => write!(f, "{:08X}#", id.bits() | ERROR_FLAG)?,
            (_, Id::Standard(bits)) => write!(f, "{bits:03X}#")?,
            (_, Id::Extended(bits)) => write!(f, "{bits:08X}#")?,
        }
        match frame.kind() {
            Kind::Remote { raw_dlc: 0 } => f.write_str("R")?,
            Kind::Remote { raw_dlc } => write!(f, "R{:X}", raw_dlc.min(8))?,
            Kind::Fd { flags } => write!(f, "#{:X}", (flags | FDF) & FLAGS_MASK)?,
            Kind::Data { .. } | Kind::Error => {}
        }
        for byte in frame.data() {
            write!(f, "{byte:02X}")?;
        }
        match frame.kind() {
            Kind::Data { raw_dlc: raw_dlc @ 9.. } | Kind::Remote { raw_dlc: raw_dlc @ 9.. } => {
                write!(f, "_{raw_dlc:X}")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
