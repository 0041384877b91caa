//! What strangers make a gateway log.

use super::*;

#[test]
fn missing_frames_are_summed_in_the_log() {
    let (server, at) = serve("sim:b");
    let mut peer = from(1, at);
    peer.join("b", 5);
    let start = Progress { position: 0, frames: 0, lost: 0, stale: 0 };
    peer.say(&[Message::Start(start)]);
    let skip = record(&Message::Skip(Skip { positions: 5, lost: 2, stale: 3 }));
    for _ in 0..200 {
        peer.write(&skip.repeat(50));
    }
    peer.say(&[Message::Bye]);
    server.says("link down");
    let lines = server.lines();
    let missing: Vec<_> = lines.iter().filter(|line| line.contains("are missing")).collect();
    assert!((1..=3).contains(&missing.len()), "{missing:#?}");
    let number = |line: &&String| -> u64 {
        let words: Vec<_> = line.split(' ').collect();
        let at = words.iter().position(|word| *word == "frames").unwrap();
        words[at - 1].parse().unwrap()
    };
    assert_eq!(missing.iter().map(number).sum::<u64>(), 200 * 50 * 5);
}

#[test]
fn comings_and_goings_of_strangers_are_few_lines() {
    let (server, at) = serve("sim:b");
    const COUNT: u64 = 1000;
    for number in 0..COUNT {
        let mut stream = from(1, at);
        stream.greet("b", 100 + number);
        if stream.is_admitted().is_ok() && number % 2 == 0 {
            // Closed with bytes unread: a reset.
            let _ = stream.stream.shutdown(std::net::Shutdown::Read);
        }
    }
    for _ in 0..COUNT {
        from(1, at).write(b"GET / HTTP/1.0\r\n\r\n");
    }
    // Known peers are told of all the same.
    let mut known = from(1, at);
    known.join("b", 7);
    known.carry();
    known.say(&[Message::Bye]);
    server.says("link b 127.0.0.1:");
    // What was left out is told later, and at the end.
    server.says("were not logged one by one");
    server.signal(Signal::TERM);
    server.says("links of peers that have carried nothing came up");
    let lines = server.lines();
    assert!(lines.len() < 500, "{} lines", lines.len());
    let sum = |what: &str| -> u64 {
        let number = |line: &String| -> u64 {
            let rest = line.strip_prefix("canspan: ").unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        let sums = lines.iter().filter(|line| line.contains(" more ") && line.contains(what));
        sums.map(number).sum()
    };
    let told = server.count("b: link up: ") as u64;
    assert!(told < 300 && sum("came up") > 0, "{told} told");
}

#[test]
fn unknown_log_level_silences_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canspan"));
    command.args(["serve", "sim:b", "--listen", "127.0.0.1:0"]).env("RUST_LOG", "foo");
    let server = Running::run(command);
    server.says("listening");
    server.says("RUST_LOG=foo is ignored");
}

#[test]
fn strangers_that_come_back_flood_no_log() {
    const COUNT: u64 = 1000;
    let (server, at) = serve("sim:b");
    for number in 0..COUNT {
        let mut peer = from(1, at);
        peer.greet("b", 100 + number);
        if peer.is_admitted().is_err() {
            continue;
        }
        peer.say(&[
            Message::Start(Progress { position: 9, frames: 0, lost: 9, stale: 0 }),
            Message::Skip(Skip { positions: 5, lost: 2, stale: 3 }),
            Message::Bye,
        ]);
        let _ = peer.stream.read_to_end(&mut Vec::new());
    }
    server.signal(Signal::TERM);
    server.says("times a peer that has carried nothing had news");
    let lines = server.lines().len();
    assert!(lines < 500, "{lines} lines");
}
