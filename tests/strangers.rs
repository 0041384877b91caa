//! What whoever reaches the port can do to a gateway and its honest peers, against the running binary on
//! loopback. None needs CAN.
#![cfg(feature = "std")]

#[path = "field/memory.rs"]
mod memory;
#[path = "field/talk.rs"]
mod talk;

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use canspan::protocol::wire::{
    BusState, Form, Hello, Message, PREAMBLE_SIZE, Ping, Refusal, Skip, preamble,
};
use canspan::protocol::{Frame, Hub, Id, Link, LinkOptions, Progress, RECORD_MAX, entry};
use memory::{Bounded, Heap};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use talk::{hello, record};

/// How long what should happen at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Places for links, and how many of them strangers from one address leave to others.
const LINKS_MAX: usize = 64;
const OTHERS_MIN: usize = 8;

/// A running canspan and what it has logged; killed when dropped.
struct Running {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_canspan"));
        command.args(arguments);
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, to) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| to.lock().unwrap().push(line));
        });
        Self { child, log }
    }

    fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until the log has a line with `text`, and gives that line.
    fn says(&self, text: &str) -> String {
        let end = Instant::now() + SOON;
        loop {
            if let Some(line) = self.lines().into_iter().find(|line| line.contains(text)) {
                return line;
            }
            assert!(Instant::now() < end, "{text:?} is not in the log: {:#?}", self.lines());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where it listens.
    fn address(&self) -> SocketAddr {
        self.says("listening on ").rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(bus: &str) -> (Running, SocketAddr) {
    let server = Running::start(&["serve", bus, "--listen", "127.0.0.1:0"]);
    let address = server.address();
    (server, address)
}

fn status(at: SocketAddr, options: &[&str]) -> Output {
    let at = at.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_canspan"));
    command.args(["status", at.as_str()]).args(options).output().unwrap()
}

/// A peer without our code, and what it has read so far.
struct Peer {
    stream: TcpStream,
    is_greeted: bool,
    bytes: Vec<u8>,
}

/// A connection that comes from one of the addresses of this machine: 127.0.0.`host`.
fn from(host: u8, to: SocketAddr) -> Peer {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    connect(&socket, &to).unwrap();
    Peer::on(TcpStream::from(socket))
}

impl Peer {
    fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).unwrap();
        Self { stream, is_greeted: false, bytes: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn say(&mut self, messages: &[Message<'_>]) {
        let bytes: Vec<u8> = messages.iter().flat_map(record).collect();
        self.write(&bytes);
    }

    fn greet(&mut self, bus: &str, history: u64) {
        let hello = Hello { bus, history, bus_id: history, heartbeat_ms: 600_000, ..hello() };
        self.write(&preamble());
        self.say(&[Message::Hello(hello)]);
    }

    /// Greets, and is greeted. What is said before the answer comes is confirmed by that.
    fn join(&mut self, bus: &str, history: u64) {
        self.greet(bus, history);
        assert_eq!(self.is_admitted(), Ok(()));
    }

    fn ask(&mut self, form: Form) {
        self.write(&preamble());
        self.say(&[Message::Ask(form)]);
    }

    /// The next record's content, an empty one at the end; an error is one of the connection.
    fn next(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            if !self.is_greeted && self.bytes.len() >= PREAMBLE_SIZE {
                self.bytes.drain(..PREAMBLE_SIZE);
                self.is_greeted = true;
            }
            if self.is_greeted {
                let fillers = self.bytes.iter().take_while(|byte| **byte == 0).count();
                self.bytes.drain(..fillers);
                if let Ok((length, rest)) = postcard::take_from_bytes::<u16>(&self.bytes)
                    && let Some(content) = rest.get(..usize::from(length)).map(<[u8]>::to_vec)
                {
                    let used = self.bytes.len() - rest.len() + content.len();
                    self.bytes.drain(..used);
                    return Ok(content);
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer)? {
                0 => return Ok(Vec::new()),
                count => self.bytes.extend(&buffer[..count]),
            }
        }
    }

    /// Whether a greeting was answered by one; else how it was refused.
    fn is_admitted(&mut self) -> Result<(), Refusal> {
        let first = self.next().expect("an answer, not a reset");
        match postcard::from_bytes(&first) {
            Ok(Message::Hello(_)) => Ok(()),
            Ok(Message::Refuse(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for a message that `is_it`.
    fn until<T>(&mut self, is_it: impl Fn(Message<'_>) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        loop {
            let record = self.next().unwrap();
            let message = postcard::from_bytes(&record);
            assert!(!record.is_empty() && Instant::now() < end, "what was waited for did not come");
            if let Some(found) = is_it(message.unwrap()) {
                return found;
            }
        }
    }

    /// Sends a frame and waits for its receipt: from now on the peer with this history is known.
    fn carry(&mut self) {
        let frame = Frame::data_frame(Id::Standard(0x77), &[1]).unwrap();
        let mut bytes = [0; entry::ENTRY_MAX];
        let used = entry::encode(&frame, 1, &mut bytes).unwrap();
        let start = Progress { position: 0, frames: 0, lost: 0, stale: 0 };
        self.say(&[Message::Start(start), Message::Clock(0), Message::Frames(&bytes[..used])]);
        self.until(|message| matches!(message, Message::Receipt(_)).then_some(()));
    }
}

#[test]
fn silent_strangers_keep_out_neither_status_nor_known_peers() {
    let (server, at) = serve("sim:b?rate=100");
    let mut known = from(1, at);
    known.join("b", 1);
    known.carry();
    drop(known);
    server.says("link down");

    // From two addresses, since one cannot have all places.
    let mut strangers = Vec::new();
    let mut refused = 0;
    for number in 0..LINKS_MAX + 20 {
        let mut stranger = from(if number % 2 == 0 { 2 } else { 3 }, at);
        stranger.greet("b", 1000 + number as u64);
        match stranger.is_admitted() {
            Ok(()) => strangers.push(stranger),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::FULL);
                refused += 1;
            }
        }
    }
    assert_eq!((strangers.len(), refused), (LINKS_MAX, 20));
    // More that do not even greet.
    let _mute: Vec<_> = (0..40).map(|_| from(4, at)).collect();

    let answer = status(at, &["--json"]);
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let json: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    let up = json["links"].as_array().unwrap().iter().filter(|link| link["up"] == true);
    assert_eq!(up.count(), LINKS_MAX);

    // The known peer gets the place of the stranger that was there first, which is told why.
    let mut known = from(1, at);
    known.join("b", 1);
    let last = strangers[0].until(|message| match message {
        Message::Refuse(refusal) => Some(refusal),
        _ => None,
    });
    assert_eq!(last, Refusal::FULL);
    // And an own link by the name of another stranger is still one for a stranger.
    let mut stranger = from(1, at);
    stranger.greet("b", 2);
    assert_eq!(stranger.is_admitted(), Err(Refusal::FULL));
}

#[test]
fn one_address_leaves_places_to_others() {
    let (_server, at) = serve("sim:b");
    let mut admitted = Vec::new();
    let mut admit = |host: u8, history: u64| {
        let mut stream = from(host, at);
        stream.greet("b", history);
        let outcome = stream.is_admitted();
        admitted.push(stream);
        outcome
    };
    for number in 0..LINKS_MAX - OTHERS_MIN {
        assert_eq!(admit(2, 100 + number as u64), Ok(()), "number {number}");
    }
    assert_eq!(admit(2, 999), Err(Refusal::FULL));
    assert_eq!(admit(3, 1000), Ok(()));
}

#[test]
fn own_dials_have_places_of_their_own() {
    // Full before it can dial: nobody is there yet.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap();
    drop(listener);
    let dial = peer.to_string();
    let hub = Running::start(&["serve", "sim:b", "--dial", &dial, "--listen", "127.0.0.1:0"]);
    let at = hub.address();
    let mut strangers = Vec::new();
    for number in 0..LINKS_MAX {
        let mut stranger = from(if number % 2 == 0 { 2 } else { 3 }, at);
        stranger.greet("b", 1000 + number as u64);
        let _ = stranger.is_admitted();
        strangers.push(stranger);
    }
    let _peer = Running::start(&["serve", "sim:b", "--listen", &dial]);
    hub.says(&format!("link up: {dial}"));
}

#[test]
fn reason_reaches_who_has_said_more() {
    let (_server, at) = serve("sim:b");
    for number in 0..200 {
        let mut stream = from(1, at);
        stream.greet("none", 100 + number);
        // What the server will not read before it refuses.
        let ping = Message::Ping(Ping { clock_us: 1, echo_us: 0, held_us: 0 });
        let more: Vec<u8> = record(&ping).repeat(1000);
        let _ = stream.stream.write_all(&more);
        assert_eq!(stream.is_admitted(), Err(Refusal::NO_SUCH_BUS), "try {number}");
        // To the very end: a reset would be an error.
        assert_eq!(stream.stream.read(&mut [0; 16]).expect("an end, not a reset"), 0);
    }
}

#[test]
fn first_wrong_byte_ends_the_connection() {
    let (_server, at) = serve("sim:b");
    let mut stream = from(1, at);
    let start = Instant::now();
    stream.write(b"G");
    let _ = stream.stream.read(&mut [0; 16]);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

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

/// How often a peer that breaks the rules after its greeting is dialled in four seconds.
#[test]
fn peer_that_breaks_the_rules_is_not_dialled_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let dump = Running::start(&["dump", &at, "b"]);
    let dials = Arc::new(Mutex::new(0));
    let count = Arc::clone(&dials);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = Peer::on(stream.unwrap());
            *count.lock().unwrap() += 1;
            stream.greet("b", 5);
            // Frames before a start.
            stream.say(&[Message::Frames(&[])]);
            let _ = stream.stream.read_to_end(&mut Vec::new());
        }
    });
    dump.says("link up");
    thread::sleep(Duration::from_secs(4));
    let dials = *dials.lock().unwrap();
    assert!((2..=9).contains(&dials), "dialled {dials} times in four seconds");
    assert!(dump.lines().len() <= 30, "{:#?}", dump.lines());
}

/// A peer that knows of a later greeting, as after the dialler's machine was set back to a snapshot.
#[test]
fn refused_as_outdated_it_comes_with_a_new_history() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let dump = Running::start(&["dump", &at, "b"]);
    let mut histories = Vec::new();
    while histories.len() < 4 {
        let mut peer = Peer::on(listener.accept().unwrap().0);
        let history = peer.until(|message| match message {
            Message::Hello(hello) => Some(hello.history),
            _ => None,
        });
        peer.write(&preamble());
        if histories.len() < 2 {
            peer.say(&[Message::Refuse(Refusal::REPLACED)]);
        } else {
            let hello = Hello { bus: "b", ..hello() };
            peer.say(&[Message::Hello(hello), Message::Bye]);
        }
        let _ = peer.stream.read_to_end(&mut Vec::new());
        histories.push(history);
    }
    assert_eq!(histories[0], histories[1], "once may be chance");
    assert_ne!(histories[1], histories[2]);
    assert_eq!(histories[2], histories[3]);
    dump.says("was the machine set back");
}

/// Whether a peer that announced 10 minutes between its heartbeats and has said `messages` is still
/// linked after `silence`.
fn survives(messages: &[Message<'_>], silence: Duration) -> bool {
    use canspan::protocol::time::Instant;
    let start = Instant::from_micros(9_000_000);
    let mut hub = Hub::<Heap>::new("can0", 5, vec![0; 64 * 4096], Bounded::new(64)).unwrap();
    hub.set_state(BusState::Up, None);
    let mut hubs = [hub];
    let mut link = Link::accept(start, 1, LinkOptions::default());
    link.handle_input(start, &preamble(), &mut hubs);
    let greeting = Message::Hello(Hello { heartbeat_ms: 600_000, ..hello() });
    for message in [greeting].iter().chain(messages) {
        link.handle_input(start, &record(message), &mut hubs);
    }
    assert_eq!(link.ended(), None, "{messages:?}");
    // The bus shows what it is offered, and the peer is told.
    let mut frames = [Frame::EMPTY; 1];
    let offered = hubs[0].offer(start, &mut frames);
    hubs[0].taken(start, offered);
    frames.iter().take(offered).for_each(|frame| hubs[0].seen(frame, 1, true));
    while link.poll_transmit(start, &mut hubs, &mut [0; 2 * RECORD_MAX]) > 0 {}
    link.handle_timeout(start + silence, &mut hubs);
    link.ended().is_none()
}

#[test]
fn silence_is_short_until_a_frame_was_carried() {
    let frame = Frame::data_frame(Id::Standard(0x77), &[1]).unwrap();
    let mut bytes = [0; entry::ENTRY_MAX];
    let used = entry::encode(&frame, 1, &mut bytes).unwrap();
    let start = Message::Start(Progress { position: 0, frames: 0, lost: 0, stale: 0 });
    let carried = [start, Message::Clock(0), Message::Frames(&bytes[..used])];
    // A receipt for nothing carries nothing.
    let empty = [start, Message::Clock(0), Message::Receipt(&[])];
    for messages in [&[][..], &empty] {
        assert!(survives(messages, Duration::from_secs(29)));
        assert!(!survives(messages, Duration::from_secs(30)));
    }
    assert!(survives(&carried, Duration::from_secs(1799)));
    assert!(!survives(&carried, Duration::from_secs(1800)));
}

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

#[test]
fn nohup_is_respected() {
    let mut command = Command::new("sh");
    let canspan = env!("CARGO_BIN_EXE_canspan");
    command.args(["-c", "trap '' HUP; exec \"$0\" serve sim:b --listen 127.0.0.1:0", canspan]);
    let mut server = Running::run(command);
    let at = server.address();
    server.signal(Signal::HUP);
    // The signal was delivered before the question came.
    assert!(status(at, &[]).status.success());
    assert!(server.child.try_wait().unwrap().is_none());
    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());

    let (mut server, _) = serve("sim:b");
    server.signal(Signal::HUP);
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn poll_that_fails_does_not_end_the_process() {
    let (mut server, at) = serve("sim:b");
    let mut peer = from(1, at);
    peer.join("b", 5);
    // poll(2): EINVAL where there are more descriptors than the limit allows.
    let limit = |current| {
        let new = Rlimit { current: Some(current), maximum: Some(1024) };
        prlimit(Some(Pid::from_child(&server.child)), Resource::Nofile, new).unwrap();
    };
    limit(1);
    server.says("the kernel cannot wait");
    // The link lives.
    peer.carry();
    limit(1024);
    assert!(status(at, &[]).status.success());
    assert!(server.count("the kernel cannot wait") <= 3, "{:#?}", server.lines());
    assert!(server.child.try_wait().unwrap().is_none());
    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
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

/// What a peer was sent, and says became of it, makes it known; what it claims in a greeting does not.
#[test]
fn known_peer_comes_in_though_one_address_holds_most_places() {
    let (server, at) = serve("sim:b?rate=100");
    let mut known = from(1, at);
    known.join("b", 1);
    known.carry();
    drop(known);
    server.says("link down");
    let mut others = Vec::new();
    for number in 0..LINKS_MAX {
        let mut other = from(2, at);
        other.greet("b", 1000 + number as u64);
        if other.is_admitted().is_ok() {
            other.carry();
            others.push(other);
        }
    }
    assert!(others.len() <= LINKS_MAX - 8, "{} links from one address", others.len());
    for number in 0..8 {
        let mut other = from(3, at);
        other.join("b", 2000 + number);
        other.carry();
        others.push(other);
    }
    let mut known = from(1, at);
    known.greet("b", 1);
    assert_eq!(known.is_admitted(), Ok(()));
}

#[test]
fn refusing_peer_ends_no_other_link() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut peer = Peer::on(stream.unwrap());
            peer.write(&preamble());
            peer.say(&[Message::Refuse(Refusal::REPLACED)]);
            let _ = peer.stream.read_to_end(&mut Vec::new());
        }
    });
    let arguments = ["serve", "sim:b?rate=1000", "--dial", &dial, "--listen", "127.0.0.1:0"];
    let hub = Running::start(&arguments);
    let dump = Running::start(&["dump", &hub.address().to_string(), "b"]);
    dump.says("link up");
    thread::sleep(Duration::from_secs(4));
    assert_eq!(dump.count("link down"), 0, "{:#?}", hub.lines());
}
