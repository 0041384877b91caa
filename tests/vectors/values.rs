//! The values the vectors stand for.

use canspan::protocol::entry::{self, ENTRY_MAX};
use canspan::protocol::wire::{
    BusState, BusStatus, Form, From, Hello, Message, Ping, Probe, Refusal, Report, Seen, Skip,
};
use canspan::protocol::{Frame, Id, Kind, Progress};

/// Name, text, frame, delta.
type Entry = (String, String, Frame, u64);

const DATA: [u8; 8] = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
const STANDARD: Id = Id::Standard(0x123);
const EXTENDED: Id = Id::Extended(0x18DA_F110);

pub(crate) fn entries() -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    let mut add = |name: &str, text: &str, frame: Option<Frame>, delta_us: u64| {
        all.push((name.to_owned(), text.to_owned(), frame.unwrap(), delta_us));
    };
    let data = |id, data: &[u8]| Frame::data_frame(id, data);
    add("data-11", "data, 11-bit id 123, 8 bytes, 100 us later", data(STANDARD, &DATA), 100);
    add("data-29", "data, 29-bit id 18DAF110, 8 bytes", data(EXTENDED, &DATA), 100);
    add("data-29-small", "data, 29-bit id 123", data(Id::Extended(0x123), &DATA), 100);
    add("data-11-lowest", "data, 11-bit id 0", data(Id::Standard(0), &[1]), 0);
    add("data-11-highest", "data, 11-bit id 7FF", data(Id::Standard(0x7FF), &[1]), 0);
    add("data-29-lowest", "data, 29-bit id 0", data(Id::Extended(0), &[1]), 0);
    add("data-29-highest", "data, 29-bit id 1FFFFFFF", data(Id::Extended(0x1FFF_FFFF), &[1]), 0);
    for len in 0..=8 {
        let text = format!("data, {len} bytes");
        add(&format!("data-length-{len}"), &text, data(STANDARD, &DATA[..len]), 1);
    }
    for raw_dlc in 9..=15 {
        let frame = Frame::long_dlc(STANDARD, raw_dlc, &DATA);
        add(&format!("data-dlc-{raw_dlc}"), &format!("data, raw DLC {raw_dlc}, 8 bytes"), frame, 1);
    }
    for raw_dlc in 0..=15 {
        let text = format!("remote request, DLC {raw_dlc}");
        add(&format!("remote-dlc-{raw_dlc}"), &text, Frame::remote(STANDARD, raw_dlc), 1);
    }
    add("remote-29", "remote request, 29-bit id 18DAF110, DLC 8", Frame::remote(EXTENDED, 8), 1);
    let fd = |flags, data: &[u8]| Frame::fd(STANDARD, flags, data);
    for (name, flags) in [("none", 0), ("brs", 1), ("esi", 2), ("brs-esi", 3), ("fdf", 4)] {
        let text = format!("FD, flags {flags:02x}, 8 bytes");
        add(&format!("fd-flags-{name}"), &text, fd(flags, &DATA), 1);
    }
    let flags = Frame::fd(STANDARD, 0xFF, &[]);
    add("fd-flags-all", "FD, flags ff: bits without a meaning are kept", flags, 1);
    add("fd-29", "FD, 29-bit id 18DAF110, BRS, 8 bytes", Frame::fd(EXTENDED, 1, &DATA), 1);
    let bytes: Vec<u8> = (0..64).collect();
    for len in 0..=64 {
        let text = format!("FD, {len} bytes");
        add(&format!("fd-length-{len}"), &text, fd(1, &bytes[..len]), 1);
    }
    let error = Frame::error(0x88, &[0, 0, 0x80, 0x19, 0, 0, 0, 0]);
    add("error", "error frame, class 88, 8 bytes", error, 1);
    add("error-empty", "error frame, class 0, no data", Frame::error(0, &[]), 1);
    let error = Frame::error(0x1FFF_FFFF, &DATA);
    add("error-highest", "error frame, class 1FFFFFFF", error, 1);
    for (name, delta_us) in [
        ("0", 0),
        ("127", 127),
        ("128", 128),
        ("16383", 16_383),
        ("16384", 16_384),
        ("day", 86_400_000_000),
        ("back", u64::MAX),
        ("first", 1_700_000_000_000_000),
    ] {
        let text = match name {
            "back" => "the stamp is 1 us before the one before it".to_owned(),
            "first" => "the first stamp on a link counts from 0".to_owned(),
            _ => format!("{delta_us} us later"),
        };
        add(&format!("delta-{name}"), &text, data(STANDARD, &[]), delta_us);
    }
    let longest = Frame::build(Id::Extended(0x1FFF_FFFF), Kind::Fd { flags: 3 }, &[0xA5; 64]);
    add("longest", "81 bytes: FD, 29-bit, 64 bytes, longest delta", longest, u64::MAX);
    all
}

/// Two entries, as one batch carries them.
pub(crate) fn batch() -> Vec<u8> {
    let mut all = Vec::new();
    for (byte, delta_us) in [(1, 1_700_000_000_000_000), (2, 250)] {
        let mut out = [0; ENTRY_MAX];
        let frame = Frame::data_frame(STANDARD, &[byte]).unwrap();
        let used = entry::encode(&frame, delta_us, &mut out).unwrap();
        all.extend(&out[..used]);
    }
    all
}

/// Name, text, message.
pub(crate) fn messages(frames: &[u8]) -> Vec<(&'static str, &'static str, Message<'_>)> {
    let hello = Hello {
        features: 1,
        bus: "can0",
        history: 0x0123_4567_89AB_CDEF,
        bus_id: 0x1032_5476_98BA_DCFE,
        window: 128,
        max_age_us: 500_000,
        heartbeat_ms: 1_000,
        receipts_us: 25_000,
        clock_us: 3_000_000,
        seen: None,
        from: From::Now,
    };
    let progress = Progress { position: 1_000, frames: 900, lost: 50, stale: 30 };
    let seen = Seen { history: 0xFEDC_BA98_7654_3210, progress, done: [800, 1, 2, 3, 4, 5, 6] };
    let most = Hello {
        features: u32::MAX,
        bus: "fifteen-letters",
        history: u64::MAX,
        bus_id: u64::MAX,
        window: u32::MAX,
        max_age_us: u64::MAX,
        heartbeat_ms: u32::MAX,
        receipts_us: u32::MAX,
        clock_us: u64::MAX,
        seen: Some(Seen {
            history: u64::MAX,
            progress: Progress { position: u64::MAX, frames: u64::MAX, lost: 0, stale: 0 },
            done: [u64::MAX, 0, 0, 0, 0, 0, 0],
        }),
        from: From::Last(u64::MAX),
    };
    let ask = Hello { bus: "", history: 1, bus_id: 1, window: 0, max_age_us: 0, ..hello };
    let bus = BusStatus { state: BusState::Up, ..BusStatus::default() };
    let warned = BusStatus {
        state: BusState::ErrorWarning,
        errors: Some((97, 3)),
        overflow: 300,
        overrun: 2,
        dropped: 40,
        max_age_us: 500_000,
    };
    let state = |state| Message::Bus(BusStatus { state, ..bus });
    vec![
        ("hello-first", "a first greeting, from the next frame on", Message::Hello(hello)),
        (
            "hello-last",
            "a first greeting, with the last 30 s",
            Message::Hello(Hello { from: From::Last(30_000_000), ..hello }),
        ),
        (
            "hello-oldest",
            "a first greeting, with all the history holds",
            Message::Hello(Hello { from: From::Oldest, ..hello }),
        ),
        (
            "hello-again",
            "a greeting that resumes",
            Message::Hello(Hello { seen: Some(seen), ..hello }),
        ),
        ("hello-ask", "asks for the list of buses", Message::Hello(ask)),
        ("hello-most", "every field as large as it can be", Message::Hello(most)),
        ("refuse-no-such-bus", "code 1", Message::Refuse(Refusal::NO_SUCH_BUS)),
        ("refuse-loop", "code 2", Message::Refuse(Refusal::LOOP)),
        ("refuse-full", "code 3", Message::Refuse(Refusal::FULL)),
        ("refuse-protocol", "code 4", Message::Refuse(Refusal::PROTOCOL)),
        ("refuse-replaced", "code 5", Message::Refuse(Refusal::REPLACED)),
        ("refuse-ring", "code 6", Message::Refuse(Refusal::RING)),
        ("refuse-not-served", "code 7", Message::Refuse(Refusal::NOT_SERVED)),
        ("refuse-unknown", "a code of a later version", Message::Refuse(Refusal(200))),
        ("buses-none", "there is no bus", Message::Buses("")),
        ("buses-two", "can0 and vcan1", Message::Buses("can0\nvcan1")),
        ("start-new", "a stream from the history's beginning", Message::Start(Progress::default())),
        ("start-resumed", "position 1000, 900 frames, 50 lost, 30 stale", Message::Start(progress)),
        ("frames", "two frames 250 us apart", Message::Frames(frames)),
        (
            "skip-positions",
            "two positions of the receiver's own frames",
            Message::Skip(Skip { positions: 2, lost: 0, stale: 0 }),
        ),
        (
            "skip-lost-stale",
            "10 positions: 7 lost, 3 stale",
            Message::Skip(Skip { positions: 10, lost: 7, stale: 3 }),
        ),
        ("receipt-sent", "128 frames were sent", Message::Receipt(&[0, 0x80, 0x01])),
        (
            "receipt-mixed",
            "sent 3, stale 1, refused 1, unsupported 1, failed 1, unconfirmed 1, taken 1",
            Message::Receipt(&[0, 3, 1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 6, 1]),
        ),
        ("clock-zero", "the stamps are the monotonic clock's", Message::Clock(0)),
        ("clock-2023", "1700000000 s ahead", Message::Clock(1_700_000_000_000_000)),
        ("clock-behind", "1 us behind", Message::Clock(-1)),
        ("clock-lowest", "the lowest number", Message::Clock(i64::MIN)),
        ("clock-highest", "the highest number", Message::Clock(i64::MAX)),
        ("ping-first", "no clock to echo yet", {
            Message::Ping(Ping { clock_us: 3_000_000, echo_us: 0, held_us: 0 })
        }),
        ("ping-answer", "echoes 5 s, heard 300 us ago", {
            Message::Ping(Ping { clock_us: 4_000_000, echo_us: 5_000_000, held_us: 300 })
        }),
        ("bus-absent", "state 0", state(BusState::Absent)),
        ("bus-down", "state 1", state(BusState::Down)),
        ("bus-up", "state 2", state(BusState::Up)),
        (
            "bus-error-warning",
            "state 3, errors 97 and 3, overflow 300, limit 0.5 s",
            Message::Bus(warned),
        ),
        ("bus-error-passive", "state 4", state(BusState::ErrorPassive)),
        ("bus-off", "state 5", state(BusState::BusOff)),
        ("bye", "no more, and no resume", Message::Bye),
        ("ask-table", "form 0", Message::Ask(Form::Table)),
        ("ask-json", "form 1", Message::Ask(Form::Json)),
        ("report-first", "more follows, all is up", {
            Message::Report(Report { text: "{", more: true, is_up: true })
        }),
        (
            "filter",
            "frames whose id masked by 7ff is 123, and no error frames",
            Message::Filter("123:7FF,#0"),
        ),
        ("filter-all", "every frame", Message::Filter("#FFFFFFFF")),
        (
            "probe",
            "token 11223344, the youngest link was up for 2.5 s, 31 more links",
            Message::Probe(Probe { token: 0x1122_3344, youngest_us: 2_500_000, hops: 31 }),
        ),
        (
            "probe-most",
            "the largest numbers",
            Message::Probe(Probe { token: u64::MAX, youngest_us: u64::MAX, hops: u8::MAX }),
        ),
        ("report-last", "the end, not all is up", {
            Message::Report(Report { text: "}\n", more: false, is_up: false })
        }),
    ]
}
