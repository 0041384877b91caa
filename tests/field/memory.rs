//! Memory for hubs: on the heap, never more than there was room for at the start. Not the gateway's own:
//! the fuzz targets build the protocol without it.

use canspan::protocol::{FilterUse, Lane, Memory, Peer, Slot, Table};

/// Peers a hub remembers: few, so that records are given away.
const PEERS: usize = 96;

pub(crate) struct Heap;
impl Memory for Heap {
    type Blocks = Vec<u8>;
    type Slots = Bounded<Slot>;
    type Peers = Bounded<Peer>;
    type Lanes = Bounded<Lane>;
    type FilterUses = Bounded<FilterUse>;
}

pub(crate) struct Bounded<T>(Vec<T>);

impl<T> Bounded<T> {
    pub(crate) fn new(room: usize) -> Self {
        Self(Vec::with_capacity(room))
    }
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self::new(PEERS)
    }
}

impl<T> AsRef<[T]> for Bounded<T> {
    fn as_ref(&self) -> &[T] {
        &self.0
    }
}

impl<T> AsMut<[T]> for Bounded<T> {
    fn as_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> Table<T> for Bounded<T> {
    fn reserve(&mut self, _: usize) {}

    fn add(&mut self, entry: T) -> bool {
        let has_room = self.0.len() < self.0.capacity();
        if has_room {
            self.0.push(entry);
        }
        has_room
    }
}
