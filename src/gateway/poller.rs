//! Waiting for descriptors: the kernel keeps the list (`epoll`, level-triggered), so that a turn costs what is
//! ready, not what exists.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::BUSES_MAX;
use super::places::SESSIONS_MAX;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFlags, Timespec};
use rustix::io::Errno;

/// Events taken in one call: as many as there can be, so that many busy links do not keep a bus waiting.
const EVENTS_MAX: usize = SESSIONS_MAX + 2 * BUSES_MAX + 4;

/// Whose descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Tasks,
    Interfaces,
    Output,
    Job,
    Bus(usize),
    Siblings(usize),
    Session(usize),
}

impl Source {
    fn token(self) -> EventData {
        let (kind, number) = match self {
            Self::Tasks => (0, 0),
            Self::Interfaces => (1, 0),
            Self::Output => (2, 0),
            Self::Job => (3, 0),
            Self::Bus(number) => (4, number),
            Self::Siblings(number) => (5, number),
            Self::Session(number) => (6, number),
        };
        EventData::new_u64(kind << 32 | number as u64)
    }

    fn of(token: EventData) -> Self {
        let token = token.u64();
        let number = (token & u64::from(u32::MAX)) as usize;
        match token >> 32 {
            0 => Self::Tasks,
            1 => Self::Interfaces,
            2 => Self::Output,
            3 => Self::Job,
            4 => Self::Bus(number),
            5 => Self::Siblings(number),
            _ => Self::Session(number),
        }
    }
}

/// The descriptors that are waited for.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    /// Waits for this of a descriptor from now on, also where it was waited for something else. An error of kind
    /// [`io::ErrorKind::PermissionDenied`] says that it is a file, which is always ready.
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, of: Source, flags: PollFlags) -> io::Result<()> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, flags.contains(PollFlags::IN));
        wanted.set(EventFlags::OUT, flags.contains(PollFlags::OUT));
        match epoll::add(&self.epoll, fd, of.token(), wanted) {
            Err(Errno::EXIST) => Ok(epoll::modify(&self.epoll, fd, of.token(), wanted)?),
            added => Ok(added?),
        }
    }

    /// Waits for a descriptor no more.
    pub(super) fn forget(&self, fd: BorrowedFd<'_>) {
        // One that is not there is forgotten already.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until something is ready, no longer than `timeout`, which the kernel rounds up to milliseconds.
    pub(super) fn wait(&mut self, timeout: Option<&Timespec>) -> Result<(), Errno> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Ready descriptor `index` of the last wait, and what for. An error is ready to be read.
    pub(super) fn event(&self, index: usize) -> Option<(Source, PollFlags)> {
        let event = self.events.get(index)?;
        let (data, events) = (event.data, event.flags);
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::OUT, events.contains(EventFlags::OUT));
        let other = EventFlags::IN | EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP;
        flags.set(PollFlags::IN, events.intersects(other));
        Some((Source::of(data), flags))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

    #[test]
    fn descriptor_is_ready_until_it_is_read_or_forgotten() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new().unwrap();
        let source = Source::Session(70_000);
        poller.watch(far.as_fd(), source, PollFlags::IN).unwrap();
        poller.wait(Some(&AT_ONCE)).unwrap();
        assert_eq!(poller.event(0), None);
        near.write_all(b"x").unwrap();
        for _ in 0..2 {
            poller.wait(Some(&AT_ONCE)).unwrap();
            assert_eq!(poller.event(0), Some((source, PollFlags::IN)));
            assert_eq!(poller.event(1), None);
        }
        poller.watch(far.as_fd(), source, PollFlags::OUT).unwrap();
        poller.wait(Some(&AT_ONCE)).unwrap();
        assert_eq!(poller.event(0), Some((source, PollFlags::OUT)));
        poller.forget(far.as_fd());
        poller.wait(Some(&AT_ONCE)).unwrap();
        assert_eq!(poller.event(0), None);
    }

    #[test]
    fn file_is_told_from_what_can_be_waited_for() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let poller = Poller::new().unwrap();
        let told = poller.watch(file.as_fd(), Source::Job, PollFlags::IN).map_err(|e| e.kind());
        assert!(matches!(told, Ok(()) | Err(io::ErrorKind::PermissionDenied)));
        let file = std::fs::File::open("Cargo.toml").unwrap();
        let told = poller.watch(file.as_fd(), Source::Job, PollFlags::IN).map_err(|e| e.kind());
        assert_eq!(told, Err(io::ErrorKind::PermissionDenied));
    }
}
