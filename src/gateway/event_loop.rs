//! The loop: wait for everything at once, read what is there, ask the protocol, write what it says.
//!
//! Each step looks only at what is marked: what the kernel says is ready, what is due, and whom that concerns. What
//! is left over stays marked, and then the next wait does not wait.

use core::time::Duration;

use super::dialler::Stage;
use super::link_log::more;
use super::runtime::{Input, Signal};
use super::sessions::SessionMarks;
use super::{BUSES_MAX, Gateway, Job, Notice, Side, clock};
use crate::protocol::Ended;
use crate::protocol::time::Instant;

/// How long the end may take: what was accepted is delivered first, within a second in all.
const END_WITHIN: Duration = Duration::from_millis(800);
/// How long the buses are read at the end. Chosen: 4 MiB, the largest buffer of a socket, take a small
/// board a tenth of that.
const LAST_READ: Duration = Duration::from_millis(300);
/// How often a bus is written to in one turn, as long as it takes all it is given.
const WRITES_MAX: usize = 4;

impl Gateway {
    /// Runs until a signal, or until the job is done.
    pub fn run(&mut self, job: &mut dyn Job) -> Result<(), String> {
        self.tell_ready(self.now);
        let result = self.event_loop(job);
        self.settle();
        for bus in &mut self.buses {
            bus.close();
        }
        self.report();
        result
    }

    fn event_loop(&mut self, job: &mut dyn Job) -> Result<(), String> {
        while !self.is_finished() {
            self.wait(job);
            self.run_tasks(job)?;
            self.read_interface_news();
            self.read_buses();
            self.read_links();
            self.handle_timeouts()?;
            self.tell_events(self.now, job)?;
            self.run_job(job)?;
            self.write_buses();
            self.write_links();
            self.print()?;
            self.remove_ended(self.now, job)?;
            self.redial(self.now);
            self.tell_manager(self.now);
        }
        Ok(())
    }

    /// Lets tasks go on, and takes what they bring.
    fn run_tasks(&mut self, job: &mut dyn Job) -> Result<(), String> {
        if core::mem::take(&mut self.waiter.tasks) {
            self.runtime.run();
        }
        let now = self.now;
        while let Some(input) = self.runtime.next_input() {
            match input {
                Input::Signal(Signal::End) => self.end(now),
                Input::Signal(Signal::Report) => {
                    self.settle();
                    self.report();
                }
                Input::Scraped(reply) => {
                    self.settle();
                    // Whoever asked may be gone.
                    let _ = reply.try_send(self.snapshot(now).metrics());
                }
                Input::NotAccepted(error) => {
                    if let Some(sum) = self.link_log.not_accepted.allow(now, 1) {
                        log::warn!("cannot accept a connection: {error}; retrying{}", more(sum));
                    }
                }
                Input::Accepted(stream, peer) => self.accept(now, stream, peer),
                Input::Dialled(dialler, Ok((stream, peer))) => {
                    self.connected(now, dialler, stream, peer);
                }
                Input::Dialled(number, Err(problem)) => {
                    let Some(dialler) = self.diallers.get_mut(number) else { continue };
                    if dialler.is_news(now, &problem) {
                        log::warn!("{problem}; retrying");
                    }
                    dialler.retry_unreached(now);
                    job.notice(self, number, &Notice::Unreachable(&problem))?;
                }
            }
        }
        Ok(())
    }

    /// Takes what the kernel and other processes say of the interfaces.
    fn read_interface_news(&mut self) {
        if core::mem::take(&mut self.waiter.interfaces) {
            // Whatever it said: the buses look for themselves.
            let _ = self.watch.as_mut().map(crate::bus::LinkWatch::drain);
            for (number, (bus, hub)) in self.buses.iter_mut().zip(&mut self.hubs).enumerate() {
                bus.check(self.now, hub);
                self.to_write.set(number);
            }
        }
        for number in self.waiter.siblings.take() {
            if let Some((bus, hub)) = self.buses.get_mut(number).zip(self.hubs.get_mut(number))
                && let Some(siblings) = &mut bus.siblings
            {
                siblings.read(self.now, hub);
            }
        }
    }

    fn read_buses(&mut self) {
        for number in self.to_read.take() {
            if let Some((bus, hub)) = self.buses.get_mut(number).zip(self.hubs.get_mut(number)) {
                bus.read(self.now, hub, &mut self.wall);
                self.to_write.set(number);
            }
        }
    }

    /// Reads the connections that have something; what comes may be for a bus, and have an answer.
    fn read_links(&mut self) {
        let mut has_joined = false;
        for number in self.sessions.to_read.take() {
            let Some(session) = self.sessions.get(number).filter(|one| one.has_input()) else {
                continue;
            };
            let admission = session.link.is_unknown().then(|| self.admission(number));
            let Some(session) = self.sessions.get_mut(number) else { continue };
            if let Some(admission) = admission {
                session.link.set_admission(admission);
            }
            let (hubs, buses) = (&mut self.hubs, &mut self.buses);
            session.read(self.now, hubs, buses, &mut self.claims, &mut self.buffer);
            let (is_left, place) = (session.has_input(), session.link.place());
            has_joined |= admission.is_some() && session.link.is_live();
            self.is_asked |= session.is_asked().is_some();
            if is_left {
                self.sessions.to_read.set(number);
            }
            self.sessions.to_write.set(number);
            self.sessions.touched.set(number);
            self.sessions.note_place(number);
            if let Some(place) = place {
                self.to_write.set(place.hub);
            }
        }
        if has_joined {
            self.make_way(self.now);
        }
    }

    fn handle_timeouts(&mut self) -> Result<(), String> {
        let now = self.now;
        for number in 0..self.buses.len() {
            self.handle_bus_timeout(now, number);
        }
        let Self { sessions, hubs, to_write, .. } = self;
        let mut due = SessionMarks::default();
        sessions.timers.take_due(now, |number| due.set(number));
        for number in due.take() {
            let Some(session) = sessions.get_mut(number) else { continue };
            session.handle_timeout(now, hubs);
            // What was kept while the link waited may be for the bus.
            if let Some(place) = session.link.place() {
                to_write.set(place.hub);
            }
            sessions.to_write.set(number);
            sessions.touched.set(number);
        }
        for dialler in &mut self.diallers {
            dialler.catch_up(now);
        }
        self.link_log.catch_up(now);
        self.meter.turn(now, &self.hubs);
        self.follow_namespace(now)
    }

    fn handle_bus_timeout(&mut self, now: Instant, number: usize) {
        let Some((bus, hub)) = self.buses.get_mut(number).zip(self.hubs.get_mut(number)) else {
            return;
        };
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let siblings = bus.siblings.as_ref().and_then(|siblings| siblings.poll_timeout(hub));
        if is_due(siblings) {
            self.to_write.set(number);
        }
        if is_due(bus.poll_timeout(hub)) || is_due(hub.poll_timeout()) {
            // First what the bus showed: an echo that waits to be read is not overdue.
            if bus.read(now, hub, &mut self.wall) && is_due(hub.poll_timeout()) {
                hub.handle_timeout(now);
            }
            self.to_write.set(number);
        }
    }

    fn run_job(&mut self, job: &mut dyn Job) -> Result<(), String> {
        self.answer(self.now);
        if core::mem::take(&mut self.waiter.job) {
            job.read();
        }
        if job.turn(self, self.now)? {
            self.end(self.now);
        }
        Ok(())
    }

    /// Marks the links that the news of each hub concern. Its bus is marked by whoever gives it frames, or hears that
    /// it may take some again.
    fn spread_news(&mut self) {
        for (number, (hub, asked)) in self.hubs.iter().zip(&mut self.asked_for).enumerate() {
            let news = hub.news();
            if core::mem::replace(asked, news) != news {
                self.sessions.mark_members(number);
            }
        }
    }

    fn write_buses(&mut self) {
        for number in self.to_write.take() {
            let Some((bus, hub)) = self.buses.get_mut(number).zip(self.hubs.get_mut(number)) else {
                continue;
            };
            if let Some(siblings) = &mut bus.siblings {
                siblings.write(self.now, hub);
            }
            let mut writes = 0;
            while bus.write(self.now, hub, &mut self.wall) && hub.has_waiting() {
                writes += 1;
                if writes == WRITES_MAX {
                    self.to_write.set(number);
                    break;
                }
            }
        }
    }

    fn write_links(&mut self) {
        self.spread_news();
        for number in self.sessions.to_write.take() {
            let Some(session) = self.sessions.get_mut(number) else { continue };
            session.write(self.now, &mut self.hubs);
            self.is_asked |= session.is_asked().is_some();
            let (has_output, has_input) = (session.has_output(), session.has_input());
            if has_output {
                self.sessions.to_write.set(number);
            }
            if has_input {
                self.sessions.to_read.set(number);
            }
            self.sessions.touched.set(number);
        }
        // What a link had to say may concern others.
        self.spread_news();
    }

    /// Writes to standard output what it takes without waiting.
    fn print(&mut self) -> Result<(), String> {
        let Some(printer) = &self.printer else { return Ok(()) };
        let mut printer = printer.borrow_mut();
        if !printer.is_waiting() {
            return Ok(());
        }
        while printer.is_waiting() && super::wait::is_output_ready() {
            printer.write().map_err(|error| {
                format!("standard output cannot be written: {error}; is the disk full?")
            })?;
        }
        // There is room for more lines.
        for (number, bus) in self.buses.iter().enumerate() {
            if matches!(bus.side, Side::Print(_)) && !printer.is_waiting() {
                self.to_write.set(number);
            }
        }
        Ok(())
    }

    /// Whether something can be done without waiting.
    pub(super) fn has_work(&self) -> bool {
        let sessions = &self.sessions;
        let is_done = self.to_read.is_empty()
            && self.to_write.is_empty()
            && sessions.to_read.is_empty()
            && sessions.to_write.is_empty()
            && sessions.touched.is_empty();
        !is_done || self.may_answer()
    }

    /// Counts the losses of which no frame has told, before somebody is told numbers.
    pub(super) fn settle(&mut self) {
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            bus.settle(hub);
        }
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.end_by.is_some()
    }

    /// Begins the end: what was accepted is delivered, then all links are closed.
    pub fn end(&mut self, now: Instant) {
        if self.end_by.is_some() {
            return;
        }
        self.end_by = Some(now + END_WITHIN);
        if let Some(service) = &mut self.service {
            service.stopping();
            service.note();
        }
        let read_by = clock::now() + LAST_READ;
        for (bus, hub) in self.buses.iter_mut().zip(&mut self.hubs) {
            // What waits in the kernel was accepted, too.
            while !bus.read(now, hub, &mut self.wall) && clock::now() < read_by {}
            hub.close();
        }
        (0..BUSES_MAX).for_each(|number| self.to_write.set(number));
        self.sessions.mark_all();
        for dialler in &mut self.diallers {
            dialler.stage = Stage::Stopped;
        }
    }

    /// Whether everything that was accepted is where it belongs, or the time for that is over.
    fn is_finished(&mut self) -> bool {
        let (Some(end_by), now) = (self.end_by, self.now) else { return false };
        let hubs = &self.hubs;
        let delivered = self.sessions.iter().all(|session| session.link.is_delivered(hubs))
            && hubs.iter().all(|hub| !hub.is_busy() || !hub.takes_frames())
            && self.printer.as_ref().is_none_or(|printer| !printer.borrow().is_waiting());
        if !delivered && now < end_by {
            return false;
        }
        for session in self.sessions.iter_mut() {
            session.link.close(now, &mut self.hubs, Ended::Finished);
            session.write(now, &mut self.hubs);
            session.discard(&mut self.buffer);
        }
        self.link_log.settle();
        true
    }

    /// Waits from now on for what a session wants, and for its next moment.
    pub(super) fn watch_session(&mut self, number: usize) {
        let (now, hubs) = (self.now, &mut self.hubs);
        let Some(session) = self.sessions.get_mut(number) else { return };
        if let Err(error) = session.watch(&self.waiter.poller, number) {
            if self.waiter.problems.allow(now, 1).is_some() {
                log::error!("{}: cannot wait for its connection: {error}", session.name);
            }
            session.fail(now, hubs);
            self.sessions.touched.set(number);
            return;
        }
        let due = session.poll_timeout(hubs);
        self.sessions.timers.set(number, due);
    }
}
