//! The comings and goings of links: accepted, dialled, told of, buried, dialled again.

use core::net::SocketAddr;
use core::time::Duration;
use std::net::TcpStream;

use super::dialler::{Dialler, Stage};
use super::memory::Heap;
use super::session::Session;
use super::{Gateway, Job, LINKS_MAX, Notice, counters, is_rare, reason};
use crate::net;
use crate::protocol::time::Instant;
use crate::protocol::wire::Refusal;
use crate::protocol::{Ended, Event, Hub, Link};

impl Gateway {
    pub(super) fn accept(&mut self, now: Instant, stream: TcpStream, peer: SocketAddr) {
        if self.is_ending() || net::prepare(&stream, self.silence()).is_err() {
            return;
        }
        let id = self.link_id();
        let mut link = Link::accept(now, id, self.accept_options);
        self.make_room(now);
        if self.sessions.len() < LINKS_MAX {
            self.sessions.push(Session::new(link, stream, peer, None, now));
            return;
        }
        link.close(now, &mut self.hubs, Ended::WeRefused(Refusal::FULL));
        Session::new(link, stream, peer, None, now).write(now, &mut self.hubs);
        if is_rare(now, &mut self.told_full) {
            log::warn!("refused {peer}: there are {LINKS_MAX} links already");
        }
    }

    /// Where there is no place left, whoever has connected and does not greet makes room for one who
    /// may.
    fn make_room(&mut self, now: Instant) {
        if self.sessions.len() < LINKS_MAX {
            return;
        }
        let silent = self.sessions.iter().enumerate();
        let is_silent = |session: &Session| session.dialler.is_none() && !session.link.was_live();
        let silent = silent.filter(|(_, session)| is_silent(session));
        let oldest = silent.min_by_key(|(_, session)| session.link.id());
        if let Some((number, _)) = oldest {
            let mut session = self.sessions.swap_remove(number);
            session.link.close(now, &mut self.hubs, Ended::NoGreeting);
            self.ended(now, &session);
        }
    }

    pub(super) fn connected(
        &mut self,
        now: Instant,
        number: usize,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        let (id, silence) = (self.link_id(), self.silence());
        self.make_room(now);
        let Some(dialler) = self.diallers.get_mut(number) else { return };
        if dialler.stage == Stage::Stopped {
            return;
        }
        let link = dialler.link(now, id).filter(|_| net::prepare(&stream, silence).is_ok());
        match link {
            Some(link) if self.sessions.len() < LINKS_MAX => {
                dialler.stage = Stage::Connected;
                self.sessions.push(Session::new(link, stream, peer, Some(number), now));
            }
            _ => {
                let problem =
                    format!("no link to {}: there are {LINKS_MAX} already", dialler.endpoint);
                if self.sessions.len() >= LINKS_MAX && dialler.is_news(now, &problem) {
                    log::warn!("{problem}; trying on");
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

    /// Tells the news of links.
    pub(super) fn tell_news(&mut self, now: Instant, job: &mut dyn Job) -> Result<(), String> {
        let mut number = 0;
        while let Some(session) = self.sessions.get_mut(number) {
            let Some(event) = session.link.poll_event() else {
                number += 1;
                continue;
            };
            if let Some(service) = &mut self.service {
                service.note();
            }
            let dialler = session.dialler;
            let notice = tell(now, &mut self.diallers, &self.hubs, session, event);
            if let (Some(dialler), Some(notice)) = (dialler, notice) {
                job.notice(self, dialler, &notice)?;
            }
        }
        Ok(())
    }

    /// Lets go of links that are over.
    pub(super) fn bury(&mut self, now: Instant, job: &mut dyn Job) -> Result<(), String> {
        while let Some(number) = self.sessions.iter().position(|session| session.is_over(now)) {
            let session = self.sessions.swap_remove(number);
            let sessions = &self.sessions;
            let needs = |session: &Session, pair| session.joined == Some(pair);
            self.claims.keep(|pair| sessions.iter().any(|session| needs(session, pair)));
            self.ended(now, &session);
            if let (Some(dialler), Some(ended)) = (session.dialler, session.link.ended()) {
                job.notice(self, dialler, &Notice::Ended(ended))?;
            }
        }
        Ok(())
    }

    pub(super) fn ended(&mut self, now: Instant, session: &Session) {
        if let Some(service) = &mut self.service {
            service.note();
        }
        let (peer, ended) = (session.peer, session.link.ended().unwrap_or(Ended::Closed));
        let why = reason(ended);
        let dialler = session.dialler.and_then(|number| self.diallers.get_mut(number));
        let name = dialler.as_ref().map_or_else(|| peer.to_string(), |d| d.endpoint.to_string());
        let is_news = match dialler {
            Some(dialler) => {
                let is_news = dialler.is_news(now, &why);
                // The next one would soon end the same way.
                if session.link.was_live() && !is_displaced(ended) {
                    dialler.settled();
                }
                dialler.retry(now);
                is_news
            }
            None => session.link.was_live() || is_rare(now, &mut self.told_stranger),
        };
        let place = session.link.place();
        let hub = place.and_then(|place| self.hubs.get(place.hub));
        match (hub, place.filter(|_| session.link.was_live())) {
            (Some(hub), Some(place)) => {
                log::info!("{}: link down: {name}: {why}", hub.name());
                if let Some(status) = hub.peer_status(place.peer) {
                    log::info!("{}", counters(hub, &name, &status));
                }
            }
            _ if is_news && !matches!(ended, Ended::Listed | Ended::Asked(_)) => {
                let bus = hub.map_or(String::new(), |hub| format!("{}: ", hub.name()));
                log::warn!("{bus}{name}: no link: {why}");
            }
            _ => {}
        }
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
                let task = net::dial(number, dialler.endpoint.clone(), inbox);
                self.runtime.spawn(task);
            }
        }
    }
}

/// Whether a link ended because something else joins the two buses.
fn is_displaced(ended: Ended) -> bool {
    let (Ended::Refused(why) | Ended::WeRefused(why)) = ended else { return false };
    [Refusal::LOOP, Refusal::RING, Refusal::REPLACED].contains(&why)
}

/// Logs an event of a link, and makes a notice of it.
fn tell(
    now: Instant,
    diallers: &mut [Dialler],
    hubs: &[Hub<Heap>],
    session: &mut Session,
    event: Event,
) -> Option<Notice<'static>> {
    let hub = session.link.place().and_then(|place| hubs.get(place.hub));
    let name = hub.map_or("", Hub::name);
    let dialler = session.dialler.and_then(|number| diallers.get_mut(number));
    let peer =
        dialler.as_ref().map_or_else(|| session.peer.to_string(), |d| d.endpoint.to_string());
    match event {
        Event::Up { restarted } => {
            if let Some(dialler) = dialler {
                dialler.reached();
            }
            let note = if restarted { "; the peer was restarted meanwhile" } else { "" };
            log::info!("{name}: link up: {peer}{note}");
            Some(Notice::Up)
        }
        Event::Missing(frames) => {
            log::warn!("{name}: {peer}: {frames} frames of its bus are missing, lost or too old");
            None
        }
        Event::Bus(status) => {
            let whose = format_args!("{name}: {peer}: its bus is ");
            session.states.changed(now, whose, status.into());
            Some(Notice::PeerBus(status.state))
        }
        Event::Buses => Some(Notice::Buses(session.link.buses().map(str::to_owned).collect())),
    }
}
