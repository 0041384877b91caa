//! A link on its TCP connection: bytes in, bytes out.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;

use super::bus::Bus;
use super::claims::{Claims, Joined};
use super::memory::Heap;
use super::poller::{Poller, Source};
use super::rate_limit::RateLimit;
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
/// hundred links, over a slow radio; and a second more for each 64 KiB.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_BYTES_PER_S: usize = 64 * 1024;
/// Bytes of a link that has ended that are read only to be thrown away. While bytes are unread, closing
/// resets the connection, and a reset takes the last word from the peer. Chosen: what a window of
/// frames takes; somebody who sends more does not want to hear it.
const DISCARD_MAX: usize = 256 * 1024;

/// How it stands with one direction of a connection. [`Flow::Ready`] until a call would block or there is
/// nothing to do, so that work that is left at the end of a turn is not slept over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Nothing is there: bytes to be read, or to be written.
    Idle,
    /// There may be more.
    Ready,
    /// The kernel takes no more now.
    Blocked,
}

/// Reads that leave a filler in a row. While one is left the kernel acknowledges nothing, and a sender that has
/// just begun, or paused, may have ten packets on their way: it would wait for a delayed acknowledgement then,
/// 40 ms. Measured: 13 bytes a frame more than without such a limit, and no stall.
const SILENT_MAX: u8 = 4;

/// How much to read, so that the [filler](crate::protocol::wire::FILLER) at the end stays where it
/// is: one less than what came last time, which is right while frames come evenly. A wrong guess
/// costs one packet of acknowledgement, or one more read.
#[derive(Debug, Default)]
struct Appetite {
    /// Reads in a row that left a filler.
    silent: u8,
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
            _ if self.silent >= SILENT_MAX => room,
            guess => guess.min(room),
        }
    }

    /// So much was read, and then either the filler was left or nothing.
    fn ate(&mut self, total: usize, is_left: bool) {
        let came = (total + usize::from(is_left)).saturating_sub(self.left);
        self.left = usize::from(is_left);
        self.silent = if is_left { self.silent + 1 } else { 0 };
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
    /// What the operator calls it: as it was typed, or its address.
    pub(super) name: String,
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
    input: Flow,
    output: Flow,
    /// Until when the last word may take, once the link has ended.
    close_by: Option<Instant>,
    is_broken: bool,
    /// Whether the peer was told that nothing more comes.
    is_shut: bool,
    /// Whether nothing more is to be read from the peer after the end.
    is_read_out: bool,
    discarded: usize,
    /// How many of its frames were missing, for the log.
    pub(super) missing: RateLimit,
    /// Whether the kernel was told not to wake us for a filler.
    skips_fillers: bool,
    /// When the connection was made.
    pub(super) since: Instant,
    answer: Option<Answer>,
    /// What its connection is waited for.
    watched: PollFlags,
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
        name: String,
        now: Instant,
    ) -> Self {
        Self {
            link: Box::new(link),
            peer,
            name,
            dialler,
            states: StateLog::default(),
            joined: None,
            stream,
            appetite: Appetite::default(),
            out: Box::new([0; OUT_SIZE]),
            from: 0,
            to: 0,
            input: Flow::Idle,
            output: Flow::Ready,
            close_by: None,
            is_broken: false,
            is_shut: false,
            is_read_out: false,
            discarded: 0,
            missing: RateLimit::new(1),
            skips_fillers: false,
            since: now,
            answer: None,
            watched: PollFlags::empty(),
            kept: Vec::new(),
        }
    }

    /// What to wait for, and whether for bytes to read and for room to write. `None` while only time
    /// matters.
    #[must_use]
    pub(super) fn waits_for(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.link.is_waiting() && !self.is_read_out);
        flags.set(PollFlags::OUT, self.output == Flow::Blocked);
        (!flags.is_empty()).then(|| (self.stream.as_fd(), flags))
    }

    /// Has it waited for as session `number`, for what it wants.
    pub(super) fn watch(&mut self, poller: &Poller, number: usize) -> std::io::Result<()> {
        let wanted = self.waits_for().map_or(PollFlags::empty(), |(_, flags)| flags);
        if wanted == self.watched {
            return Ok(());
        }
        if wanted.is_empty() {
            // Errors would be told for ever.
            poller.forget(self.stream.as_fd());
        } else {
            poller.watch(self.stream.as_fd(), Source::Session(number), wanted)?;
        }
        self.watched = wanted;
        Ok(())
    }

    /// It is waited for no more.
    pub(super) fn forget(&self, poller: &Poller) {
        if !self.watched.is_empty() {
            poller.forget(self.stream.as_fd());
        }
    }

    /// The kernel says that the connection is ready for this.
    pub(super) fn ready(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) && self.output == Flow::Blocked {
            self.output = Flow::Ready;
        }
        // Errors are told by a read.
        if flags != PollFlags::OUT {
            self.input = Flow::Ready;
        }
    }

    /// Whether there may be more to read now.
    #[must_use]
    pub(super) fn has_input(&self) -> bool {
        self.input == Flow::Ready && !self.link.is_waiting()
    }

    /// Whether there may be more to write now.
    #[must_use]
    pub(super) fn has_output(&self) -> bool {
        self.output == Flow::Ready
    }

    /// Whether it is over and everything was said, or the time for that is.
    #[must_use]
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_said = self.output == Flow::Idle && self.has_answered();
        self.is_broken
            || self.close_by.is_some_and(|by| by <= now)
            || (self.link.ended().is_some() && is_said && (self.is_read_out || !self.lingers()))
    }

    /// Whether who asked was told everything.
    fn has_answered(&self) -> bool {
        match (&self.answer, self.link.ended()) {
            (Some(answer), _) => answer.is_told,
            (None, ended) => !matches!(ended, Some(Ended::Asked(_))),
        }
    }

    /// Whether the peer is to read a last word, and has not ended the link itself.
    fn lingers(&self) -> bool {
        use Ended::{Asked, Finished, Listed, Mode, Replaced, Version, WeRefused};
        let ended = self.link.ended();
        matches!(
            ended,
            Some(Asked(_) | Finished | Listed | Mode(_) | Replaced | Version(_) | WeRefused(_))
        )
    }

    /// Whether the link has ended and takes no place any more.
    #[must_use]
    pub(super) fn is_leaving(&self) -> bool {
        self.link.ended().is_some()
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
        self.answer.as_ref().is_some_and(|answer| !answer.is_told)
    }

    /// Tells how it all is.
    pub(super) fn answer(&mut self, now: Instant, text: String, is_up: bool) {
        let longer = Duration::from_secs((text.len() / ANSWER_BYTES_PER_S) as u64);
        self.answer = Some(Answer { text, at: 0, is_up, is_told: false });
        self.close_by = Some(now + ANSWER_WITHIN + longer);
        self.output = Flow::Ready;
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
        let logs = Instant::earliest(self.states.poll_timeout(), self.missing.poll_timeout());
        Instant::earliest(link, logs)
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
        if let Some(sum) = self.missing.catch_up(now) {
            self.tell_missing(hubs, sum);
        }
        if self.states.poll_timeout().is_some_and(|at| at <= now) {
            let (name, peer) = (self.hub(hubs).map_or("", Hub::name), &self.name);
            self.states.catch_up(now, format_args!("{name}: {peer}: its bus is "));
        }
    }

    /// The bus its link is for, once that is known.
    pub(super) fn hub<'a>(&self, hubs: &'a [Hub<Heap>]) -> Option<&'a Hub<Heap>> {
        self.link.place().and_then(|place| hubs.get(place.hub))
    }

    /// Whether its peer has ever carried frames.
    pub(super) fn has_carried(&self, hubs: &[Hub<Heap>]) -> bool {
        self.link.place().zip(self.hub(hubs)).is_some_and(|(at, hub)| hub.has_carried(at.peer))
    }

    /// Tells the operator how many of the peer's frames are missing.
    pub(super) fn tell_missing(&self, hubs: &[Hub<Heap>], frames: u64) {
        let (name, peer) = (self.hub(hubs).map_or("", Hub::name), &self.name);
        log::warn!("{name}: {peer}: {frames} frames of its bus are missing, lost or too old");
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
                return self.discard(buffer);
            }
            let room = buffer.get_mut(..most).unwrap_or_default();
            match self.stream.read(room) {
                Ok(0) => return self.fail(now, hubs),
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
                    self.skip_fillers();
                    let is_filled = count == most;
                    if self.link.ended().is_none()
                        && (!is_filled || (total == count && self.link.is_between_records()))
                    {
                        self.appetite.ate(total, is_filled);
                        self.input = Flow::Idle;
                        break;
                    }
                    most = buffer.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.appetite.ate(total, false);
                    self.input = Flow::Idle;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.fail(now, hubs),
            }
        }
    }

    /// From the greeting on no record is one byte long, and the filler that may be left is nothing to
    /// wake up for. Before it the first wrong byte counts.
    fn skip_fillers(&mut self) {
        if !self.skips_fillers && self.link.is_live() {
            self.skips_fillers = true;
            // Where the kernel does not know how, the filler wakes us.
            let _ = crate::sys::set_low_water(self.stream.as_fd(), 2);
        }
    }

    /// Reads what nobody will look at: the link has ended.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) {
        for _ in 0..TURNS_MAX {
            match self.stream.read(buffer) {
                Ok(0) => self.is_read_out = true,
                Ok(count) => self.discarded += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.input = Flow::Idle;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.is_broken = true,
            }
            self.is_read_out |= self.discarded >= DISCARD_MAX;
            if self.is_broken || self.is_read_out {
                self.input = Flow::Idle;
                return;
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

    /// Sends what there is to be sent, until that is all, or the connection takes no more.
    pub(super) fn write(&mut self, now: Instant, hubs: &mut [Hub<Heap>]) {
        if self.is_broken {
            return;
        }
        if self.output == Flow::Blocked {
            if self.link.ended().is_some() {
                self.close_by.get_or_insert(now + FAREWELL);
            }
            return;
        }
        self.output = Flow::Ready;
        for _ in 0..TURNS_MAX {
            if self.from == self.to {
                self.from = 0;
                self.to = self.link.poll_transmit(now, hubs, self.out.as_mut_slice());
                if self.to == 0 {
                    self.to = self.next_piece();
                }
            }
            if self.link.ended().is_some() && self.close_by.is_none() {
                let is_asked = self.is_asked().is_some();
                self.close_by = Some(now + if is_asked { ANSWER_WITHIN } else { FAREWELL });
            }
            if self.from == self.to {
                self.output = Flow::Idle;
                self.say_last();
                return;
            }
            match self.stream.write(self.out.get(self.from..self.to).unwrap_or(&[])) {
                Ok(count) => self.from += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.output = Flow::Blocked;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.fail(now, hubs);
                    return;
                }
            }
        }
    }

    /// Everything was written. If that was the last word, the peer is told so, and what it still sends is
    /// read, so that closing does not take the word from it.
    fn say_last(&mut self) {
        if self.is_shut || !self.lingers() || !self.has_answered() {
            return;
        }
        self.is_shut = true;
        self.is_broken |= self.stream.shutdown(Shutdown::Write).is_err();
        self.input = Flow::Ready;
    }

    pub(super) fn fail(&mut self, now: Instant, hubs: &mut [Hub<Heap>]) {
        self.is_broken = true;
        self.input = Flow::Idle;
        self.output = Flow::Idle;
        self.link.close(now, hubs, Ended::Closed);
    }
}

#[cfg(test)]
mod tests;
