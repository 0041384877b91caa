//! Who gets a place where there are not enough: links are few, and whoever reaches the port may take
//! one.
//!
//! - Each peer we dial has a place of its own.
//! - [`UNKNOWN_MAX`] places are kept for connections of which it is not known yet what they want, so that
//!   whoever asks for the status is always heard. They give way to newer ones of their kind.
//! - One source address leaves [`OTHERS_MIN`] places to others.
//! - A peer that has carried frames before goes before one that never has, and before the newest of a source that has
//!   most of the places.

use core::net::IpAddr;

use super::session::Session;
use super::{Gateway, LINKS_MAX};
use crate::gateway::dialler::Stage;
use crate::protocol::time::Instant;
use crate::protocol::wire::Refusal;
use crate::protocol::{Admission, Ended};

/// Places for connections that have neither greeted nor asked. Chosen: a question takes a round trip; so
/// many may come in that time.
pub(super) const UNKNOWN_MAX: usize = 8;
/// Connections whose link has ended and that still send or wait for a last word. Chosen: some questions
/// being answered, and as many refusals under way.
pub(super) const LEAVING_MAX: usize = 16;
/// Most connections at once.
pub(super) const SESSIONS_MAX: usize = LINKS_MAX + UNKNOWN_MAX + LEAVING_MAX;
/// Places that the links of one source address leave to others, but for peers that are known. A
/// lower limit would refuse honest clients behind one NAT, or on this machine, on a silent bus.
const OTHERS_MIN: usize = 8;

/// What belongs to one owner, as far as that can be told: an IPv6 network is a /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(core::net::Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Gateway {
    /// How many accepted links there can be.
    fn accepted_max(&self) -> usize {
        let dials = self.diallers.iter().filter(|dialler| dialler.stage != Stage::Stopped);
        LINKS_MAX.saturating_sub(dials.count())
    }

    /// The links that others have dialled and greeted on.
    fn accepted(&self) -> impl Iterator<Item = (usize, &Session)> {
        let sessions = self.sessions.numbered();
        sessions.filter(|(_, session)| session.dialler.is_none() && session.link.is_live())
    }

    /// Who may join by the connection `number`, which has not greeted yet.
    pub(super) fn admission(&self, number: usize) -> Admission {
        let accepted = self.accepted().count();
        if accepted < OTHERS_MIN.min(self.accepted_max()) {
            return Admission::Anybody;
        }
        if accepted >= self.accepted_max() {
            // A known peer takes the place of a stranger.
            return if self.next_to_go().is_some() { Admission::Known } else { Admission::Linked };
        }
        let Some(session) = self.sessions.get(number) else { return Admission::Linked };
        let same = self.links_from(source(session.peer.ip()));
        if same + OTHERS_MIN >= LINKS_MAX { Admission::Known } else { Admission::Anybody }
    }

    fn links_from(&self, address: IpAddr) -> usize {
        self.accepted().filter(|(_, session)| source(session.peer.ip()) == address).count()
    }

    /// Whose link ends where a known peer needs its place: of the strangers the one that has been here for
    /// longest; where there are none, the newest of a source that has most of the places.
    fn next_to_go(&self) -> Option<usize> {
        let strangers = self.accepted().filter(|(_, session)| !session.has_carried(&self.hubs));
        if let Some((number, _)) = strangers.min_by_key(|(_, session)| session.link.id()) {
            return Some(number);
        }
        let most = self.source_of_most()?;
        let many = self.accepted().filter(|(_, session)| source(session.peer.ip()) == most);
        many.max_by_key(|(_, session)| session.link.id()).map(|(number, _)| number)
    }

    /// The source that has more than half of the places, if one has: it is left over where links of different
    /// sources are struck out in pairs.
    fn source_of_most(&self) -> Option<IpAddr> {
        let (mut left, mut count) = (None, 0_usize);
        for (_, session) in self.accepted() {
            let source = source(session.peer.ip());
            if count == 0 {
                left = Some(source);
            }
            if left == Some(source) {
                count += 1;
            } else {
                count -= 1;
            }
        }
        left.filter(|source| self.links_from(*source) > LINKS_MAX / 2)
    }

    /// A known peer has come where there was no place left.
    pub(super) fn make_way(&mut self, now: Instant) {
        while self.accepted().count() > self.accepted_max() {
            let Some(number) = self.next_to_go() else { return };
            let Some(session) = self.sessions.get_mut(number) else { return };
            session.link.close(now, &mut self.hubs, Ended::WeRefused(Refusal::FULL));
            self.sessions.to_write.set(number);
            self.sessions.touched.set(number);
        }
    }

    /// Makes room for one more connection. `false`: there is none.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        let is_unknown = |session: &Session| session.dialler.is_none() && session.link.is_unknown();
        let open = self.sessions.iter().filter(|session| !session.is_leaving()).count();
        if open >= LINKS_MAX + UNKNOWN_MAX {
            // Whoever has connected and says nothing makes room for one who may.
            let Some(number) = self.oldest(is_unknown) else { return false };
            if let Some(mut session) = self.take_session(number) {
                session.link.close(now, &mut self.hubs, Ended::NoGreeting);
                self.ended(now, session);
            }
        }
        if self.sessions.len() >= SESSIONS_MAX {
            // Rather the last word of one that was refused than an answer.
            let is_refused = |session: &Session| {
                session.is_leaving() && !session.is_answering() && session.dialler.is_none()
            };
            let refused = self.oldest(is_refused);
            // The end of a dialled one is news to its command, which hears of it in its turn.
            let is_heard = |session: &Session| session.is_leaving() && session.dialler.is_none();
            let number = refused.or_else(|| self.oldest(is_heard));
            let Some(number) = number else { return false };
            if let Some(session) = self.take_session(number) {
                self.ended(now, session);
            }
        }
        true
    }

    fn oldest(&self, is_meant: impl Fn(&Session) -> bool) -> Option<usize> {
        let meant = self.sessions.numbered().filter(|(_, session)| is_meant(session));
        meant.min_by_key(|(_, session)| session.link.id()).map(|(number, _)| number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_an_address_or_an_ipv6_network() {
        let source = |text: &str| source(text.parse().unwrap());
        assert_eq!(source("10.0.0.1"), source("::ffff:10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1:2:3"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}
