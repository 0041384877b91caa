//! The yardstick: a forwarder without a protocol, as small as one can be that joins two buses over TCP.
//!
//! Two threads a side, both blocking: one reads a frame and writes it to TCP, the other reads TCP and writes frames.
//! It keeps nothing, counts nothing and confirms nothing. It runs as a process of its own in either namespace: the
//! program that measures starts itself again, with [`TASK`] set.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

use crate::{
    lab::{BOARD, Namespace, Pair},
    process::Process,
    sys::{CanSocket, Frame},
};

/// The environment variable that makes a forwarder of the program: `listen` or `connect`.
pub(crate) const TASK: &str = "CANSPAN_FORWARDER";
const PORT: u16 = 29_000;
/// A classic frame on TCP: its id, its length, its data.
const SIZE: usize = 16;

/// Starts a forwarder in both namespaces. `arguments` are those with which this program calls [`run`].
pub(crate) fn start(pair: &Pair, arguments: &[&str]) -> (Process, Process) {
    let program = std::env::current_exe().expect("the path of this program");
    let program = program.to_str().expect("a path in UTF-8").to_owned();
    let start = |namespace: &Namespace, task: &str, says: &str| {
        // `env` becomes the program, so the child's id is the program's.
        let task = format!("{TASK}={task}");
        let process =
            Process::start(namespace, "env", &[&[task.as_str(), &program], arguments].concat());
        process.says(says);
        process
    };
    let listener = start(&pair.board, "listen", "forwarder: listening");
    let dialler = start(&pair.pc, "connect", "forwarder: connected");
    (listener, dialler)
}

/// Forwards until the other side ends. `task` is the value of [`TASK`].
pub(crate) fn run(task: &str) -> io::Result<()> {
    let can = CanSocket::open_here("vcan0")?;
    can.plain()?;
    let tcp = if task == "listen" {
        let listener = TcpListener::bind((BOARD, PORT))?;
        eprintln!("forwarder: listening");
        listener.accept()?.0
    } else {
        TcpStream::connect((BOARD, PORT))?
    };
    tcp.set_nodelay(true)?;
    eprintln!("forwarder: connected");
    thread::scope(|scope| {
        let out = scope.spawn(|| can_to_tcp(&can, &tcp));
        tcp_to_can(&tcp, &can)?;
        out.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn can_to_tcp(can: &CanSocket, mut tcp: &TcpStream) -> io::Result<()> {
    loop {
        let frame = match can.next() {
            Ok(frame) => frame,
            // These sockets give up after seconds without a frame.
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let (mut bytes, data) = ([0; SIZE], frame.data());
        bytes[..4].copy_from_slice(&frame.id().to_le_bytes());
        bytes[4] = data.len() as u8;
        bytes[8..8 + data.len()].copy_from_slice(data);
        tcp.write_all(&bytes)?;
    }
}

fn tcp_to_can(mut tcp: &TcpStream, can: &CanSocket) -> io::Result<()> {
    let (mut buffer, mut filled) = ([0; 256 * SIZE], 0);
    loop {
        filled += match tcp.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            count => count,
        };
        let whole = filled - filled % SIZE;
        for bytes in buffer[..whole].chunks_exact(SIZE) {
            let id = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            can.send(&Frame::classic(id, &bytes[8..8 + usize::from(bytes[4])]))?;
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}
