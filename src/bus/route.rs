//! Questions and orders to the kernel about interfaces: one request, one answer (rtnetlink(7)).

use core::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send,
    socket_with,
};

/// Bytes of `struct nlmsghdr` (`linux/netlink.h`) and of `struct ifinfomsg` (`linux/rtnetlink.h`).
pub(super) const HEADER: usize = 16;
/// Bytes of `struct rtattr`, to a multiple of which attributes are padded (`linux/rtnetlink.h`).
const ATTRIBUTE: usize = 4;
/// In `linux/rtnetlink.h`, since Linux 4.7.
const RTM_GETSTATS: u16 = 94;
/// The part of an attribute's type that is its number (`NLA_TYPE_MASK` in `linux/netlink.h`).
const TYPE_MASK: u16 = 0x3FFF;
/// Room for the answer about one interface: the kernel's own size for them is a page or 8 KiB
/// (`NLMSG_GOODSIZE` in `linux/netlink.h`).
const ANSWER_BYTES: usize = 8192;
/// Old answers skipped before the one to this request. Chosen: one is left for each request that
/// failed on its way, and none is left behind those that are skipped.
const SKIPPED_MAX: usize = 16;

/// A socket for requests, which belongs for good to the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Route {
    socket: OwnedFd,
    /// Number of the last request: its answer has the same.
    sequence: Cell<u32>,
}

impl Route {
    /// Opens one in the network namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { socket: open_route(SocketFlags::CLOEXEC, 0)?, sequence: Cell::new(0) })
    }

    /// Sends a request; returns the answer, or the error the kernel answered with.
    pub(super) fn exchange(&self, request: &Request) -> io::Result<Vec<u8>> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let mut bytes = request.0.clone();
        let len = bytes.len() as u32;
        write(&mut bytes, 0, &len.to_ne_bytes());
        write(&mut bytes, 8, &sequence.to_ne_bytes());
        send(&self.socket, &bytes, SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES];
        for _ in 0..SKIPPED_MAX {
            // The kernel answers within `send`, so this never waits.
            let len = match recv(&self.socket, &mut answer[..], RecvFlags::DONTWAIT) {
                Ok((len, _)) => len,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(answer) = answer.get(..len).filter(|answer| answers(answer, sequence)) else {
                continue;
            };
            return match refusal(answer) {
                Some(libc::ENODEV) => Err(io::ErrorKind::NotFound.into()),
                Some(number) => Err(io::Error::from_raw_os_error(number)),
                None => Ok(answer.to_vec()),
            };
        }
        Err(unreadable())
    }
}

/// Whether a message is the answer to the request of this number.
fn answers(answer: &[u8], sequence: u32) -> bool {
    read(answer, 8).map(u32::from_ne_bytes) == Some(sequence)
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

    /// A request for statistics: `struct if_stats_msg` (`linux/if_link.h`) is family u8, three of
    /// padding, index u32, mask u32.
    pub(super) fn statistics(index: u32, mask: u32) -> Self {
        let mut request = Self::new(RTM_GETSTATS, 0, 0);
        request.0.truncate(HEADER + 4);
        request.0.extend([index.to_ne_bytes(), mask.to_ne_bytes()].concat());
        request
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

    /// Sends it through a socket of its own.
    pub(super) fn exchange(&self) -> io::Result<Vec<u8>> {
        Route::open()?.exchange(self)
    }
}

/// The error number in an answer that is one. Zero is the kernel's way to say yes.
pub(super) fn refusal(answer: &[u8]) -> Option<i32> {
    let kind = read(answer, 4).map(u16::from_ne_bytes)?;
    let number = read(answer, HEADER).map(i32::from_ne_bytes)?.checked_neg()?;
    (libc::c_int::from(kind) == libc::NLMSG_ERROR && number != 0).then_some(number)
}

pub(super) fn unreadable() -> io::Error {
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

pub(super) fn open_route(flags: SocketFlags, groups: u32) -> io::Result<OwnedFd> {
    // `NETLINK_ROUTE` is protocol zero, which rustix writes as `None`.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_to_another_request_is_skipped() -> io::Result<()> {
        let route = Route::open()?;
        let request = |index| Request::new(libc::RTM_GETLINK, 0, index);
        // As if its answer had not been read: the next exchange finds it first.
        let mut stale = request(i32::MAX as u32).0;
        let len = stale.len() as u32;
        write(&mut stale, 0, &len.to_ne_bytes());
        write(&mut stale, 8, &7_u32.to_ne_bytes());
        send(&route.socket, &stale, SendFlags::empty())?;
        let answer = route.exchange(&request(1))?;
        assert_eq!(read(&answer, HEADER + 4).map(u32::from_ne_bytes), Some(1));
        Ok(())
    }

    #[test]
    fn one_socket_answers_many_requests() -> io::Result<()> {
        let route = Route::open()?;
        for index in [1, i32::MAX as u32, 1] {
            let found = route.exchange(&Request::new(libc::RTM_GETLINK, 0, index));
            let found = found.map(drop).map_err(|error| error.kind());
            let expected = if index == 1 { Ok(()) } else { Err(io::ErrorKind::NotFound) };
            assert_eq!(found, expected);
        }
        Ok(())
    }
}
