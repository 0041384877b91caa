//! What a shell sees of the command line: exit codes, and what goes to which stream.
#![cfg(feature = "std")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use canspan::protocol::Outcome;
use canspan::protocol::wire::{
    BusState, BusStatus, FEATURE_OWNER, FEATURE_RELAY, Hello, Message, Refusal, Report, preamble,
};

#[path = "field/talk.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod talk;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canspan"));
    command.args(arguments).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

fn canspan(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary starts")
}

/// What a command said on standard error; it must have ended with this status, and with nothing on
/// standard output.
fn fails(arguments: &[&str], code: i32) -> String {
    let output = canspan(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert!(said.starts_with("canspan: "), "{arguments:?}: {said}");
    assert!(!said.contains("os error"), "{arguments:?}: {said}");
    said
}

/// A running canspan; killed when dropped.
struct Running(Child);

impl Running {
    /// Starts a server at a port of the system's choice, and gives its address.
    fn serve(arguments: &[&str]) -> (Self, String) {
        let all = [&["serve"], arguments, &["--listen", "127.0.0.1:0"]].concat();
        let child = command(&all).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Self(child);
        let address = running.says("listening on ");
        (running, address)
    }

    /// Waits for a line of the log with `text`, and gives what follows that. The rest of the log is let
    /// through.
    fn says(&mut self, text: &str) -> String {
        let mut lines = BufReader::new(self.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        let found = lines.find_map(|line| Some(line.split_once(text)?.1.to_owned()));
        thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
        found.unwrap_or_else(|| panic!("it never said `{text}`"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A peer that answers each greeting with its preamble and these messages, and hears what follows
/// until it is left.
fn peer(answers: &[&[Message<'_>]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let said: Vec<Vec<u8>> = answers
        .iter()
        .map(|answer| {
            [preamble().to_vec(), answer.iter().flat_map(talk::record).collect()].concat()
        })
        .collect();
    thread::spawn(move || {
        for (bytes, connection) in said.iter().zip(listener.incoming()) {
            let mut connection: TcpStream = connection.unwrap();
            let mut greeting = [0; 64];
            let _ = connection.read(&mut greeting);
            let _ = connection.write_all(bytes);
            let _ = connection.read_to_end(&mut Vec::new());
        }
    });
    address
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [["--help"].as_slice(), &["help", "serve"], &["dump", "-h"], &["--version"]] {
        let output = canspan(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_usage_error_is_2_with_a_sentence_on_standard_error() {
    let many: Vec<String> = (0..65).map(|number| format!("sim:b{number}")).collect();
    let many: Vec<&str> = ["serve"].into_iter().chain(many.iter().map(String::as_str)).collect();
    for (arguments, sentence) in [
        ([].as_slice(), "what should be done"),
        (&["sing"], "there is no command `sing`"),
        (&["send", "h", "can0", "123"], "is no frame"),
        (&["serve", "sim:hub", "--listen=0.0.0.0"], "add --insecure"),
        (&many, "room for 64 buses"),
        (&["serve", "sim:a", "--max-age", "0"], "the least is 1ms; or none"),
        (&["serve", "sim:a", "--history", "1T"], "the most is 64G"),
        (&["serve", "sim:a", "--history", "1M", "--history", "2M"], "--history is given twice"),
        (&["serve", "sim:a", "--listen", ":7", "--metrics", ":7"], "are one address"),
        (&["connect", "h:1", "hub:sim:x", "--listen", ":7"], "connect --listen dials nobody"),
        (&["send", "h", "can0", "(1.5) can0 123#11"], "its third word, as in 123#11"),
    ] {
        let said = fails(arguments, 2);
        assert!(said.contains(sentence), "{arguments:?}: {said}");
    }
}

#[test]
fn a_failure_is_1_and_says_what_to_try() {
    let (_hub, at) = Running::serve(&["sim:hub"]);
    for (arguments, sentence) in [
        (["send", &at, "nobus", "123#"].as_slice(), "serves no bus of that name"),
        (&["dump", &at, "nobus"], "serves no bus of that name"),
        (&["dump", &at, "--filter", "bus,1:1"], "--filter: `bus` is no bus of"),
        (&["serve", "sim:a", "--history", "63G"], "are available; choose a smaller --history"),
        (
            &["serve", "sim:a?trace=/nowhere"],
            "/nowhere cannot be read: No such file or directory\n",
        ),
        (&["status", "127.0.0.1:1"], "127.0.0.1:1"),
    ] {
        let said = fails(arguments, 1);
        assert!(said.contains(sentence), "{arguments:?}: {said}");
        assert!(!said.contains("leave the name out"), "{arguments:?}: {said}");
        // There is no such bus, here or there.
        assert!(!said.contains("bus nobus"), "{arguments:?}: {said}");
    }
}

#[test]
fn send_says_once_why_no_link_comes_up() {
    let said = fails(&["send", "127.0.0.1:1", "can0", "123#11"], 1);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("connection refused") && !said.contains("retrying"), "{said}");
}

#[test]
fn verbose_prints_sentences() {
    let said = fails(&["-v", "send", "127.0.0.1:1", "can0", "123#11"], 1);
    assert!(said.contains(concat!("canspan: canspan ", env!("CARGO_PKG_VERSION"), "\n")), "{said}");
    assert!(!said.contains("{ ") && !said.contains("SendFrames"), "{said}");
}

#[test]
fn a_peer_without_buses_is_said_to_have_none() {
    for command in ["dump", "connect"] {
        let said = fails(&[command, &peer(&[&[Message::Buses("")]])], 1);
        assert!(said.contains("has no buses"), "{command}: {said}");
    }
}

#[test]
fn nothing_a_peer_says_controls_the_terminal() {
    let list = [Message::Buses("\u{1b}[31mred\n../etc\na b\n-x")];
    for command in ["dump", "connect"] {
        let said = fails(&[command, &peer(&[&list])], 1);
        assert!(said.contains("`\u{FFFD}[31mred` is no bus"), "{command}: {said}");
        assert!(said.contains("no bus with a name that can be used"), "{command}: {said}");
        assert!(!said.contains('\u{1b}'), "{command}: {said}");
    }
    let report = Report { text: "can0 up\n\u{1b}]0;title\u{7}\n", more: false, is_up: true };
    let output = canspan(&["status", &peer(&[&[Message::Report(report)]])]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown, "can0 up\n\u{FFFD}]0;title\u{FFFD}\n");
}

#[test]
fn a_bad_name_in_a_list_does_not_keep_dump_from_the_others() {
    let list = [Message::Buses("can0\n../etc\ncan0")];
    let refuse = [Message::Refuse(Refusal::NO_SUCH_BUS)];
    let said = fails(&["dump", &peer(&[&list, &refuse])], 1);
    assert!(said.contains("`can0` is named twice; left out"), "{said}");
    assert!(said.contains("`../etc` is no bus"), "{said}");
    // It went on to ask for can0.
    assert!(said.contains("serves no bus of that name"), "{said}");
}

/// What `send` does with this outcome of its frame, from a peer that says so of itself.
fn send_to(features: u32, outcome: Outcome) -> Output {
    let hello = Hello { features, ..talk::hello() };
    let up = BusStatus {
        state: BusState::Up,
        errors: None,
        overflow: 0,
        overrun: 0,
        dropped: 0,
        max_age_us: 0,
    };
    let number = u8::try_from(outcome.index()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let first = [Message::Hello(hello), Message::Bus(up)];
    let first: Vec<u8> = first.iter().flat_map(talk::record).collect();
    let receipt = talk::record(&Message::Receipt(&[number, 1]));
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.write_all(&[&preamble()[..], &first].concat());
        // The receipt is for a frame, which is the first record whose message has number 4.
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !records(&heard).any(|record| record.first() == Some(&4)) {
            let count = connection.read(&mut buffer).unwrap();
            assert!(count > 0, "it left without a frame");
            heard.extend_from_slice(&buffer[..count]);
        }
        let _ = connection.write_all(&receipt);
        let _ = connection.read_to_end(&mut Vec::new());
    });
    canspan(&["send", &at, "can0", "123#11"])
}

/// The whole records behind a preamble, all of them shorter than 128 bytes, without fillers.
fn records(heard: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = heard.get(preamble().len()..).unwrap_or(&[]);
    core::iter::from_fn(move || {
        let start = rest.iter().position(|byte| *byte != 0)?;
        let (length, after) = rest.get(start..)?.split_first()?;
        let record = after.get(..usize::from(*length))?;
        rest = &after[record.len()..];
        Some(record)
    })
}

#[test]
fn send_succeeds_only_when_the_bus_has_the_frame() {
    for (features, outcome, code, sentence) in [
        (0, Outcome::Sent, 0, ""),
        (FEATURE_OWNER, Outcome::Sent, 0, ""),
        (FEATURE_RELAY, Outcome::Sent, 3, "1 frame was taken by 127.0.0.1"),
        (FEATURE_OWNER, Outcome::Taken, 3, "whose driver cannot confirm"),
        (FEATURE_OWNER, Outcome::Stale, 1, "123#11 was not sent: "),
        (FEATURE_RELAY, Outcome::Refused, 1, "0 frames were sent, 1 not"),
    ] {
        let output = send_to(features, outcome);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{features} {outcome:?}: {said}");
        assert!(said.contains(sentence), "{features} {outcome:?}: {said}");
        assert_eq!(said.is_empty(), code == 0, "{features} {outcome:?}: {said}");
    }
}

#[test]
fn send_through_a_relay_is_3() {
    let (_relay, at) = Running::serve(&["sim:can0"]);
    let send = || canspan(&["send", &at, "can0", "123#11"]);
    // The board may be away: its bus has not taken the frame.
    let alone = send();
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
    // A board with a real bus joins it. That it was heard is known from what it is told.
    let mut board = TcpStream::connect(&at).unwrap();
    let hello = Hello { features: FEATURE_OWNER, ..talk::hello() };
    let greeting = [preamble().to_vec(), talk::record(&Message::Hello(hello))].concat();
    board.write_all(&greeting).unwrap();
    assert!(board.read(&mut [0; 4096]).unwrap() > 0);
    let behind = send();
    let said = String::from_utf8(behind.stderr).unwrap();
    assert_eq!(behind.status.code(), Some(3), "{said}");
    assert!(said.contains("which is a relay for can0"), "{said}");
}
