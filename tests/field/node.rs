//! A node of the field: a hub with its bus, and what was seen on it.

use std::collections::VecDeque;

use canspan::protocol::time::Instant;
use canspan::protocol::wire::BusState;
use canspan::protocol::{Frame, Hub, Id, Place, Policy};

use crate::memory::{Bounded, Heap};

/// Frames of one peer under way at once.
pub(crate) const WINDOW: u32 = 16;
/// Slots of a transmit queue: a window for every peer a test can have, and the kernel's share.
pub(crate) const SLOTS: usize = 8 * WINDOW as usize + HANDED;
const HANDED: usize = 4;
/// Wall clock minus monotonic clock, in microseconds.
const OFFSET_US: i64 = 1_700_000_000_000_000;

/// A frame on a node's bus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) frame: Frame,
    /// Whether the node's gateway sent it.
    pub(crate) delivered: bool,
}

pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) hubs: Vec<Hub<Heap>>,
    /// A PC's record of the board.
    pub(crate) place: Option<Place>,
    pub(crate) life: u32,
    /// Its bus takes frames but confirms none.
    pub(crate) is_stalled: bool,
    pub(crate) shown: Vec<Shown>,
    /// Index of the first frame its present process saw.
    pub(crate) first_shown: usize,
    sequence: u64,
    handed: VecDeque<Frame>,
    blocks: usize,
}

impl Node {
    pub(crate) fn new(number: usize, now: Instant, blocks: usize) -> Self {
        let mut node = Self {
            number,
            hubs: Vec::new(),
            place: None,
            life: 0,
            is_stalled: false,
            shown: Vec::new(),
            first_shown: 0,
            sequence: 0,
            handed: VecDeque::new(),
            blocks,
        };
        node.start(now);
        node
    }

    /// Starts its process, perhaps again. What the one before had in its kernel's hands is gone.
    pub(crate) fn start(&mut self, now: Instant) {
        self.life += 1;
        let id = self.number as u64 + 1 + (u64::from(self.life) << 8);
        let (blocks, slots) = (vec![0; self.blocks * 4096], Bounded::new(SLOTS));
        let mut hub = Hub::new("can0", id, blocks, slots).unwrap();
        let is_board = self.number == 0;
        hub.set_policy(Policy {
            is_virtual: !is_board,
            handed_max: HANDED,
            window: WINDOW,
            ..Policy::default()
        });
        hub.set_state(BusState::Up, None);
        hub.set_clock(OFFSET_US);
        self.place = (!is_board).then(|| Place { hub: 0, peer: hub.dial(now).unwrap() });
        self.hubs = vec![hub];
        self.handed.clear();
        self.first_shown = self.shown.len();
    }

    pub(crate) fn hub(&self) -> &Hub<Heap> {
        &self.hubs[0]
    }

    /// The nodes of its bus send frames.
    pub(crate) fn push(&mut self, now: Instant, count: usize) {
        for _ in 0..count {
            self.sequence += 1;
            self.show(now, numbered(self.number, self.life, self.sequence), false);
        }
    }

    fn show(&mut self, now: Instant, frame: Frame, delivered: bool) {
        let stamp_us = now.as_micros().wrapping_add_signed(OFFSET_US);
        self.hubs[0].seen(&frame, stamp_us, delivered);
        self.shown.push(Shown { frame, delivered });
    }

    /// Nobody on its bus acknowledges any more, which its controller notices at once; or somebody does again.
    pub(crate) fn stall(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
        let state = self.hub().status().state;
        self.set_state(state);
    }

    pub(crate) fn toggle_stall(&mut self) {
        self.stall(!self.is_stalled);
    }

    pub(crate) fn set_state(&mut self, state: BusState) {
        let state = match state {
            BusState::Up if self.is_stalled => BusState::ErrorPassive,
            BusState::ErrorPassive if !self.is_stalled => BusState::Up,
            state => state,
        };
        if !state.takes_frames() {
            self.handed.clear();
        }
        self.hubs[0].set_state(state, None);
    }

    /// The bus takes what is offered, and confirms it unless it is stalled.
    pub(crate) fn drive_bus(&mut self, now: Instant) {
        if self.hubs[0].poll_timeout().is_some_and(|at| at <= now) {
            self.hubs[0].handle_timeout(now);
        }
        let mut frames = [numbered(0, 0, 0); 8];
        loop {
            while let Some(frame) = self.handed.front().copied().filter(|_| !self.is_stalled) {
                self.handed.pop_front();
                self.show(now, frame, true);
            }
            let count = self.hubs[0].offer(now, &mut frames);
            self.hubs[0].taken(now, count);
            self.handed.extend(&frames[..count]);
            if count == 0 {
                return;
            }
        }
    }
}

/// A frame that is like no other: which node made it, in which life, and the how many-th it was.
fn numbered(node: usize, life: u32, sequence: u64) -> Frame {
    Frame::data_frame(Id::Extended(node as u32 | life << 8), &sequence.to_be_bytes()).unwrap()
}
