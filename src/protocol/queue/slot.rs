//! What the queue's memory is made of: a slot for each frame, a lane for each peer.

use super::pace::Count;
use crate::protocol::frame::Frame;
use crate::protocol::peer::Outcome;
use crate::protocol::time::Instant;

/// The number of no slot.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    Waiting,
    Offered,
    Handed { at: Instant, overtaken: u16 },
    Done(Outcome),
}

/// Room for one frame in the queue.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub(super) frame: Option<Frame>,
    pub(super) stamp_us: u64,
    pub(super) born: Instant,
    /// Whether it had waited for more than its way when it came.
    pub(super) is_late: bool,
    pub(super) state: State,
    pub(super) lane: u16,
    pub(super) next: u32,
}

impl Slot {
    /// An empty slot, to make the queue's memory of.
    pub const EMPTY: Self = Self {
        frame: None,
        stamp_us: 0,
        born: Instant::from_micros(0),
        is_late: false,
        state: State::Free,
        lane: 0,
        next: NONE,
    };
}

/// One peer's frames in the queue, in the order they came.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    pub(super) head: u32,
    pub(super) waiting: u32,
    pub(super) tail: u32,
    pub(super) len: u32,
    /// How many at the head belong to a stream that is over: nobody waits for their outcome.
    pub(super) orphans: u32,
    pub(super) shown: Count,
}

impl Lane {
    /// A lane without frames.
    pub(super) const EMPTY: Self =
        Self { head: NONE, waiting: NONE, tail: NONE, len: 0, orphans: 0, shown: Count::NONE };
}
