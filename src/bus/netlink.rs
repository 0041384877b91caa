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

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send,
    socket_with,
};

use super::controller::{self, Controller};
use super::raw::FD_BYTES;
use super::state::Health;
use crate::protocol::wire::BusState;

/// Longest interface name in bytes (`IFNAMSIZ` in `linux/if.h`, less the closing zero).
const NAME_MAX: usize = 15;
/// Bytes of `struct nlmsghdr` (`linux/netlink.h`) and of `struct ifinfomsg` (`linux/rtnetlink.h`).
const HEADER: usize = 16;
/// Bytes of `struct rtattr`, to a multiple of which attributes are padded (`linux/rtnetlink.h`).
const ATTRIBUTE: usize = 4;
/// In `linux/if.h`.
const IFF_LOWER_UP: u32 = 1 << 16;
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
/// The part of an attribute's type that is its number (`NLA_TYPE_MASK` in `linux/netlink.h`).
const TYPE_MASK: u16 = 0x3FFF;
/// Room for the answer about one interface: the kernel's own size for them is a page or 8 KiB
/// (`NLMSG_GOODSIZE` in `linux/netlink.h`).
const ANSWER_BYTES: usize = 8192;

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
        if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            return Err(io::ErrorKind::NotFound.into());
        }
        Self::ask(0, Some(name))
    }

    /// Asks by index. [`io::ErrorKind::NotFound`] if there is none.
    pub fn by_index(index: u32) -> io::Result<Self> {
        Self::ask(index, None)
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

    fn ask(index: u32, name: Option<&str>) -> io::Result<Self> {
        let mut request = Request::new(libc::RTM_GETLINK, 0, index);
        let skip = libc::RTEXT_FILTER_SKIP_STATS.cast_unsigned();
        request.push(IFLA_EXT_MASK, &skip.to_ne_bytes());
        if let Some(name) = name {
            request.push_text(IFLA_IFNAME, name);
        }
        let answer = request.exchange()?;
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

fn info(info: &[u8]) -> (String, Option<Controller>) {
    let find = |wanted| attributes(info).find(|(number, _)| *number == wanted);
    let kind = find(IFLA_INFO_KIND).and_then(|(_, payload)| payload.split(|b| *b == 0).next());
    let kind = String::from_utf8_lossy(kind.unwrap_or_default()).into_owned();
    let data = find(IFLA_INFO_DATA).filter(|_| kind == controller::KIND);
    (kind, data.map(|(_, payload)| Controller::parse(payload)))
}

/// One request about one interface, as bytes; or the inside of a nested attribute.
pub(super) struct Request(pub(super) Vec<u8>);

impl Request {
    /// A request of this kind about the interface of this index; zero for none, or by name.
    pub(super) fn new(kind: u16, flags: libc::c_int, index: u32) -> Self {
        // struct nlmsghdr: length u32, kind u16, flags u16, sequence u32, port u32.
        let mut bytes = vec![0; 2 * HEADER];
        write(&mut bytes, 4, &kind.to_ne_bytes());
        write(&mut bytes, 6, &((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        write(&mut bytes, HEADER + 4, &index.to_ne_bytes());
        Self(bytes)
    }

    /// Asks for the interface to be on, or off, and for no other change of its flags.
    pub(super) fn switch(&mut self, is_on: bool) {
        let up = libc::IFF_UP.cast_unsigned();
        write(&mut self.0, HEADER + 8, &(if is_on { up } else { 0 }).to_ne_bytes());
        write(&mut self.0, HEADER + 12, &up.to_ne_bytes());
    }

    pub(super) fn push(&mut self, number: u16, payload: &[u8]) {
        let len = (ATTRIBUTE + payload.len()) as u16;
        self.0.extend(len.to_ne_bytes());
        self.0.extend(number.to_ne_bytes());
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(ATTRIBUTE), 0);
    }

    pub(super) fn push_text(&mut self, number: u16, text: &str) {
        self.push(number, &[text.as_bytes(), &[0]].concat());
    }

    /// Sends it; the answer, or the error the kernel answered with.
    pub(super) fn exchange(mut self) -> io::Result<Vec<u8>> {
        let len = self.0.len() as u32;
        write(&mut self.0, 0, &len.to_ne_bytes());
        let socket = open_route(SocketFlags::CLOEXEC, 0)?;
        send(&socket, &self.0, SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES];
        // The kernel answers within `send`, so this never waits.
        let (len, _) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
        answer.truncate(len);
        match refusal(&answer) {
            Some(libc::ENODEV) => Err(io::ErrorKind::NotFound.into()),
            Some(number) => Err(io::Error::from_raw_os_error(number)),
            None => Ok(answer),
        }
    }
}

/// The error number in an answer that is one. Zero is the kernel's way to say yes.
fn refusal(answer: &[u8]) -> Option<i32> {
    let kind = read(answer, 4).map(u16::from_ne_bytes)?;
    let number = read(answer, HEADER).map(i32::from_ne_bytes)?.checked_neg()?;
    (libc::c_int::from(kind) == libc::NLMSG_ERROR && number != 0).then_some(number)
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel gave an unreadable netlink answer")
}

pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(read(bytes, 0)?));
        let number = u16::from_ne_bytes(read(bytes, 2)?) & TYPE_MASK;
        let payload = bytes.get(ATTRIBUTE..len)?;
        bytes = bytes.get(len.next_multiple_of(ATTRIBUTE)..).unwrap_or_default();
        Some((number, payload))
    })
}

pub(super) fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn write(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn open_route(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    // `NETLINK_ROUTE` is protocol zero, which rustix writes as `None`.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
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
            let _ = (Link::parse(&answer[..cut]), refusal(&answer[..cut]));
        }
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
