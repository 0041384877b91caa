//! The protocol's memory on a machine with a heap: histories are sized at the start, tables grow with the
//! peers that come.

use core::hint::black_box;
use std::fs;

use crate::protocol::{FilterUse, Lane, Memory, Peer, Slot, Table};

/// Memory for a history, every page of it in use from now on: a kernel that promises more than it has
/// (`vm.overcommit_memory`) would else keep the promise only until some busy night.
pub fn history_memory(bytes: usize) -> Result<Box<[u8]>, String> {
    let mib = |bytes: u64| format!("{}M", bytes >> 20);
    let takes = format!("it takes {} of memory", mib(bytes as u64));
    // More than there is would not be refused by the kernel: it would end this process, or another.
    if let Some(available) = available_memory().filter(|available| *available < bytes as u64) {
        let available = mib(available);
        return Err(format!("{takes}, and {available} are available; choose a smaller --history"));
    }
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| {
        format!(
            "{takes}, more than this process may have (`ulimit -v`); choose a smaller --history"
        )
    })?;
    // Seen by nobody, the zeros would be left to the kernel, which has no page for them until then.
    black_box(&mut memory).resize(bytes, 0);
    Ok(memory.into_boxed_slice())
}

/// Bytes that can be taken into use without swapping; `None`: unknown.
fn available_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_of(&text));
    // A container sees its own group at the root.
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|limit| limit.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available_of(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Histories, queues and peers on the heap.
#[derive(Debug)]
pub struct Heap;

impl Memory for Heap {
    type Blocks = Box<[u8]>;
    type Slots = HeapSlots;
    type Peers = HeapTable<Peer>;
    type Lanes = HeapTable<Lane>;
    type FilterUses = HeapTable<FilterUse>;
}

/// Slots of a transmit queue.
pub type HeapSlots = HeapTable<Slot>;

/// A table on the heap. Its room grows when a peer comes for the first time; the pages are touched, and so
/// become resident, only as far as they are ever needed.
#[derive(Debug)]
pub struct HeapTable<T>(Vec<T>);

impl<T> HeapTable<T> {
    /// A table with room for `most` entries before it grows.
    #[must_use]
    pub fn with_room(most: usize) -> Self {
        Self(Vec::with_capacity(most))
    }
}

impl<T> Default for HeapTable<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> AsRef<[T]> for HeapTable<T> {
    fn as_ref(&self) -> &[T] {
        &self.0
    }
}

impl<T> AsMut<[T]> for HeapTable<T> {
    fn as_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> Table<T> for HeapTable<T> {
    fn reserve(&mut self, most: usize) {
        // Without memory for more, whoever comes is refused.
        let _ = self.0.try_reserve(most.saturating_sub(self.0.len()));
    }

    fn add(&mut self, entry: T) -> bool {
        let has_room = self.0.len() < self.0.capacity();
        if has_room {
            self.0.push(entry);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Hub;

    /// Pages of this process in memory, in bytes.
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    #[test]
    fn hub_is_small_until_peers_come() {
        // It is moved into the gateway's list, with all it has inside.
        let (hub, peer) = (size_of::<Hub<Heap>>(), size_of::<Peer>());
        println!(
            "a hub takes {hub} bytes, each peer {peer}, each frame in the queue {}",
            size_of::<Slot>()
        );
        assert!(hub < 20 << 10, "{hub} bytes");
        assert!(peer < 1 << 10, "{peer} bytes");
    }

    #[test]
    fn table_grows_with_what_is_reserved() {
        let mut table = HeapTable::with_room(2);
        assert!(table.add(1) && table.add(2));
        while table.add(0) {}
        let full = table.as_ref().len();
        table.reserve(full + 1);
        assert!(table.add(3) && table.as_ref()[..2] == [1, 2]);
    }

    #[test]
    fn history_is_resident_from_the_start() {
        const BYTES: usize = 64 << 20;
        let before = resident();
        let history = history_memory(BYTES).unwrap();
        // What other tests let go of meanwhile is far less than a quarter.
        assert!(resident().saturating_sub(before) > BYTES as u64 * 3 / 4);
        assert!(history.len() == BYTES && history.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn history_beyond_memory_is_refused() {
        for bytes in [1 << 45, usize::MAX / 4] {
            let problem = history_memory(bytes).unwrap_err();
            assert!(problem.contains("are available; choose a smaller --history"), "{problem}");
        }
    }

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let text = "MemTotal:        4030424 kB\nMemAvailable:    2500000 kB\nBuffers: 1 kB\n";
        assert_eq!(available_of(text), Some(2_500_000 * 1024));
        assert_eq!(available_of("MemTotal: 1 kB\n"), None);
        assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
