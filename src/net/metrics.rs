//! The numbers for Prometheus: as little of HTTP as a scraper needs.
//!
//! A fixed number of tasks each accept one connection at a time, read one request, answer and
//! close. So nobody can make the gateway hold more, and a client that dawdles is cut off.

use core::time::Duration;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use smol::channel::{Sender, bounded};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, Timer, future};

use crate::gateway::runtime::{Inbox, Input};

/// Connections at once. Chosen: one scraper, its double, somebody with curl, and one that hangs.
pub const SCRAPERS_MAX: usize = 4;
/// How long a request and its answer may take. Chosen: well below a scraper's own 10 s.
const TALK_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of a request. Chosen: a browser's headers.
const REQUEST_MAX: usize = 4096;
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the loop puts the numbers.
pub type Reply = Sender<String>;

/// Answers scrapers for ever.
pub async fn serve(listener: Rc<Async<TcpListener>>, inbox: Inbox) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            Timer::after(PAUSE).await;
            continue;
        };
        // A client that goes away in between is nobody's trouble.
        let _ = future::or(talk(stream, &inbox), async {
            Timer::after(TALK_TIMEOUT).await;
            Err(io::ErrorKind::TimedOut.into())
        })
        .await;
    }
}

async fn talk(mut stream: Async<std::net::TcpStream>, inbox: &Inbox) -> io::Result<()> {
    let mut request = [0; REQUEST_MAX];
    let mut used = 0;
    let is_whole = |request: &[u8]| {
        request.windows(4).any(|end| end == b"\r\n\r\n")
            || request.windows(2).any(|end| end == b"\n\n")
    };
    while !is_whole(request.get(..used).unwrap_or(&[])) {
        let room = request.get_mut(used..).unwrap_or(&mut []);
        if room.is_empty() {
            return answer(&mut stream, "431 Request Header Fields Too Large", "too long\n").await;
        }
        match stream.read(room).await? {
            0 => return Ok(()),
            count => used += count,
        }
    }
    match judge(request.get(..used).unwrap_or(&[])) {
        Err((status, text)) => answer(&mut stream, status, text).await,
        Ok(()) => {
            let (reply, numbers) = bounded(1);
            inbox.put(Input::Scraped(reply));
            let text = numbers.recv().await.map_err(io::Error::other)?;
            answer(&mut stream, "200 OK", &text).await
        }
    }
}

/// Whether it asks for the numbers; else what to answer.
fn judge(request: &[u8]) -> Result<(), (&'static str, &'static str)> {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let line = core::str::from_utf8(line).unwrap_or("");
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some(target), Some(version)) if version.starts_with("HTTP/1.") => {
            let path = target.split('?').next().unwrap_or("");
            if path == "/metrics" {
                Ok(())
            } else {
                Err(("404 Not Found", "the numbers are at /metrics\n"))
            }
        }
        (Some(_), Some(_), Some(version)) if version.starts_with("HTTP/1.") => {
            Err(("405 Method Not Allowed", "there is only GET\n"))
        }
        _ => Err(("400 Bad Request", "this is not HTTP/1\n")),
    }
}

async fn answer(
    stream: &mut Async<std::net::TcpStream>,
    status: &str,
    text: &str,
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_numbers_can_be_had() {
        let status = |request: &str| judge(request.as_bytes()).map_err(|(status, _)| status);
        assert_eq!(status("GET /metrics HTTP/1.1\r\nHost: board\r\n\r\n"), Ok(()));
        assert_eq!(status("GET /metrics?x=1 HTTP/1.0\n\n"), Ok(()));
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), Err("404 Not Found"));
        assert_eq!(status("POST /metrics HTTP/1.1\r\n\r\n"), Err("405 Method Not Allowed"));
        for odd in ["", "GET", "GET /metrics", "GET /metrics HTTP/2\r\n\r\n", "\u{1}\u{2} \n\n"] {
            assert_eq!(status(odd), Err("400 Bad Request"), "{odd:?}");
        }
        assert_eq!(judge(&[0xFF; 10]).unwrap_err().0, "400 Bad Request");
    }
}
