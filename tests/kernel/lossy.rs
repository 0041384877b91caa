//! Frames that a controller's driver takes and never shows again: the way to the bus stays open, and nobody is told
//! that they were sent.

use core::time::Duration;
use std::thread;

use crate::{
    controller::Adapter,
    lab::{BOARD, Pair, counters, eventually, status},
    process::SOON,
    sys::Frame,
};

const COMMAND: u32 = 0x200;

#[test]
fn lost_echoes_do_not_shut_the_bus() {
    let pair = Pair::without_can();
    pair.pc.add_vcan("vcan0", 72);
    let adapter = Adapter::plug(&pair.board, "can0");
    let server = pair.serve(&["can0", "--bitrate", "500k"]);
    let client = pair.connect(&["can0:vcan0"]);
    client.says("its bus is up");
    let pc = pair.pc.can_sender("vcan0");
    let on_line = |id: u32| adapter.heard().matches(&format!("t{id:03X}")).count();
    let send = |id: u32, count: u32| {
        for n in 0..count {
            pc.send(&Frame::classic(id, &n.to_le_bytes())).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    };
    let outcome = |name: &str| {
        let json = status(&pair.board, BOARD);
        json["links"][0]["from_peer"][name].as_u64().unwrap()
    };
    // The driver has no echo of its own: the kernel tells that it took a frame, and no more.
    let done = || outcome("sent") + outcome("taken");
    send(COMMAND, 20);
    eventually("all are confirmed", SOON, || done() == 20);

    // What the driver shows of what it sent is dropped before any socket sees it.
    pair.board.tc("qdisc add dev can0 clsact");
    pair.board.tc("filter add dev can0 ingress matchall action drop");
    send(COMMAND + 1, 150);
    pair.board.tc("filter del dev can0 ingress");
    eventually("those without an echo are settled", SOON / 2, || {
        done() + outcome("unconfirmed") + outcome("stale") == 170
    });
    let (lost, unconfirmed) = (on_line(COMMAND + 1) as u64, outcome("unconfirmed"));
    println!(
        "    of 150 frames {lost} were on the line without an echo, {unconfirmed} unconfirmed"
    );
    assert!(lost > 0 && unconfirmed >= lost, "{lost} on the line, {unconfirmed} unconfirmed");

    // Without down and up.
    send(COMMAND + 2, 100);
    eventually("later frames are delivered", SOON / 2, || on_line(COMMAND + 2) == 100);
    eventually("later frames are confirmed", SOON / 2, || done() == 120);
    assert!(server.err().contains("echo"), "nobody is told of lost echoes: {}", server.err());
    let (client, server) = (client.stop().succeeded().err, server.stop().succeeded().err);
    let (client, server) = (counters(&client), counters(&server));
    for name in ["sent", "taken", "stale", "unconfirmed"] {
        assert_eq!(client.get(name), server.get(name), "{name}: {client:?}\n{server:?}");
    }
}
