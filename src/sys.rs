//! The system calls nobody wraps: CAN sockets, read and written in batches.
//!
//! A batch ([`RxBatch`], [`TxBatch`]) owns all memory a call needs, set aside once. One call moves
//! up to [`BATCH`] frames. Everything above this module works on plain bytes and numbers, and this
//! is the only module with `unsafe`.
//!
//! The calls go straight to the kernel, past the C library: musl's `sendmmsg` is a loop of single
//! sends on 64-bit machines, and its `msghdr` differs from glibc's. The kernel's own layout is the
//! same in every build, so one definition serves all, and control messages are read as bytes.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_long, c_uint, c_void};
use core::mem::{offset_of, size_of};
use core::ptr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Frames one call can move. Chosen because 64 frames of a full 1 Mbit/s bus are 7 ms of it: enough
/// to catch up after any pause, few enough not to keep other work waiting.
pub const BATCH: usize = 64;
/// Bytes of the largest frame the kernel hands over (`CANFD_MTU` in `linux/can.h`).
pub const FRAME_BYTES: usize = 72;

/// `SO_TIMESTAMPNS_NEW` in `asm-generic/socket.h`: 64-bit timestamps on 32-bit machines too.
const SO_TIMESTAMPNS_NEW: c_int = 64;
/// `SO_TIMESTAMPNS_OLD` in `asm-generic/socket.h`, for kernels before 5.1.
const SO_TIMESTAMPNS_OLD: c_int = 35;
/// Place of the drop count in what `SO_MEMINFO` tells (`linux/sock_diag.h`).
const SK_MEMINFO_DROPS: usize = 8;
/// Receive buffer in bytes. Chosen because the kernel doubles it and charges 896 bytes for a frame:
/// room for 9363 frames (measured, kernel 7.2), a second of a full 1 Mbit/s bus.
const RECEIVE_BUFFER: c_int = 4 << 20;
/// Room for the two control messages of a frame: on 64-bit 32 bytes of timestamp and 24 of drop
/// count.
const CONTROL_BYTES: usize = 64;

/// `struct user_msghdr` in `linux/socket.h`.
#[repr(C)]
struct MsgHeader {
    name: *mut c_void,
    name_len: c_int,
    vectors: *mut libc::iovec,
    vector_count: usize,
    control: *mut c_void,
    control_len: usize,
    flags: c_uint,
}

/// `struct mmsghdr` in `linux/socket.h`.
#[repr(C)]
struct BatchHeader {
    message: MsgHeader,
    len: c_uint,
}

impl BatchHeader {
    const EMPTY: Self = Self {
        message: MsgHeader {
            name: ptr::null_mut(),
            name_len: 0,
            vectors: ptr::null_mut(),
            vector_count: 0,
            control: ptr::null_mut(),
            control_len: 0,
            flags: 0,
        },
        len: 0,
    };
}

const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// Aligned, because the kernel writes `struct cmsghdr` into it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// `struct sockaddr_can` in `linux/can.h`; raw sockets use nothing beyond the index.
#[repr(C)]
struct CanAddress {
    family: libc::sa_family_t,
    index: c_int,
    unused: [u32; 4],
}

/// Opens a raw CAN socket, not yet bound: non-blocking, hearing its own messages, FD and error
/// frames, with timestamps and drop counts.
pub fn open_can_raw() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let raw = check(unsafe { libc::socket(libc::AF_CAN, kind, libc::CAN_RAW) })?;
    // SAFETY: the kernel just made this descriptor and nothing else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let fd = socket.as_fd();
    set_option(fd, libc::SOL_CAN_RAW, libc::CAN_RAW_RECV_OWN_MSGS, 1)?;
    set_option(fd, libc::SOL_CAN_RAW, libc::CAN_RAW_ERR_FILTER, libc::CAN_ERR_MASK.cast_signed())?;
    // Only says that this program knows FD frames; a classic interface works as before. Kernels
    // before 3.6 do not know the option, nor any FD frame.
    let _ = set_option(fd, libc::SOL_CAN_RAW, libc::CAN_RAW_FD_FRAMES, 1);
    set_option(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    stamp_with_time(fd)?;
    enlarge_receive_buffer(fd);
    Ok(socket)
}

/// Binds a raw CAN socket to an interface by its index.
pub fn bind_can(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let index = c_int::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let family = libc::AF_CAN as libc::sa_family_t;
    let address = CanAddress { family, index, unused: [0; 4] };
    let size = size_of::<CanAddress>() as libc::socklen_t;
    // SAFETY: `address` is `size` bytes long and outlives the call, which only reads it.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), size) })?;
    Ok(())
}

/// Asks for a kernel timestamp with every message, in the 64-bit form where the kernel has it.
pub fn stamp_with_time(fd: BorrowedFd<'_>) -> io::Result<()> {
    match set_option(fd, libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
            set_option(fd, libc::SOL_SOCKET, SO_TIMESTAMPNS_OLD, 1)
        }
        other => other,
    }
}

/// Beyond `net.core.rmem_max` this needs `CAP_NET_ADMIN`. A smaller buffer only means that a long
/// pause of this program loses frames sooner, and such a loss is counted; so failing here is no
/// reason not to start.
fn enlarge_receive_buffer(fd: BorrowedFd<'_>) {
    if set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER);
    }
}

/// Messages the kernel has dropped from this socket up to now, wrapping (`SO_MEMINFO`, which came
/// with kernel 4.12).
pub fn dropped(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut counts = [0_u32; SK_MEMINFO_DROPS + 1];
    let mut size = size_of_val(&counts) as libc::socklen_t;
    let place = ptr::from_mut(&mut counts).cast();
    // SAFETY: `place` points to `size` bytes, which may be any numbers, and both outlive the call.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, place, &raw mut size)
    })?;
    Ok(counts[SK_MEMINFO_DROPS])
}

fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = size_of::<c_int>() as libc::socklen_t;
    let value = ptr::from_ref(&value).cast();
    // SAFETY: `value` points to `size` bytes that outlive the call, which only reads them.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, size) })?;
    Ok(())
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The count a batch call returned, never more than the batch.
fn check_count(result: c_long) -> io::Result<usize> {
    usize::try_from(result).map(|count| count.min(BATCH)).map_err(|_| io::Error::last_os_error())
}

/// One message as the kernel handed it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawMessage<'a> {
    /// The frame's bytes: `can_frame` or `canfd_frame`.
    pub bytes: &'a [u8],
    /// When the kernel saw it, in microseconds since the Unix epoch; `None` if it did not say.
    pub stamp_us: Option<u64>,
    /// Whether it was sent through this very socket (`MSG_CONFIRM`): the proof it reached the bus.
    pub own: bool,
    /// Messages the kernel had dropped from this socket when it queued this one, counted since
    /// the socket was opened and wrapping (`SO_RXQ_OVFL`); the kernel says nothing for zero.
    pub dropped: Option<u32>,
}

/// Memory for reading up to [`BATCH`] messages in one call.
pub struct RxBatch {
    headers: [BatchHeader; BATCH],
    vectors: [libc::iovec; BATCH],
    frames: [[u8; FRAME_BYTES]; BATCH],
    controls: [Control; BATCH],
    count: usize,
}

impl RxBatch {
    /// Sets the memory aside.
    #[must_use]
    pub fn new() -> Box<Self> {
        Box::new(Self {
            headers: [BatchHeader::EMPTY; BATCH],
            vectors: [NO_VECTOR; BATCH],
            frames: [[0; FRAME_BYTES]; BATCH],
            controls: [Control([0; CONTROL_BYTES]); BATCH],
            count: 0,
        })
    }

    /// Reads what is waiting, without waiting: how many messages, zero if there are none.
    pub fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        self.point_headers();
        self.count = loop {
            // SAFETY: each header points to one vector, its frame buffer and its control buffer,
            // with their true sizes; all live in `self`, which is borrowed mutably meanwhile. The
            // timeout may be null (recvmmsg(2)).
            let result = unsafe {
                libc::syscall(
                    libc::SYS_recvmmsg,
                    fd.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    BATCH as c_uint,
                    libc::MSG_DONTWAIT,
                    ptr::null_mut::<c_void>(),
                )
            };
            match check_count(result) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break 0,
                other => break other?,
            }
        };
        Ok(self.count)
    }

    /// The kernel overwrites lengths and flags, so every call starts from fresh headers.
    fn point_headers(&mut self) {
        let buffers = self.frames.iter_mut().zip(&mut self.controls);
        let slots = self.headers.iter_mut().zip(&mut self.vectors);
        for ((header, vector), (frame, control)) in slots.zip(buffers) {
            *vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: FRAME_BYTES };
            *header = BatchHeader::EMPTY;
            header.message.vectors = vector;
            header.message.vector_count = 1;
            header.message.control = ptr::from_mut(control).cast();
            header.message.control_len = CONTROL_BYTES;
        }
    }

    /// How many messages the last call read.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Message `index` of the last call.
    #[must_use]
    pub fn message(&self, index: usize) -> Option<RawMessage<'_>> {
        let header = self.headers.get(..self.count)?.get(index)?;
        let bytes = self.frames.get(index)?.get(..header.len as usize)?;
        let control = self.controls.get(index)?.0.get(..header.message.control_len)?;
        let own = header.message.flags & libc::MSG_CONFIRM.cast_unsigned() != 0;
        let mut message = RawMessage { bytes, stamp_us: None, own, dropped: None };
        read_control(control, &mut message);
        Some(message)
    }
}

/// Walks `struct cmsghdr`s: length (of the header too) as `size_t`, level and type as `int`, then
/// the payload; the next one starts at the next multiple of `size_t`.
fn read_control(mut control: &[u8], message: &mut RawMessage<'_>) {
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = offset_of!(libc::cmsghdr, cmsg_type) + size_of::<c_int>();
    const START: usize = HEADER.next_multiple_of(WORD);
    while let Some(len) = read(control, 0).map(usize::from_ne_bytes)
        && let Some(level) = read(control, WORD).map(c_int::from_ne_bytes)
        && let Some(kind) = read(control, WORD + size_of::<c_int>()).map(c_int::from_ne_bytes)
        && let Some(payload) = control.get(START..len)
    {
        match (level, kind) {
            (libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW | SO_TIMESTAMPNS_OLD) => {
                message.stamp_us = read_time(payload);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                message.dropped = read(payload, 0).map(u32::from_ne_bytes);
            }
            _ => {}
        }
        control = control.get(len.next_multiple_of(WORD)..).unwrap_or_default();
    }
}

/// Seconds and nanoseconds, both 64 bits, or both 32 (the old form on 32-bit machines), as
/// microseconds since the Unix epoch.
fn read_time(payload: &[u8]) -> Option<u64> {
    let (seconds, nanoseconds) = if payload.len() >= 16 {
        (i64::from_ne_bytes(read(payload, 0)?), i64::from_ne_bytes(read(payload, 8)?))
    } else {
        let half = |at| Some(i64::from(i32::from_ne_bytes(read(payload, at)?)));
        (half(0)?, half(4)?)
    };
    let (seconds, nanoseconds) = (u64::try_from(seconds).ok()?, u64::try_from(nanoseconds).ok()?);
    seconds.checked_mul(1_000_000)?.checked_add(nanoseconds / 1000)
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Memory for writing up to [`BATCH`] messages in one call.
pub struct TxBatch {
    headers: [BatchHeader; BATCH],
    vectors: [libc::iovec; BATCH],
    frames: [[u8; FRAME_BYTES]; BATCH],
    lengths: [usize; BATCH],
    count: usize,
}

impl TxBatch {
    /// Sets the memory aside.
    #[must_use]
    pub fn new() -> Box<Self> {
        Box::new(Self {
            headers: [BatchHeader::EMPTY; BATCH],
            vectors: [NO_VECTOR; BATCH],
            frames: [[0; FRAME_BYTES]; BATCH],
            lengths: [0; BATCH],
            count: 0,
        })
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Appends the message `fill` writes, whose length it returns; `false` if the batch is full.
    pub fn push(&mut self, fill: impl FnOnce(&mut [u8; FRAME_BYTES]) -> usize) -> bool {
        let (Some(frame), Some(length)) =
            (self.frames.get_mut(self.count), self.lengths.get_mut(self.count))
        else {
            return false;
        };
        *length = fill(frame).min(FRAME_BYTES);
        self.count += 1;
        true
    }

    /// Hands the batch to the kernel, without waiting: how many messages it took, from the first
    /// on. An error is about the first message, and none was taken.
    pub fn send(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.point_headers();
        loop {
            // SAFETY: each of the first `count` headers points to one vector and its frame buffer
            // with a length within it; all live in `self`, which is borrowed mutably meanwhile.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_sendmmsg,
                    fd.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    self.count as c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match check_count(result) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn point_headers(&mut self) {
        let buffers = self.frames.iter_mut().zip(&self.lengths);
        let slots = self.headers.iter_mut().zip(&mut self.vectors);
        for ((header, vector), (frame, length)) in slots.zip(buffers).take(self.count) {
            *vector = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: *length };
            *header = BatchHeader::EMPTY;
            header.message.vectors = vector;
            header.message.vector_count = 1;
        }
    }
}

/// Moves this thread, and no other, into the network namespace a file stands for (`setns(2)`).
///
/// By hand, because rustix's `thread` feature, which wraps it, panics at the first call of any kind
/// on a kernel whose vDSO lacks `getcpu` (seen: User-Mode Linux 7.2).
///
/// PRIVILEGED: needs `CAP_SYS_ADMIN`, here and there.
pub fn enter_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes two numbers and touches no memory of ours; the descriptor is open.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this process was started with SIGHUP ignored, as nohup(1) does.
#[must_use]
pub fn is_hangup_ignored() -> bool {
    let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one to `action`, which has room for
    // it; all zeros is a valid value, so it is one even if the call fails.
    let action = unsafe {
        libc::sigaction(libc::SIGHUP, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Lets a TCP socket count as readable only from so many bytes on (`SO_RCVLOWAT` in `socket(7)`).
pub fn set_low_water(fd: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn kernel_layout_matches_the_c_library_where_that_follows_the_kernel() {
        #[cfg(target_env = "gnu")]
        {
            assert_eq!(size_of::<MsgHeader>(), size_of::<libc::msghdr>());
            assert_eq!(size_of::<BatchHeader>(), size_of::<libc::mmsghdr>());
            assert_eq!(offset_of!(MsgHeader, flags), offset_of!(libc::msghdr, msg_flags));
        }
        assert_eq!(size_of::<CanAddress>(), 24);
    }

    #[test]
    fn batches_keep_order_and_length_on_any_datagram_socket() -> io::Result<()> {
        let (near, far) = UnixDatagram::pair()?;
        stamp_with_time(far.as_fd())?;
        let (mut tx, mut rx) = (TxBatch::new(), RxBatch::new());
        assert_eq!(rx.receive(far.as_fd())?, 0);
        for size in [16, 72, 16] {
            assert!(tx.push(|frame| {
                frame.fill(size as u8);
                size
            }));
        }
        assert_eq!(tx.send(near.as_fd())?, 3);
        assert_eq!(rx.receive(far.as_fd())?, 3);
        for (index, size) in [16_u8, 72, 16].into_iter().enumerate() {
            let message = rx.message(index).ok_or(io::ErrorKind::InvalidData)?;
            assert_eq!(message.bytes, vec![size; usize::from(size)]);
            assert!(message.stamp_us > Some(1_600_000_000_000_000));
            assert_eq!((message.own, message.dropped), (false, None));
        }
        assert_eq!(rx.message(3), None);
        Ok(())
    }

    #[test]
    fn a_batch_takes_no_more_than_it_has_room_for() {
        let mut tx = TxBatch::new();
        assert!((0..BATCH).all(|_| tx.push(|_| 16)));
        assert!(!tx.push(|_| 16));
        tx.clear();
        assert!(tx.push(|_| 16));
    }

    #[test]
    fn control_messages_are_read_by_length_and_never_beyond() {
        let parse = |bytes: &[u8]| {
            let mut message = RawMessage { bytes: &[], stamp_us: None, own: false, dropped: None };
            read_control(bytes, &mut message);
            (message.stamp_us, message.dropped)
        };
        let mut bytes = Vec::new();
        let word = size_of::<usize>();
        let mut add = |kind: c_int, payload: &[u8]| {
            let start = (word + 8).next_multiple_of(word);
            bytes.extend((start + payload.len()).to_ne_bytes());
            bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(word), 0);
        };
        add(SO_TIMESTAMPNS_NEW, &[5_i64.to_ne_bytes(), 1999_i64.to_ne_bytes()].concat());
        add(libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
        assert_eq!(parse(&bytes), (Some(5_000_001), Some(7)));
        for cut in 0..bytes.len() {
            parse(&bytes[..cut]);
        }
        assert_eq!(parse(&[0; CONTROL_BYTES]), (None, None));
        assert_eq!(parse(&[0xFF; CONTROL_BYTES]), (None, None));
        let old = [5_i32.to_ne_bytes(), 2000_i32.to_ne_bytes()].concat();
        assert_eq!(read_time(&old), Some(5_000_002));
    }
}
