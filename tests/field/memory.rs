//! Memory for hubs: on the heap, never more than there was room for at the start. Not the gateway's own:
//! the fuzz targets build the protocol without it.

use canspan::protocol::{Memory, Slot, Slots};

pub(crate) struct Heap;
impl Memory for Heap {
    type Blocks = Vec<u8>;
    type Slots = Bounded;
}

pub(crate) struct Bounded(Vec<Slot>);

impl Bounded {
    pub(crate) fn new(room: usize) -> Self {
        Self(Vec::with_capacity(room))
    }
}

impl AsRef<[Slot]> for Bounded {
    fn as_ref(&self) -> &[Slot] {
        &self.0
    }
}

impl AsMut<[Slot]> for Bounded {
    fn as_mut(&mut self) -> &mut [Slot] {
        &mut self.0
    }
}

impl Slots for Bounded {
    fn add(&mut self) -> bool {
        let has_room = self.0.len() < self.0.capacity();
        if has_room {
            self.0.push(Slot::EMPTY);
        }
        has_room
    }
}
