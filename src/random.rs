//! Numbers that do not repeat: identities of histories, secrets of probes.
//!
//! A history id that is used twice makes a resume wrong in silence. A board without a hardware
//! generator may have no entropy for minutes after it was switched on, and what `HashMap` is seeded
//! with is then the same at each start. So the kernel's pool is waited for, a second in all; after
//! that, everything that differs between two starts is mixed.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::OnceLock;
use std::time::Instant;

use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

/// How long the start of a process may wait for the kernel's pool. Chosen: a second more is not
/// noticed at boot, and most boards have collected enough by then.
const POOL_WAIT_MAX: Duration = Duration::from_secs(1);
/// How often the pool is asked meanwhile.
const POOL_RETRY: Duration = Duration::from_millis(20);

/// Returns a random number that is not 0. May block for up to a second, once in a process.
#[must_use]
pub fn random_id() -> u64 {
    loop {
        let id = from_pool().unwrap_or_else(from_surroundings);
        if id != 0 {
            return id;
        }
    }
}

/// From the kernel's pool, once that is initialized.
fn from_pool() -> Option<u64> {
    static WAIT_UNTIL: OnceLock<Instant> = OnceLock::new();
    let mut bytes = [0; 8];
    loop {
        match getrandom(&mut bytes, GetRandomFlags::NONBLOCK) {
            Ok(8) => return Some(u64::from_ne_bytes(bytes)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let until = WAIT_UNTIL.get_or_init(|| Instant::now() + POOL_WAIT_MAX);
                if Instant::now() >= *until {
                    return None;
                }
                std::thread::sleep(POOL_RETRY);
            }
            // A kernel before 3.17, or a filter that forbids the call.
            Err(_) => return None,
        }
    }
}

/// From all that differs between two starts of this process: the boot, the process, the clocks, the
/// place of the stack, what the kernel has in its pool so far, and how many numbers there were.
fn from_surroundings() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut pool = [0; 16];
    let _ = getrandom(&mut pool, GetRandomFlags::INSECURE);
    let clock = |clock| {
        let time = clock_gettime(clock);
        [time.tv_sec.to_ne_bytes(), (time.tv_nsec as i64).to_ne_bytes()].concat()
    };
    let stack = core::ptr::from_ref(&count).addr();
    let parts = [
        &boot[..],
        &pool,
        &std::process::id().to_ne_bytes(),
        &clock(ClockId::Realtime),
        &clock(ClockId::Boottime),
        &stack.to_ne_bytes(),
        &count.to_ne_bytes(),
    ];
    avalanche(fnv1a(&parts.concat()))
}

/// A 64-bit FNV-1a hash: the same in every build of every version, unlike the standard library's.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

/// Spreads a difference in any bit over all bits (the finalizer of SplitMix64): FNV-1a hardly
/// changes its high bits for the last bytes.
fn avalanche(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_differ_with_and_without_the_pool() {
        let numbers: HashSet<_> = (0..1000).map(|_| random_id()).collect();
        assert_eq!(numbers.len(), 1000);
        let numbers: HashSet<_> = (0..1000).map(|_| from_surroundings()).collect();
        assert_eq!(numbers.len(), 1000);
    }

    #[test]
    fn hash_is_the_published_one() {
        // Test vectors of the FNV reference (draft-eastlake-fnv).
        assert_eq!(fnv1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_F739_67E8);
    }
}
