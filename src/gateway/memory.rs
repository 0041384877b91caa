//! The protocol's memory on a machine with a heap: sized at the start, never grown.

use crate::protocol::{Memory, Slot, Slots};

/// Histories and queues on the heap.
#[derive(Debug)]
pub struct Heap;

impl Memory for Heap {
    type Blocks = Box<[u8]>;
    type Slots = HeapSlots;
}

/// Slots of a transmit queue. Room for all of them is reserved at the start; the pages are touched,
/// and so become resident, only as far as they are ever needed.
#[derive(Debug)]
pub struct HeapSlots(Vec<Slot>);

impl HeapSlots {
    /// Room for `most` frames.
    #[must_use]
    pub fn with_room(most: usize) -> Self {
        Self(Vec::with_capacity(most))
    }
}

impl AsRef<[Slot]> for HeapSlots {
    fn as_ref(&self) -> &[Slot] {
        &self.0
    }
}

impl AsMut<[Slot]> for HeapSlots {
    fn as_mut(&mut self) -> &mut [Slot] {
        &mut self.0
    }
}

impl Slots for HeapSlots {
    fn add(&mut self) -> bool {
        let has_room = self.0.len() < self.0.capacity();
        if has_room {
            self.0.push(Slot::EMPTY);
        }
        has_room
    }
}
