//! What can happen in a field, each thing as four bytes: so a property test can make a failing
//! list smaller, and a fuzzer can write one.

use canspan::protocol::wire::BusState;

use super::Field;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    /// Everything that can move moves, and this much time (microseconds) passes.
    Turn(u64),
    /// Frames on a node's bus.
    Push(usize, usize),
    /// Bytes arrive at one end of a PC's connection.
    Deliver(usize, usize, usize),
    /// Every link writes what it has to say.
    Transmit,
    /// A PC connects, if it is not connected.
    Dial(usize),
    /// A connection breaks after so many more bytes.
    Cut(usize, usize),
    /// A connection breaks and the board does not hear of it.
    HalfOpen(usize),
    /// A node's process starts anew; so many bytes of its were still under way.
    Restart(usize, usize),
    /// The board's bus confirms nothing, or does so again. (A virtual bus always confirms at once.)
    Stall,
    /// A node's bus is in another state.
    State(usize, BusState),
    /// Time passes: long enough for heartbeats, timeouts or neither.
    Wait(u64),
}

impl Operation {
    /// Any four bytes are an operation; zeros are the most harmless one.
    pub(crate) fn from_bytes([what, who, a, b]: [u8; 4]) -> Self {
        let amount = usize::from(a) | usize::from(b) << 8;
        let node = usize::from(who % 3);
        let pc = usize::from(who % 2) + 1;
        let state = [BusState::Up, BusState::Down, BusState::BusOff];
        match what % 16 {
            0..3 => Self::Turn(amount as u64),
            3..6 => Self::Push(node, amount % 40),
            6 => Self::Push(node, amount % 700),
            7 | 8 => Self::Deliver(pc, usize::from(who / 2 % 2), amount % 300),
            9 => Self::Transmit,
            10 => Self::Dial(pc),
            11 => Self::Cut(pc, amount % 600),
            12 => Self::HalfOpen(pc),
            13 if who >= 128 => Self::Restart(node, amount % 600),
            13 => Self::Cut(pc, amount),
            14 if who >= 128 => Self::State(node, state[amount % 3]),
            14 => Self::Stall,
            _ => Self::Wait(amount as u64 * 100),
        }
    }
}

impl Field {
    pub(crate) fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Turn(us) => {
                self.turn();
                self.now_us += us;
            }
            Operation::Push(node, count) => {
                let now = self.now();
                self.nodes[node].push(now, count);
            }
            Operation::Deliver(pc, side, most) => self.deliver(pc, side, most),
            Operation::Transmit => self.transmit(),
            Operation::Dial(pc) => {
                if self.wires[pc].is_none() {
                    self.dial(pc);
                }
            }
            Operation::Cut(pc, keep) => self.cut(pc, keep),
            Operation::HalfOpen(pc) => self.half_open(pc),
            Operation::Restart(node, keep) => self.restart(node, keep),
            Operation::Stall => self.nodes[0].toggle_stall(),
            Operation::State(node, state) => self.nodes[node].set_state(state),
            Operation::Wait(us) => {
                self.now_us += us;
                self.transmit();
            }
        }
        self.now_us += 10;
    }
}

/// Runs a whole schedule on a board with two PCs, then settles and checks the account.
pub(crate) fn run(operations: impl IntoIterator<Item = Operation>) {
    let mut field = Field::new(2, 2);
    field.dial(1);
    field.dial(2);
    for operation in operations {
        field.apply(operation);
    }
    field.settle();
    field.check();
}
