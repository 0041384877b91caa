//! The counters of a link as one line, and why a link ended as a sentence.

use super::Gateway;
use super::dialler::Wish;
use super::memory::Heap;
use crate::bus::Health;
use crate::protocol::{Counters, Ended, Hub, Outcome, PeerStatus, Place};

/// Peers that are gone and have carried nothing that the report at the end lists for each bus. Chosen: who floods a
/// board with greetings fills one screen of its log.
const STRANGERS_TOLD: usize = 64;

/// One line with all that is counted for a link, both directions together where a word is the same
/// on both ends.
#[must_use]
pub fn counters(hub: &Hub<Heap>, peer: &str, status: &PeerStatus) -> String {
    let PeerStatus { received, sent, behind, restarts, links, .. } = status;
    let both = |outcome: Outcome| received.of(outcome) + sent.of(outcome);
    let kept = |counters: &Counters| counters.of(Outcome::Sent);
    format!(
        "link {bus} {peer} sent={} received={} taken={} lost={} stale={} refused={} failed={} \
         unconfirmed={} behind={behind} overflow={} restarts={restarts} reconnects={}",
        kept(sent),
        kept(received),
        both(Outcome::Taken),
        received.lost + sent.lost,
        both(Outcome::Stale),
        both(Outcome::Refused) + both(Outcome::Unsupported),
        both(Outcome::Failed),
        both(Outcome::Unconfirmed),
        hub.status().overflow,
        links.saturating_sub(1),
        bus = hub.name(),
    )
}

/// A bus' state, with its controller's error counters where they are known.
#[must_use]
pub(super) fn health(health: Health) -> String {
    let state = health.state.name();
    match health.errors {
        Some((tx, rx)) => format!("{state} (error counters: tx {tx}, rx {rx})"),
        None => state.to_owned(),
    }
}

/// Why a link ended, for the operator.
#[must_use]
pub fn reason(ended: Ended) -> String {
    match ended {
        Ended::Closed => "the connection was closed or reset".to_owned(),
        Ended::Bye => "the peer has ended it".to_owned(),
        Ended::Finished => "ended here".to_owned(),
        Ended::Listed => "the buses were listed".to_owned(),
        Ended::Asked(_) => "it was told how it all is".to_owned(),
        Ended::Silent => "nothing was heard of the peer for too long".to_owned(),
        Ended::NoGreeting => {
            "no greeting came in time; is it canspan that listens there?".to_owned()
        }
        Ended::Replaced => "a newer link of the same peer has taken its place".to_owned(),
        Ended::Refused(refusal) => refusal.sentence().to_owned(),
        Ended::WeRefused(refusal) => format!("refused here: {}", refusal.own_sentence()),
        Ended::NotCanspan => {
            "what came first is not canspan; is it the right port, on both sides?".to_owned()
        }
        Ended::Version(version) => format!(
            "the peer speaks version {version} of the protocol, this side version {}; install the \
             same release on both",
            crate::protocol::wire::VERSION
        ),
        Ended::Mode(_) => {
            "the peer wants an encrypted link, which this release does not have".to_owned()
        }
    }
}

impl Gateway {
    /// What the operator calls a peer: as it was typed, or its address, or that it is gone.
    pub(super) fn name_of(&self, bus: &str, peer: usize, link: Option<u32>) -> String {
        let is_it = |place: &Place| {
            place.peer == peer && self.hubs.get(place.hub).is_some_and(|hub| hub.name() == bus)
        };
        let dialled = self.diallers.iter().find(|dialler| match &dialler.wish {
            Wish::Bus { place, .. } => is_it(place),
            Wish::Names => false,
        });
        let session = self.sessions.iter().find(|session| Some(session.link.id()) == link);
        match (dialled, session) {
            (Some(dialler), _) => dialler.endpoint.to_string(),
            (None, Some(session)) => session.peer.to_string(),
            (None, None) => "gone".to_owned(),
        }
    }

    /// Prints the counters of every peer.
    pub fn report(&self) {
        for (hub, bus) in self.hubs.iter().zip(&self.buses) {
            if bus.is_bus() {
                log::info!(
                    "bus {} state={} frames={} overflow={} overrun={} dropped={}",
                    hub.name(),
                    hub.status().state.name(),
                    hub.frames_seen(),
                    hub.status().overflow,
                    hub.status().overrun,
                    hub.status().dropped
                );
            }
            // Where there is no bus either, a peer that was never linked with is nothing to tell of.
            let counts = |status: &PeerStatus| bus.is_bus() || status.links > 0;
            let mut strangers = 0;
            for (number, status) in hub.peers().filter(|(_, status)| counts(status)) {
                let is_gone = status.link.is_none() && !status.dialled;
                let is_stranger = is_gone && !hub.has_carried(number);
                strangers += usize::from(is_stranger);
                if strangers > STRANGERS_TOLD && is_stranger {
                    continue;
                }
                let name = self.name_of(hub.name(), number, status.link);
                log::info!("{}", counters(hub, &name, &status));
            }
            if let Some(more) = strangers.checked_sub(STRANGERS_TOLD).filter(|more| *more > 0) {
                log::info!(
                    "bus {}: {more} more peers are gone and have carried nothing",
                    hub.name()
                );
            }
        }
    }
}
