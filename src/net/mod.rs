//! TCP: dialling and listening, as tasks that may take their time.

mod backoff;
pub mod metrics;

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use async_signal::{Signal as Number, Signals};
use smol::stream::StreamExt;
use smol::{Async, Timer, future};

pub use backoff::Backoff;

use crate::cli::{Endpoint, ListenAddress};
use crate::gateway::runtime::{Inbox, Input, Signal};

/// How long an attempt to reach one address may take. Chosen: a SYN that is not answered for three
/// round trips of a bad link will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a name may take to resolve: one retry of the C library's resolver (`resolv.conf(5)`).
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: the file descriptors that are missing do not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the sockets to listen at an address: more than one where a name stands for several.
/// `option` is where the operator can choose another one.
pub fn listen(address: &ListenAddress, option: &str) -> Result<Vec<Async<TcpListener>>, String> {
    let failed = |error: &dyn core::fmt::Display| format!("cannot listen on {address}: {error}");
    let addresses = resolve_now(&address.host, address.port)
        .map_err(|error| failed(&format_args!("{error}; is the name right?")))?;
    addresses
        .into_iter()
        .map(|socket| listen_at(socket, option).map_err(|error| failed(&error)))
        .collect()
}

fn listen_at(address: SocketAddr, option: &str) -> Result<Async<TcpListener>, String> {
    let listener = TcpListener::bind(address).and_then(Async::new);
    listener.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another process has {address}; end it, or choose another port with {option}")
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `ip address` shows those it has".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege; choose a higher one".to_owned()
        }
        _ => error.to_string(),
    })
}

fn resolve_now(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    use std::net::ToSocketAddrs;
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// Accepts for ever.
pub async fn accept(listener: Async<TcpListener>, inbox: Inbox) {
    loop {
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_inner()?, peer))) {
            Ok((stream, peer)) => inbox.put(Input::Accepted(stream, peer)),
            Err(error) => {
                inbox.put(Input::NotAccepted(error.to_string()));
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Dials once, resolving the name anew, and says what became of it.
pub async fn dial(number: usize, endpoint: Endpoint, inbox: Inbox) {
    let result = reach(&endpoint).await;
    inbox.put(Input::Dialled(number, result));
}

async fn reach(endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr), String> {
    let mut problem = format!("cannot find {endpoint}: the name has no address");
    for address in resolve(endpoint).await? {
        let attempt = future::or(Async::<TcpStream>::connect(address), async {
            Timer::after(CONNECT_TIMEOUT).await;
            Err(io::ErrorKind::TimedOut.into())
        });
        match attempt.await.and_then(Async::into_inner) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => problem = unreachable(endpoint, address, &error),
        }
    }
    Err(problem)
}

/// Numbers need no resolver, and so no thread.
async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = endpoint.host.parse() {
        return Ok(vec![SocketAddr::new(address, endpoint.port)]);
    }
    let look_up = smol::net::resolve((endpoint.host.as_str(), endpoint.port));
    let look_up = future::or(look_up, async {
        Timer::after(RESOLVE_TIMEOUT).await;
        Err(io::ErrorKind::TimedOut.into())
    });
    look_up.await.map_err(|error| format!("cannot find {}: {error}", endpoint.host))
}

/// Why a peer could not be reached, as a sentence.
#[must_use]
pub fn unreachable(endpoint: &Endpoint, address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused; is canspan serve running there, and listening on that address?"
        }
        io::ErrorKind::TimedOut => "no answer; is the machine on, and the way to it open?",
        _ => return format!("cannot reach {endpoint} ({address}): {error}"),
    };
    format!("cannot reach {endpoint} ({address}): {why}")
}

/// Makes a connection fit for frames: nothing waits to be joined, nothing blocks, and the kernel
/// gives up on a dead peer as soon as the gateway does.
pub fn prepare(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let silence_ms = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    // No record is one byte long: the one that may be left is a filler.
    crate::sys::set_low_water(stream.as_fd(), 2)?;
    rustix::net::sockopt::set_tcp_user_timeout(stream.as_fd(), silence_ms)?;
    Ok(())
}

/// Brings the signals the gateway knows, for ever.
pub fn signals() -> io::Result<Signals> {
    Signals::new([Number::Term, Number::Int, Number::Hup, Number::Usr1])
}

/// Waits for signals.
pub async fn watch_signals(mut signals: Signals, inbox: Inbox) {
    while let Some(signal) = signals.next().await {
        match signal {
            Ok(Number::Usr1) => inbox.put(Input::Signal(Signal::Report)),
            Ok(_) => inbox.put(Input::Signal(Signal::End)),
            Err(_) => {}
        }
    }
}
