//! The files in `tests/vectors/`: every message and every form of a frame as bytes, and what is
//! none. `docs/protocol.md` says what the bytes mean; another implementation can read the files.
//!
//! `CANSPAN_WRITE=1 cargo test --test vectors` writes the files anew after the protocol was changed
//! on purpose.

#[path = "field/memory.rs"]
mod memory;
#[path = "vectors/session.rs"]
mod session;
#[path = "field/talk.rs"]
mod talk;
#[path = "vectors/values.rs"]
mod values;

use core::fmt::Write as _;

use canspan::protocol::entry::{self, ENTRY_MAX};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::{
    FRAMES_MAX, MESSAGE_MAX, MODE_PLAIN, Message, Refusal, VERSION, preamble,
};
use canspan::protocol::{Ended, Hub, Link, LinkOptions, RECORD_MAX};
use memory::{Bounded, Heap};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}: half a byte");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn path(name: &str) -> String {
    format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The lines of a file, without comments, cut at the bars.
fn read<const FIELDS: usize>(name: &str) -> Vec<[String; FIELDS]> {
    let text = std::fs::read_to_string(path(name)).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<_> =
                line.splitn(FIELDS, '|').map(|field| field.trim().to_owned()).collect();
            fields.try_into().unwrap_or_else(|_| panic!("{name}: {line}"))
        })
        .collect()
}

/// Writes a file anew, if asked to: its comment, and the lines given.
fn rewrite(name: &str, lines: &[[String; 3]]) {
    if std::env::var_os("CANSPAN_WRITE").is_none() {
        return;
    }
    let old = std::fs::read_to_string(path(name)).unwrap();
    let comment = old.lines().take_while(|line| line.starts_with('#'));
    let lines = lines.iter().map(|[name, hex, text]| format!("{name} | {hex} | {text}"));
    let text: Vec<String> = comment.map(str::to_owned).chain(lines).collect();
    std::fs::write(path(name), text.join("\n") + "\n").unwrap();
}

#[test]
fn every_form_of_a_frame_is_as_the_file_says() {
    let lines: Vec<_> = values::entries()
        .into_iter()
        .map(|(name, text, frame, delta_us)| {
            let mut out = [0; ENTRY_MAX];
            let used = entry::encode(&frame, delta_us, &mut out).unwrap();
            assert_eq!(entry::decode(&out[..used]), Some((frame, delta_us, &[][..])), "{name}");
            [name, hex(&out[..used]), text]
        })
        .collect();
    rewrite("entries.txt", &lines);
    assert_eq!(read::<3>("entries.txt"), lines);
    for ([name, hex, _], (_, _, frame, delta_us)) in
        read("entries.txt").iter().zip(values::entries())
    {
        assert_eq!(entry::decode(&bytes(hex)), Some((frame, delta_us, &[][..])), "{name}");
    }
}

#[test]
fn every_message_is_as_the_file_says() {
    let frames = values::batch();
    let all = values::messages(&frames);
    let lines: Vec<_> = all
        .iter()
        .map(|(name, text, message)| {
            let mut out = [0; MESSAGE_MAX];
            let content = postcard::to_slice(message, &mut out).unwrap();
            [(*name).to_owned(), hex(content), (*text).to_owned()]
        })
        .collect();
    rewrite("messages.txt", &lines);
    assert_eq!(read::<3>("messages.txt"), lines);
    for ([name, hex, _], (_, _, message)) in read("messages.txt").iter().zip(all) {
        let bytes = bytes(hex);
        let (decoded, rest) = postcard::take_from_bytes::<Message<'_>>(&bytes).unwrap();
        assert_eq!((decoded, rest), (message, &[][..]), "{name}");
    }
}

#[test]
fn the_session_in_the_specification_is_what_is_said() {
    let text = session::text();
    let file = format!("{}/docs/protocol.md", env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = document.split_once("<!-- session -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of session -->").unwrap();
    let wanted =
        format!("{before}<!-- session -->\n```text\n{text}```\n<!-- end of session -->{after}");
    if std::env::var_os("CANSPAN_WRITE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    assert!(wanted == document || std::env::var_os("CANSPAN_WRITE").is_some(), "now it is\n{text}");
}

/// Records for the specification that its session does not have.
fn examples() -> String {
    let names = ["filter", "skip-lost-stale", "refuse-no-such-bus"];
    let frames = values::batch();
    let all = values::messages(&frames);
    let lines = names.map(|name| {
        let (_, text, message) = all.iter().find(|(other, ..)| *other == name).unwrap();
        let kind = format!("{message:?}");
        let kind = kind.split(['(', ' ']).next().unwrap();
        format!("{}\n    {kind}: {text}\n", hex(&talk::record(message)))
    });
    lines.concat()
}

#[test]
fn the_examples_in_the_specification_are_records() {
    let file = format!("{}/docs/protocol.md", env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = document.split_once("<!-- examples -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of examples -->").unwrap();
    let text = examples();
    let wanted =
        format!("{before}<!-- examples -->\n```text\n{text}```\n<!-- end of examples -->{after}");
    if std::env::var_os("CANSPAN_WRITE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    assert!(wanted == document || std::env::var_os("CANSPAN_WRITE").is_some(), "now it is\n{text}");
}

#[test]
fn a_filter_lets_pass_what_the_file_says() {
    let lines = read::<3>("filters.txt");
    assert!(lines.len() > 50);
    for [frame, passes, text] in lines {
        let filters = text.parse::<canspan::protocol::Filters>();
        let frame = match frame.as_str() {
            "-" => None,
            frame => Some(canspan::text::parse_frame(frame).unwrap()),
        };
        match (passes.as_str(), filters, frame) {
            ("refused", Err(_), None) => {}
            ("yes", Ok(filters), Some(frame)) => assert!(filters.passes(&frame), "{text}"),
            ("no", Ok(filters), Some(frame)) => assert!(!filters.passes(&frame), "{text}"),
            (_, filters, _) => panic!("{passes} | {text}: {filters:?}"),
        }
        // As a node hears it.
        let hello = Message::Hello(talk::hello());
        let greeting = [talk::record(&Message::Filter(&text)), talk::record(&hello)].concat();
        let refused = Some(Ended::WeRefused(Refusal::PROTOCOL));
        let expected = refused.filter(|_| passes == "refused");
        assert_eq!(end_after(&[&preamble(), &greeting]), expected, "{text}");
    }
}

/// How a link that was dialled ends after an input.
fn end_after(input: &[&[u8]]) -> Option<Ended> {
    let now = Instant::from_micros(5_000_000);
    let hub: Hub<Heap> = Hub::new("can0", 5, vec![0; 2 * 4096], Bounded::new(400)).unwrap();
    let mut hubs = [hub];
    let mut link = Link::accept(now, 1, LinkOptions::default());
    let mut out = [0; RECORD_MAX];
    for bytes in input {
        link.handle_input(now, bytes, &mut hubs);
        while link.poll_transmit(now, &mut hubs, &mut out) > 0 {}
    }
    link.ended()
}

#[test]
fn what_is_invalid_is_refused() {
    let hello = talk::record(&Message::Hello(talk::hello()));
    let start = talk::record(&Message::Start(canspan::protocol::Progress::default()));
    let clock = talk::record(&Message::Clock(0));
    let live = [&preamble(), &hello[..], &start[..], &clock[..]];
    assert_eq!(end_after(&live), None);
    let broken = Some(Ended::WeRefused(Refusal::PROTOCOL));
    for [name, place, hex, _] in read("invalid.txt") {
        let bytes = bytes(&hex);
        let length = |bytes: &[u8]| {
            let mut length = [0; 3];
            postcard::to_slice(&(bytes.len() as u16), &mut length).unwrap().to_vec()
        };
        match place.as_str() {
            "entry" => {
                assert!(entry::decode(&bytes).is_none(), "{name}");
                let frames = talk::record(&Message::Frames(&bytes));
                assert_eq!(end_after(&[&live.concat(), &frames]), broken, "{name}");
            }
            "message" => {
                let record = [length(&bytes), bytes].concat();
                assert_eq!(end_after(&[&live.concat(), &record]), broken, "{name}");
            }
            "greeting" => {
                let record = [length(&bytes), bytes].concat();
                assert_eq!(end_after(&[&preamble(), &record]), broken, "{name}");
            }
            "record" => assert_eq!(end_after(&[&live.concat(), &bytes]), broken, "{name}"),
            "preamble" => {
                let end = end_after(&[&bytes]);
                let is_right = match end {
                    Some(Ended::Version(version)) => version != VERSION,
                    Some(Ended::Mode(mode)) => mode != MODE_PLAIN || bytes.last() != Some(&0),
                    end => end == Some(Ended::NotCanspan),
                };
                assert!(is_right, "{name}: {end:?}");
            }
            place => panic!("{name}: {place} is no place"),
        }
    }
}

#[test]
fn the_limits_are_what_the_specification_says() {
    assert_eq!((MESSAGE_MAX, FRAMES_MAX, ENTRY_MAX), (4096, 4093, 81));
    // The longest batch fills a message to the byte.
    let frames = [0; FRAMES_MAX];
    assert_eq!(talk::record(&Message::Frames(&frames)).len(), RECORD_MAX);
}
