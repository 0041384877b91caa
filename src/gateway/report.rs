//! The counters of a link as one line, and why a link ended as a sentence.

use super::memory::Heap;
use crate::bus::Health;
use crate::protocol::{Counters, Ended, Hub, Outcome, PeerStatus};

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
