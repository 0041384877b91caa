//! Waiting for everything at once.

use core::time::Duration;
use std::os::fd::AsFd;

use heapless::Vec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::places::SESSIONS_MAX;
use super::session::Session;
use super::{BUSES_MAX, Gateway, Job, Service, clock};
use crate::protocol::time::Instant;

/// Descriptors waited for at most: tasks, interfaces, standard output, the job's, buses and the other
/// processes that have them open, links.
const FDS_MAX: usize = 4 + 2 * BUSES_MAX + SESSIONS_MAX;

/// How soon to wait again after the kernel could not.
const WAIT_RETRY: Duration = Duration::from_millis(10);

/// Who a descriptor belongs to.
#[derive(Clone, Copy)]
enum Owner {
    Tasks,
    Interfaces,
    Output,
    Job,
    Bus(usize),
    Siblings(usize),
    Session(usize),
}

impl Owner {
    /// Whether using it without knowing that it is ready returns at once. A terminal or a file may block.
    fn may_be_tried(self) -> bool {
        !matches!(self, Self::Output | Self::Job)
    }
}

impl Gateway {
    /// Waits until something can be done, and takes in what has arrived.
    pub(super) fn wait(&mut self, job: &mut dyn Job) -> Result<(), String> {
        // Anew: what fell due during the turn must not wait for as long again.
        let now = clock::now();
        let next = match self.has_work() {
            true => Some(now),
            false => Instant::earliest(job.poll_timeout(), self.next_timeout(now)),
        };
        let timeout = next.map(|at| at.since(now)).map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.paced = self.not_waited_for(now);
        let mut ready: Vec<(Owner, PollFlags), FDS_MAX> = Vec::new();
        let (mut fds, owners) = self.descriptors(now, job);
        let problem = match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => None,
            Err(Errno::INTR) => {
                fds.iter_mut().for_each(PollFd::clear_revents);
                None
            }
            Err(error) => Some(error),
        };
        for (fd, owner) in fds.iter().zip(owners) {
            let flags = match problem {
                None => fd.revents(),
                // Nothing here blocks, so all can be tried.
                Some(_) if owner.may_be_tried() => PollFlags::IN | PollFlags::OUT,
                Some(_) => PollFlags::empty(),
            };
            if !flags.is_empty() {
                let _ = ready.push((owner, flags));
            }
        }
        drop(fds);
        if let Some(problem) = problem {
            self.cannot_wait(now, problem);
        }
        // Read, not reckoned from the timeout: the process may have been stopped meanwhile, and what
        // is old must not look young.
        self.now = clock::now();
        let now = self.now;
        for (owner, flags) in ready {
            self.ready(now, owner, flags, job)?;
        }
        for number in 0..self.sessions.len() {
            self.read_session(now, number);
        }
        self.read_paced(now);
        self.make_way(now);
        Ok(())
    }

    /// Whether something can be done without waiting.
    fn has_work(&self) -> bool {
        self.has_output() || self.sessions.iter().any(Session::has_input) || self.may_answer()
    }

    /// The kernel is short of memory, or somebody has lowered the limit of descriptors below what there
    /// are. That may pass; meanwhile all is tried that does not block.
    fn cannot_wait(&mut self, now: Instant, problem: Errno) {
        if let Some(times) = self.told_wait.allow(now, 1) {
            log::error!(
                "the kernel cannot wait: {problem} ({times} times); retrying every {} ms",
                WAIT_RETRY.as_millis()
            );
        }
        std::thread::sleep(WAIT_RETRY);
    }

    /// Reads what has arrived on a link.
    fn read_session(&mut self, now: Instant, number: usize) {
        let Some(session) = self.sessions.get(number).filter(|session| session.has_input()) else {
            return;
        };
        let admission = session.link.is_unknown().then(|| self.admission(number));
        let Some(session) = self.sessions.get_mut(number) else { return };
        if let Some(admission) = admission {
            session.link.set_admission(admission);
        }
        let (hubs, buses) = (&mut self.hubs, &mut self.buses);
        session.read(now, hubs, buses, &mut self.claims, &mut self.buffer);
    }

    /// The buses that are not waited for now, a bit for each.
    fn not_waited_for(&self, now: Instant) -> u32 {
        let buses = self.buses.iter().zip(&self.hubs).enumerate();
        let paced = buses.filter(|(_, (bus, hub))| bus.readable(now, hub).is_none());
        paced.fold(0, |all, (number, _)| all | 1 << number)
    }

    /// Reads the buses that were not waited for and whose time has come meanwhile. Waiting for them
    /// again would return at once.
    fn read_paced(&mut self, now: Instant) {
        let paced = core::mem::take(&mut self.paced);
        for number in (0..self.buses.len()).filter(|number| paced >> number & 1 != 0) {
            if let Some((bus, hub)) = self.buses.get_mut(number).zip(self.hubs.get_mut(number))
                && bus.readable(now, hub).is_some()
            {
                bus.read(now, hub, &mut self.wall);
            }
        }
    }

    fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let buses = self.buses.iter().zip(&self.hubs);
        let buses = buses.flat_map(|(bus, hub)| {
            let siblings = bus.siblings.as_ref();
            let siblings = siblings.and_then(|siblings| siblings.poll_timeout(hub));
            [bus.poll_timeout(now, hub), hub.poll_timeout(), siblings]
        });
        let sessions = self.sessions.iter().map(|session| session.poll_timeout(&self.hubs));
        let diallers = self.diallers.iter().flat_map(|d| [d.poll_timeout(), d.log_timeout()]);
        let service = self.service.as_ref().and_then(Service::poll_timeout);
        let log = self.link_log.poll_timeout();
        let others = [self.end_by, service, self.home.poll_timeout(), log];
        buses.chain(sessions).chain(diallers).chain(others).fold(None, Instant::earliest)
    }

    /// What to wait for, and whose it is.
    fn descriptors<'f>(
        &'f self,
        now: Instant,
        job: &'f dyn Job,
    ) -> (Vec<PollFd<'f>, FDS_MAX>, Vec<Owner, FDS_MAX>) {
        let mut fds = Vec::new();
        let mut owners = Vec::new();
        let mut add = |fd, owner, flags| {
            // There is room for each: their numbers are bounded by the constants above.
            if fds.push(PollFd::from_borrowed_fd(fd, flags)).is_ok() {
                let _ = owners.push(owner);
            }
        };
        add(self.runtime.as_fd(), Owner::Tasks, PollFlags::IN);
        if let Some(watch) = &self.watch {
            add(watch.as_fd(), Owner::Interfaces, PollFlags::IN);
        }
        if self.printer.as_ref().is_some_and(|printer| printer.borrow().is_waiting()) {
            add(rustix::stdio::stdout(), Owner::Output, PollFlags::OUT);
        }
        if let Some(fd) = job.input() {
            add(fd, Owner::Job, PollFlags::IN);
        }
        for (number, (bus, hub)) in self.buses.iter().zip(&self.hubs).enumerate() {
            if let Some(fd) = bus.readable(now, hub) {
                add(fd, Owner::Bus(number), PollFlags::IN);
            }
            if let Some(siblings) = &bus.siblings {
                add(siblings.as_fd(), Owner::Siblings(number), PollFlags::IN);
            }
        }
        for (number, session) in self.sessions.iter().enumerate() {
            if let Some((fd, flags)) = session.waits_for() {
                add(fd, Owner::Session(number), flags);
            }
        }
        (fds, owners)
    }

    fn ready(
        &mut self,
        now: Instant,
        owner: Owner,
        flags: PollFlags,
        job: &mut dyn Job,
    ) -> Result<(), String> {
        match owner {
            Owner::Tasks => self.runtime.run(),
            Owner::Interfaces => {
                // Whatever it said: the buses look for themselves.
                let _ = self.watch.as_mut().map(crate::bus::LinkWatch::drain);
                for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
                    bus.check(now, hub);
                }
            }
            Owner::Output => {
                if let Some(printer) = &self.printer {
                    let written = printer.borrow_mut().write();
                    written.map_err(|error| {
                        format!("standard output cannot be written: {error}; is the disk full?")
                    })?;
                }
            }
            Owner::Job => job.read(),
            Owner::Bus(number) => {
                let bus = self.buses.get_mut(number).zip(self.hubs.get_mut(number));
                if let Some((bus, hub)) = bus {
                    bus.read(now, hub, &mut self.wall);
                }
            }
            Owner::Siblings(number) => {
                let bus = self.buses.get_mut(number).zip(self.hubs.get_mut(number));
                if let Some((Some(siblings), hub)) = bus.map(|(bus, hub)| (&mut bus.siblings, hub))
                {
                    siblings.read(now, hub);
                }
            }
            Owner::Session(number) => {
                if let Some(session) = self.sessions.get_mut(number) {
                    session.ready(flags);
                }
            }
        }
        Ok(())
    }
}
