//! The system calls that std lacks: raw CAN sockets in another network namespace, signals to a child.
//!
//! The tests look at a bus through these sockets and not through the product's own, so that a mistake there
//! cannot hide itself. This is the only file of the tests with `unsafe`.
#![allow(unsafe_code)]

use core::{fmt, mem, ptr, time::Duration};
use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Bit 31 of an id: 29-bit.
pub(crate) const EXTENDED: u32 = libc::CAN_EFF_FLAG;
/// Bit 30 of an id: remote request.
pub(crate) const REMOTE: u32 = libc::CAN_RTR_FLAG;
/// Bit 29 of an id: error frame.
pub(crate) const ERROR: u32 = libc::CAN_ERR_FLAG;
/// FD flag: the data at the higher bit rate.
pub(crate) const BRS: u8 = 1;
/// FD flag: the sender is error passive.
pub(crate) const ESI: u8 = 2;

const CLASSIC: usize = mem::size_of::<libc::can_frame>();
const FD: usize = mem::size_of::<libc::canfd_frame>();
/// Frames in one system call.
pub(crate) const BATCH: usize = 64;
/// How long [`CanSocket::next`] waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Chosen to hold some 80,000 frames: seconds of a full bus while the one processor is busy elsewhere.
const RECEIVE_BUFFER: libc::c_int = 64 << 20;

/// A frame exactly as the kernel hands it over, so that two are equal only if every bit is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    bytes: [u8; FD],
    size: usize,
}

impl Frame {
    fn new(id: u32, length: u8, data: &[u8], size: usize) -> Self {
        let mut bytes = [0; FD];
        bytes[..4].copy_from_slice(&id.to_ne_bytes());
        bytes[4] = length;
        bytes[8..8 + data.len()].copy_from_slice(data);
        Self { bytes, size }
    }

    /// A classic frame; `id` carries [`EXTENDED`] and [`ERROR`] as the kernel has them.
    pub(crate) fn classic(id: u32, data: &[u8]) -> Self {
        assert!(data.len() <= 8, "classic frames carry 8 bytes");
        Self::new(id, u8::try_from(data.len()).unwrap(), data, CLASSIC)
    }

    /// A remote request for `length` bytes.
    pub(crate) fn remote(id: u32, length: u8) -> Self {
        Self::new(id | REMOTE, length, &[], CLASSIC)
    }

    /// A classic 8-byte frame whose DLC on the wire says 9 to 15.
    pub(crate) fn raw_dlc(id: u32, data: [u8; 8], dlc: u8) -> Self {
        let mut frame = Self::classic(id, &data);
        frame.bytes[7] = dlc;
        frame
    }

    /// An FD frame.
    pub(crate) fn fd(id: u32, flags: u8, data: &[u8]) -> Self {
        let mut frame = Self::new(id, u8::try_from(data.len()).unwrap(), data, FD);
        frame.bytes[5] = flags;
        frame
    }

    /// The id with its flag bits.
    pub(crate) fn id(&self) -> u32 {
        u32::from_ne_bytes([self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]])
    }

    /// The data.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[8..8 + usize::from(self.bytes[4]).min(self.size - 8)]
    }

    /// The first eight bytes of data as one number; shorter data counts as followed by zeros.
    pub(crate) fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[8..16]);
        u64::from_le_bytes(bytes)
    }

    /// The raw DLC, where it was more than 8.
    pub(crate) fn dlc(&self) -> u8 {
        if self.size == CLASSIC { self.bytes[7] } else { 0 }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.size == CLASSIC { "classic" } else { "fd" };
        write!(
            f,
            "{kind} {:08X} len {} flags {:02X} dlc {}",
            self.id(),
            self.bytes[4],
            self.bytes[5],
            self.dlc()
        )?;
        write!(f, " {:02X?}", self.data())
    }
}

/// Runs `work` on a thread of its own inside the network namespace behind `path`.
pub(crate) fn inside<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let namespace = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    thread::spawn(move || {
        // SAFETY: a plain system call on an open descriptor; it moves this thread only.
        let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(done, 0, "setns: {}", io::Error::last_os_error());
        work()
    })
}

/// A serial line with a CAN adapter's driver (`slcan`) on it: our end of the line, the driver's end, which must stay
/// open, and the interface the driver made.
pub(crate) fn serial_can() -> io::Result<(File, OwnedFd, String)> {
    /// `N_SLCAN` in `linux/tty.h`.
    static SERIAL_CAN: libc::c_int = 17;
    let (mut near, mut far) = (-1, -1);
    let nothing = ptr::null_mut();
    // SAFETY: the two descriptors are written to live integers and owned at once; the null pointers are allowed;
    // `settings` is plain data, filled before use; `name` has the size of `struct ifreq`, whose name comes first.
    unsafe {
        check(libc::openpty(&raw mut near, &raw mut far, nothing, ptr::null(), ptr::null()))?;
        let (near, far) = (File::from_raw_fd(near), OwnedFd::from_raw_fd(far));
        let mut settings: libc::termios = mem::zeroed();
        check(libc::tcgetattr(far.as_raw_fd(), &raw mut settings))?;
        libc::cfmakeraw(&raw mut settings);
        check(libc::tcsetattr(far.as_raw_fd(), libc::TCSANOW, &raw const settings))?;
        check(libc::ioctl(far.as_raw_fd(), libc::TIOCSETD, &raw const SERIAL_CAN))?;
        let mut name = [0_u8; mem::size_of::<libc::ifreq>()];
        check(libc::ioctl(far.as_raw_fd(), libc::SIOCGIFNAME, name.as_mut_ptr()))?;
        let name = name[..libc::IFNAMSIZ].split(|byte| *byte == 0).next().unwrap_or_default();
        Ok((near, far, String::from_utf8_lossy(name).into_owned()))
    }
}

/// Now, as the kernel stamps frames: in microseconds since the Unix epoch.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    u64::try_from(since.as_micros()).expect("a clock that is set")
}

/// Sends a signal to a process this test started and has not yet waited for.
pub(crate) fn signal(pid: u32, number: libc::c_int) {
    // SAFETY: a plain system call; the caller still owns the child, so its id is not reused.
    let done = unsafe { libc::kill(libc::pid_t::try_from(pid).unwrap(), number) };
    assert_eq!(done, 0, "signal {number} to {pid}: {}", io::Error::last_os_error());
}

/// A raw CAN socket that sees classic, FD and error frames, with a buffer that holds seconds of a full bus.
pub(crate) struct CanSocket {
    fd: OwnedFd,
}

impl CanSocket {
    /// Opens on `interface` of the calling thread's namespace.
    pub(crate) fn open_here(interface: &str) -> io::Result<Self> {
        // SAFETY: plain system calls with arguments that live across them; `socket` yields a fresh descriptor.
        unsafe {
            let raw =
                libc::socket(libc::PF_CAN, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::CAN_RAW);
            check(raw)?;
            let fd = OwnedFd::from_raw_fd(raw);
            option(&fd, libc::SOL_CAN_RAW, libc::CAN_RAW_FD_FRAMES, 1)?;
            option(
                &fd,
                libc::SOL_CAN_RAW,
                libc::CAN_RAW_ERR_FILTER,
                libc::CAN_ERR_MASK.cast_signed(),
            )?;
            option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)
                .or_else(|_| option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER))?;
            option(&fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
            option(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMP, 1)?;
            let patience = libc::timeval { tv_sec: PATIENCE.as_secs().cast_signed(), tv_usec: 0 };
            option(&fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, patience)?;
            let mut address: libc::sockaddr_can = mem::zeroed();
            address.can_family = libc::sa_family_t::try_from(libc::AF_CAN).unwrap();
            let name = std::ffi::CString::new(interface)?;
            address.can_ifindex = libc::if_nametoindex(name.as_ptr()).cast_signed();
            if address.can_ifindex == 0 {
                return Err(io::Error::last_os_error());
            }
            let size = mem::size_of_val(&address) as libc::socklen_t;
            check(libc::bind(raw, (&raw const address).cast(), size))?;
            Ok(Self { fd })
        }
    }

    /// Receives only frames with this very id from now on, and no error frames.
    pub(crate) fn only(&self, id: u32) -> io::Result<()> {
        let filter =
            libc::can_filter { can_id: id, can_mask: libc::CAN_SFF_MASK | EXTENDED | REMOTE };
        option(&self.fd, libc::SOL_CAN_RAW, libc::CAN_RAW_FILTER, filter)?;
        option(&self.fd, libc::SOL_CAN_RAW, libc::CAN_RAW_ERR_FILTER, 0)
    }

    /// Has no more room for frames from now on than the kernel gives anybody who asks for nothing.
    pub(crate) fn plain(&self) -> io::Result<()> {
        /// `net.core.rmem_default`; the kernel doubles what is asked for.
        const DEFAULT: libc::c_int = 212_992;
        option(&self.fd, libc::SOL_SOCKET, libc::SO_RCVBUF, DEFAULT / 2)
    }

    /// Receives nothing from now on: for sockets that only send.
    pub(crate) fn mute(&self) -> io::Result<()> {
        let none: [libc::can_filter; 0] = [];
        option(&self.fd, libc::SOL_CAN_RAW, libc::CAN_RAW_FILTER, none)?;
        option(&self.fd, libc::SOL_CAN_RAW, libc::CAN_RAW_ERR_FILTER, 0)
    }

    /// Sends one frame.
    pub(crate) fn send(&self, frame: &Frame) -> io::Result<()> {
        // SAFETY: the bytes are there and `size` is at most their number.
        let sent =
            unsafe { libc::write(self.fd.as_raw_fd(), frame.bytes.as_ptr().cast(), frame.size) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends at most [`BATCH`] frames in one system call; says how many went.
    pub(crate) fn send_batch(&self, frames: &[Frame]) -> io::Result<usize> {
        let frames = &frames[..frames.len().min(BATCH)];
        // SAFETY: all-zero is a valid value of these C structures.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { mem::zeroed() };
        for ((part, message), frame) in parts.iter_mut().zip(&mut messages).zip(frames) {
            *part = libc::iovec {
                iov_base: frame.bytes.as_ptr().cast_mut().cast(),
                iov_len: frame.size,
            };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = libc::c_uint::try_from(frames.len()).unwrap();
        // SAFETY: each header points at one iovec, which points at one frame; all outlive the call, which only reads.
        let sent = unsafe { libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    /// The next frame, by one plain blocking `read`, as a simple tool would take it; an error after [`PATIENCE`].
    pub(crate) fn next(&self) -> io::Result<Frame> {
        let mut bytes = [0; FD];
        // SAFETY: the buffer has `FD` bytes and outlives the call.
        let size = unsafe { libc::read(self.fd.as_raw_fd(), bytes.as_mut_ptr().cast(), FD) };
        let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
        Ok(Frame { bytes, size })
    }

    /// Waits at most `patience` for frames and takes what is there, up to [`BATCH`]; empty when the time was up.
    pub(crate) fn receive(&self, patience: Duration) -> io::Result<Received> {
        let mut received = Received::default();
        let mut wait =
            libc::pollfd { fd: self.fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let patience = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd, which outlives the call.
        check(unsafe { libc::poll(&raw mut wait, 1, patience) })?;
        if wait.revents == 0 {
            return Ok(received);
        }
        let mut frames = [[0_u8; FD]; BATCH];
        let mut controls = [Control([0; 64]); BATCH];
        // SAFETY: all-zero is a valid value of these C structures.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { mem::zeroed() };
        for (i, (part, message)) in parts.iter_mut().zip(&mut messages).enumerate() {
            *part = libc::iovec { iov_base: frames[i].as_mut_ptr().cast(), iov_len: FD };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = controls[i].0.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = 64;
        }
        let (fd, all, flags) = (self.fd.as_raw_fd(), BATCH as libc::c_uint, libc::MSG_DONTWAIT);
        // SAFETY: each header points at one iovec and one control buffer of the lengths given; all outlive the call.
        let count =
            unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), all, flags, ptr::null_mut()) };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (message, bytes) in messages[..count].iter().zip(frames) {
            received.frames.push(Frame { bytes, size: message.msg_len as usize });
            received.overflow =
                received.overflow.max(told(&message.msg_hdr, libc::SO_RXQ_OVFL).unwrap_or(0));
            let seen: Option<libc::timeval> = told(&message.msg_hdr, libc::SCM_TIMESTAMP);
            let us = seen.map_or(0, |at| at.tv_sec * 1_000_000 + at.tv_usec);
            received.stamps_us.push(us.cast_unsigned());
        }
        Ok(received)
    }
}

/// What one call brought.
#[derive(Default)]
pub(crate) struct Received {
    /// The frames, in bus order.
    pub(crate) frames: Vec<Frame>,
    /// When the kernel saw each, in microseconds since the Unix epoch.
    pub(crate) stamps_us: Vec<u64>,
    /// How many frames this socket's own buffer had no room for, since it was opened.
    pub(crate) overflow: u32,
}

/// Room for a control message, aligned as one.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; 64]);

/// What the control message `kind` of `SOL_SOCKET` holds, if there is one; `T` is what the kernel puts there.
fn told<T: Copy>(header: &libc::msghdr, kind: libc::c_int) -> Option<T> {
    // SAFETY: the kernel filled `header`; the macros walk inside its control buffer, and the value is read unaligned.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_SOCKET && (*control).cmsg_type == kind {
                return Some(ptr::read_unaligned(libc::CMSG_DATA(control).cast()));
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

fn option<T: Copy>(
    fd: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    let size = mem::size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is plain data of exactly `size` bytes and outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
