//! python-can, the other everyday tool: it reads and drives the PC's interface.

use crate::{
    lab::Pair,
    plain::python,
    process::{Process, SOON},
    sys::{BRS, EXTENDED, Frame},
};

const READER: &str = r#"
import can, sys
with can.Bus(interface="socketcan", channel="vcan0", fd=True) as bus:
    print("ready", flush=True)
    for _ in range(int(sys.argv[1])):
        m = bus.recv(timeout=20)
        assert m is not None, "no frame in 20 s"
        kind = "".join(c for c, on in zip("xfbr", (m.is_extended_id, m.is_fd, m.bitrate_switch, m.is_remote_frame)) if on)
        print(f"{m.arbitration_id:X} {kind or '-'} {m.dlc} {m.data.hex()}", flush=True)
"#;

const WRITER: &str = r#"
import can
with can.Bus(interface="socketcan", channel="vcan0", fd=True) as bus:
    bus.send(can.Message(arbitration_id=0x123, is_extended_id=False, data=b"classic"))
    bus.send(can.Message(arbitration_id=0x123, is_extended_id=True, data=b"29 bit"))
    bus.send(can.Message(arbitration_id=0x7FF, is_extended_id=False, is_remote_frame=True, dlc=4))
    bus.send(can.Message(arbitration_id=0x321, is_extended_id=False, is_fd=True, bitrate_switch=True, data=bytes(range(64))))
"#;

#[test]
fn python_can_reads_what_happens_on_the_board() {
    let pair = Pair::new();
    let _both = pair.joined();
    let reader = Process::start(&pair.pc, &python(), &["-c", READER, "4"]);
    reader.prints_lines(1, 3 * SOON);
    let sender = pair.board.can("vcan0");
    let sixty_four: Vec<u8> = (0..64).collect();
    for frame in [
        Frame::classic(0x123, &[1, 2, 3]),
        Frame::classic(EXTENDED | 0x123, &[]),
        Frame::remote(0x7FF, 4),
        Frame::fd(0x321, BRS, &sixty_four),
    ] {
        sender.send(&frame).unwrap();
    }
    let hex: String = sixty_four.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = reader.finish(2 * SOON).succeeded().out;
    let lines: Vec<&str> = lines.lines().skip(1).map(str::trim_end).collect();
    assert_eq!(lines, ["123 - 3 010203", "123 x 0", "7FF r 4", &format!("321 fb 64 {hex}")]);
}

#[test]
fn python_can_drives_the_board() {
    let pair = Pair::new();
    let _both = pair.joined();
    let candump = Process::candump(&pair.board, &["-L", "vcan0"]);
    Process::start(&pair.pc, &python(), &["-c", WRITER]).finish(3 * SOON).succeeded();
    let lines = candump.prints_lines(4, SOON);
    let expected = [" 123#636C6173736963", " 00000123#323920626974", " 7FF#R4"];
    lines
        .iter()
        .zip(expected)
        .for_each(|(line, expected)| assert!(line.ends_with(expected), "{lines:?}"));
    assert!(lines[3].contains(" 321##") && lines[3].ends_with("3C3D3E3F"), "{lines:?}");
}
