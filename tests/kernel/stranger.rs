//! Peers that are not canspan: they speak the protocol by hand, as well or as badly as they like.

use core::{net::SocketAddr, time::Duration};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
};

use canspan::protocol::{
    Frame, Id, Progress, entry,
    wire::{self, Hello, Message},
};

use crate::{
    process::SOON,
    talk::{hello, record},
};

/// A greeting of a process of its own, for a bus.
pub(crate) fn greeting(bus: &str, history: u64) -> Hello<'_> {
    Hello { bus, history, bus_id: history, ..hello() }
}

/// A connection of a peer that is not canspan.
pub(crate) struct Stranger {
    stream: TcpStream,
    /// Bytes that came and were not looked at yet.
    waiting: Vec<u8>,
}

impl Stranger {
    /// Connects from the calling thread's namespace, and says that it is canspan.
    pub(crate) fn dials(address: &str) -> io::Result<Self> {
        let address: SocketAddr = address.parse().expect("an address");
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(&wire::preamble())?;
        Ok(Self { stream, waiting: Vec::new() })
    }

    /// Says something.
    pub(crate) fn says(&mut self, message: &Message<'_>) -> io::Result<()> {
        self.stream.write_all(&record(message))
    }

    /// Says bytes that may mean nothing.
    pub(crate) fn says_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Is dialled by canspan, and hears its greeting: the id of its history.
    pub(crate) fn is_dialled(listener: &TcpListener) -> io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(&wire::preamble())?;
        let greeting = Self { stream, waiting: Vec::new() }.hears_greeting()?;
        greeting.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Greets and hears the answer: the id of the other side's history, or `None` if it is refused.
    pub(crate) fn greets(&mut self, greeting: Hello<'_>) -> io::Result<Option<u64>> {
        self.says(&Message::Hello(greeting))?;
        self.hears_greeting()
    }

    fn hears_greeting(&mut self) -> io::Result<Option<u64>> {
        while self.waiting.len() < wire::PREAMBLE_SIZE {
            self.hears()?;
        }
        self.waiting.drain(..wire::PREAMBLE_SIZE);
        loop {
            if let Some((answer, used)) = self.first() {
                self.waiting.drain(..used);
                return Ok(answer);
            }
            self.hears()?;
        }
    }

    /// Sends one frame, and leaves when the other side has taken it.
    pub(crate) fn sends_a_frame_and_leaves(mut self) -> io::Result<()> {
        let mut bytes = [0; entry::ENTRY_MAX];
        let frame = Frame::data_frame(Id::Standard(1), &[]).expect("a frame");
        let used = entry::encode(&frame, 1, &mut bytes).expect("an entry");
        let start = Progress { position: 0, frames: 0, lost: 0, stale: 0 };
        self.says(&Message::Start(start))?;
        self.says(&Message::Clock(0))?;
        self.says(&Message::Frames(&bytes[..used]))?;
        self.stream.shutdown(Shutdown::Write)?;
        // Until the other side has closed, too: a reset would take the frame back.
        self.stream.read_to_end(&mut self.waiting).map(drop)
    }

    fn hears(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes)?;
        self.waiting.extend_from_slice(&bytes[..count]);
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// What the first record that has come whole says, and how many bytes it and the fillers before it are.
    fn first(&self) -> Option<(Option<u64>, usize)> {
        let fillers = self.waiting.iter().take_while(|byte| **byte == wire::FILLER).count();
        let (length, rest) = postcard::take_from_bytes::<u16>(&self.waiting[fillers..]).ok()?;
        let content = rest.get(..usize::from(length))?;
        let used = self.waiting.len() - rest.len() + content.len();
        let message = postcard::from_bytes(content).expect("a message of the protocol");
        let Message::Hello(answer) = message else { return Some((None, used)) };
        Some((Some(answer.history), used))
    }
}
