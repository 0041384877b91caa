//! `--metrics`: the numbers for Prometheus, for polite and for other clients.

use core::time::Duration;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

use crate::{
    lab::{Namespace, Pair, eventually},
    process::{Process, SOON},
};

const BOARD_METRICS: &str = "10.0.0.1:9177";

/// What the server answers to a request from the PC.
fn ask(namespace: &Namespace, address: &'static str, request: &'static str) -> String {
    namespace.run(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: board\r\n\r\n";

/// One number of an answer.
fn number(answer: &str, series: &str) -> Option<f64> {
    answer.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

fn serve(pair: &Pair) -> Process {
    let arguments =
        ["serve", "vcan0", "--listen", "10.0.0.1", "--metrics", BOARD_METRICS, "--insecure"];
    let server = Process::canspan(&pair.board, &arguments);
    server.says("metrics on http://10.0.0.1:9177/metrics");
    server
}

#[test]
fn both_ends_tell_what_happened() {
    let pair = Pair::new();
    let _server = serve(&pair);
    let _client = pair.connect(&["vcan0", "--metrics", ":9178"]);
    let candump = Process::candump(&pair.pc, &["-L", "vcan0"]);
    for _ in 0..7 {
        pair.board.run_program("cansend", &["vcan0", "123#01"]);
    }
    candump.prints_lines(7, SOON);
    let sent =
        "canspan_link_outcomes_total{bus=\"vcan0\",link=\"0\",way=\"to_peer\",outcome=\"sent\"}";
    eventually("the board knows of 7", SOON, || {
        number(&ask(&pair.pc, BOARD_METRICS, GET), sent) == Some(7.0)
    });
    let there = ask(&pair.pc, BOARD_METRICS, GET);
    assert!(there.starts_with("HTTP/1.0 200 OK\r\n"), "{there}");
    let (head, body) = there.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert_eq!(number(body, "canspan_up"), Some(1.0));
    assert_eq!(number(body, "canspan_bus_frames_total{bus=\"vcan0\",way=\"from_bus\"}"), Some(7.0));
    assert_eq!(number(body, "canspan_link_up{bus=\"vcan0\",link=\"0\"}"), Some(1.0));
    let here = ask(&pair.pc, "127.0.0.1:9178", GET);
    assert_eq!(number(&here, "canspan_bus_frames_total{bus=\"vcan0\",way=\"to_bus\"}"), Some(7.0));
    assert!(here.contains("peer=\"10.0.0.1:22677\",role=\"dialled\""), "{here}");
}

#[test]
fn other_requests_are_told_off() {
    let pair = Pair::new();
    let _server = serve(&pair);
    let status = |request| ask(&pair.pc, BOARD_METRICS, request).lines().next().unwrap().to_owned();
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "HTTP/1.0 404 Not Found");
    assert_eq!(status("DELETE /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.0 405 Method Not Allowed");
    assert_eq!(status("CANSPAN\n\n"), "HTTP/1.0 400 Bad Request");
}

#[test]
fn those_who_dawdle_are_cut_off_and_hold_up_no_frame() {
    let pair = Pair::new();
    let _server = serve(&pair);
    let _client = pair.connect(&["vcan0"]);
    let hung: Vec<TcpStream> = (0..20)
        .map(|_| {
            pair.pc.run(|| {
                let mut stream = TcpStream::connect(BOARD_METRICS).unwrap();
                stream.write_all(b"GET /met").unwrap();
                stream
            })
        })
        .collect();
    let candump = Process::candump(&pair.pc, &["-L", "vcan0"]);
    let begin = Instant::now();
    pair.board.run_program("cansend", &["vcan0", "123#01"]);
    candump.prints_lines(1, SOON);
    assert!(begin.elapsed() < Duration::from_secs(1), "a frame took {:?}", begin.elapsed());
    for mut stream in hung.into_iter().take(4) {
        stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        let end = stream.read(&mut [0; 100]);
        assert!(!matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    }
}

#[test]
fn others_may_not_read_them_unless_insecure_is_said() {
    let alone = Namespace::new("alone");
    for command in [&["serve", "sim:x"][..], &["connect", "board", "x:sim:x"]] {
        let arguments = [command, &["--metrics", "0.0.0.0:9177"]].concat();
        let finished = Process::canspan(&alone, &arguments).finish(SOON);
        assert_eq!(finished.code(), 2, "{finished:?}");
        assert!(finished.err.contains("--insecure"), "{finished:?}");
    }
}
