//! A CAN interface of this machine, through SocketCAN.
//!
//! The socket hears everything on the bus, its own frames included: a frame this program sent comes
//! back marked [`Received::own`] when the controller really sent it, in true bus order.
//!
//! What can go wrong and what becomes of the socket (`net/can/raw.c`):
//!
//! | | `receive` and `send` say | the socket afterwards |
//! |---|---|---|
//! | interface switched off | `ENETDOWN` | works again when it is switched on |
//! | interface gone | `ENODEV`; sending `ENXIO` | dead for good: open the interface anew |
//! | transmit queue full | sending `ENOBUFS` | no event tells when there is room: try again later |
//!
//! The kernel keeps the news of the first two until it has told them once, to whoever comes first:
//! after down and up again the next call may still say down, and the one after it works.
//! Frames that waited in the transmit queue at that time are gone, and no echo says so.

use core::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use super::controller;
use super::netlink::{Link, Statistics};
use super::raw::{self, FD_BYTES};
use super::route::Route;
use crate::protocol::frame::Frame;
use crate::sys::{self, BATCH, RxBatch, TxBatch};

/// Why an interface could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// There is no interface of this name, yet.
    Absent {
        /// The name asked for.
        name: String,
    },
    /// There is one, but it is not a CAN interface.
    NotCan {
        /// The name asked for.
        name: String,
    },
    /// The process may not open a CAN socket.
    Denied {
        /// The name asked for.
        name: String,
    },
    /// The kernel has no CAN at all (`EAFNOSUPPORT`), or no raw CAN sockets.
    NoCanInKernel {
        /// The name asked for.
        name: String,
    },
    /// Anything else.
    Other {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { name } => {
                write!(f, "there is no interface {name}; `ip link` lists those there are")
            }
            Self::NotCan { name } => write!(f, "the interface {name} is not a CAN interface"),
            Self::Denied { name } => write!(
                f,
                "not allowed to open {name}: this process may not open CAN sockets; look at the \
                 RestrictAddressFamilies= of its unit, or the seccomp profile of its container"
            ),
            Self::NoCanInKernel { name } => write!(
                f,
                "cannot open {name}: the kernel has no CAN; try `modprobe can-raw` (in a \
                 container: on its host)"
            ),
            Self::Other { name, error } => write!(f, "cannot open {name}: {error}"),
        }
    }
}

impl core::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Other { error, .. } = self { Some(error) } else { None }
    }
}

impl OpenError {
    fn new(name: &str, error: io::Error) -> Self {
        let name = name.to_owned();
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::NotFound => Self::Absent { name },
            Some(libc::ENODEV | libc::ENXIO) => Self::Absent { name },
            Some(libc::EPERM | libc::EACCES) => Self::Denied { name },
            Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => Self::NoCanInKernel { name },
            _ => Self::Other { name, error },
        }
    }
}

/// A frame seen on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The frame.
    pub frame: Frame,
    /// When the kernel saw it, in microseconds since the Unix epoch. The kernel's wall clock: it
    /// may step, so it is data and no clock to wait by.
    pub stamp_us: u64,
    /// Whether this very socket sent it: the proof that it reached the bus.
    pub own: bool,
}

/// What became of the frames given to [`CanInterface::send`].
#[derive(Debug)]
pub struct SendOutcome {
    /// How many the kernel took, from the first on.
    pub taken: usize,
    /// Why it took no more.
    pub stop: SendStop,
}

/// Why sending stopped; it is about the first frame not taken.
#[derive(Debug)]
pub enum SendStop {
    /// There were no more.
    All,
    /// The transmit queue (`ENOBUFS`) or the socket's buffer (`EAGAIN`) is full. Try again a little
    /// later: no event tells the end of the first.
    Full,
    /// The interface is switched off, or the controller is off the bus (`ENETDOWN`, `ENETUNREACH`).
    Down,
    /// The interface is gone (`ENODEV`, `ENXIO`).
    Gone,
    /// This interface can never send this frame (`EINVAL`, `EMSGSIZE`): FD on a classic one.
    Unsupported,
    /// Anything else.
    Other(io::Error),
}

impl From<io::Error> for SendStop {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::EAGAIN) => Self::Full,
            Some(libc::EINVAL | libc::EMSGSIZE) => Self::Unsupported,
            _ if is_down(&error) => Self::Down,
            _ if is_gone(&error) => Self::Gone,
            _ => Self::Other(error),
        }
    }
}

/// Whether a receive error says that the interface is switched off: the socket stays good.
#[must_use]
pub fn is_down(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENETUNREACH))
}

/// Whether a receive error says that the interface is gone: the socket is dead.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

/// An open CAN interface. After [`CanInterface::open`] nothing on the way of a frame allocates.
pub struct CanInterface {
    name: String,
    index: u32,
    is_virtual: bool,
    socket: OwnedFd,
    /// For what is asked of the kernel: open as long as the interface is, so that no descriptor
    /// need be free then.
    route: Route,
    rx: Box<RxBatch>,
    tx: Box<TxBatch>,
    overflow: Widened,
}

impl CanInterface {
    /// Opens an interface. It may be down: frames come once it is up.
    pub fn open(name: &str) -> Result<Self, OpenError> {
        let failed = |error| OpenError::new(name, error);
        // The socket first: without CAN in the kernel it is no help to hear that can0 is missing.
        let socket = sys::open_can_raw().map_err(failed)?;
        let route = Route::open().map_err(failed)?;
        let link = Link::named(&route, name).map_err(failed)?;
        if !link.is_can {
            return Err(OpenError::NotCan { name: name.to_owned() });
        }
        sys::bind_can(socket.as_fd(), link.index).map_err(failed)?;
        Ok(Self {
            name: name.to_owned(),
            index: link.index,
            is_virtual: matches!(link.kind.as_str(), "vcan" | "vxcan"),
            socket,
            route,
            rx: RxBatch::new(),
            tx: TxBatch::new(),
            overflow: Widened::default(),
        })
    }

    /// The name it was opened by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's number for it; an interface that comes back gets a new one.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether it has no real bus behind it: a `vcan` or `vxcan`.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.is_virtual
    }

    /// Whether it takes FD frames now. Asks the kernel: not for every frame.
    #[must_use]
    pub fn is_fd(&self) -> bool {
        self.link().is_ok_and(|link| link.mtu >= FD_BYTES as u32)
    }

    /// Whether it is switched on now; `false` too when it is gone. Asks the kernel: not for every
    /// frame.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.link().is_ok_and(|link| link.is_up)
    }

    /// Whether it still exists under its name, as far as the kernel tells. Asks the kernel: not for
    /// every frame.
    #[must_use]
    pub fn is_present(&self) -> bool {
        !self.link().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// How many frames its transmit queue holds (`txqueuelen`); zero when it is gone. Asks the
    /// kernel: not for every frame.
    #[must_use]
    pub fn tx_queue_len(&self) -> u32 {
        self.link().map_or(0, |link| link.tx_queue_len)
    }

    /// All the kernel knows of it. [`io::ErrorKind::NotFound`] when it is gone or has another name
    /// now, and is no longer the requested interface; any other error says nothing about it. Asks
    /// the kernel: not for every frame.
    pub fn link(&self) -> io::Result<Link> {
        let link = Link::named(&self.route, &self.name)?;
        let is_same = link.index == self.index;
        is_same.then_some(link).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What the kernel has counted of it. Asks the kernel: not for every frame.
    pub fn statistics(&self) -> io::Result<Statistics> {
        Statistics::ask(&self.route, self.index)
    }

    /// Switches it off and on, with all its settings: the kernel and the controller forget the
    /// frames they had to send. The next [`CanInterface::receive`] tells that it was down.
    ///
    /// PRIVILEGED: needs `CAP_NET_ADMIN` in the network namespace.
    pub fn restart(&self) -> io::Result<()> {
        controller::restart(&self.route, self.index)
    }

    /// Reads up to [`BATCH`] waiting frames, without waiting: how many, zero if there are none.
    /// They stay readable through [`CanInterface::received`] until the next call.
    ///
    /// [`is_down`] and [`is_gone`] tell what an error means; the kernel reports each once.
    pub fn receive(&mut self) -> io::Result<usize> {
        let count = self.rx.receive(self.socket.as_fd())?;
        // A message carries the count as of its own arrival, and none only while that is zero.
        let last = count.checked_sub(1).and_then(|index| self.rx.message(index));
        if let Some(dropped) = last.and_then(|message| message.dropped) {
            self.overflow.advance(dropped);
        }
        Ok(count)
    }

    /// Frame `index` of the last [`CanInterface::receive`]; `None` beyond it, or for a malformed
    /// frame.
    #[must_use]
    pub fn received(&self, index: usize) -> Option<Received> {
        let message = self.rx.message(index)?;
        let frame = raw::decode(message.bytes)?;
        // The kernel always stamps; should a control message ever be cut off, now is close.
        let stamp_us = message.stamp_us.unwrap_or_else(now_us);
        Some(Received { frame, stamp_us, own: message.own })
    }

    /// Frames the kernel dropped since the interface was opened, because its buffer was full:
    /// own ones, whose confirmation will then never come, included. Told with the next frame that
    /// came after; [`CanInterface::settle_overflow`] does not wait for one.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.overflow.total
    }

    /// Asks the kernel for the count as of now, and returns it: for a report while the bus is
    /// silent, and before the interface is closed. Before kernel 4.12 it tells no more than
    /// [`CanInterface::overflow`].
    pub fn settle_overflow(&mut self) -> u64 {
        if let Ok(dropped) = sys::dropped(self.socket.as_fd()) {
            self.overflow.advance(dropped);
        }
        self.overflow.total
    }

    /// Hands frames to the kernel in order, without waiting. A frame taken is not yet sent: its
    /// echo ([`Received::own`]) is the proof. A real controller's driver echoes when the frame was
    /// on the bus, `vcan` as soon as it is queued; so do the few drivers without echo (no `ECHO` among
    /// the flags `ip link` shows, such as `slcan`), where a confirmed frame may still be lost.
    ///
    /// The kernel sets the FDF flag of FD frames, so the echo of one given without differs in it.
    pub fn send(&mut self, frames: &[Frame]) -> SendOutcome {
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            self.tx.clear();
            for frame in rest.iter().take(BATCH) {
                self.tx.push(|bytes| raw::encode(frame, bytes));
            }
            // Where it takes only some it keeps the reason to itself; the next round tells it.
            match self.tx.send(self.socket.as_fd()) {
                Ok(0) => return SendOutcome { taken, stop: SendStop::Full },
                Ok(count) => taken += count,
                Err(error) => return SendOutcome { taken, stop: error.into() },
            }
        }
        SendOutcome { taken, stop: SendStop::All }
    }
}

impl AsFd for CanInterface {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for CanInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (index {})", self.name, self.index)
    }
}

/// A 32-bit count of the kernel's that wraps, as one that does not. Frames still waiting tell
/// older counts than the kernel does when asked, so a step back is no news.
#[derive(Debug, Default)]
struct Widened {
    last: u32,
    total: u64,
}

impl Widened {
    fn advance(&mut self, now: u32) {
        let more = now.wrapping_sub(self.last);
        if more < u32::MAX / 2 {
            self.total += u64::from(more);
            self.last = now;
        }
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapping_count_is_widened() {
        let mut count = Widened::default();
        for now in [0, 7, 5, 1 << 30, 1 << 31, 3 << 30, u32::MAX, 4, u32::MAX] {
            count.advance(now);
        }
        assert_eq!(count.total, (1 << 32) + 4);
    }

    #[test]
    fn errors_name_the_interface_and_what_to_try() {
        let told =
            |number| OpenError::new("can7", io::Error::from_raw_os_error(number)).to_string();
        assert!(told(libc::ENODEV).contains("no interface can7"));
        assert!(told(libc::EAFNOSUPPORT).contains("modprobe can-raw"));
        assert!(told(libc::EACCES).contains("not allowed to open can7"));
        assert!(told(libc::EMFILE).contains("cannot open can7: Too many open files"));
    }

    #[test]
    fn reasons_to_stop_sending_are_told_apart() {
        let stop = |number| SendStop::from(io::Error::from_raw_os_error(number));
        assert!(matches!(stop(libc::ENOBUFS), SendStop::Full));
        assert!(matches!(stop(libc::EAGAIN), SendStop::Full));
        assert!(matches!(stop(libc::ENETDOWN), SendStop::Down));
        assert!(matches!(stop(libc::ENXIO), SendStop::Gone));
        assert!(matches!(stop(libc::ENODEV), SendStop::Gone));
        assert!(matches!(stop(libc::EMSGSIZE), SendStop::Unsupported));
        assert!(matches!(stop(libc::EIO), SendStop::Other(_)));
    }
}
