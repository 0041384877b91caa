//! What goes wrong in a schedule.

use canspan::protocol::wire::BusState;

use super::{BOARD, World};

impl World {
    /// Something goes wrong, perhaps.
    pub(super) fn storm(&mut self) {
        if self.now < self.next_fault {
            return;
        }
        self.next_fault = self.now + self.rng.u64(1_000..300_000);
        let pc = self.rng.usize(1..self.nodes.len());
        match self.rng.u8(0..100) {
            0..35 => self.fault_on_link(pc),
            35..40 => self.restart(BOARD),
            40..45 => self.restart(pc),
            45..55 => {
                let up = !self.nodes[BOARD].bus_up;
                self.set_bus(BOARD, up);
            }
            55..60 => self.step_clock(pc),
            _ => {}
        }
    }

    pub(super) fn calm(&mut self) {
        if !self.nodes[BOARD].bus_up {
            self.set_bus(BOARD, true);
        }
    }

    fn set_bus(&mut self, number: usize, up: bool) {
        let node = &mut self.nodes[number];
        node.bus_up = up;
        node.was_down = true;
        if !up {
            node.handed.clear();
        }
        node.hubs[0].set_state(if up { BusState::Up } else { BusState::Down }, None);
    }

    fn step_clock(&mut self, number: usize) {
        let by = self.rng.i64(-3_600_000_000..3_600_000_000);
        let node = &mut self.nodes[number];
        node.offset = (node.offset + by).max(-1);
        node.hubs[0].set_clock(node.offset);
    }

    fn fault_on_link(&mut self, pc: usize) {
        let Some(connection) = self.connections[pc].as_mut() else { return };
        match self.rng.u8(0..3) {
            0 => {
                for pipe in &mut connection.pipes {
                    let keep = self.rng.usize(0..=pipe.waiting());
                    pipe.cut(keep);
                }
            }
            1 => {
                let until = self.now + self.rng.u64(1_000..250_000);
                let side = self.rng.usize(0..2);
                connection.pipes[side].stalled_until = until;
            }
            _ => {
                let both = self.rng.bool();
                connection.pipes[0].is_black_hole = true;
                connection.pipes[1].is_black_hole |= both;
            }
        }
    }
}
