use core::time::Duration;

use super::*;
use crate::protocol::wire::BusState;
use crate::protocol::{Counters, Frame, Id};

fn snapshot() -> Snapshot {
    let status = BusStatus {
        state: BusState::ErrorWarning,
        errors: Some((97, 3)),
        overflow: 7,
        overrun: 2,
        dropped: 40,
        max_age_us: 500_000,
    };
    let can0 = BusView {
        expects_peer: false,
        name: "can0".to_owned(),
        takes_frames: true,
        mode: "one-shot".to_owned(),
        status,
        rates: Rates { nominal: Some(500_000), data: Some(2_000_000) },
        load: Some(0.4567),
        frames_per_s: 1234.56,
        received: 1_000,
        sent: 20,
    };
    let odd = BusView {
        expects_peer: false,
        name: "a\"b\\c\u{1}ä".to_owned(),
        status: BusStatus { state: BusState::Up, ..BusStatus::default() },
        takes_frames: true,
        mode: String::new(),
        rates: Rates::default(),
        load: None,
        frames_per_s: 0.0,
        received: 0,
        sent: 0,
    };
    let sent = Counters { frames: 900, lost: 5, done: [890, 4, 3, 2, 1, 0, 0] };
    let link = LinkView {
        bus: "can0".to_owned(),
        number: 0,
        peer: "10.0.0.2:5000".to_owned(),
        dialled: false,
        up_for: Some(Duration::from_secs(3_700)),
        round_trip: Some(Duration::from_micros(1_500)),
        status: PeerStatus { history: 0xAB, sent, behind: 12, links: 3, ..PeerStatus::default() },
    };
    let gone = LinkView { number: 1, up_for: None, round_trip: None, ..link.clone() };
    let undecided = LinkView { bus: String::new(), dialled: true, ..gone.clone() };
    Snapshot {
        running: Duration::from_secs(90_000),
        buses: vec![can0, odd],
        links: vec![link, gone, undecided],
    }
}

#[test]
fn json_is_what_a_parser_takes_for_it() {
    let text = snapshot().json();
    assert_eq!(text.matches('\n').count(), 1);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["up"], false);
    assert_eq!(json["running_s"], 90_000.0);
    let bus = &json["buses"][0];
    assert_eq!((&bus["name"], &bus["state"]), (&"can0".into(), &"error-warning".into()));
    assert_eq!(bus["errors"], serde_json::json!([97, 3]));
    assert_eq!((&bus["bitrate"], &bus["dbitrate"]), (&500_000.into(), &2_000_000.into()));
    assert_eq!((&bus["load_percent"], &bus["max_age_ms"]), (&45.7.into(), &500.into()));
    assert_eq!(
        (&bus["received"], &bus["sent"], &bus["overflow"]),
        (&1_000.into(), &20.into(), &7.into())
    );
    assert_eq!((&bus["overrun"], &bus["dropped"]), (&2.into(), &40.into()));
    assert_eq!(json["buses"][1]["name"], "a\"b\\c\u{1}ä");
    assert!(json["buses"][1]["load_percent"].is_null() && json["buses"][1]["errors"].is_null());
    let link = &json["links"][0];
    assert_eq!((&link["peer"], &link["role"]), (&"10.0.0.2:5000".into(), &"accepted".into()));
    assert_eq!((&link["up"], &link["up_s"]), (&true.into(), &3_700.0.into()));
    assert_eq!((&link["round_trip_us"], &link["behind"]), (&1_500.into(), &12.into()));
    assert_eq!((&link["reconnects"], &bus["mode"]), (&2.into(), &"one-shot".into()));
    let account = serde_json::json!({
        "frames": 900, "lost": 5, "sent": 890, "stale": 4, "refused": 3, "unsupported": 2,
        "failed": 1, "unconfirmed": 0, "taken": 0
    });
    assert_eq!(link["to_peer"], account);
    // Nobody learns the id of a peer's history here.
    assert_eq!(link["history"].as_str().map(str::len), Some(8));
    assert!(json["links"][1]["round_trip_us"].is_null());
    assert!(json["links"][2]["bus"].is_null());
    // Nothing at all is JSON, too.
    let empty = Snapshot { running: Duration::ZERO, buses: vec![], links: vec![] };
    let json: serde_json::Value = serde_json::from_str(&empty.json()).unwrap();
    assert_eq!((&json["up"], &json["links"]), (&true.into(), &serde_json::json!([])));
}

#[test]
fn the_table_says_what_is_not_as_it_should_be() {
    let text = snapshot().table();
    assert!(text.contains("running for 1 d 1 h: not everything is up"), "{text}");
    let line = |begin: &str| text.lines().find(|line| line.starts_with(begin)).unwrap();
    let can0 = line("can0");
    for word in [
        "error-warning",
        "97/3",
        "500k/2M",
        "45.7 % 1235/s",
        "1000 in, 20 out",
        "7 overflow, 2 overrun, 40 dropped",
    ] {
        assert!(can0.contains(word), "{word}: {can0}");
    }
    let link = text.lines().find(|line| line.contains("10.0.0.2")).unwrap();
    let causes = "890 out (5 lost, 4 stale, 3 refused, 2 unsupported, 1 failed)";
    for word in ["accepted", "up 1 h 1 min", "1.5 ms", "12", causes] {
        assert!(link.contains(word), "{word}: {link}");
    }
    assert!(line("?").contains("dialled   down"), "{text}");
}

#[test]
fn peers_that_dial_may_be_gone_and_those_we_dial_may_not() {
    let mut snapshot = snapshot();
    assert!(!snapshot.is_up());
    snapshot.links.pop();
    assert!(snapshot.is_up());
    snapshot.buses[1].takes_frames = false;
    assert!(!snapshot.is_up());
}

#[test]
fn the_load_is_the_part_of_the_time_the_bus_was_busy() {
    let hub = Hub::new(
        "can0",
        1,
        vec![0; 2 * 4096].into_boxed_slice(),
        super::super::HeapSlots::with_room(0),
    );
    let mut hubs = [hub.unwrap()];
    let start = Instant::from_micros(1_000_000);
    let mut meter = Meter::new(start);
    let rates = Rates { nominal: Some(500_000), data: None };
    // 100 frames of 111 bits a second at 500 kbit/s, for ten seconds.
    let frame = Frame::data_frame(Id::Standard(1), &[0; 8]).unwrap();
    for turn in 1..=1_000 {
        hubs[0].seen(&frame, 0, false);
        meter.turn(start + Duration::from_millis(turn * 10), &hubs);
    }
    let (rate, load) = meter.rate(start + Duration::from_secs(10), 0, &hubs[0], rates);
    assert!((rate - 100.0).abs() < 1.0, "{rate}");
    let load = load.unwrap();
    assert!((load - 0.0222).abs() < 0.0005, "{load}");
    assert_eq!(meter.rate(start + Duration::from_secs(10), 0, &hubs[0], Rates::default()).1, None);
}

/// What a metric's line says: name, labels, value.
fn parse(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), vec![], value.parse().unwrap());
    };
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").unwrap();
        let mut text = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => text.push(letters.next().unwrap().1),
                (_, letter) => text.push(letter),
            }
        };
        found.push((key.to_owned(), text));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), found, value.parse().unwrap())
}

#[test]
fn metrics_are_in_the_format_of_prometheus() {
    let text = snapshot().metrics();
    assert!(text.ends_with('\n'));
    let (mut typed, mut seen) = (String::new(), std::collections::HashSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kind == "gauge" || kind == "counter");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
            name.clone_into(&mut typed);
        } else if !line.starts_with("# HELP ") {
            let (name, labels, _) = parse(line);
            assert_eq!(name, typed, "samples follow their type");
            assert!(seen.insert((name, labels)), "twice: {line}");
        }
    }
    for line in [
        "canspan_up 0",
        "canspan_bus_state{bus=\"can0\",state=\"error-warning\"} 1",
        "canspan_bus_state{bus=\"can0\",state=\"up\"} 0",
        "canspan_bus_frames_total{bus=\"can0\",way=\"to_bus\"} 20",
        "canspan_bus_load_ratio{bus=\"can0\"} 0.4567",
        "canspan_link_round_trip_seconds{bus=\"can0\",link=\"0\"} 0.0015",
        "canspan_link_lost_total{bus=\"can0\",link=\"0\",way=\"to_peer\"} 5",
        "canspan_link_outcomes_total{bus=\"can0\",link=\"0\",way=\"to_peer\",outcome=\"stale\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
