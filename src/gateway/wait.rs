//! Waiting for everything at once.

use std::os::fd::AsFd;

use heapless::Vec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{BUSES_MAX, Gateway, Job, LINKS_MAX, Service, clock};
use crate::protocol::time::Instant;

/// Descriptors waited for at most: tasks, interfaces, standard output, the job's, buses and the other
/// processes that have them open, links.
const FDS_MAX: usize = 4 + 2 * BUSES_MAX + LINKS_MAX;

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

impl Gateway {
    /// Waits until something can be done, and takes in what has arrived.
    pub(super) fn wait(&mut self, job: &mut dyn Job) -> Result<(), String> {
        let now = self.now;
        let next = Instant::earliest(job.poll_timeout(), self.next_timeout(now));
        let timeout = next.map(|at| at.since(now)).map(|timeout| Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let mut ready: Vec<(Owner, PollFlags), FDS_MAX> = Vec::new();
        let (mut fds, owners) = self.descriptors(now, job);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(error) => return Err(format!("the kernel cannot wait: {error}")),
        }
        for (fd, owner) in fds.iter().zip(owners) {
            if !fd.revents().is_empty() {
                let _ = ready.push((owner, fd.revents()));
            }
        }
        drop(fds);
        // Read, not reckoned from the timeout: the process may have been stopped meanwhile, and what
        // is old must not look young.
        self.now = clock::now();
        let now = self.now;
        for (owner, flags) in ready {
            self.ready(now, owner, flags, job)?;
        }
        Ok(())
    }

    fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let buses = self.buses.iter().zip(&self.hubs);
        let buses = buses.flat_map(|(bus, hub)| {
            let siblings = bus.siblings.as_ref();
            let siblings = siblings.and_then(|siblings| siblings.poll_timeout(hub));
            [bus.poll_timeout(now, hub), hub.poll_timeout(), siblings]
        });
        let sessions = self.sessions.iter().map(|session| session.poll_timeout(&self.hubs));
        let diallers = self.diallers.iter().map(super::Dialler::poll_timeout);
        let service = self.service.as_ref().and_then(Service::poll_timeout);
        let others = [self.end_by, service, self.home.poll_timeout()];
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
            let Some((fd, wants_room)) = session.waits_for() else { continue };
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, wants_room);
            add(fd, Owner::Session(number), flags);
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
                if let Some((Some(siblings), hub)) = bus.map(|(bus, hub)| (&bus.siblings, hub)) {
                    siblings.read(now, hub);
                }
            }
            Owner::Session(number) => {
                if let Some(session) = self.sessions.get_mut(number) {
                    if flags.contains(PollFlags::OUT) {
                        session.unblock();
                    }
                    if flags != PollFlags::OUT {
                        let (hubs, buses) = (&mut self.hubs, &mut self.buses);
                        session.read(now, hubs, buses, &mut self.claims, &mut self.buffer);
                    }
                }
            }
        }
        Ok(())
    }
}
