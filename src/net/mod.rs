//! TCP: dialling and listening, as tasks that may take their time.

mod backoff;
mod dial;
pub mod metrics;

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use async_signal::{Signal as Number, Signals};
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use smol::stream::StreamExt;
use smol::{Async, Timer};

pub use backoff::Backoff;
pub use dial::{Order, Resolver, dial};

use crate::cli::{Endpoint, ListenAddress};
use crate::gateway::runtime::{Inbox, Input, Signal};

/// Connections that the kernel keeps until they are accepted. Chosen: as many as it allows by default
/// (`net.core.somaxconn`); the standard library asks for 128, and a burst of more costs each of the
/// others a second until its SYN is sent again.
const BACKLOG: i32 = 4096;
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
    open_listener(address).and_then(Async::new).map_err(|error| match error.kind() {
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

/// As the standard library does, but with a longer queue.
fn open_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn resolve_now(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    use std::net::ToSocketAddrs;
    (host, port).to_socket_addrs().map(Iterator::collect)
}

/// Accepts for ever.
pub async fn accept(listener: Async<TcpListener>, inbox: Inbox) {
    loop {
        match listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_inner()?, peer))) {
            Ok((stream, peer)) => {
                inbox.put(Input::Accepted(stream, peer));
                // Others have their turn, though the next one waits already.
                smol::future::yield_now().await;
            }
            Err(error) => {
                inbox.put(Input::NotAccepted(error.to_string()));
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Why a peer could not be reached, as a sentence.
#[must_use]
pub fn unreachable(endpoint: &Endpoint, address: SocketAddr, error: &io::Error) -> String {
    let peer = endpoint.at(address);
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused; is canspan serve running there, and listening on that address?"
        }
        io::ErrorKind::TimedOut => "no answer; is the machine on, and the way to it open?",
        _ => return format!("cannot reach {peer}: {error}"),
    };
    format!("cannot reach {peer}: {why}")
}

/// Makes a connection fit for frames: nothing waits to be joined, nothing blocks, and the kernel
/// gives up on a dead peer as soon as the gateway does.
pub fn prepare(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let silence_ms = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream.as_fd(), silence_ms)?;
    Ok(())
}

/// Brings the signals the gateway knows, for ever.
pub fn signals() -> io::Result<Signals> {
    let all = [Number::Term, Number::Int, Number::Usr1, Number::Hup];
    // Who starts it with nohup wants it to outlive the terminal.
    let known = if crate::sys::is_hangup_ignored() { 3 } else { 4 };
    Signals::new(all.into_iter().take(known))
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
