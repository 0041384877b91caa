//! The comings and goings of links: accepted, dialled, told of, buried, dialled again.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::TcpStream;

use super::dialler::{Dialler, Stage};
use super::link_log::{LinkLog, more};
use super::memory::Heap;
use super::session::Session;
use super::{Gateway, Job, LINKS_MAX, Notice, counters, reason};
use crate::net;
use crate::protocol::time::Instant;
use crate::protocol::{Ended, Event, Hub, Link};
use crate::random::random_id;

impl Gateway {
    pub(super) fn accept(&mut self, now: Instant, stream: TcpStream, peer: SocketAddr) {
        if self.is_ending()
            || net::prepare(&stream, self.silence()).is_err()
            || !self.make_room(now)
        {
            return;
        }
        let link = Link::accept(now, self.link_id(), self.accept_options);
        self.sessions.insert(Session::new(link, stream, peer, None, peer.to_string(), now));
    }

    pub(super) fn connected(
        &mut self,
        now: Instant,
        number: usize,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        let (id, silence) = (self.link_id(), self.silence());
        let dialled = self.sessions.iter().filter(|session| session.dialler.is_some()).count();
        let has_room = dialled < LINKS_MAX && self.make_room(now);
        let Some(dialler) = self.diallers.get_mut(number) else { return };
        if dialler.stage == Stage::Stopped {
            return;
        }
        let link = dialler.link(now, id).filter(|_| net::prepare(&stream, silence).is_ok());
        match link {
            Some(link) if has_room => {
                dialler.stage = Stage::Connected;
                let name = dialler.endpoint.to_string();
                self.sessions.insert(Session::new(link, stream, peer, Some(number), name, now));
            }
            _ => {
                let problem =
                    format!("no link to {}: there are {LINKS_MAX} already", dialler.endpoint);
                if !has_room && dialler.is_news(now, &problem) {
                    log::warn!("{problem}; retrying");
                }
                dialler.retry(now);
            }
        }
    }

    pub(super) fn link_id(&mut self) -> u32 {
        let id = self.next_link;
        self.next_link = self.next_link.wrapping_add(1).max(1);
        id
    }

    pub(super) fn silence(&self) -> Duration {
        self.accept_options.heartbeat * crate::protocol::HEARTBEATS_MISSED
    }

    /// Tells the events of links with which something happened.
    pub(super) fn tell_events(&mut self, now: Instant, job: &mut dyn Job) -> Result<(), String> {
        let mut touched = self.sessions.touched;
        for number in touched.take() {
            while let Some(session) = self.sessions.get_mut(number)
                && let Some(event) = session.link.poll_event()
            {
                if let Some(service) = &mut self.service {
                    service.note();
                }
                let dialler = session.dialler;
                let log = &mut self.link_log;
                let notice = tell(now, &mut self.diallers, log, &self.hubs, session, event);
                if let (Some(dialler), Some(notice)) = (dialler, notice) {
                    job.notice(self, dialler, &notice)?;
                }
            }
        }
        Ok(())
    }

    /// Removes links that are over, and waits for what the others want that something happened to.
    pub(super) fn remove_ended(&mut self, now: Instant, job: &mut dyn Job) -> Result<(), String> {
        for number in self.sessions.touched.take() {
            if self.sessions.get(number).is_some_and(|session| !session.is_over(now)) {
                self.watch_session(number);
                continue;
            }
            let Some(session) = self.take_session(number) else { continue };
            let notice = session.dialler.zip(session.link.ended());
            self.ended(now, session);
            if let Some((dialler, ended)) = notice {
                job.notice(self, dialler, &Notice::Ended(ended))?;
            }
        }
        Ok(())
    }

    /// Takes a session out, with all that is kept for it.
    pub(super) fn take_session(&mut self, number: usize) -> Option<Session> {
        let session = self.sessions.remove(number)?;
        session.forget(&self.waiter.poller);
        let sessions = &self.sessions;
        let needs = |session: &Session, pair| session.joined == Some(pair);
        if session.joined.is_some() {
            self.claims.keep(|pair| sessions.iter().any(|session| needs(session, pair)));
        }
        Some(session)
    }

    pub(super) fn ended(&mut self, now: Instant, mut session: Session) {
        if let Some(service) = &mut self.service {
            service.note();
        }
        let has_carried = session.has_carried(&self.hubs);
        if let Some(sum) = session.missing.settle()
            && (session.dialler.is_some() || self.link_log.may_tell(now, has_carried))
        {
            session.tell_missing(&self.hubs, sum);
        }
        let ended = session.link.ended().unwrap_or(Ended::Closed);
        let was_live = session.link.was_live();
        let known = usize::from(has_carried);
        let dialler = session.dialler.and_then(|number| self.diallers.get_mut(number));
        let mut is_set_back = false;
        let told = match dialler {
            Some(dialler) => {
                let told = match was_live {
                    true => dialler.downs.allow(now, 1),
                    false => dialler.is_news(now, &reason(ended)).then_some(1),
                };
                is_set_back = dialler.link_ended(now, &session, ended);
                told
            }
            None if was_live => self.link_log.down.get_mut(known).and_then(|l| l.allow(now, 1)),
            None if is_question(ended) => None,
            None => self.link_log.failed.allow(now, 1),
        };
        if let Some(sum) = told {
            self.tell_ended(&session, ended, sum);
        }
        if let Some(place) = session.link.place().filter(|_| is_set_back) {
            // One that was set back has no connection that lived on.
            let is_linked = |other: &Session| {
                other.link.is_live() && other.link.place().is_some_and(|at| at.hub == place.hub)
            };
            if !self.sessions.iter().any(is_linked) {
                self.come_as_new(now, place.hub, &session.name);
            }
        }
    }

    /// Logs why a link ended, or why there was none; `sum` such lines would have been written.
    fn tell_ended(&self, session: &Session, ended: Ended, sum: u64) {
        let (name, why, more) = (&session.name, reason(ended), more(sum));
        match (session.hub(&self.hubs), session.link.place()) {
            (Some(hub), Some(place)) if session.link.was_live() => {
                log::info!("{}: link down: {name}: {why}{more}", hub.name());
                if let Some(status) = hub.peer_status(place.peer) {
                    log::info!("{}", counters(hub, name, &status));
                }
            }
            (hub, _) if !is_question(ended) => {
                let bus = hub.map_or(String::new(), |hub| format!("{}: ", hub.name()));
                log::warn!("{bus}{name}: no link: {why}{more}");
            }
            _ => {}
        }
    }

    /// A peer has heard more of a bus than this process remembers: it would refuse each greeting until the
    /// clock has caught up. With a new history the bus is as one of a process that was just started.
    fn come_as_new(&mut self, now: Instant, hub: usize, peer: &str) {
        let Some(hub) = self.hubs.get_mut(hub) else { return };
        log::warn!(
            "{}: {peer} has heard more of this process than it remembers; was the machine set back to \
             a snapshot? It begins a new history",
            hub.name()
        );
        hub.renew(now, random_id());
    }

    pub(super) fn redial(&mut self, now: Instant) {
        for (number, dialler) in self.diallers.iter_mut().enumerate() {
            if dialler.poll_timeout().is_some_and(|at| at <= now) {
                // To greet the peer again would end the link there is.
                if dialler.is_linked_by_another_name(&self.hubs) {
                    dialler.retry(now);
                    continue;
                }
                dialler.stage = Stage::Dialling;
                let inbox = self.runtime.inbox.clone();
                let (endpoint, resolver) = (dialler.endpoint.clone(), self.resolver.clone());
                let task = net::dial(number, endpoint, dialler.order, resolver, inbox);
                self.runtime.spawn(task);
            }
        }
    }
}

/// Whether it was never to become a link.
fn is_question(ended: Ended) -> bool {
    matches!(ended, Ended::Listed | Ended::Asked(_))
}

/// Logs an event of a link, and makes a notice of it.
fn tell(
    now: Instant,
    diallers: &mut [Dialler],
    log: &mut LinkLog,
    hubs: &[Hub<Heap>],
    session: &mut Session,
    event: Event,
) -> Option<Notice<'static>> {
    let name = session.hub(hubs).map_or("", Hub::name);
    let dialler = session.dialler.and_then(|number| diallers.get_mut(number));
    let peer = &session.name;
    let known = session.has_carried(hubs);
    let is_dialled = dialler.is_some();
    match event {
        Event::Up { restarted } => {
            let told = match dialler {
                Some(dialler) => {
                    dialler.reached(session.peer);
                    dialler.ups.allow(now, 1)
                }
                None => log.up.get_mut(usize::from(known)).and_then(|limit| limit.allow(now, 1)),
            };
            if let Some(more) = told.map(more) {
                let note = if restarted { "; the peer was restarted meanwhile" } else { "" };
                log::info!("{name}: link up: {peer}{note}{more}");
            }
            Some(Notice::Up)
        }
        Event::Missing(frames) => {
            if let Some(sum) = session.missing.allow(now, frames)
                && (is_dialled || log.may_tell(now, known))
            {
                session.tell_missing(hubs, sum);
            }
            None
        }
        Event::Bus(status) => {
            let whose = format_args!("{name}: {peer}: its bus is ");
            if is_dialled || log.may_tell(now, known) {
                session.states.changed(now, whose, status.into());
            }
            Some(Notice::PeerBus(status.state))
        }
        Event::Buses => Some(Notice::Buses(session.link.buses().map(str::to_owned).collect())),
    }
}
