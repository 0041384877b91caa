//! The command line: help, version, exit codes, sentences.

use crate::{
    lab::{BOARD, Namespace, Pair},
    process::{Finished, Process, SOON},
};

fn run(arguments: &[&str]) -> Finished {
    let alone = Namespace::new("alone");
    Process::canspan(&alone, arguments).finish(SOON)
}

#[test]
fn every_command_has_help() {
    for command in [&[][..], &["serve"], &["connect"], &["dump"], &["send"], &["status"]] {
        let finished = run(&[command, &["--help"]].concat()).succeeded();
        assert!(finished.out.contains("canspan"), "{command:?}: {finished:?}");
        command
            .iter()
            .for_each(|name| assert!(finished.out.contains(name), "{command:?}: {finished:?}"));
    }
}

#[test]
fn version_names_program_and_version() {
    let finished = run(&["--version"]).succeeded();
    assert_eq!(finished.out.trim(), format!("canspan {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_with_2_and_a_sentence() {
    let wrong: [&[&str]; 11] = [
        &[],
        &["fly"],
        &["serve"],
        &["serve", "vcan0", "--no-such-option"],
        &["serve", "vcan0", "--listen", "127.0.0.1:99999"],
        &["serve", "vcan0", "--history", "many"],
        &["connect"],
        &["connect", "board:port", "vcan0"],
        &["dump"],
        &["dump", "board", "--last", "soon"],
        &["send", "board"],
    ];
    for arguments in wrong {
        let finished = run(arguments);
        assert_eq!(finished.code(), 2, "{arguments:?}: {finished:?}");
        assert!(!finished.err.trim().is_empty(), "{arguments:?} says nothing");
        assert!(
            finished.out.is_empty(),
            "{arguments:?} writes to standard output: {}",
            finished.out
        );
    }
}

#[test]
fn an_open_port_is_refused_unless_insecure_is_said() {
    let pair = Pair::new();
    for address in [BOARD, "0.0.0.0", "[::]", "10.0.0.1:5000"] {
        let finished =
            Process::canspan(&pair.board, &["serve", "vcan0", "--listen", address]).finish(SOON);
        assert_eq!(finished.code(), 2, "{address}: {finished:?}");
        assert!(
            finished.err.contains("--insecure"),
            "{address}: the way out is not named: {}",
            finished.err
        );
    }
}

#[test]
fn without_listen_only_the_loopback_is_served() {
    let pair = Pair::new();
    let server = Process::canspan(&pair.board, &["serve", "vcan0"]);
    server.says("listening on 127.0.0.1:22677");
    let local = Process::canspan(&pair.board, &["dump", "127.0.0.1"]);
    server.says("link up");
    local.stop().succeeded();
    let refused = pair.pc.run(|| std::net::TcpStream::connect((BOARD, 22677)));
    assert!(refused.is_err(), "the port is open to the network");
}

#[test]
fn a_port_in_use_is_told_with_its_address() {
    let pair = Pair::new();
    let _first = pair.serve(&["vcan0"]);
    let second =
        Process::canspan(&pair.board, &["serve", "vcan0", "--listen", BOARD, "--insecure"])
            .finish(SOON);
    assert_eq!(second.code(), 1, "{second:?}");
    assert!(second.err.contains("10.0.0.1:22677"), "{}", second.err);
}

#[test]
fn an_ipv6_address_in_brackets_is_served_and_reached() {
    let pair = Pair::new();
    let server = Process::canspan(
        &pair.board,
        &["serve", "vcan0", "--listen", "[fd00::1]:22677", "--insecure"],
    );
    server.says("listening on [fd00::1]:22677");
    let _client = {
        let client = Process::canspan(&pair.pc, &["connect", "[fd00::1]:22677", "vcan0"]);
        client.says("link up");
        client
    };
    let candump = Process::candump(&pair.pc, &["-L", "vcan0"]);
    pair.board.run_program("cansend", &["vcan0", "123#06"]);
    assert!(candump.prints_lines(1, SOON)[0].ends_with(" 123#06"));
}

#[test]
fn several_addresses_are_listened_on() {
    let pair = Pair::new();
    let arguments =
        ["serve", "vcan0", "--listen", "10.0.0.1:5000", "--listen", "[fd00::1]:5001", "--insecure"];
    let server = Process::canspan(&pair.board, &arguments);
    server.says("listening on 10.0.0.1:5000");
    server.says("listening on [fd00::1]:5001");
    let _four = Process::canspan(&pair.pc, &["dump", "10.0.0.1:5000"]);
    server.says("link up");
    let _six = Process::canspan(&pair.pc, &["dump", "[fd00::1]:5001"]);
    server.says_times("link up", 2, SOON);
}

#[test]
fn something_else_on_the_port_is_told_in_a_sentence() {
    let pair = Pair::new();
    let server = pair.serve(&["vcan0"]);
    let answer = pair.pc.run(|| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect((BOARD, 22677)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: board\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new())
    });
    assert!(
        answer.is_ok()
            || answer.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset),
        "the server keeps a stranger's connection: {answer:?}"
    );
    server.says("10.0.0.2");
    let candump = Process::candump(&pair.pc, &["-L", "vcan0"]);
    let _client = pair.connect(&["vcan0"]);
    pair.board.run_program("cansend", &["vcan0", "123#01"]);
    candump.prints_lines(1, SOON);
}
