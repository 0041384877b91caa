//! The words the two ends of a link say: the whole protocol on a page.
//!
//! Each side first sends a [`preamble`](PREAMBLE_SIZE), then records: a length (varint), then as many bytes
//! of one postcard-encoded [`Message`]. The dialling side greets first, the accepting side answers
//! with its own greeting, a list of its buses, or a refusal. `docs/protocol.md` is the
//! specification, `tests/vectors/` has each message as bytes.

use serde::{Deserialize, Serialize};

use super::peer::{Outcome, Progress, total};

/// TCP port: "CANSP" on a phone's keys.
pub const PORT: u16 = 22677;
/// First bytes either side sends.
pub const MAGIC: [u8; 8] = *b"CANSPAN\n";
/// Version of the protocol; a peer with another one is refused.
pub const VERSION: u8 = 1;
/// Preamble: magic, version, mode (0: plain), key name (none: length 0).
pub const PREAMBLE_SIZE: usize = MAGIC.len() + 3;
/// Most bytes of a message, without the record's length. Chosen because a batch of 300 classic
/// frames spreads the packet's headers thin, and 64 links read into 256 KiB.
pub const MESSAGE_MAX: usize = 4096;
/// Most bytes of a record's length: a varint of at most 14 bits.
pub const LENGTH_MAX: usize = 2;
/// A byte that may stand between records and says nothing. What a side sends at one time ends with
/// one, so that a receiver may leave it in the kernel: a receiver that empties its socket makes
/// Linux acknowledge every second small packet with one of its own (`tcp_cleanup_rbuf`), which is
/// a third of the bytes at 1,000 frames/s.
pub const FILLER: u8 = 0;
/// Longest bus name: `IFNAMSIZ - 1` in `linux/if.h`.
pub const BUS_NAME_MAX: usize = 15;
/// Most bytes of frames in one [`Message::Frames`]: the rest is its tag and their length.
pub const FRAMES_MAX: usize = MESSAGE_MAX - 3;

/// Most bytes of text in one [`Message::Report`]: the rest is its tag, the text's length, two flags.
pub const REPORT_TEXT_MAX: usize = MESSAGE_MAX - 5;

/// The bit of [`Hello::features`] of a side that passes [`Message::Probe`] on.
pub const FEATURE_PROBE: u32 = 1;
/// The bit of [`Hello::features`] of a side that owns its bus: a frame it says was sent is where it was to go.
pub const FEATURE_OWNER: u32 = 2;
/// The bit of [`Hello::features`] of a side that passes frames on to a bus' owner: one that it took is on its
/// way, and no more.
pub const FEATURE_RELAY: u32 = 4;

/// A preamble's mode byte for a link without encryption.
pub const MODE_PLAIN: u8 = 0;

/// This version's preamble.
#[must_use]
pub fn preamble() -> [u8; PREAMBLE_SIZE] {
    let [a, b, c, d, e, f, g, h] = MAGIC;
    [a, b, c, d, e, f, g, h, VERSION, MODE_PLAIN, 0]
}

/// One record's content. Variants are only ever added at the end, and sent only to a peer whose
/// [`Hello::features`] has the bit that came with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message<'a> {
    /// The greeting.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// The link cannot be; the sender closes it.
    Refuse(Refusal),
    /// Names of the buses there are, separated by line feeds; the sender closes the link.
    Buses(&'a str),
    /// The sender's frames follow from here. Exactly one comes after the greetings, from a side
    /// whose frames were asked for.
    Start(Progress),
    /// Frames as in the module `entry`, in bus order, from the current position on.
    Frames(&'a [u8]),
    /// The next frame's position is further on.
    Skip(Skip),
    /// What became of the frames received, in their order: pairs of an [`Outcome`] and how many.
    Receipt(&'a [u8]),
    /// The stamps that follow are this far ahead of the sender's monotonic clock (microseconds).
    Clock(i64),
    /// The sender is there.
    Ping(Ping),
    /// The sender's bus has changed its state.
    Bus(BusStatus),
    /// The sender ends the link on purpose and will not resume it.
    Bye,
    /// Instead of a greeting: how is it all with you?
    Ask(Form),
    /// A piece of the answer; the sender closes the link after the last.
    Report(Report<'a>),
    /// Before a greeting: send me only frames that pass these [`Filters`](super::Filters), as text.
    Filter(&'a str),
    /// Is there a way back to where this began? Only to a peer with [`FEATURE_PROBE`].
    Probe(Probe),
}

/// A greeting: who is there, what it has, and what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// What the sender is able to do and is, one bit each: [`FEATURE_PROBE`], [`FEATURE_OWNER`],
    /// [`FEATURE_RELAY`].
    pub features: u32,
    /// The accepting side's bus. Empty from the dialling side: list the buses.
    pub bus: &'a str,
    /// The id of the sender's history.
    pub history: u64,
    /// The sender's bus: the same number from all processes that have it open.
    pub bus_id: u64,
    /// How many frames may be under way to the sender without a receipt; 0: send none.
    pub window: u32,
    /// The sender drops frames older than this (microseconds); 0: never.
    pub max_age_us: u64,
    /// The sender says something at least this often (milliseconds).
    pub heartbeat_ms: u32,
    /// Receipts for the sender's frames may be this far apart (microseconds).
    pub receipts_us: u32,
    /// The sender's monotonic clock (microseconds), which tells its greetings' order.
    pub clock_us: u64,
    /// What the sender has of the receiver's history, or of an earlier one on the same bus.
    pub seen: Option<Seen>,
    /// Where to begin for a sender the receiver does not know.
    pub from: From,
}

/// How far the sender of a greeting got with a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The history's id.
    pub history: u64,
    /// It has everything up to here.
    pub progress: Progress,
    /// What became of those frames, by [`Outcome`].
    pub done: [u64; Outcome::COUNT],
}

impl Seen {
    /// Whether it can be true: no more outcomes than frames, no more frames than positions.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.progress.is_possible() && total(&self.done) <= self.progress.frames
    }
}

/// Where a stream of frames begins for a new peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// With the next frame.
    Now,
    /// With what the history holds of the last so many microseconds.
    Last(u64),
    /// With the oldest frame held.
    Oldest,
}

/// Frames between the last one sent and the next that are not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// How far the position moves: the frames counted below, the receiver's own, and those it did
    /// not ask for.
    pub positions: u64,
    /// How many were overwritten before they could be sent.
    pub lost: u64,
    /// How many were older than the receiver's limit.
    pub stale: u64,
}

/// A heartbeat; it also measures the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The sender's monotonic clock (microseconds).
    pub clock_us: u64,
    /// The last such clock received, or 0.
    pub echo_us: u64,
    /// How long ago that was (microseconds).
    pub held_us: u64,
}

/// In which form the answer to [`Message::Ask`] is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// A table for a person.
    Table,
    /// JSON, as `docs/protocol.md` describes it.
    Json,
}

/// A piece of the answer to [`Message::Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report<'a> {
    /// The next part of the text.
    pub text: &'a str,
    /// Whether more follows.
    pub more: bool,
    /// Whether every bus and every link that should be up is.
    pub is_up: bool,
}

/// What finds rings; see the module `ring`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// By which the bus where it began knows it.
    pub token: u64,
    /// How long the youngest link on its way had been up (microseconds).
    pub youngest_us: u64,
    /// How many more links it may pass.
    pub hops: u8,
}

/// How a bus is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusStatus {
    /// Its state.
    pub state: BusState,
    /// Transmit and receive error counters, where the driver gives them.
    pub errors: Option<(u8, u8)>,
    /// Frames its kernel dropped before the gateway could read them, since the start: the socket's
    /// buffer was full.
    pub overflow: u64,
    /// Times its controller reported that it lost frames before the driver could read them, since the
    /// start. At least one frame each.
    pub overrun: u64,
    /// Frames its kernel dropped before any socket was given them (`rx_dropped` of the interface), since
    /// the start.
    pub dropped: u64,
    /// Frames toward it are dropped when older than this (microseconds); 0: never.
    pub max_age_us: u64,
}

/// The state of a bus (`enum can_state` in `linux/can/netlink.h`, with the interface's own).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusState {
    /// There is no such interface.
    #[default]
    Absent,
    /// The interface is down.
    Down,
    /// Up, and its controller, if any, is error-active.
    Up,
    /// An error counter is over 96.
    ErrorWarning,
    /// An error counter is over 127.
    ErrorPassive,
    /// The controller has left the bus.
    BusOff,
}

impl BusState {
    /// All of them, in the order of their numbers on the wire.
    pub const ALL: [Self; 6] =
        [Self::Absent, Self::Down, Self::Up, Self::ErrorWarning, Self::ErrorPassive, Self::BusOff];

    /// The state as an operator knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Down => "down",
            Self::Up => "up",
            Self::ErrorWarning => "error-warning",
            Self::ErrorPassive => "error-passive",
            Self::BusOff => "bus-off",
        }
    }

    /// Whether frames can be handed to it.
    #[must_use]
    pub fn takes_frames(self) -> bool {
        matches!(self, Self::Up | Self::ErrorWarning | Self::ErrorPassive)
    }
}

/// Why a link cannot be. A code this version does not know survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal(pub u8);

/// What both sides say of a ring.
const RING: &str = "the link would close a ring: the two buses are joined already, over other \
                    links, and frames would run round for ever; end one of the links";

impl Refusal {
    /// There is no bus of that name.
    pub const NO_SUCH_BUS: Self = Self(1);
    /// The link would lead back to the bus it comes from, or another process has joined these two
    /// buses already.
    pub const LOOP: Self = Self(2);
    /// There are as many links or peers as this side can hold.
    pub const FULL: Self = Self(3);
    /// A record was not of the protocol.
    pub const PROTOCOL: Self = Self(4);
    /// A newer link of the same peer has taken over.
    pub const REPLACED: Self = Self(5);
    /// The buses at its ends are joined already, over other links.
    pub const RING: Self = Self(6);
    /// This address only answers [`Message::Ask`].
    pub const NOT_SERVED: Self = Self(7);

    /// One sentence for the operator of the side that refuses.
    #[must_use]
    pub fn own_sentence(self) -> &'static str {
        match self {
            Self::NO_SUCH_BUS => "it asked for a bus that is not served here",
            Self::LOOP => {
                "another process on this machine has already joined these two buses, or the link \
                 would lead the bus back to itself; end one of the two"
            }
            Self::FULL => "there are as many links as this side can hold",
            Self::PROTOCOL => "it sent what is not of the protocol",
            Self::REPLACED => {
                "it was held up on its way, and the peer has given it up for a newer link"
            }
            Self::RING => RING,
            Self::NOT_SERVED => {
                "it asked for a bus at an address that only answers `canspan status`"
            }
            _ => "it cannot be",
        }
    }

    /// One sentence for the operator of the refused side.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NO_SUCH_BUS => {
                "the peer serves no bus of that name; `canspan status` of it shows those it has"
            }
            Self::LOOP => {
                "another process on one of the two machines has already joined these two buses, or \
                 the link would lead the bus back to itself; end one of the two"
            }
            Self::FULL => "the peer has as many links as it can hold; end one of them",
            Self::PROTOCOL => {
                "the peer could not understand what was sent; do both ends run the same version?"
            }
            Self::REPLACED => "a newer link from the same process has taken this one's place",
            Self::RING => RING,
            Self::NOT_SERVED => {
                "that address of the peer serves no buses, it only answers `canspan status`"
            }
            _ => "the peer gave a reason this version does not know; is the peer newer?",
        }
    }
}
