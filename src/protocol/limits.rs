//! How much one process carries. The one place that says so.

/// Most links of a process; all of them may be of one bus.
pub const LINKS_MAX: usize = 1_024;
/// Most buses of a process.
pub const BUSES_MAX: usize = 64;
/// Most peers a bus remembers. Chosen: a peer for each link, and half as many again that may come back.
pub const PEERS_MAX: usize = LINKS_MAX + LINKS_MAX / 2;
/// Room in the transmit queue that is set aside for each peer, in frames, where its window is not smaller.
/// Chosen: the window of a real bus, which may take nothing for a long time; a virtual one has a wider window
/// and takes all at once.
pub(super) const SLOTS_PER_PEER: usize = 128;

// The history and the queue have 16 bits for a peer's number.
const _: () = assert!(PEERS_MAX < u16::MAX as usize);
