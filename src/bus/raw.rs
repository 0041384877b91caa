//! Frames as the kernel lays them out in memory, both ways.
//!
//! ```text
//! can_frame    can_id:4  len:1  pad:1    res:1  len8_dlc:1  data[8]     16 bytes
//! canfd_frame  can_id:4  len:1  flags:1  res:1  res:1       data[64]    72 bytes
//! ```
//! `can_id` is in the machine's byte order and carries the kind in its top three bits. The size
//! says which of the two it is (`linux/can.h`).

use crate::protocol::frame::{CLASSIC_DATA_MAX, FD_DATA_MAX, Frame, Id, Kind, RAW_DLC_MAX};

/// Bytes of a classic frame (`CAN_MTU` in `linux/can.h`).
pub const CLASSIC_BYTES: usize = 16;
/// Bytes of an FD frame (`CANFD_MTU` in `linux/can.h`).
pub const FD_BYTES: usize = 72;

/// 29-bit identifier (`CAN_EFF_FLAG` in `linux/can.h`).
const EXTENDED: u32 = 0x8000_0000;
/// Remote request (`CAN_RTR_FLAG` in `linux/can.h`).
const REMOTE: u32 = 0x4000_0000;
/// Error frame (`CAN_ERR_FLAG` in `linux/can.h`).
const ERROR: u32 = 0x2000_0000;

/// Bytes before the data, in both layouts.
const HEADER: usize = 8;

/// The frame in these bytes, or `None` if the kernel's rules do not allow them.
///
/// An 11-bit identifier with bits beyond is cut to 11 bits, as every driver does when it sends one
/// and `candump` when it shows one: a common slip of programs on a virtual bus.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Frame> {
    let (header, data) = bytes.split_first_chunk::<HEADER>()?;
    let [id0, id1, id2, id3, len, flags, _, len8_dlc] = *header;
    let can_id = u32::from_ne_bytes([id0, id1, id2, id3]);
    let used = data.get(..usize::from(len))?;
    let is_fd = match bytes.len() {
        CLASSIC_BYTES => false,
        FD_BYTES => true,
        _ => return None,
    };
    let (id, kind) = match (is_fd, can_id & ERROR != 0, can_id & REMOTE != 0) {
        (false, true, _) => (Id::Extended(can_id & Id::EXTENDED_MAX), Kind::Error),
        (false, false, true) => (identifier(can_id), Kind::Remote { raw_dlc: dlc(len, len8_dlc) }),
        (false, false, false) => (identifier(can_id), Kind::Data { raw_dlc: dlc(len, len8_dlc) }),
        (true, false, false) => (identifier(can_id), Kind::Fd { flags }),
        (true, _, _) => return None,
    };
    // A remote request may come with whatever was in memory; it carries no data.
    let data = if matches!(kind, Kind::Remote { .. }) { &[] } else { used };
    Frame::build(id, kind, data)
}

/// Writes the frame as the kernel wants it; returns how many bytes count, 16 or 72.
#[must_use]
pub fn encode(frame: &Frame, bytes: &mut [u8; FD_BYTES]) -> usize {
    let extended = if matches!(frame.id(), Id::Extended(_)) { EXTENDED } else { 0 };
    let data = frame.data();
    let used = data.len().min(FD_DATA_MAX) as u8;
    let (can_id, len, flags, len8_dlc, size) = match frame.kind() {
        Kind::Data { raw_dlc } => (extended, used, 0, long_dlc(raw_dlc), CLASSIC_BYTES),
        Kind::Remote { raw_dlc } => {
            let len = raw_dlc.min(CLASSIC_DATA_MAX as u8);
            (extended | REMOTE, len, 0, long_dlc(raw_dlc), CLASSIC_BYTES)
        }
        Kind::Fd { flags } => (extended, used, flags, 0, FD_BYTES),
        Kind::Error => (ERROR, used, 0, 0, CLASSIC_BYTES),
    };
    let [id0, id1, id2, id3] = (can_id | frame.id().bits()).to_ne_bytes();
    let (head, body) = bytes.split_at_mut(HEADER);
    head.copy_from_slice(&[id0, id1, id2, id3, len, flags, 0, len8_dlc]);
    let (filled, rest) = body.split_at_mut(usize::from(used));
    filled.copy_from_slice(data);
    rest.fill(0);
    size
}

fn identifier(can_id: u32) -> Id {
    if can_id & EXTENDED != 0 {
        Id::Extended(can_id & Id::EXTENDED_MAX)
    } else {
        Id::Standard((can_id & u32::from(Id::STANDARD_MAX)) as u16)
    }
}

/// `len8_dlc` means something only beside a length of eight, and only from 9 to 15.
fn dlc(len: u8, len8_dlc: u8) -> u8 {
    let is_long = usize::from(len) == CLASSIC_DATA_MAX && long_dlc(len8_dlc) != 0;
    if is_long && len8_dlc <= RAW_DLC_MAX { len8_dlc } else { len }
}

fn long_dlc(raw_dlc: u8) -> u8 {
    if usize::from(raw_dlc) > CLASSIC_DATA_MAX { raw_dlc } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernel bytes from `can_id` and everything after it.
    fn kernel(can_id: u32, rest: &[u8], size: usize) -> Vec<u8> {
        let mut bytes = can_id.to_ne_bytes().to_vec();
        bytes.extend(rest);
        bytes.resize(size, 0);
        bytes
    }

    fn both_ways(frame: Option<Frame>, bytes: &[u8]) {
        let frame = frame.expect("a valid frame");
        assert_eq!(decode(bytes), Some(frame));
        // Filled with rubbish, as a buffer in use is.
        let mut written = [0xA5; FD_BYTES];
        let size = encode(&frame, &mut written);
        assert_eq!(&written[..size], bytes, "{frame:?}");
    }

    #[test]
    fn data_frames() {
        let classic = |id, rest: &[u8]| kernel(id, rest, CLASSIC_BYTES);
        let short = Id::Standard(0x123);
        both_ways(Frame::data_frame(short, &[]), &classic(0x123, &[0]));
        both_ways(Frame::data_frame(short, &[0xAB]), &classic(0x123, &[1, 0, 0, 0, 0xAB]));
        let eight = [1, 2, 3, 4, 5, 6, 7, 8];
        let full = classic(0x9FFF_FFFF, &[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        both_ways(Frame::data_frame(Id::Extended(0x1FFF_FFFF), &eight), &full);
        both_ways(Frame::data_frame(Id::Extended(5), &[]), &classic(0x8000_0005, &[0]));
        for raw_dlc in 9..=15 {
            let bytes = classic(0x123, &[8, 0, 0, raw_dlc, 1, 2, 3, 4, 5, 6, 7, 8]);
            both_ways(Frame::long_dlc(short, raw_dlc, &eight), &bytes);
        }
    }

    #[test]
    fn remote_requests() {
        for dlc in 0..=8 {
            let bytes = kernel(0x4000_0123, &[dlc], CLASSIC_BYTES);
            both_ways(Frame::remote(Id::Standard(0x123), dlc), &bytes);
        }
        for dlc in 9..=15 {
            let bytes = kernel(0xC000_0123, &[8, 0, 0, dlc], CLASSIC_BYTES);
            both_ways(Frame::remote(Id::Extended(0x123), dlc), &bytes);
        }
    }

    #[test]
    fn fd_frames_keep_every_flag_and_length() {
        for flags in 0..=u8::MAX {
            let bytes = kernel(0x123, &[2, flags, 0, 0, 7, 8], FD_BYTES);
            both_ways(Frame::fd(Id::Standard(0x123), flags, &[7, 8]), &bytes);
        }
        for len in 0..=64_u8 {
            let data = vec![len; usize::from(len)];
            let bytes = kernel(0x8000_0123, &[&[len, 4, 0, 0], &data[..]].concat(), FD_BYTES);
            both_ways(Frame::fd(Id::Extended(0x123), 4, &data), &bytes);
        }
    }

    #[test]
    fn error_frames() {
        let data = [0, 4, 0, 0, 0, 0, 96, 0];
        let bytes = kernel(0x2000_0204, &[&[8, 0, 0, 0], &data[..]].concat(), CLASSIC_BYTES);
        both_ways(Frame::error(0x204, &data), &bytes);
    }

    #[test]
    fn what_the_kernel_leaves_undefined_is_not_carried() {
        let plain = Frame::data_frame(Id::Standard(0x123), &[9]);
        let dirty = [1, 0xEE, 0xEE, 12, 9, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE];
        assert_eq!(decode(&kernel(0x123, &dirty, CLASSIC_BYTES)), plain);
        assert_eq!(decode(&kernel(0x1F123, &[1, 0, 0, 0, 9], CLASSIC_BYTES)), plain);
        let eight = [8, 0, 0, 16, 1, 1, 1, 1, 1, 1, 1, 1];
        let dlc = decode(&kernel(1, &eight, CLASSIC_BYTES)).map(|frame| frame.kind());
        assert_eq!(dlc, Some(Kind::Data { raw_dlc: 8 }));
        let remote = [2, 0, 0, 0, 0xEE, 0xEE];
        let asked = Frame::remote(Id::Standard(1), 2);
        assert_eq!(decode(&kernel(0x4000_0001, &remote, CLASSIC_BYTES)), asked);
    }

    #[test]
    fn malformed_bytes_are_no_frame() {
        for size in (0..=80).filter(|size| ![CLASSIC_BYTES, FD_BYTES].contains(size)) {
            assert_eq!(decode(&vec![0; size]), None);
        }
        assert_eq!(decode(&kernel(1, &[9], CLASSIC_BYTES)), None);
        assert_eq!(decode(&kernel(1, &[65], FD_BYTES)), None);
        assert_eq!(decode(&kernel(0x4000_0001, &[9], CLASSIC_BYTES)), None);
        assert_eq!(decode(&kernel(0x4000_0001, &[0], FD_BYTES)), None);
        assert_eq!(decode(&kernel(0x2000_0001, &[8], FD_BYTES)), None);
    }
}
