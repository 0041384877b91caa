//! What a link sends, in the order it goes out: preamble, greeting, what cannot wait, frames.

use core::fmt::Write as _;

use heapless::String;

use super::held::Held;
use super::hub::{Hub, Memory};
use super::link::{BUS_LIST_MAX, Link, Phase, Place};
use super::record::seal;
use super::stream::write;
use super::time::{Instant, micros};
use super::wire::{
    FEATURE_PROBE, FILLER, Hello, LENGTH_MAX, MESSAGE_MAX, Message, PREAMBLE_SIZE, Ping, Probe,
    Refusal, preamble,
};

/// Room [`Link::poll_transmit`] needs to make progress: one record of any kind.
pub const RECORD_MAX: usize = LENGTH_MAX + MESSAGE_MAX;

impl Link {
    /// Fills `out` with what is to be sent and returns how much that is; 0 if there is nothing to
    /// say now. `out` must have room for at least [`RECORD_MAX`] bytes. What was returned counts
    /// as sent: the shell sends all of it, in this order, before it asks again.
    #[must_use]
    pub fn poll_transmit<M: Memory>(
        &mut self,
        now: Instant,
        hubs: &mut [Hub<M>],
        out: &mut [u8],
    ) -> usize {
        self.notice_replacement(now, hubs);
        self.notice_ring(now, hubs);
        let mut used = 0;
        if self.outbox.preamble
            && let Some(room) = out.get_mut(..PREAMBLE_SIZE)
        {
            room.copy_from_slice(&preamble());
            self.outbox.preamble = false;
            used = PREAMBLE_SIZE;
        }
        while let Some(room) = out.get_mut(used..).filter(|room| room.len() >= RECORD_MAX) {
            let length = self.record(now, hubs, room);
            if length == 0 {
                break;
            }
            used += length;
            // Whatever is said takes the frames along that wait.
            self.held = Held::Leaving;
        }
        self.is_drained = used == 0;
        if used > 0
            && self.phase == Phase::Live
            && let Some(room) = out.get_mut(used)
        {
            *room = FILLER;
            used += 1;
        }
        used
    }

    fn notice_replacement<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>]) {
        let Some(place) = self.place.filter(|_| self.is_live()) else { return };
        let current = hubs.get(place.hub).and_then(|hub| hub.link_of(place.peer));
        if current != Some(self.id) {
            self.close(now, hubs, super::link::Ended::Replaced);
        }
    }

    pub(super) fn notice_ring<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>]) {
        let Some(place) = self.place.filter(|_| self.is_live()) else { return };
        if hubs.get_mut(place.hub).is_some_and(|hub| hub.closes_ring(self.id)) {
            self.close(now, hubs, super::link::Ended::WeRefused(Refusal::RING));
        }
    }

    /// Writes the next record; 0 if there is none.
    fn record<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>], out: &mut [u8]) -> usize {
        let Some(content) = out.get_mut(LENGTH_MAX..RECORD_MAX) else { return 0 };
        let mut length = self.special(now, hubs, content);
        if length == 0 && self.is_live() {
            length = self.probe(now, hubs, content);
        }
        if length == 0 && self.is_live() && self.hold.is_none() {
            length = self.live(now, hubs, content);
        }
        seal(out, length)
    }

    /// Greetings and farewells.
    fn special<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>], out: &mut [u8]) -> usize {
        if self.outbox.hello && !self.is_filter_told && !self.options.filters.is_all() {
            self.is_filter_told = true;
            let text = super::filter::text(&self.options.filters);
            return write(&Message::Filter(core::str::from_utf8(&text).unwrap_or("")), out);
        }
        if self.outbox.hello {
            self.outbox.hello = false;
            self.greeted_at = now;
            return self.hello(now, hubs, out);
        }
        if self.outbox.list {
            self.outbox.list = false;
            let mut names: String<BUS_LIST_MAX> = String::new();
            for hub in hubs.iter() {
                let gap = if names.is_empty() { "" } else { "\n" };
                let _ = write!(names, "{gap}{}", hub.name());
            }
            return write(&Message::Buses(&names), out);
        }
        if let Some(refusal) = self.outbox.refuse.take() {
            return write(&Message::Refuse(refusal), out);
        }
        if core::mem::take(&mut self.outbox.bye) && self.phase == Phase::Live {
            return write(&Message::Bye, out);
        }
        0
    }

    fn hello<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>], out: &mut [u8]) -> usize {
        let receipts = self.options.receipts.max(self.options.hold);
        let mut hello = Hello {
            features: FEATURE_PROBE,
            bus: "",
            history: 1,
            bus_id: 1,
            window: 0,
            max_age_us: 0,
            heartbeat_ms: u32::try_from(self.options.heartbeat.as_millis()).unwrap_or(u32::MAX),
            receipts_us: u32::try_from(micros(receipts)).unwrap_or(u32::MAX),
            clock_us: now.as_micros(),
            seen: None,
            from: self.options.from,
        };
        let hub = self.place.and_then(|place| Some((hubs.get_mut(place.hub)?, place.peer)));
        let Some((hub, peer)) = hub else { return write(&Message::Hello(hello), out) };
        hello.features = hub.features(peer);
        hello.seen = hub.seen_of(peer);
        hello.history = hub.id();
        hello.bus_id = hub.bus_id();
        hello.bus = self.asks_for.as_deref().unwrap_or_else(|| hub.name());
        hello.window = if self.options.wants_frames { hub.policy().window } else { 0 };
        hello.max_age_us = hub.status().max_age_us;
        write(&Message::Hello(hello), out)
    }

    /// Our own probe, or one of others that is to be passed on.
    fn probe<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>], out: &mut [u8]) -> usize {
        let Some(hub) = self.place.and_then(|place| hubs.get_mut(place.hub)) else { return 0 };
        if core::mem::take(&mut self.outbox.probe) {
            let probe = hub.issue_probe(now, self.id, now.since(self.up_at));
            return write(&Message::Probe(probe), out);
        }
        if self.on_hold().is_some() {
            return 0;
        }
        // The peer must not take a link that waits for dead.
        if self.hold.is_some() && core::mem::take(&mut self.outbox.ping) {
            return write(&Message::Ping(self.ping(now)), out);
        }
        // Two links of a ring that come up together find each other out by this.
        if !self.peer_probes() {
            return 0;
        }
        let age_us = self.age(now).map_or(u64::MAX, micros);
        hub.next_probe(&mut self.probe_cursor, Some(self.id)).map_or(0, |probe| {
            let youngest_us = probe.youngest_us.min(age_us);
            write(&Message::Probe(Probe { youngest_us, ..probe }), out)
        })
    }

    /// What a live link says, most urgent first.
    fn live<M: Memory>(&mut self, now: Instant, hubs: &mut [Hub<M>], out: &mut [u8]) -> usize {
        let Some(Place { hub, peer }) = self.place else { return 0 };
        let Some(hub) = hubs.get_mut(hub) else { return 0 };
        // Before any frame: it says how old they are.
        if core::mem::take(&mut self.outbox.ping) {
            return write(&Message::Ping(self.ping(now)), out);
        }
        if core::mem::take(&mut self.outbox.start) {
            let length = hub.start(peer, out);
            if length > 0 {
                return length;
            }
        }
        let version = hub.status_version();
        if self.status_told != Some(version) {
            self.status_told = Some(version);
            return write(&Message::Bus(hub.status()), out);
        }
        let is_held = self.holds_frames(now, hub, peer);
        let due = (now >= self.next_receipt && !is_held) || hub.receipt_presses(peer);
        if due && hub.has_receipt(peer) {
            let length = hub.receipt(peer, out);
            if length > 0 {
                self.next_receipt = now + self.receipt_interval;
                return length;
            }
        }
        if is_held {
            return 0;
        }
        hub.next_message(now, peer, &mut self.stamps_out, out)
    }

    fn ping(&self, now: Instant) -> Ping {
        let (echo_us, held_us) =
            self.echo.map_or((0, 0), |(echo_us, at)| (echo_us, micros(now.since(at))));
        Ping { clock_us: now.as_micros(), echo_us, held_us }
    }
}
