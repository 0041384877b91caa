//! Which pairs of buses this process joins, so that no other process on this machine joins them a
//! second time: two ways between two buses are a ring in which a frame runs for ever.
//!
//! A claim is a socket with a name of the kernel's, which it frees when the process dies, however
//! it dies. Such names belong to a network namespace, as interfaces do.

use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;

use super::LINKS_MAX;
use crate::bus::{Namespace, inside};
use crate::random::fnv1a;

/// One of our buses, by its hub, and the identity of a peer's.
pub(super) type Joined = (usize, u64);

/// The pairs this process has claimed.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Where the interfaces are, when not in the process' own namespace.
    namespace: Option<Rc<Namespace>>,
    held: Vec<(Joined, UnixDatagram)>,
}

impl Claims {
    /// None yet, with room for one a link.
    pub(super) fn new() -> Self {
        Self { namespace: None, held: Vec::with_capacity(LINKS_MAX) }
    }

    /// From now on in this namespace; what was claimed elsewhere is given up.
    pub(super) fn move_to(&mut self, namespace: Option<Rc<Namespace>>) {
        self.held.clear();
        self.namespace = namespace;
    }

    /// Claims a pair for this process. Returns whether no other process has it.
    pub(super) fn claim(&mut self, interface: &str, pair: Joined) -> bool {
        if self.held.iter().any(|(held, _)| *held == pair) {
            return true;
        }
        let bound = inside(self.namespace.as_deref(), || bind(interface, pair.1));
        match bound.unwrap_or_else(|problem| Err(io::Error::other(problem))) {
            Ok(socket) => self.held.push((pair, socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return false,
            // A link without the guard is worth more than none.
            Err(error) => log::warn!("{interface}: cannot guard against a second link: {error}"),
        }
        true
    }

    /// Gives up what no link needs.
    pub(super) fn keep(&mut self, is_needed: impl Fn(Joined) -> bool) {
        self.held.retain(|(pair, _)| is_needed(*pair));
    }
}

fn bind(interface: &str, bus_id: u64) -> io::Result<UnixDatagram> {
    let name = format!("canspan:{interface}:{bus_id:016x}");
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// The identity of an interface's bus: the same in every process of this network namespace since
/// the machine was switched on, another anywhere else. `None` where the kernel does not tell.
pub(super) fn bus_id(interface: &str) -> Option<u64> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    // The thread's, as its sockets are.
    let namespace = std::fs::metadata("/proc/thread-self/ns/net").ok()?.ino();
    Some(identity(boot.trim(), namespace, interface))
}

/// All processes must find the same, whichever compiler built them.
fn identity(boot: &str, namespace: u64, interface: &str) -> u64 {
    fnv1a(format!("{boot} {namespace} {interface}").as_bytes()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_claimed_once_until_it_is_given_up() {
        let id = 0x1234_0000 + u64::from(std::process::id());
        let (mut ours, mut theirs) = (Claims::new(), Claims::new());
        assert!(ours.claim("claimtest0", (0, id)));
        assert!(ours.claim("claimtest0", (0, id)));
        assert!(!theirs.claim("claimtest0", (0, id)));
        assert!(theirs.claim("claimtest1", (1, id)));
        ours.keep(|_| true);
        assert!(!theirs.claim("claimtest0", (0, id)));
        ours.keep(|_| false);
        assert!(theirs.claim("claimtest0", (0, id)));
    }

    #[test]
    fn identity_is_the_same_in_every_build() {
        let boot = "0f3ee3ff-5a43-4a09-8a2c-6a2b1a5b6c7d";
        assert_eq!(identity(boot, 4_026_531_840, "can0"), 0x9638_77E3_10E8_0957);
    }

    #[test]
    fn each_interface_has_an_identity_that_stays() {
        assert_eq!(bus_id("vcan0"), bus_id("vcan0"));
        assert_ne!(bus_id("vcan0"), bus_id("vcan1"));
    }
}
