//! A link on its TCP connection: bytes in, bytes out.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use super::bus::Bus;
use super::claims::{Claims, Joined};
use super::memory::Heap;
use super::state_log::StateLog;
use crate::protocol::time::Instant;
use crate::protocol::wire::{Form, Refusal};
use crate::protocol::{Ended, Hub, Link, RECORD_MAX, report};

/// Bytes of output gathered for one write: two records of the longest kind.
const OUT_SIZE: usize = 2 * RECORD_MAX;
/// Reads and writes in one turn of the loop, so that one link does not hold up the others.
const TURNS_MAX: usize = 8;
/// How long a last word may take to be sent.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long an answer to somebody who asked how it all is may take. Chosen: 100 KiB, which is a
/// hundred links, over a slow radio.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How much to read, so that the [filler](crate::protocol::wire::FILLER) at the end stays where it
/// is: one less than what came last time, which is right while frames come evenly. A wrong guess
/// costs one packet of acknowledgement, or one more read.
#[derive(Debug, Default)]
struct Appetite {
    /// Bytes that came together last time.
    course: usize,
    /// Bytes left over: a filler, or none.
    left: usize,
}

impl Appetite {
    /// How much to read at first.
    fn most(&self, room: usize) -> usize {
        match (self.left + self.course).saturating_sub(1) {
            0 => room,
            guess => guess.min(room),
        }
    }

    /// So much was read, and then either the filler was left or nothing.
    fn ate(&mut self, total: usize, is_left: bool) {
        let came = (total + usize::from(is_left)).saturating_sub(self.left);
        self.left = usize::from(is_left);
        if came > 0 {
            self.course = came;
        }
    }
}

/// A link and its connection.
pub(super) struct Session {
    /// The protocol's side of it.
    pub(super) link: Box<Link>,
    /// Who is at the other end.
    pub(super) peer: SocketAddr,
    /// Which of our diallers made it; `None`: it was accepted.
    pub(super) dialler: Option<usize>,
    /// What was told of the peer's bus.
    pub(super) states: StateLog,
    /// The pair of buses it joins, once that was claimed.
    pub(super) joined: Option<Joined>,
    stream: TcpStream,
    appetite: Appetite,
    out: Box<[u8; OUT_SIZE]>,
    from: usize,
    to: usize,
    /// Until when the last word may take, once the link has ended.
    close_by: Option<Instant>,
    is_broken: bool,
    /// Whether the kernel took no more at the last write.
    is_blocked: bool,
    /// When the connection was made.
    pub(super) since: Instant,
    answer: Option<Answer>,
    /// What came before the link began to [wait](Link::is_waiting).
    kept: Vec<u8>,
}

/// What is told to somebody who asked how it all is.
struct Answer {
    text: String,
    at: usize,
    is_up: bool,
    is_told: bool,
}

impl Session {
    /// A link over a connection that was made [fit for it](crate::net::prepare).
    #[must_use]
    pub(super) fn new(
        link: Link,
        stream: TcpStream,
        peer: SocketAddr,
        dialler: Option<usize>,
        now: Instant,
    ) -> Self {
        Self {
            link: Box::new(link),
            peer,
            dialler,
            states: StateLog::default(),
            joined: None,
            stream,
            appetite: Appetite::default(),
            out: Box::new([0; OUT_SIZE]),
            from: 0,
            to: 0,
            close_by: None,
            is_broken: false,
            is_blocked: false,
            since: now,
            answer: None,
            kept: Vec::new(),
        }
    }

    /// What to wait for, and whether for room to write as well as for bytes to read. `None` while
    /// only time matters.
    #[must_use]
    pub(super) fn waits_for(&self) -> Option<(BorrowedFd<'_>, bool)> {
        (!self.link.is_waiting()).then(|| (self.stream.as_fd(), self.is_blocked))
    }

    /// The connection has room again.
    pub(super) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Whether nothing more is to come or go.
    #[must_use]
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.is_broken
            || (self.link.ended().is_some()
                && self.from == self.to
                && self.answer.as_ref().is_none_or(|answer| answer.is_told))
            || self.close_by.is_some_and(|by| by <= now)
    }

    /// In which form somebody who asked how it all is waits to be told.
    #[must_use]
    pub(super) fn is_asked(&self) -> Option<Form> {
        match self.link.ended() {
            Some(Ended::Asked(form)) if self.answer.is_none() => Some(form),
            _ => None,
        }
    }

    /// Whether an answer is under way.
    #[must_use]
    pub(super) fn is_answering(&self) -> bool {
        self.answer.is_some()
    }

    /// Tells how it all is.
    pub(super) fn answer(&mut self, now: Instant, text: String, is_up: bool) {
        self.answer = Some(Answer { text, at: 0, is_up, is_told: false });
        self.close_by = Some(now + ANSWER_WITHIN);
    }

    /// The next piece of the answer.
    fn next_piece(&mut self) -> usize {
        let Some(answer) = self.answer.as_mut().filter(|answer| !answer.is_told) else { return 0 };
        let rest = answer.text.get(answer.at..).unwrap_or("");
        let (length, used) = report(rest, answer.is_up, self.out.as_mut_slice());
        answer.at += used;
        answer.is_told = answer.at >= answer.text.len() || length == 0;
        length
    }

    /// When to drive it next without being woken.
    #[must_use]
    pub(super) fn poll_timeout(&self, hubs: &[Hub<Heap>]) -> Option<Instant> {
        let link = self.close_by.or_else(|| self.link.poll_timeout(hubs));
        Instant::earliest(link, self.states.poll_timeout())
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, now: Instant, hubs: &mut [Hub<Heap>]) {
        if self.link.poll_timeout(hubs).is_some_and(|at| at <= now) {
            let was_waiting = self.link.is_waiting();
            self.link.handle_timeout(now, hubs);
            if was_waiting && !self.link.is_waiting() {
                let kept = core::mem::take(&mut self.kept);
                self.link.handle_input(now, &kept, hubs);
            }
        }
        if self.states.poll_timeout().is_some_and(|at| at <= now) {
            let hub = self.link.place().and_then(|place| hubs.get(place.hub));
            let (name, peer) = (hub.map_or("", Hub::name), self.peer);
            self.states.catch_up(now, format_args!("{name}: {peer}: its bus is "));
        }
    }

    /// Reads what has arrived.
    pub(super) fn read(
        &mut self,
        now: Instant,
        hubs: &mut [Hub<Heap>],
        buses: &mut [Bus],
        claims: &mut Claims,
        buffer: &mut [u8],
    ) {
        let mut most = self.appetite.most(buffer.len());
        let mut total = 0;
        for _ in 0..TURNS_MAX {
            if self.link.ended().is_some() {
                break;
            }
            let room = buffer.get_mut(..most).unwrap_or_default();
            match self.stream.read(room) {
                Ok(0) => self.fail(now, hubs),
                Ok(count) => {
                    total += count;
                    let bytes = room.get(..count).unwrap_or(&[]);
                    let used = self.link.handle_input(now, bytes, hubs);
                    if let Some(bus_id) = self.link.on_hold() {
                        self.settle(now, hubs, buses, claims, bus_id);
                        let rest = bytes.get(used..).unwrap_or(&[]);
                        let used = self.link.handle_input(now, rest, hubs);
                        if self.link.is_waiting() {
                            self.kept = rest.get(used..).unwrap_or(&[]).to_vec();
                            return;
                        }
                    }
                    let is_filled = count == most;
                    if !is_filled || (total == count && self.link.is_between_records()) {
                        self.appetite.ate(total, is_filled);
                        break;
                    }
                    most = buffer.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.appetite.ate(total, false);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.fail(now, hubs),
            }
        }
    }

    /// Releases the link if no other process on this machine joins the same two buses, else ends it.
    fn settle(
        &mut self,
        now: Instant,
        hubs: &mut [Hub<Heap>],
        buses: &mut [Bus],
        claims: &mut Claims,
        bus_id: u64,
    ) {
        let hub = self.link.place().map(|place| place.hub);
        let interface = hub.and_then(|hub| Some((hub, buses.get(hub)?.interface()?)));
        if let Some((hub, interface)) = interface {
            if !claims.claim(interface, (hub, bus_id)) {
                self.link.close(now, hubs, Ended::WeRefused(Refusal::LOOP));
                return;
            }
            self.joined = Some((hub, bus_id));
        }
        let ends = hub.and_then(|hub| Some((buses.get_mut(hub)?, hubs.get_mut(hub)?)));
        if let Some((Some(siblings), hub)) = ends.map(|(bus, hub)| (&mut bus.siblings, hub)) {
            siblings.look(now, hub);
        }
        self.link.release(now, hubs);
    }

    /// Sends what there is to be sent. Returns whether there may be more.
    pub(super) fn write(&mut self, now: Instant, hubs: &mut [Hub<Heap>]) -> bool {
        for _ in 0..TURNS_MAX {
            if self.is_broken || self.is_blocked {
                return false;
            }
            if self.from == self.to {
                self.from = 0;
                self.to = self.link.poll_transmit(now, hubs, self.out.as_mut_slice());
                if self.to == 0 {
                    self.to = self.next_piece();
                }
            }
            if self.link.ended().is_some() && self.close_by.is_none() {
                self.close_by = Some(now + FAREWELL);
            }
            if self.from == self.to {
                return false;
            }
            match self.stream.write(self.out.get(self.from..self.to).unwrap_or(&[])) {
                Ok(count) => self.from += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.is_blocked = true;
                    return false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.fail(now, hubs),
            }
        }
        true
    }

    fn fail(&mut self, now: Instant, hubs: &mut [Hub<Heap>]) {
        self.is_broken = true;
        self.link.close(now, hubs, Ended::Closed);
    }
}
