//! A cable that can be cut at will: a relay between a client and its server that drops what is under way.

use core::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use crate::lab::Namespace;

/// How a link is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Both ends are told.
    Both,
    /// The client is told; the server is left with a half-open link that is silent.
    ServerUnaware,
    /// The server is told; the client is left with a half-open link that is silent.
    ClientUnaware,
    /// Nobody is told, and what either end still says vanishes: a NAT that has forgotten the flow.
    Forgotten,
}

/// A client's connection and the one made for it.
struct Joint {
    client: TcpStream,
    server: TcpStream,
    /// Set when it was cut, or ended by itself: then nothing is passed on any more, not even the end.
    ended: Arc<AtomicBool>,
}

#[derive(Default)]
struct Links {
    live: Vec<Joint>,
    /// The ends of half-open links, open until the test ends.
    dangling: Vec<TcpStream>,
}

/// The relay. It listens on 127.0.0.1 at [`Cutter::PORT`] in its namespace.
pub(crate) struct Cutter {
    links: Arc<Mutex<Links>>,
}

impl Cutter {
    /// Where it listens.
    pub(crate) const PORT: u16 = 22700;

    /// Starts one in the client's namespace.
    pub(crate) fn start(namespace: &Namespace, server: SocketAddr) -> Self {
        let links = Arc::new(Mutex::new(Links::default()));
        let shared = Arc::clone(&links);
        let listener = namespace
            .run(|| TcpListener::bind(("127.0.0.1", Self::PORT)))
            .expect("a port for the relay");
        namespace.spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let links = Arc::clone(&shared);
                // Threads inherit the namespace, so the relay reaches the server as the client would.
                thread::spawn(move || relay(client, server, &links));
            }
        });
        Self { links }
    }

    /// Cuts every link there is; says whether there was one.
    pub(crate) fn cut(&self, how: Cut) -> bool {
        let mut links = self.links.lock().unwrap();
        let live = core::mem::take(&mut links.live);
        let mut had_one = false;
        for Joint { client, server, ended } in live {
            had_one |= !ended.swap(true, Ordering::Relaxed);
            let told: &[&TcpStream] = match how {
                Cut::Both => &[&client, &server],
                Cut::ServerUnaware => &[&client],
                Cut::ClientUnaware => &[&server],
                Cut::Forgotten => &[],
            };
            for end in told {
                // A reset, not an orderly end: what this end has not read yet is gone.
                let _ = rustix::net::sockopt::set_socket_linger(end, Some(Duration::ZERO));
                let _ = end.shutdown(Shutdown::Both);
            }
            match how {
                Cut::Both => {}
                Cut::ServerUnaware => links.dangling.push(server),
                Cut::ClientUnaware => links.dangling.push(client),
                Cut::Forgotten => links.dangling.extend([client, server]),
            }
        }
        had_one
    }
}

fn relay(client: TcpStream, server: SocketAddr, links: &Mutex<Links>) {
    // A short patience and many tries: an interface that is down must not leave a slow retry behind.
    let server = loop {
        match TcpStream::connect_timeout(&server, Duration::from_millis(300)) {
            Ok(server) => break server,
            Err(_) if is_open(&client) => thread::sleep(Duration::from_millis(20)),
            Err(_) => return,
        }
    };
    for end in [&client, &server] {
        end.set_nodelay(true).unwrap();
    }
    let copy = |end: &TcpStream| end.try_clone().expect("a descriptor");
    let ended = Arc::new(AtomicBool::new(false));
    let joint = Joint { client: copy(&client), server: copy(&server), ended: Arc::clone(&ended) };
    links.lock().unwrap().live.push(joint);
    let (from, to, told) = (copy(&server), copy(&client), Arc::clone(&ended));
    thread::spawn(move || pump(from, to, &told));
    pump(client, server, &ended);
}

/// Whether the other end has not closed.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let open = !matches!(stream.peek(&mut [0]), Ok(0));
    stream.set_nonblocking(false).unwrap();
    open
}

/// Copies until either end is gone, or the link is cut: then what still comes is nobody's. An end that closed by itself
/// takes the other along.
fn pump(mut from: TcpStream, mut to: TcpStream, ended: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !ended.load(Ordering::Relaxed) && to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    if !ended.swap(true, Ordering::Relaxed) {
        let _ = to.shutdown(Shutdown::Write);
    }
}
