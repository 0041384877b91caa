//! What the kernel knows about interfaces: asking, being told of changes, making virtual ones.
//!
//! All of it is rtnetlink (rtnetlink(7), `linux/rtnetlink.h`). One question is answered with
//! everything about an interface at once, and by index, so an interface that was pulled and came
//! back under the same name is never mistaken for the one that is gone. The messages are made by
//! hand: `socketcan` 4.0 answers every refusal to make or delete an interface with "no netlink ack
//! received", and the operator would never hear whether a right, a module or a name was wrong.

use core::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SocketFlags, recv};

use super::controller::{self, Controller};
use super::raw::FD_BYTES;
use super::route::{HEADER, Request, Route, attributes, open_route, read, unreadable};
use super::state::Health;
use crate::protocol::wire::BusState;

/// Longest interface name in bytes (`IFNAMSIZ` in `linux/if.h`, less the closing zero).
const NAME_MAX: usize = 15;
/// In `linux/if.h`.
const IFF_LOWER_UP: u32 = 1 << 16;
const IFF_ECHO: u32 = 1 << 18;
/// Attribute numbers in `linux/if_link.h`.
const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
pub(super) const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_EXT_MASK: u16 = 29;
/// Inside `IFLA_LINKINFO` (`linux/if_link.h`).
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
/// Bytes of `struct if_stats_msg`, and what it asks for (`linux/if_link.h`).
const STATS_MSG: usize = 12;
/// In `linux/rtnetlink.h`.
const RTM_NEWSTATS: u16 = 92;
const IFLA_STATS_LINK_64: u16 = 1;

/// The alias of interfaces that [`create_vcan`] has made. It outlives the process: one that follows it
/// after a crash knows what to remove at its end.
const MARK: &str = "made by canspan";

/// An interface as it was at the moment of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it, never used twice while the machine runs.
    pub index: u32,
    /// Whether it is a CAN interface (`ARPHRD_CAN`).
    pub is_can: bool,
    /// Whether it is switched on (`IFF_UP`).
    pub is_up: bool,
    /// Whether it can send (`IFF_LOWER_UP`); a controller that is off the bus cannot.
    pub has_carrier: bool,
    /// Whether its driver gives a frame back when it was sent (`IFF_ECHO`). Where it does not, the
    /// kernel gives it back as soon as it has taken it.
    pub has_echo: bool,
    /// Bytes of the largest frame it takes: 16 classic, 72 FD, more for XL (`linux/can.h`).
    pub mtu: u32,
    /// Frames its transmit queue holds (`txqueuelen`).
    pub tx_queue_len: u32,
    /// Its sort: `can`, `vcan`, `vxcan`; empty where the driver has none.
    pub kind: String,
    /// Whether canspan has made it, in this process or another.
    pub is_made: bool,
    /// Its controller, where it has one that the kernel can ask.
    pub controller: Option<Controller>,
}

impl Link {
    /// Asks by name. [`io::ErrorKind::NotFound`] if there is none.
    pub fn by_name(name: &str) -> io::Result<Self> {
        is_possible(name)?;
        Self::named(&Route::open()?, name)
    }

    /// Asks by index. [`io::ErrorKind::NotFound`] if there is none.
    pub fn by_index(index: u32) -> io::Result<Self> {
        Self::ask(&Route::open()?, index, None)
    }

    /// Asks by name, in the network namespace of this socket.
    pub(super) fn named(route: &Route, name: &str) -> io::Result<Self> {
        is_possible(name)?;
        Self::ask(route, 0, Some(name))
    }

    /// The state of the bus, where there is a controller to know it. The kernel gives one that is
    /// off the bus nothing to send, and says so by the carrier until it has restarted it.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        let health = self.controller?.health();
        Some(match (self.is_up, self.has_carrier) {
            (false, _) => Health::unknown(BusState::Down),
            (true, false) => Health { state: BusState::BusOff, ..health },
            (true, true) => health,
        })
    }

    fn ask(route: &Route, index: u32, name: Option<&str>) -> io::Result<Self> {
        let mut request = Request::new(libc::RTM_GETLINK, 0, index);
        let skip = libc::RTEXT_FILTER_SKIP_STATS.cast_unsigned();
        request.push(IFLA_EXT_MASK, &skip.to_ne_bytes());
        if let Some(name) = name {
            request.push_text(IFLA_IFNAME, name);
        }
        let answer = route.exchange(&request)?;
        Self::parse(&answer).ok_or_else(unreadable)
    }

    /// Reads the answer: one `RTM_NEWLINK`.
    fn parse(answer: &[u8]) -> Option<Self> {
        (u16::from_ne_bytes(read(answer, 4)?) == libc::RTM_NEWLINK).then_some(())?;
        // struct ifinfomsg: family u8, pad u8, type u16, index i32, flags u32, change u32.
        let flags = u32::from_ne_bytes(read(answer, HEADER + 8)?);
        let mut link = Self {
            index: u32::from_ne_bytes(read(answer, HEADER + 4)?),
            is_can: u16::from_ne_bytes(read(answer, HEADER + 2)?) == libc::ARPHRD_CAN,
            is_up: flags & libc::IFF_UP.cast_unsigned() != 0,
            has_carrier: flags & IFF_LOWER_UP != 0,
            has_echo: flags & IFF_ECHO != 0,
            mtu: 0,
            tx_queue_len: 0,
            kind: String::new(),
            is_made: false,
            controller: None,
        };
        for (number, payload) in attributes(answer.get(2 * HEADER..)?) {
            match number {
                IFLA_MTU => link.mtu = u32::from_ne_bytes(read(payload, 0)?),
                IFLA_TXQLEN => link.tx_queue_len = u32::from_ne_bytes(read(payload, 0)?),
                IFLA_LINKINFO => (link.kind, link.controller) = info(payload),
                IFLA_IFALIAS => link.is_made = payload.strip_suffix(&[0]) == Some(MARK.as_bytes()),
                _ => {}
            }
        }
        Some(link)
    }
}

/// [`io::ErrorKind::NotFound`] for what can be no interface's name.
fn is_possible(name: &str) -> io::Result<()> {
    let is_possible = !name.is_empty() && name.len() <= NAME_MAX && !name.contains('\0');
    is_possible.then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What the kernel has counted of an interface since it was made (`struct rtnl_link_stats64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames the kernel dropped before they reached any socket: its backlog was full, or its
    /// driver had no memory (`rx_dropped`).
    pub rx_dropped: u64,
    /// Times its controller had no room for a frame that came (`rx_over_errors`).
    pub rx_over_errors: u64,
}

impl Statistics {
    /// Asks by index. The driver's controller is not asked, as it would be for all else. Kernels
    /// before 4.7 do not know the question.
    pub(super) fn ask(route: &Route, index: u32) -> io::Result<Self> {
        let mask = 1_u32 << (IFLA_STATS_LINK_64 - 1);
        let request = Request::statistics(index, mask);
        Self::parse(&route.exchange(&request)?).ok_or_else(unreadable)
    }

    /// Reads the answer: one `RTM_NEWSTATS`.
    fn parse(answer: &[u8]) -> Option<Self> {
        (u16::from_ne_bytes(read(answer, 4)?) == RTM_NEWSTATS).then_some(())?;
        let mut found = attributes(answer.get(HEADER + STATS_MSG..)?);
        let (_, payload) = found.find(|(number, _)| *number == IFLA_STATS_LINK_64)?;
        let count = |place: usize| read(payload, place * 8).map(u64::from_ne_bytes);
        Some(Self { rx_dropped: count(6)?, rx_over_errors: count(11)? })
    }
}

fn info(info: &[u8]) -> (String, Option<Controller>) {
    let find = |wanted| attributes(info).find(|(number, _)| *number == wanted);
    let kind = find(IFLA_INFO_KIND).and_then(|(_, payload)| payload.split(|b| *b == 0).next());
    let kind = String::from_utf8_lossy(kind.unwrap_or_default()).into_owned();
    let data = find(IFLA_INFO_DATA).filter(|_| kind == controller::KIND);
    (kind, data.map(|(_, payload)| Controller::parse(payload)))
}

/// Wakes when anything about any interface of this network namespace changes: made, deleted, up,
/// down, renamed. Says only that; [`Link`] says what is true now, whatever message was lost.
pub struct LinkWatch {
    socket: OwnedFd,
}

impl LinkWatch {
    /// Messages read in one [`LinkWatch::drain`]. Chosen to be more than plugging in one adapter
    /// causes; what is left wakes the loop again.
    const DRAIN_MAX: usize = 64;

    /// Starts watching.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self { socket: open_route(flags, libc::RTMGRP_LINK.cast_unsigned())? })
    }

    /// Reads what is waiting, without waiting: whether something may have changed.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut changed = false;
        for _ in 0..Self::DRAIN_MAX {
            // What the message says does not matter, so it may be cut short.
            match recv(&self.socket, &mut [0; HEADER][..], RecvFlags::DONTWAIT) {
                // Out of buffer space: changes were missed, hence there were some.
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => changed = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(changed)
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why a virtual CAN interface could not be made.
#[derive(Debug)]
pub enum CreateError {
    /// There is an interface of this name already, of whatever sort.
    Exists {
        /// The name asked for.
        name: String,
    },
    /// The kernel does not take this name.
    BadName {
        /// The name asked for.
        name: String,
    },
    /// The process lacks `CAP_NET_ADMIN`.
    Denied {
        /// The name asked for.
        name: String,
    },
    /// The kernel has no `vcan`.
    NoVcan {
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

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { name } => write!(f, "there is an interface {name} already"),
            Self::BadName { name } => write!(
                f,
                "\"{name}\" cannot be an interface name: use 1 to {NAME_MAX} letters and digits"
            ),
            Self::Denied { name } => write!(
                f,
                "not allowed to make {name}: that needs the capability CAP_NET_ADMIN; run as root \
                 (a container: with --cap-add NET_ADMIN, too), or make it before with `ip link add \
                 {name} type vcan`"
            ),
            Self::NoVcan { name } => write!(
                f,
                "cannot make {name}: the kernel has no vcan; try `modprobe vcan` (in a container: \
                 on its host)"
            ),
            Self::Other { name, error } => write!(f, "cannot make the interface {name}: {error}"),
        }
    }
}

impl core::error::Error for CreateError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Other { error, .. } = self { Some(error) } else { None }
    }
}

impl CreateError {
    fn new(name: &str, error: io::Error) -> Self {
        let name = name.to_owned();
        match error.raw_os_error() {
            Some(libc::EEXIST) => Self::Exists { name },
            Some(libc::EPERM | libc::EACCES) => Self::Denied { name },
            Some(libc::EOPNOTSUPP) => Self::NoVcan { name },
            _ => Self::Other { name, error },
        }
    }
}

/// Makes a virtual CAN interface that takes FD frames and is switched on, all in one request: it is
/// there as a whole or not at all.
///
/// PRIVILEGED: needs `CAP_NET_ADMIN` in the network namespace.
pub fn create_vcan(name: &str) -> Result<(), CreateError> {
    if !is_plain_name(name) {
        return Err(CreateError::BadName { name: name.to_owned() });
    }
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
    let mut info = Request(Vec::new());
    info.push_text(IFLA_INFO_KIND, "vcan");
    let mut request = Request::new(libc::RTM_NEWLINK, flags, 0);
    request.switch(true);
    request.push_text(IFLA_IFNAME, name);
    request.push(IFLA_MTU, &(FD_BYTES as u32).to_ne_bytes());
    request.push(IFLA_LINKINFO, &info.0);
    request.exchange().map_err(|error| CreateError::new(name, error))?;
    mark(name);
    Ok(())
}

/// Gives an interface the mark that it was made here. The kernel takes none with the making; where it
/// fails, or the process dies in between, the interface only stays after a crash.
fn mark(name: &str) {
    if let Ok(link) = Link::by_name(name) {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, link.index);
        request.push_text(IFLA_IFALIAS, MARK);
        let _ = request.exchange();
    }
}

/// Whether the kernel takes this for a name, and for nothing else: it refuses some characters
/// (`dev_valid_name`), and "vcan%d" it would take for a pattern and make another name of.
fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    !matches!(name, "" | "." | "..") && name.len() <= NAME_MAX && name.chars().all(plain)
}

/// Why an interface could not be deleted.
#[derive(Debug)]
pub enum DeleteError {
    /// There is no such interface, so there is nothing left to do.
    Absent {
        /// The name asked for.
        name: String,
    },
    /// The process lacks `CAP_NET_ADMIN`.
    Denied {
        /// The name asked for.
        name: String,
    },
    /// It is not a virtual interface: it goes only with its device.
    NotVirtual {
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

impl fmt::Display for DeleteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { name } => write!(f, "there is no interface {name} to delete"),
            Self::Denied { name } => write!(
                f,
                "not allowed to delete {name}: that needs the capability CAP_NET_ADMIN; \
                 run as root, or use `ip link del {name}`"
            ),
            Self::NotVirtual { name } => {
                write!(f, "cannot delete {name}: only virtual interfaces can be deleted")
            }
            Self::Other { name, error } => write!(f, "cannot delete the interface {name}: {error}"),
        }
    }
}

impl core::error::Error for DeleteError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Other { error, .. } = self { Some(error) } else { None }
    }
}

impl DeleteError {
    fn new(name: &str, error: io::Error) -> Self {
        let name = name.to_owned();
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::NotFound => Self::Absent { name },
            Some(libc::EPERM | libc::EACCES) => Self::Denied { name },
            Some(libc::EOPNOTSUPP) => Self::NotVirtual { name },
            _ => Self::Other { name, error },
        }
    }
}

/// Deletes a virtual interface.
///
/// PRIVILEGED: needs `CAP_NET_ADMIN` in the network namespace.
pub fn delete(name: &str) -> Result<(), DeleteError> {
    let failed = |error| DeleteError::new(name, error);
    let link = Link::by_name(name).map_err(failed)?;
    let request = Request::new(libc::RTM_DELLINK, libc::NLM_F_ACK, link.index);
    request.exchange().map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_a_loopback_interface_that_is_not_can() -> io::Result<()> {
        let named = Link::by_name("lo")?;
        assert_eq!(Link::by_index(named.index)?, named);
        assert!(!named.is_can && named.mtu > 1000);
        Ok(())
    }

    #[test]
    fn an_absent_interface_is_not_found() {
        for name in ["nosuch", "", "name-longer-than-15", "a\0b"] {
            let kind = Link::by_name(name).map_err(|error| error.kind());
            assert_eq!(kind, Err(io::ErrorKind::NotFound), "{name:?}");
        }
        let kind = Link::by_index(i32::MAX as u32).map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn an_answer_cut_anywhere_is_no_panic() -> io::Result<()> {
        let mut info = Request(Vec::new());
        info.push_text(IFLA_INFO_KIND, "vcan");
        let mut answer = Request::new(libc::RTM_NEWLINK, 0, 7);
        answer.push_text(IFLA_IFNAME, "can0");
        answer.push(IFLA_MTU, &72_u32.to_ne_bytes());
        answer.push(IFLA_LINKINFO, &info.0);
        let answer = answer.0;
        let link = Link::parse(&answer).ok_or_else(unreadable)?;
        assert_eq!((link.index, link.mtu, link.kind.as_str()), (7, 72, "vcan"));
        for cut in 0..answer.len() {
            let _ = (Link::parse(&answer[..cut]), crate::bus::route::refusal(&answer[..cut]));
        }
        Ok(())
    }

    #[test]
    fn statistics_are_read_from_the_kernels_layout() -> io::Result<()> {
        // struct rtnl_link_stats64: each count is its own place.
        let counts: Vec<u8> = (0..25_u64).flat_map(u64::to_ne_bytes).collect();
        let mut answer = Request::statistics(7, 1);
        answer.0[4..6].copy_from_slice(&RTM_NEWSTATS.to_ne_bytes());
        answer.push(IFLA_STATS_LINK_64, &counts);
        let expected = Statistics { rx_dropped: 6, rx_over_errors: 11 };
        assert_eq!(Statistics::parse(&answer.0), Some(expected));
        for cut in 0..answer.0.len() {
            let _ = Statistics::parse(&answer.0[..cut]);
        }
        // The running kernel knows the question: that of its loopback interface is answered.
        Statistics::ask(&Route::open()?, Link::by_name("lo")?.index).map(drop)
    }

    #[test]
    fn echo_flag_is_read() -> io::Result<()> {
        let mut answer = Request::new(libc::RTM_NEWLINK, 0, 7).0;
        let has_echo = |answer: &[u8]| Link::parse(answer).map(|link| link.has_echo);
        assert_eq!(has_echo(&answer), Some(false));
        answer[HEADER + 8..HEADER + 12].copy_from_slice(&(1_u32 << 18).to_ne_bytes());
        assert_eq!(has_echo(&answer), Some(true));
        Ok(())
    }

    #[test]
    fn names_the_kernel_would_change_are_refused() {
        for name in ["", "vcan%d", "a/b", "a b", "..", "name-longer-than-15"] {
            assert!(matches!(create_vcan(name), Err(CreateError::BadName { .. })), "{name}");
        }
    }

    #[test]
    fn a_quiet_watch_reports_nothing() -> io::Result<()> {
        let mut watch = LinkWatch::open()?;
        watch.drain()?;
        Ok(())
    }
}
