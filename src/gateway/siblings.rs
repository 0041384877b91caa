//! Other processes that have one of our buses open: a ring may lead through them, so probes go to
//! and come from them, too.
//!
//! Every process has a socket with one of a few names for each interface; the kernel frees the name
//! when the process dies. Such names belong to a network namespace, as interfaces do.
//!
//! Who sends or holds such a name is not checked: processes of different users share a bus, and a ring
//! through both must be found. A local user can thus take the names and fill the socket; he can open
//! the bus itself, too, and do worse. What is bounded is the work: [`DATAGRAMS_MAX`] in a turn, and
//! [`PROBES_MAX`] probes passed on in a second. No probe closes a link unless it has a secret token.

use core::time::Duration;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::memory::Heap;
use super::rate_limit::RateLimit;
use crate::protocol::time::Instant;
use crate::protocol::wire::Probe;
use crate::protocol::{Hub, PROBE_EVERY};

/// Processes that can have one bus open and be noticed. Chosen: a bus has two or three.
const SLOTS: u8 = 8;
/// Datagrams read in one turn of the loop: a process that floods the socket from another processor must
/// not keep the loop there.
const DATAGRAMS_MAX: usize = 16;
/// Probes passed on in a second. Chosen: as many as a peer may have passed on.
const PROBES_MAX: u32 = 64;
/// Longest datagram: two varints and a byte.
const PROBE_SIZE_MAX: usize = 21;

/// The other processes that have a bus open.
#[derive(Debug)]
pub(super) struct Siblings {
    socket: UnixDatagram,
    bus_id: u64,
    slot: u8,
    /// How far probes of the hub were passed on.
    cursor: u64,
    next_look: Instant,
    budget: RateLimit,
    /// Whether its socket is waited for.
    pub(super) is_watched: bool,
}

impl Siblings {
    /// From now on others that open the bus find us.
    pub(super) fn open(interface: &str, bus_id: u64) -> Option<Self> {
        for slot in 0..SLOTS {
            match bind(bus_id, slot) {
                Ok(socket) => {
                    let next_look = Instant::default();
                    let budget = RateLimit::over(Duration::from_secs(1), PROBES_MAX);
                    return Some(Self {
                        socket,
                        bus_id,
                        slot,
                        cursor: 0,
                        next_look,
                        budget,
                        is_watched: false,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => {
                    log::warn!("{interface}: cannot guard against rings: {error}");
                    return None;
                }
            }
        }
        log::warn!("{interface}: {SLOTS} processes have it open; rings over this one go unnoticed");
        None
    }

    /// What to wait for.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// When to [look](Self::look) again: only who dials sends probes.
    pub(super) fn poll_timeout(&self, hub: &Hub<Heap>) -> Option<Instant> {
        hub.dials().then_some(self.next_look)
    }

    /// Looks whether there are others.
    pub(super) fn look(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        self.next_look = now + PROBE_EVERY;
        hub.set_siblings(self.has_others());
    }

    /// Whether there are others now.
    pub(super) fn has_others(&self) -> bool {
        self.tell(&[])
    }

    /// Passes probes on, and looks again when it is time.
    pub(super) fn write(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        if self.poll_timeout(hub).is_some_and(|at| at <= now) {
            self.look(now, hub);
        }
        while let Some(probe) = hub.next_probe(&mut self.cursor, None) {
            let mut bytes = [0; PROBE_SIZE_MAX];
            if let Ok(bytes) = postcard::to_slice(&probe, &mut bytes) {
                self.tell(bytes);
            }
        }
    }

    /// Takes what others passed on.
    pub(super) fn read(&mut self, now: Instant, hub: &mut Hub<Heap>) {
        let mut bytes = [0; PROBE_SIZE_MAX];
        for _ in 0..DATAGRAMS_MAX {
            let Ok(length) = self.socket.recv(&mut bytes) else { return };
            // An empty one only looks whether we are there.
            let probe = bytes.get(..length).map(postcard::take_from_bytes::<Probe>);
            if let Some(Ok((probe, []))) = probe
                && self.budget.allow(now, 1).is_some()
            {
                hub.probed_by_sibling(now, probe);
            }
        }
    }

    /// Sends to all others; returns whether there is one. A full socket is one, too.
    fn tell(&self, bytes: &[u8]) -> bool {
        let others = (0..SLOTS).filter(|slot| *slot != self.slot);
        let sent = others.filter(|slot| {
            let sent =
                address(self.bus_id, *slot).and_then(|to| self.socket.send_to_addr(bytes, &to));
            sent.map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |_| true)
        });
        sent.count() > 0
    }
}

fn address(bus_id: u64, slot: u8) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("canspan:bus:{bus_id:016x}:{slot}"))
}

fn bind(bus_id: u64, slot: u8) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::bind_addr(&address(bus_id, slot)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::HeapSlots;

    fn hub() -> Hub<Heap> {
        let blocks = vec![0; 2 * 4096].into_boxed_slice();
        Hub::new("can0", 7, blocks, HeapSlots::with_room(8)).unwrap()
    }

    #[test]
    fn a_probe_reaches_every_other_process_and_none_twice() {
        let bus_id = 0x77_0000 + u64::from(std::process::id());
        let now = Instant::from_micros(1);
        let mut all: Vec<_> =
            (0..3).map(|_| (Siblings::open("can0", bus_id).unwrap(), hub())).collect();
        let probe = Probe { token: 5, youngest_us: u64::MAX, hops: 9 };
        // Over a link of the first one's.
        let came = all[0].1.next_probe(&mut 0, None);
        assert_eq!(came, None);
        all[0].1.probed(now, probe, 1, None);
        for _ in 0..2 {
            for (siblings, hub) in &mut all {
                siblings.write(now, hub);
            }
            for (siblings, hub) in &mut all {
                siblings.read(now, hub);
            }
        }
        for (_, hub) in &all[1..] {
            let mut cursor = 0;
            let passed = Probe { hops: 7, ..probe };
            assert_eq!(hub.next_probe(&mut cursor, Some(1)), Some(passed));
            assert_eq!(hub.next_probe(&mut cursor, Some(1)), None);
        }
        assert_eq!(all[0].1.next_probe(&mut 0, Some(1)), None);
    }

    #[test]
    fn flood_is_bounded_in_a_turn_and_second() {
        let bus_id = 0x99_0000 + u64::from(std::process::id());
        let mut flooded = Siblings::open("can0", bus_id).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = address(bus_id, flooded.slot).unwrap();
        let now = Instant::from_micros(1);
        let (mut hub, mut token, mut passed, mut cursor) = (hub(), 0, 0, 0);
        for _ in 0..20 {
            loop {
                token += 1;
                let probe = Probe { token, youngest_us: u64::MAX, hops: 9 };
                let mut bytes = [0; PROBE_SIZE_MAX];
                let bytes = postcard::to_slice(&probe, &mut bytes).unwrap();
                if socket.send_to_addr(bytes, &to).is_err() {
                    break;
                }
            }
            flooded.read(now, &mut hub);
            let before = passed;
            while hub.next_probe(&mut cursor, Some(1)).is_some() {
                passed += 1;
            }
            assert!(passed - before <= DATAGRAMS_MAX);
        }
        assert_eq!(passed, PROBES_MAX as usize);
        // A second later it goes on.
        let probe = Probe { token: token + 1, youngest_us: u64::MAX, hops: 9 };
        let mut bytes = [0; PROBE_SIZE_MAX];
        socket.send_to_addr(postcard::to_slice(&probe, &mut bytes).unwrap(), &to).unwrap();
        flooded.read(now + Duration::from_secs(1), &mut hub);
        assert!(hub.next_probe(&mut cursor, Some(1)).is_some());
    }

    #[test]
    fn who_is_alone_knows_it_and_there_is_an_end_to_the_names() {
        let bus_id = 0x88_0000 + u64::from(std::process::id());
        let first = Siblings::open("can0", bus_id).unwrap();
        assert!(!first.tell(&[]));
        let others: Vec<_> = (1..SLOTS).map(|_| Siblings::open("can0", bus_id).unwrap()).collect();
        assert!(first.tell(&[]));
        assert!(Siblings::open("can0", bus_id).is_none());
        drop(others);
        assert!(!first.tell(&[]));
    }
}
