//! Waiting for everything at once.

use core::time::Duration;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::poller::{Poller, Source};
use super::rate_limit::RateLimit;
use super::{BusMarks, Gateway, Job, Service, clock};
use crate::protocol::time::Instant;

/// How soon to wait again after the kernel could not.
const WAIT_RETRY: Duration = Duration::from_millis(10);

/// Longest wait in one go: milliseconds in an `int`, which old kernels take, are 24 days.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What is waited for, and what of it is ready beside buses and links, which have marks of their own.
pub(super) struct Waiter {
    pub(super) poller: Poller,
    pub(super) tasks: bool,
    pub(super) interfaces: bool,
    pub(super) siblings: BusMarks,
    pub(super) job: bool,
    are_tasks_watched: bool,
    pub(super) are_interfaces_watched: bool,
    is_output_watched: bool,
    is_job_watched: bool,
    pub(super) problems: RateLimit,
}

impl Waiter {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            tasks: false,
            interfaces: false,
            siblings: BusMarks::default(),
            job: false,
            are_tasks_watched: false,
            are_interfaces_watched: false,
            is_output_watched: false,
            is_job_watched: false,
            problems: RateLimit::new(1),
        })
    }
}

impl Gateway {
    /// Waits until something can be done.
    pub(super) fn wait(&mut self, job: &dyn Job) {
        let watched = self.watch_all(job);
        // By the clock of the turn: reading it again costs more than a turn takes.
        let next = match self.has_work() || self.waiter.job {
            true => Some(self.now),
            false => Instant::earliest(job.poll_timeout(), self.next_timeout()),
        };
        let timeout = next.map(|at| at.since(self.now).min(WAIT_MAX)).map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let waited = match watched {
            Ok(()) => self.waiter.poller.wait(timeout.as_ref()),
            Err(problem) => Err(problem),
        };
        // Read, not reckoned from the timeout: the process may have been stopped meanwhile, and what
        // is old must not look young.
        self.now = clock::now();
        match waited {
            Ok(()) => self.mark_ready(),
            Err(problem) => self.cannot_wait(problem),
        }
    }

    /// Marks what is ready.
    fn mark_ready(&mut self) {
        let mut index = 0;
        while let Some((source, flags)) = self.waiter.poller.event(index) {
            index += 1;
            match source {
                Source::Tasks => self.waiter.tasks = true,
                Source::Interfaces => self.waiter.interfaces = true,
                // It is written to whenever it is ready.
                Source::Output => {}
                Source::Job => self.waiter.job = true,
                Source::Bus(number) => self.to_read.set(number),
                Source::Siblings(number) => self.waiter.siblings.set(number),
                Source::Session(number) => self.mark_session(number, flags),
            }
        }
    }

    fn mark_session(&mut self, number: usize, flags: PollFlags) {
        let Some(session) = self.sessions.get_mut(number) else { return };
        session.ready(flags);
        let (has_input, has_output) = (session.has_input(), session.has_output());
        if has_input {
            self.sessions.to_read.set(number);
        }
        if has_output {
            self.sessions.to_write.set(number);
        }
        self.sessions.touched.set(number);
    }

    /// The kernel is short of memory. That may pass; meanwhile all is tried that does not block.
    fn cannot_wait(&mut self, problem: Errno) {
        if let Some(times) = self.waiter.problems.allow(self.now, 1) {
            log::error!(
                "the kernel cannot wait: {problem} ({times} times); retrying every {} ms",
                WAIT_RETRY.as_millis()
            );
        }
        std::thread::sleep(WAIT_RETRY);
        self.waiter.tasks = true;
        self.waiter.interfaces = self.watch.is_some();
        for number in 0..self.buses.len() {
            self.to_read.set(number);
            self.waiter.siblings.set(number);
        }
        for number in self.sessions.numbers() {
            self.mark_session(number, PollFlags::IN | PollFlags::OUT);
        }
    }

    /// Waits from now on for what is new or wanted anew. Links are watched when something happens to them.
    fn watch_all(&mut self, job: &dyn Job) -> Result<(), Errno> {
        let Waiter { poller, are_tasks_watched, are_interfaces_watched, .. } = &mut self.waiter;
        let watch = |fd: BorrowedFd<'_>, source| {
            let watched = poller.watch(fd, source, PollFlags::IN);
            watched.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))
        };
        if !*are_tasks_watched {
            watch(self.runtime.as_fd(), Source::Tasks)?;
            *are_tasks_watched = true;
        }
        if let Some(link_watch) = self.watch.as_ref().filter(|_| !*are_interfaces_watched) {
            watch(link_watch.as_fd(), Source::Interfaces)?;
            *are_interfaces_watched = true;
        }
        for (number, bus) in self.buses.iter_mut().enumerate() {
            let descriptor = bus.descriptor().filter(|(_, opened)| *opened != bus.watched);
            if let Some((fd, opened)) = descriptor {
                watch(fd, Source::Bus(number))?;
                bus.watched = opened;
            }
            if let Some(siblings) = &mut bus.siblings
                && !siblings.is_watched
            {
                watch(siblings.as_fd(), Source::Siblings(number))?;
                siblings.is_watched = true;
            }
        }
        self.watch_output();
        self.watch_job(job);
        Ok(())
    }

    /// Standard output is waited for only while it takes nothing.
    fn watch_output(&mut self) {
        let wants = self.printer.as_ref().is_some_and(|printer| printer.borrow().is_waiting());
        if wants == self.waiter.is_output_watched {
            return;
        }
        let poller = &self.waiter.poller;
        let stdout = rustix::stdio::stdout();
        if !wants {
            poller.forget(stdout);
            self.waiter.is_output_watched = false;
            return;
        }
        let watched = poller.watch(stdout, Source::Output, PollFlags::OUT).map_err(|e| e.kind());
        // A file is ready always, and was written to.
        self.waiter.is_output_watched =
            matches!(watched, Ok(()) | Err(ErrorKind::PermissionDenied));
    }

    fn watch_job(&mut self, job: &dyn Job) {
        let Some(fd) = job.input() else {
            if core::mem::take(&mut self.waiter.is_job_watched) {
                self.waiter.poller.forget(rustix::stdio::stdin());
            }
            return;
        };
        if self.waiter.is_job_watched {
            return;
        }
        match self.waiter.poller.watch(fd, Source::Job, PollFlags::IN) {
            Ok(()) => self.waiter.is_job_watched = true,
            // A file is always ready. Anything else could block: it is tried again at the next turn.
            Err(error) => self.waiter.job = error.kind() == ErrorKind::PermissionDenied,
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let buses = self.buses.iter().zip(&self.hubs);
        let buses = buses.flat_map(|(bus, hub)| {
            let siblings = bus.siblings.as_ref();
            let siblings = siblings.and_then(|siblings| siblings.poll_timeout(hub));
            [bus.poll_timeout(hub), hub.poll_timeout(), siblings]
        });
        let diallers = self.diallers.iter().flat_map(|d| [d.poll_timeout(), d.log_timeout()]);
        let service = self.service.as_ref().and_then(Service::poll_timeout);
        let others = [
            self.sessions.timers.next(),
            self.end_by,
            service,
            self.home.poll_timeout(),
            self.link_log.poll_timeout(),
        ];
        buses.chain(diallers).chain(others).fold(None, Instant::earliest)
    }
}

/// Whether standard output takes something without blocking.
pub(super) fn is_output_ready() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut fds = [PollFd::from_borrowed_fd(stdout, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
