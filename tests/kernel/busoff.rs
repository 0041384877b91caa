//! What somebody says of a virtual bus in an error frame is shown, and stops no frame.

use crate::{
    lab::{Namespace, Pair, ip},
    plain::Candump,
    process::{Process, SOON},
    sys::{ERROR, Frame},
};

const BUS_OFF: u32 = ERROR | 0x40;
const COUNT: u64 = 50;

/// Frames from `from` to `vcan0` of `to`, all of which must come.
fn carries(from: &Namespace, to: &Namespace, id: u32) {
    let candump = Candump::start(to, "vcan0");
    let socket = from.can_sender("vcan0");
    (0..COUNT).for_each(|n| socket.send(&Frame::classic(id, &n.to_le_bytes())).unwrap());
    candump.has_all(id, COUNT, SOON / 2);
}

#[test]
fn bus_off_from_a_tool_stops_no_frame() {
    let pair = Pair::new();
    let (_server, client) = pair.joined();
    pair.pc.can("vcan0").send(&Frame::classic(BUS_OFF, &[0; 8])).unwrap();
    client.says("vcan0: bus-off");
    carries(&pair.board, &pair.pc, 0x100);
    carries(&pair.pc, &pair.board, 0x200);
    // The same on the board's bus, which is virtual here, too.
    pair.board.can("vcan0").send(&Frame::classic(BUS_OFF, &[0; 8])).unwrap();
    client.says("its bus is bus-off");
    carries(&pair.board, &pair.pc, 0x101);
    carries(&pair.pc, &pair.board, 0x201);
}

#[test]
fn bus_off_of_one_board_leaves_another_alone() {
    let pair = Pair::new();
    let other = Namespace::new("board");
    let (here, there) = (pair.pc.name(), other.name());
    ip(&format!("link add other netns {here} type veth peer name other netns {there}"));
    for (namespace, last) in [(&other, 1), (&pair.pc, 2)] {
        namespace.ip(&format!("addr add 10.0.9.{last}/24 dev other"));
        namespace.ip("link set other up");
    }
    other.add_vcan("vcan0", 72);
    let (_server, _client) = pair.joined();
    let arguments = ["serve", "vcan0", "--listen", "10.0.9.1", "--insecure"];
    let server = Process::canspan(&other, &arguments);
    server.says("listening on");
    let client = Process::canspan(&pair.pc, &["connect", "10.0.9.1", "vcan0"]);
    client.says("link up");
    carries(&pair.board, &pair.pc, 0x100);
    carries(&other, &pair.pc, 0x101);
    other.can("vcan0").send(&Frame::classic(BUS_OFF, &[0; 8])).unwrap();
    client.says("its bus is bus-off");
    carries(&pair.board, &pair.pc, 0x102);
    carries(&other, &pair.pc, 0x103);
    carries(&pair.pc, &pair.board, 0x104);
    carries(&pair.pc, &other, 0x105);
}
