//! What is answered to whoever asks for the status.

use super::*;

#[test]
fn every_question_of_one_turn_is_answered() {
    let (server, at) = serve("sim:b");
    server.signal(Signal::STOP);
    let mut askers: Vec<_> = (0..12).map(|_| from(1, at)).collect();
    for asker in &mut askers {
        asker.ask(Form::Table);
    }
    server.signal(Signal::CONT);
    for (number, asker) in askers.iter_mut().enumerate() {
        let record = asker.next();
        let record = record.unwrap_or_else(|error| panic!("asker {number}: {error}"));
        let answer = postcard::from_bytes(&record);
        assert!(matches!(answer, Ok(Message::Report(_))), "asker {number}: {answer:?}");
    }
}

/// A gateway whose status is longer than what one turn of its loop writes.
fn serve_many() -> (Running, SocketAddr) {
    const PEERS: u64 = 60;
    let names: Vec<String> = (0..16).map(|number| format!("sim:bus{number}")).collect();
    let mut arguments = vec!["serve"];
    arguments.extend(names.iter().map(String::as_str));
    arguments.extend(["--listen", "127.0.0.1:0", "--history", "64k"]);
    let server = Running::start(&arguments);
    let at = server.address();
    for (bus, name) in names.iter().enumerate() {
        for peer in 0..PEERS {
            let mut stream = from(1, at);
            stream.join(&name["sim:".len()..], 1 + bus as u64 * PEERS + peer);
            stream.carry();
        }
    }
    (server, at)
}

#[test]
fn long_answer_is_finished_at_once() {
    let (_server, at) = serve_many();
    let start = Instant::now();
    let answer = status(at, &["--json"]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    assert!(answer.stdout.len() > 300_000, "{} bytes prove nothing", answer.stdout.len());
    assert!(serde_json::from_slice::<serde_json::Value>(&answer.stdout).is_ok());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn gone_visitors_leave_no_rows_in_the_table() {
    // A bus with traffic of its own, so that it is no relay's.
    let (server, at) = serve("sim:b?rate=1");
    for _ in 0..3 {
        let at = at.to_string();
        let mut send = Running::start(&["send", &at, "b", "123#11"]);
        assert!(send.child.wait().unwrap().success());
    }
    let mut stranger = from(1, at);
    stranger.join("b", 9);
    drop(stranger);
    // Who carried something and may come back stays.
    let mut known = from(1, at);
    known.join("b", 10);
    known.carry();
    drop(known);
    let end = Instant::now() + SOON;
    while server.count("link down") < 5 {
        assert!(Instant::now() < end, "{:#?}", server.lines());
        thread::sleep(Duration::from_millis(10));
    }
    let answer = status(at, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    // Whose frames were on the bus are accounted for; who only greeted is forgotten.
    assert_eq!(json["links"].as_array().unwrap().len(), 4, "{json:#}");
    let table = String::from_utf8(status(at, &[]).stdout).unwrap();
    assert_eq!(table.matches("gone").count(), 2, "{table}");
    assert!(table.contains("and 3 gone for good, with 3 frames in and 0 out"), "{table}");
}

#[test]
fn status_address_says_that_it_serves_no_bus() {
    let (_server, at) = serve("sim:b");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let connect = Running::start(&["connect", &at.to_string(), "b:sim:x", "--status", &port]);
    connect.says("link up");
    for bus in [&["dump", &port][..], &["dump", &port, "x"]] {
        let dump = Running::start(bus);
        dump.says("serves no buses, it only answers `canspan status`");
    }
    assert!(status(port.parse().unwrap(), &[]).status.success());
}
