//! Frames held back before they go out on a link, so that more of them share a packet
//! ([`LinkOptions::hold`](super::LinkOptions::hold)).

use core::time::Duration;

use super::hub::{Hub, Memory};
use super::link::Link;
use super::peer::PeerNumber;
use super::time::Instant;

/// Bytes of frames from which on none is held. Chosen: what a TCP segment carries through Ethernet and
/// a tunnel. More frames save no header, and a reader's default buffer holds this many.
const PACKET: usize = 1_400;
/// A frame is held for at most this part of the receiver's age limit: holding alone must make none stale.
const AGE_SHARE: u64 = 4;

/// How it stands with the frames that wait for a link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Held {
    /// None waits.
    #[default]
    Nothing,
    /// They are held until this moment.
    Until(Instant),
    /// They go, until none is left.
    Leaving,
}

impl Link {
    /// Whether the frames that wait for the peer are held for now.
    pub(super) fn holds_frames<M: Memory>(
        &mut self,
        now: Instant,
        hub: &mut Hub<M>,
        peer: PeerNumber,
    ) -> bool {
        if self.options.hold.is_zero() {
            return false;
        }
        let Some(most) = hub.hold_max(now, peer) else {
            self.held = Held::Nothing;
            return false;
        };
        let until = match self.held {
            Held::Leaving => return false,
            Held::Until(until) => until,
            Held::Nothing => now + self.options.hold.min(most),
        };
        let is_held = now < until && !most.is_zero();
        self.held = if is_held { Held::Until(until) } else { Held::Leaving };
        is_held
    }
}

impl<M: Memory> Hub<M> {
    /// How long the next frame for a peer may be held at most: zero where nothing is gained by it. `None`
    /// if none waits.
    ///
    /// What waits is estimated, from above: frames that are not for the peer count, too.
    fn hold_max(&mut self, now: Instant, number: PeerNumber) -> Option<Duration> {
        self.settle(number);
        self.next_for(now, number)?;
        let outbound = &self.peer(number)?.outbound;
        let frames = self.position().saturating_sub(outbound.cursor.position);
        let fills_window = frames >= outbound.room();
        let fills_packet = self.history.bytes_from(&outbound.cursor) >= PACKET;
        Some(match outbound.max_age_us {
            _ if fills_window || fills_packet || self.is_closing => Duration::ZERO,
            0 => Duration::MAX,
            limit => Duration::from_micros(limit / AGE_SHARE),
        })
    }
}
