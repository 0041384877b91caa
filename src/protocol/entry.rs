//! One frame as bytes: the same compact form in the history and on the wire.
//!
//! ```text
//! key: varint u32   id << 3 | form
//! delta: varint u64 stamp minus the stamp before it, in microseconds, wrapping
//! shape             data, remote: raw DLC; fd: flags, length; error: length (one byte each)
//! data              as many bytes as the shape says
//! ```
//!
//! | form | frame | form | frame |
//! |---|---|---|---|
//! | 0 | data, 11-bit | 4 | FD, 11-bit |
//! | 1 | data, 29-bit | 5 | FD, 29-bit |
//! | 2 | remote, 11-bit | 6 | error |
//! | 3 | remote, 29-bit | 7 | reserved for CAN XL |
//!
//! A classic 8-byte frame with an 11-bit id takes 2 + 2 + 1 + 8 = 13 bytes while frames follow each
//! other within 16 ms, 12 within 127 us. Varints are postcard's.

use super::frame::{CLASSIC_DATA_MAX, Frame, Id, Kind};

/// Longest entry: a five-byte key, a ten-byte delta, two shape bytes and 64 data bytes.
pub const ENTRY_MAX: usize = 5 + 10 + 2 + 64;

const EXTENDED: u32 = 1;
const FORM_DATA: u32 = 0;
const FORM_REMOTE: u32 = 2;
const FORM_FD: u32 = 4;
const FORM_ERROR: u32 = 6;

/// Writes `frame` at the start of `out` and returns how many bytes it took, or `None` if they do
/// not fit.
#[must_use]
pub fn encode(frame: &Frame, delta_us: u64, out: &mut [u8]) -> Option<usize> {
    let room = out.len();
    let (form, shape, second) = match frame.kind() {
        Kind::Data { raw_dlc } => (FORM_DATA, raw_dlc, None),
        Kind::Remote { raw_dlc } => (FORM_REMOTE, raw_dlc, None),
        Kind::Fd { flags } => (FORM_FD, flags, Some(frame.data().len() as u8)),
        Kind::Error => (FORM_ERROR, frame.data().len() as u8, None),
    };
    let wide = match frame.id() {
        Id::Extended(_) if form != FORM_ERROR => EXTENDED,
        _ => 0,
    };
    let key = frame.id().bits() << 3 | form | wide;
    let used = postcard::to_slice(&(key, delta_us, shape), out).ok()?.len();
    let mut rest = out.get_mut(used..)?;
    if let Some(length) = second {
        *rest.first_mut()? = length;
        rest = rest.get_mut(1..)?;
    }
    let data = frame.data();
    rest.get_mut(..data.len())?.copy_from_slice(data);
    Some(room - rest.len() + data.len())
}

/// Reads one entry from the start of `bytes`: the frame, its delta and what follows it. `None` if
/// the bytes are not an entry.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Frame, u64, &[u8])> {
    let ((key, delta_us, shape), rest): ((u32, u64, u8), _) =
        postcard::take_from_bytes(bytes).ok()?;
    let (form, bits) = (key & 7, key >> 3);
    let id = if form == FORM_ERROR || form & EXTENDED != 0 {
        Id::Extended(bits)
    } else {
        Id::Standard(u16::try_from(bits).ok()?)
    };
    let (kind, len, rest) = match form & !EXTENDED {
        FORM_DATA => {
            (Kind::Data { raw_dlc: shape }, usize::from(shape).min(CLASSIC_DATA_MAX), rest)
        }
        FORM_REMOTE => (Kind::Remote { raw_dlc: shape }, 0, rest),
        FORM_FD => {
            let (length, rest) = rest.split_first()?;
            (Kind::Fd { flags: shape }, usize::from(*length), rest)
        }
        _ if form == FORM_ERROR => (Kind::Error, usize::from(shape), rest),
        _ => return None,
    };
    let (data, rest) = rest.split_at_checked(len)?;
    Some((Frame::build(id, kind, data)?, delta_us, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_classic_frame_with_its_time_takes_13_bytes() {
        let frame = Frame::data_frame(Id::Standard(0x7FF), &[0xFF; 8]).unwrap();
        let mut out = [0; ENTRY_MAX];
        assert_eq!(encode(&frame, 127, &mut out), Some(12));
        assert_eq!(encode(&frame, 16_383, &mut out), Some(13));
        assert_eq!(encode(&frame, 16_384, &mut out), Some(14));
    }

    #[test]
    fn the_longest_entry_is_as_long_as_promised() {
        let frame = Frame::fd(Id::Extended(Id::EXTENDED_MAX), 3, &[0xA5; 64]).unwrap();
        let mut out = [0; ENTRY_MAX];
        assert_eq!(encode(&frame, u64::MAX, &mut out), Some(ENTRY_MAX));
        assert_eq!(encode(&frame, u64::MAX, &mut out[..ENTRY_MAX - 1]), None);
    }

    #[test]
    fn the_reserved_form_is_not_a_frame() {
        assert!(decode(&[7, 0, 0, 0]).is_none());
        assert!(decode(&[]).is_none());
    }
}
