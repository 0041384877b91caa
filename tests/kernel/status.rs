//! `canspan status`: what is told is what happened.

use crate::{
    lab::{BOARD, Pair, eventually},
    process::{Finished, Process, SOON},
};

fn status(pair: &Pair, arguments: &[&str]) -> Finished {
    Process::canspan(&pair.pc, &[&["status", BOARD], arguments].concat()).finish(SOON)
}

fn json(pair: &Pair) -> serde_json::Value {
    serde_json::from_str(&status(pair, &["--json"]).succeeded().out).expect("JSON")
}

#[test]
fn buses_and_links_are_told_with_their_counters() {
    let pair = Pair::new();
    let (_server, client) = pair.joined();
    let candump = Process::candump(&pair.pc, &["-L", "vcan0"]);
    for number in 0..10 {
        pair.board.run_program("cansend", &["vcan0", &format!("123#{number:02X}")]);
    }
    candump.prints_lines(10, SOON);
    pair.pc.run_program("cansend", &["vcan0", "456#01"]);
    eventually("everything is confirmed", SOON, || {
        let json = json(&pair);
        json["links"][0]["to_peer"]["sent"] == 10 && json["links"][0]["from_peer"]["sent"] == 1
    });
    let json = json(&pair);
    let (bus, link) = (&json["buses"][0], &json["links"][0]);
    assert_eq!((&bus["name"], &bus["state"]), (&"vcan0".into(), &"up".into()), "{json}");
    assert_eq!((&bus["received"], &bus["sent"]), (&10.into(), &1.into()), "{json}");
    assert!(bus["bitrate"].is_null() && bus["load_percent"].is_null(), "{json}");
    assert_eq!((&link["role"], &link["up"]), (&"accepted".into(), &true.into()), "{json}");
    assert!(link["peer"].as_str().unwrap().starts_with("10.0.0.2:"), "{json}");
    assert_eq!((&link["behind"], &link["reconnects"]), (&0.into(), &0.into()), "{json}");
    let table = status(&pair, &[]).succeeded().out;
    assert!(table.contains("all is up") && table.contains("10 in, 1 out"), "{table}");
    // Asking is not a link, and is not logged as one.
    assert_eq!(json["links"].as_array().unwrap().len(), 1, "{json}");
    client.stop().succeeded();
}

#[test]
fn check_succeeds_only_while_everything_is_up() {
    let pair = Pair::new();
    let alone = status(&pair, &["--check"]);
    assert_eq!(alone.code(), 1, "{alone:?}");
    assert!(alone.err.contains("connection refused"), "{alone:?}");
    let server = pair.serve(&["vcan0"]);
    status(&pair, &["--check"]).succeeded();
    pair.board.ip("link set vcan0 down");
    server.says("vcan0: down");
    let down = status(&pair, &["--check"]);
    assert_eq!(down.code(), 1, "{down:?}");
    assert!(down.err.contains("not everything is up") && down.out.contains("down"), "{down:?}");
    pair.board.ip("link set vcan0 up");
    server.says_times("vcan0: up", 2, SOON);
    status(&pair, &["--check"]).succeeded();
    assert!(!server.err().contains("10.0.0.2"), "askers are logged: {}", server.err());
}

#[test]
fn watching_goes_on_over_a_restart_of_the_board() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let watch = Process::canspan(&pair.pc, &["status", BOARD, "--watch", "--json"]);
    watch.prints_lines(2, SOON);
    server.stop().succeeded();
    watch.says("connection refused");
    let before = watch.out().lines().count();
    let _server = pair.serve(&["vcan0"]);
    for line in watch.prints_lines(before + 1, SOON) {
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
    }
}

#[test]
fn something_else_on_the_port_is_told_in_a_sentence() {
    let pair = Pair::without_can();
    let listener = pair.board.run(|| std::net::TcpListener::bind((BOARD, 22677)).unwrap());
    let answer = std::thread::spawn(move || {
        use std::io::Write;
        let _ = listener.accept().unwrap().0.write_all(b"SSH-2.0-OpenSSH\r\n");
    });
    let asked = status(&pair, &[]);
    answer.join().unwrap();
    assert_eq!(asked.code(), 1, "{asked:?}");
    assert!(asked.err.contains("not canspan"), "{asked:?}");
}
