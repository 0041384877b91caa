//! The protocol: everything that is decided about frames, without a socket, a clock or an
//! allocation.
//!
//! # The idea
//!
//! Every bus has one [history](mod@history): a bounded ring of the frames seen on it, in bus order,
//! each with a stamp, an origin and a **position**, a count since the start. The history has a random
//! id, new at every start. A [`Link`] is one connection to a peer. It has a **cursor**, the position
//! of the next frame for that peer, and a slow peer is a cursor that falls behind, nothing else.
//!
//! ```text
//!                        Hub, one for each bus
//!            .----------------------------------------.
//!   seen --->| history:  oldest ... frame frame newest|
//!            |                 ^cursor     ^cursor    |---> poll_transmit --> peer
//!            | queue:    lane of peer 0: frame frame  |      Link
//!   offer <--|           lane of peer 1: frame        |<--- handle_input <--- peer
//!            '----------------------------------------'
//! ```
//!
//! **Resume** needs no acknowledgements: in its greeting each side says "of your history ID I have
//! everything up to POSITION", and the other puts its cursor there. A batch is applied whole or not
//! at all, so nothing is doubled; positions that are no longer in the ring are lost, and counted on
//! both ends.
//!
//! **Toward a bus** the receiver grants a window of frames, drops what is older than its bus' age limit,
//! and answers every frame with a receipt: what [became of it](Outcome). A frame counts as sent when
//! the bus has shown it, not before. What was sent to a receiver that restarted before it answered is
//! unconfirmed, and never sent again.
//!
//! # The contract
//!
//! Five verbs drive a link: [`Link::handle_input`] (bytes arrived), [`Link::handle_timeout`] (the time
//! of [`Link::poll_timeout`] has come), [`Link::poll_timeout`] (when that is), [`Link::poll_transmit`]
//! (bytes to be sent) and [`Link::poll_event`] (news for the operator). A hub is driven by what its
//! bus does: [`Hub::seen`], [`Hub::offer`] with [`Hub::taken`] or [`Hub::rejected`], and
//! [`Hub::set_state`]; it has a [`Hub::poll_timeout`] and a [`Hub::handle_timeout`] of its own.
//!
//! *One mutation, then drain, then wait.* After bytes, a frame of the bus, or a timeout: offer each bus
//! what its queue holds, then call `poll_transmit` of every link of that hub until it returns 0, take
//! the events, and only then wait, no longer than until the earliest `poll_timeout`. Now is always an
//! argument, and never goes back. What `poll_transmit` returned counts as sent.
//!
//! # Where to begin
//!
//! - [`Frame`]: a CAN frame that is valid because it exists.
//! - [`Hub`]: a bus, with its memory given by [`Memory`] and its limits by [`Policy`].
//! - [`Link`]: [`Link::accept`] for who is dialled, [`Hub::dial`] and [`Link::dial`] for who dials.
//! - [`wire::Message`]: all that is ever said, on one page.
//! - [`Outcome`], [`Counters`], [`PeerStatus`]: the account.
//!
//! Two sides and a wire between them, here an array of bytes:
//!
//! ```
//! use canspan::protocol::time::Instant;
//! use canspan::protocol::wire::BusState;
//! use canspan::protocol::{FilterUse, Frame, Hub, Id, Lane, Link, LinkOptions, Memory, Peer, Place, Slot};
//!
//! struct Fixed;
//! impl Memory for Fixed {
//!     type Blocks = [u8; 16384];
//!     type Slots = heapless::Vec<Slot, 128>;
//!     type Peers = heapless::Vec<Peer, 4>;
//!     type Lanes = heapless::Vec<Lane, 4>;
//!     type FilterUses = heapless::Vec<FilterUse, 5>;
//! }
//!
//! let now = Instant::from_micros(1_000_000);
//! let hub = |id| Hub::<Fixed>::new("can0", id, [0; 16384], heapless::Vec::new()).unwrap();
//! let (mut board, mut pc) = ([hub(1)], [hub(2)]);
//! pc[0].set_state(BusState::Up, None);
//! let mut accepted = Link::accept(now, 1, LinkOptions::default());
//! let place = Place { hub: 0, peer: pc[0].dial(now).unwrap() };
//! let mut dialled = Link::dial(now, 1, place, "can0", LinkOptions::default()).unwrap();
//!
//! let mut wire = [0; 8192];
//! let mut drain = |board: &mut [Hub<Fixed>], pc: &mut [Hub<Fixed>]| loop {
//!     let there = dialled.poll_transmit(now, pc, &mut wire);
//!     accepted.handle_input(now, &wire[..there], board);
//!     let back = accepted.poll_transmit(now, board, &mut wire);
//!     dialled.handle_input(now, &wire[..back], pc);
//!     if there + back == 0 {
//!         break;
//!     }
//! };
//! drain(&mut board, &mut pc); // the greetings
//! let frame = Frame::data_frame(Id::Standard(0x123), b"to you").unwrap();
//! board[0].seen(&frame, 1_000_000, false);
//! drain(&mut board, &mut pc);
//!
//! let mut offer = [Frame::EMPTY; 1];
//! assert_eq!(pc[0].offer(now, &mut offer), 1);
//! assert_eq!(offer, [frame]);
//! ```

mod ask;
mod clock;
mod dropped;
pub mod entry;
mod filter;
pub mod frame;
mod held;
pub mod history;
mod hub;
mod input;
mod limits;
mod link;
mod output;
mod peer;
mod policy;
mod queue;
mod record;
mod records;
mod resume;
mod ring;
mod stream;
mod table;
pub mod time;
mod ways;
pub mod wire;

pub use ask::{Asking, Heard, report};
pub use dropped::FilterUse;
pub use filter::{FILTERS_MAX, FilterError, Filters};
pub use frame::{BusBits, Frame, Id, Kind};
pub use hub::{Hub, Memory, PeerStatus};
pub use limits::{BUSES_MAX, LINKS_MAX, PEERS_MAX};
pub use link::{
    Admission, BUS_LIST_MAX, Ended, Event, GREETING_TIMEOUT, HEARTBEATS_MISSED, Link, LinkOptions,
    Place, RECEIPT_INTERVAL,
};
pub use output::RECORD_MAX;
pub use peer::{Counters, Outcome, Peer, PeerNumber, Progress};
pub use policy::{Echo, Policy, Role};
pub use queue::{ECHO_OVERDUE, HANDED_MAX, Lane, OFFER_MAX, Slot};
pub use ring::{HOPS_MAX, PROBE_EVERY, PROBE_WAIT};
pub use table::Table;
