use std::net::TcpListener;

use rustix::event::{PollFd, Timespec, poll};

use super::*;
use crate::gateway::HeapSlots;
use crate::protocol::wire::preamble;
use crate::protocol::{Asking, LinkOptions};

const NOW: Instant = Instant::from_micros(9_000_000);

fn hubs() -> [Hub<Heap>; 1] {
    let blocks = vec![0; 2 * 4096].into_boxed_slice();
    [Hub::new("can0", 7, blocks, HeapSlots::with_room(8)).unwrap()]
}

/// Two ends of a connection on loopback; the second is fit for a link.
fn pair() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, address) = listener.accept().unwrap();
    crate::net::prepare(&far, Duration::from_secs(3)).unwrap();
    (near, far, address)
}

fn session(stream: TcpStream, address: SocketAddr) -> Session {
    let link = Link::accept(NOW, 1, LinkOptions::default());
    Session::new(link, stream, address, None, address.to_string(), NOW)
}

/// Reads until nothing more can be done without waiting. `false`: there is no end to it.
fn read_all(session: &mut Session, hubs: &mut [Hub<Heap>]) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    session.ready(PollFlags::IN);
    for _ in 0..1000 {
        if !session.has_input() {
            return true;
        }
        session.read(NOW, hubs, &mut [], &mut Claims::new(), &mut buffer);
    }
    false
}

/// Whether waiting for the session would return at once.
fn spins(session: &Session) -> bool {
    let Some((fd, flags)) = session.waits_for() else { return false };
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap() > 0
}

/// It asks, never reads the answer, and goes on talking.
#[test]
fn ended_link_with_unread_input_does_not_spin() {
    let (mut near, far, address) = pair();
    rustix::net::sockopt::set_socket_send_buffer_size(&far, 4096).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&near, 4096).unwrap();
    let (mut session, mut hubs) = (session(far, address), hubs());
    let (question, used) = Asking::question(Form::Table);
    near.write_all(&question[..used]).unwrap();
    assert!(read_all(&mut session, &mut hubs));
    assert_eq!(session.is_asked(), Some(Form::Table));
    session.answer(NOW, "x".repeat(4 << 20), true);
    // Beyond what one turn writes, until the connection takes no more.
    for _ in 0..1000 {
        session.write(NOW, &mut hubs);
    }
    assert!(!session.has_output() && !session.is_over(NOW), "the answer fits: proves nothing");

    near.set_nonblocking(true).unwrap();
    let mut talked = 0;
    // What is thrown away is read, so that it does not wake anybody; then no more is.
    for _ in 0..1000 {
        while let Ok(count) = near.write(&[0xFF; 4096]) {
            talked += count;
        }
        assert!(read_all(&mut session, &mut hubs));
    }
    assert!(talked > DISCARD_MAX, "{talked} bytes prove nothing");
    assert!(!spins(&session));
    assert!(session.is_over(NOW + Duration::from_secs(5 + 64)));
}

#[test]
fn link_that_ends_while_blocked_is_over_in_time() {
    let (_near, far, address) = pair();
    let (mut session, mut hubs) = (session(far, address), hubs());
    // The peer reads nothing.
    session.output = Flow::Blocked;
    session.link.close(NOW, &mut hubs, Ended::Silent);
    session.write(NOW, &mut hubs);
    assert!(session.poll_timeout(&hubs).is_some() && session.is_over(NOW + FAREWELL));
}

#[test]
fn last_word_is_followed_by_an_end_not_a_reset() {
    let (mut near, far, address) = pair();
    let (mut session, mut hubs) = (session(far, address), hubs());
    near.write_all(&preamble()).unwrap();
    near.write_all(&[0xFF; 100_000]).unwrap();
    assert!(read_all(&mut session, &mut hubs));
    assert_eq!(session.link.ended(), Some(Ended::WeRefused(Refusal::PROTOCOL)));
    session.write(NOW, &mut hubs);
    // The peer has not closed: for a moment it is waited for.
    assert!(read_all(&mut session, &mut hubs));
    assert!(!session.is_over(NOW) && session.is_over(NOW + FAREWELL));
    drop(session);
    let mut said = Vec::new();
    near.read_to_end(&mut said).expect("an end");
    assert!(said.starts_with(&preamble()) && said.len() > preamble().len());
}
