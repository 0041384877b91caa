//! What a link takes in: preamble, greeting, then messages; and what each of them means.

use core::time::Duration;

use heapless::String;

use super::filter::Filters;
use super::hub::{Hub, Memory};
use super::link::{
    Ended, Event, HEARTBEATS_MISSED, Hold, Link, Phase, Place, SETTLING_INTERVAL, Until,
};
use super::peer::PeerNumber;
use super::record::split_record;
use super::time::Instant;
use super::wire::{
    FILLER, Hello, MAGIC, MODE_PLAIN, Message, PREAMBLE_SIZE, Ping, Refusal, VERSION,
};

/// Bounds on the heartbeat a peer may announce (milliseconds): a mistake must neither end every
/// link nor keep a dead one for a day.
const HEARTBEAT_RANGE_MS: core::ops::RangeInclusive<u32> = 10..=600_000;

/// Most silence before a link has carried a frame, whatever heartbeat the peer announced: somebody who
/// greets and falls silent must not hold a place for half an hour.
const UNPROVEN_SILENCE_MAX: Duration = Duration::from_secs(30);

impl Link {
    /// Bytes arrived from the peer. Returns how many were taken: all, unless the link has ended or
    /// is [on hold](Link::on_hold).
    pub fn handle_input<M: Memory>(
        &mut self,
        now: Instant,
        mut bytes: &[u8],
        hubs: &mut [Hub<M>],
    ) -> usize {
        let arrived = bytes.len();
        // Greeting drop by drop must not take longer than greeting at once.
        if !bytes.is_empty() && self.phase == Phase::Live {
            self.heard = now;
        }
        if self.input.is_empty() && self.is_open() {
            // Nearly always: nothing is left over, and nothing needs to be copied.
            let used = self.parse(now, bytes, hubs);
            bytes = bytes.get(used..).unwrap_or(&[]);
        }
        // What was buffered when the hold began is looked at again without new bytes.
        let mut look_again = bytes.is_empty() && !self.input.is_empty();
        while self.is_open() && (look_again || !bytes.is_empty()) {
            look_again = false;
            let room = self.input.capacity() - self.input.len();
            let (taken, rest) = bytes.split_at(room.min(bytes.len()));
            // There is room, or whole records to parse: parsing leaves less than one behind.
            let _ = self.input.extend_from_slice(taken);
            bytes = rest;
            let mut input = core::mem::take(&mut self.input);
            let used = self.parse(now, &input, hubs);
            input.copy_within(used.., 0);
            input.truncate(input.len() - used);
            self.input = input;
        }
        arrived - bytes.len()
    }

    /// Whether what arrives is to be handled now.
    fn is_open(&self) -> bool {
        self.ended.is_none() && self.hold.is_none()
    }

    /// Handles what is complete in `input` and returns how much that was.
    fn parse<M: Memory>(&mut self, now: Instant, input: &[u8], hubs: &mut [Hub<M>]) -> usize {
        let mut rest = input;
        while self.is_open() {
            if self.phase == Phase::Preamble {
                match self.check_preamble(now, rest, hubs) {
                    Some(after) => rest = after,
                    None => break,
                }
            }
            while let Some((&FILLER, after)) = rest.split_first() {
                rest = after;
            }
            match split_record(rest) {
                Ok(Some((record, after))) => {
                    rest = after;
                    if let Err(refusal) = self.handle_record(now, record, hubs) {
                        self.close(now, hubs, Ended::WeRefused(refusal));
                    }
                }
                Ok(None) => break,
                Err(refusal) => self.close(now, hubs, Ended::WeRefused(refusal)),
            }
        }
        input.len() - rest.len()
    }

    /// The input after the preamble; `None` while it is incomplete, or if it ends the link.
    fn check_preamble<'a, M: Memory>(
        &mut self,
        now: Instant,
        input: &'a [u8],
        hubs: &mut [Hub<M>],
    ) -> Option<&'a [u8]> {
        let wrong = input.iter().zip(MAGIC).any(|(byte, expected)| *byte != expected);
        if wrong {
            self.close(now, hubs, Ended::NotCanspan);
            return None;
        }
        let (preamble, rest) = input.split_at_checked(PREAMBLE_SIZE)?;
        let fields = preamble.get(MAGIC.len()..).unwrap_or(&[]);
        self.outbox.preamble |= self.asks_for.is_none();
        match *fields {
            [VERSION, MODE_PLAIN, 0] => {
                self.phase = Phase::Greeting;
                Some(rest)
            }
            [VERSION, mode, _] => {
                self.close(now, hubs, Ended::Mode(mode));
                None
            }
            [version, ..] => {
                self.close(now, hubs, Ended::Version(version));
                None
            }
            [] => None,
        }
    }

    fn handle_record<M: Memory>(
        &mut self,
        now: Instant,
        record: &[u8],
        hubs: &mut [Hub<M>],
    ) -> Result<(), Refusal> {
        let (message, rest) = postcard::take_from_bytes(record).map_err(|_| Refusal::PROTOCOL)?;
        if !rest.is_empty() {
            return Err(Refusal::PROTOCOL);
        }
        match (self.phase, message) {
            (_, Message::Refuse(refusal)) => self.close(now, hubs, Ended::Refused(refusal)),
            (Phase::Greeting, Message::Hello(hello)) => self.greeted(now, &hello, hubs)?,
            (Phase::Greeting, Message::Buses(names)) if self.is_asking() => {
                self.buses = String::try_from(names).map_err(|_| Refusal::PROTOCOL)?;
                self.event(Event::Buses);
                self.close(now, hubs, Ended::Listed);
            }
            (Phase::Greeting, Message::Filter(text)) if self.asked.is_none() => {
                self.asked = Some(text.parse().map_err(|_| Refusal::PROTOCOL)?);
            }
            (Phase::Greeting, Message::Ask(form)) if self.asks_for.is_none() => {
                self.close(now, hubs, Ended::Asked(form));
            }
            (Phase::Live, message) => {
                let place = self.place.ok_or(Refusal::PROTOCOL)?;
                let hub = hubs.get_mut(place.hub).ok_or(Refusal::PROTOCOL)?;
                if hub.link_of(place.peer) != Some(self.id) {
                    self.close(now, hubs, Ended::Replaced);
                    return Ok(());
                }
                if self.handle_live(now, &message, hub, place.peer)? {
                    self.close(now, hubs, Ended::Bye);
                }
            }
            _ => return Err(Refusal::PROTOCOL),
        }
        Ok(())
    }

    fn is_asking(&self) -> bool {
        self.asks_for.as_ref().is_some_and(|bus| bus.is_empty())
    }

    fn greeted<M: Memory>(
        &mut self,
        now: Instant,
        hello: &Hello<'_>,
        hubs: &mut [Hub<M>],
    ) -> Result<(), Refusal> {
        if hello.history == 0 || self.is_asking() {
            return Err(Refusal::PROTOCOL);
        }
        if self.asks_for.is_none() {
            if !self.options.serves {
                return Err(Refusal::NOT_SERVED);
            }
            if hello.bus.is_empty() {
                self.outbox.list = true;
                self.close(now, hubs, Ended::Listed);
                return Ok(());
            }
            // What peers call a bus goes before what we call another: can0:can1 can1:can0 swaps them.
            let by_alias = hubs.iter().position(|hub| hub.alias() == hello.bus);
            let hub = by_alias.or_else(|| hubs.iter().position(|hub| hub.name() == hello.bus));
            let hub = hub.ok_or(Refusal::NO_SUCH_BUS)?;
            let ours = hubs.get_mut(hub).ok_or(Refusal::NO_SUCH_BUS)?;
            if !ours.has_place(self.admission, hello.history) {
                return Err(Refusal::FULL);
            }
            self.options.filters = ours.asks;
            let peer = ours.admit(now, hello)?;
            self.place = Some(Place { hub, peer });
            self.outbox.hello = true;
        }
        let place = self.place.ok_or(Refusal::PROTOCOL)?;
        let hub = hubs.get_mut(place.hub).ok_or(Refusal::PROTOCOL)?;
        let restarts = hub.peer_status(place.peer).map_or(0, |status| status.restarts);
        let filters = self.asked.unwrap_or(Filters::ALL);
        hub.begin(now, place.peer, self.id, hello, filters)?;
        let status = hub.peer_status(place.peer);
        let restarted = status.is_some_and(|status| status.restarts > restarts);
        let is_forgotten = restarted || hello.seen.is_none();
        if is_forgotten && self.asks_for.is_some() {
            hub.clock_forgotten(now, place.peer, self.greeted_at, hello.clock_us);
        }
        hub.clock_greeted(now, place.peer, hello.clock_us);
        self.echo = Some((hello.clock_us, now));
        self.outbox.ping = true;
        let (least, most) = HEARTBEAT_RANGE_MS.into_inner();
        let heartbeat = Duration::from_millis(u64::from(hello.heartbeat_ms.clamp(least, most)));
        self.silence_announced = heartbeat * HEARTBEATS_MISSED;
        self.silence_max = self.silence_announced.min(UNPROVEN_SILENCE_MAX);
        let receipts = Duration::from_micros(u64::from(hello.receipts_us));
        self.receipt_interval = receipts.max(self.options.hold);
        self.phase = Phase::Live;
        self.heard = now;
        self.outbox.start = true;
        self.peer_features = hello.features;
        self.probe_cursor = hub.probe_cursor();
        self.hold = Some(Hold { until: Until::Released(hello.bus_id), restarted });
        if !self.options.holds {
            self.release(now, hubs);
        }
        Ok(())
    }

    /// Once the link carries frames, the peer may be silent for as long as it announced.
    pub(super) fn proven(&mut self, has_carried: bool) {
        if has_carried && !self.has_carried {
            self.has_carried = true;
            self.silence_max = self.silence_announced;
        }
    }

    /// Handles a message on a live link; `true` if it ends it.
    fn handle_live<M: Memory>(
        &mut self,
        now: Instant,
        message: &Message<'_>,
        hub: &mut Hub<M>,
        peer: PeerNumber,
    ) -> Result<bool, Refusal> {
        match *message {
            Message::Start(_) if self.has_start || !self.options.wants_frames => {
                return Err(Refusal::PROTOCOL);
            }
            Message::Frames(_) | Message::Skip(_) if !self.has_start => {
                return Err(Refusal::PROTOCOL);
            }
            Message::Start(start) => {
                self.has_start = true;
                let missing = hub.started(peer, start)?;
                if missing > 0 {
                    self.event(Event::Missing(missing));
                }
            }
            Message::Clock(offset_us) => self.stamps_in.offset_us = Some(offset_us),
            Message::Frames(frames) => {
                let offset_us = self.stamps_in.offset_us.ok_or(Refusal::PROTOCOL)?;
                hub.receive(now, peer, frames, &mut self.stamps_in.last_us, offset_us)?;
                self.proven(hub.has_carried(peer));
            }
            Message::Skip(skip) => {
                hub.skipped(peer, &skip)?;
                // Cannot overflow: both are part of a possible progress.
                let missing = skip.lost + skip.stale;
                if missing > 0 {
                    self.event(Event::Missing(missing));
                }
            }
            Message::Receipt(runs) => {
                hub.receipt_of(peer, runs)?;
                self.proven(hub.has_carried(peer));
            }
            Message::Ping(ping) => self.pinged(now, &ping, hub, peer),
            Message::Bus(status) => {
                hub.goes_on(peer, 0)?;
                hub.peer_max_age(peer, status.max_age_us);
                if self.peer_state.replace(status.state) != Some(status.state) {
                    self.event(Event::Bus(status));
                }
            }
            Message::Probe(probe) => {
                if hub.may_pass_probe(now, peer) {
                    hub.probed(now, probe, self.id, self.age(now));
                }
            }
            Message::Bye => return Ok(true),
            Message::Hello(_)
            | Message::Refuse(_)
            | Message::Buses(_)
            | Message::Ask(_)
            | Message::Filter(_)
            | Message::Report(_) => {
                return Err(Refusal::PROTOCOL);
            }
        }
        Ok(false)
    }

    fn pinged<M: Memory>(&mut self, now: Instant, ping: &Ping, hub: &mut Hub<M>, peer: PeerNumber) {
        hub.clock_heard(now, peer, ping);
        self.echo = Some((ping.clock_us, now));
        if !hub.knows_clock(peer) {
            self.next_ping = self.next_ping.min(now + SETTLING_INTERVAL);
        } else if self.next_ping < now + self.options.heartbeat / 2 {
            // Said now, it needs no wake-up of its own.
            self.next_ping = now;
        }
        if ping.echo_us > 0 {
            let sent = Instant::from_micros(ping.echo_us.saturating_add(ping.held_us));
            self.round_trip = Some(now.since(sent));
        }
    }

    /// An operator who does not listen misses the oldest news.
    pub(super) fn event(&mut self, event: Event) {
        if let (Event::Missing(more), Some(Event::Missing(sum))) = (event, self.events.back_mut()) {
            *sum = sum.saturating_add(more);
            return;
        }
        if self.events.is_full() {
            self.events.pop_front();
        }
        let _ = self.events.push_back(event);
    }
}
