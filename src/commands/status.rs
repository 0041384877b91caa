//! `canspan status`: requests the status of a running canspan.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{ErrorKind, IsTerminal as _, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Instant;

use smol::stream::StreamExt as _;

use super::failure::{not_written, sentence};
use crate::cli::Status;
use crate::gateway::reason;
use crate::net::unreachable;
use crate::protocol::wire::Form;
use crate::protocol::{Asking, Ended, Heard};
use crate::text::is_visible;

/// How long it may take to reach one address. Chosen: as for a link.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the whole answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer. Chosen: 1,536 peers of each of eight buses.
const ANSWER_MAX: usize = 8 << 20;
/// How often `--watch` asks anew.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What was answered.
struct Answer {
    text: String,
    is_up: bool,
}

/// Asks once.
fn ask(status: &Status) -> Result<Answer, String> {
    let endpoint = &status.endpoint;
    let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("cannot find {}: {error}", endpoint.host))?;
    let mut problem = format!("cannot find {endpoint}: the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return talk(status, address, stream),
            Err(error) => problem = unreachable(endpoint, address, &error),
        }
    }
    Err(problem)
}

fn talk(status: &Status, address: SocketAddr, mut stream: TcpStream) -> Result<Answer, String> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let broken = |error: std::io::Error| {
        let why = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                "no answer; is it canspan that listens there?".to_owned()
            }
            ErrorKind::UnexpectedEof => reason(Ended::Closed),
            _ => sentence(&error),
        };
        format!("{}: {why}", status.endpoint.at(address))
    };
    let (question, used) = Asking::question(if status.json { Form::Json } else { Form::Table });
    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(broken)?;
    stream.write_all(question.get(..used).unwrap_or(&[])).map_err(broken)?;
    let mut asking = Asking::default();
    let mut text = String::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(broken(ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(broken)?;
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Err(broken(ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        let mut bytes = buffer.get(..count).unwrap_or(&[]);
        while !bytes.is_empty() {
            bytes = bytes.get(asking.take(bytes)..).unwrap_or(&[]);
            while let Some(heard) = asking.poll() {
                match heard {
                    Heard::Piece(piece) if text.len() + piece.text.len() <= ANSWER_MAX => {
                        push_visible(&mut text, piece.text);
                        if !piece.more {
                            return Ok(Answer { text, is_up: piece.is_up });
                        }
                    }
                    Heard::Piece(_) => {
                        return Err(format!("{}: the answer does not end", status.endpoint));
                    }
                    Heard::Refused(why) => {
                        let whom = status.endpoint.at(address);
                        return Err(format!("{whom}: {}", reason(why)));
                    }
                }
            }
        }
    }
}

/// Adds what a peer says, which is for a terminal: only its line breaks are obeyed.
fn push_visible(text: &mut String, said: &str) {
    let shown = |c: char| if c == '\n' || is_visible(c) { c } else { char::REPLACEMENT_CHARACTER };
    text.extend(said.chars().map(shown));
}

/// Prints an answer; `false`: nobody reads any more.
fn print(text: &str, anew: bool) -> Result<bool, String> {
    let mut out = std::io::stdout();
    let clear = if anew && out.is_terminal() { "\x1b[H\x1b[2J" } else { "" };
    let printed = write!(out, "{clear}{text}").and_then(|()| out.flush());
    match printed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(not_written(&error)),
    }
}

pub(super) fn run(status: &Status) -> Result<(), String> {
    if status.watch {
        return watch(status);
    }
    let answer = ask(status)?;
    print(&answer.text, false)?;
    if status.check && !answer.is_up {
        return Err(format!("{}: not everything is up", status.endpoint));
    }
    Ok(())
}

/// The first process of a container is not ended by signals it does not answer.
fn end_on_signals() -> Result<(), String> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let cannot = |error: std::io::Error| format!("cannot wait for signals: {}", sentence(&error));
    let mut signals = crate::net::signals().map_err(cannot)?;
    let wait = move || {
        smol::block_on(signals.next());
        std::process::exit(0);
    };
    std::thread::Builder::new().spawn(wait).map(drop).map_err(cannot)
}

/// Asks again and again; whatever is not there now may be there in a moment.
fn watch(status: &Status) -> Result<(), String> {
    end_on_signals()?;
    loop {
        let goes_on = match ask(status) {
            Ok(answer) => print(&answer.text, true)?,
            Err(problem) => {
                log::warn!("{problem}");
                true
            }
        };
        if !goes_on {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}
