//! What whoever reaches the port can do to a gateway and its honest peers, against the running binary on
//! loopback. None needs CAN.
#![cfg(feature = "std")]

mod answers;
mod log;
#[path = "../field/memory.rs"]
mod memory;
mod places;
#[path = "../field/talk.rs"]
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
const LINKS_MAX: usize = canspan::protocol::LINKS_MAX;
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
fn limit_below_the_open_descriptors_changes_nothing() {
    let (mut server, at) = serve("sim:b");
    let mut peer = from(1, at);
    peer.join("b", 5);
    // A poll(2) would be refused: more descriptors than the limit allows.
    let limit = |current| {
        let new = Rlimit { current: Some(current), maximum: Some(1024) };
        prlimit(Some(Pid::from_child(&server.child)), Resource::Nofile, new).unwrap();
    };
    limit(1);
    peer.carry();
    limit(1024);
    assert!(status(at, &[]).status.success());
    assert_eq!(server.count("the kernel cannot wait"), 0, "{:#?}", server.lines());
    assert!(server.child.try_wait().unwrap().is_none());
    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
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
