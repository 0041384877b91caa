//! Any bytes at all, into everything that reads bytes from a network.

use canspan::protocol::entry::{self, ENTRY_MAX};
use canspan::protocol::time::Instant;
use canspan::protocol::wire::{BusState, Message, preamble};
use canspan::protocol::{Hub, Link, LinkOptions, Place, Policy, RECORD_MAX};

use crate::memory::{Bounded, Heap};
use crate::talk::{hello, record};

/// What stands before the bytes, so that they reach every state of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lead {
    Nothing,
    Preamble,
    /// A preamble and a greeting: the link is live.
    Greeting,
    /// As before, and the bytes are the contents of records, each of at most so many bytes.
    Records(usize),
}

impl Lead {
    pub(crate) fn from_byte(byte: u8) -> Self {
        match byte {
            0..16 => Self::Nothing,
            16..48 => Self::Preamble,
            48..128 => Self::Greeting,
            _ => Self::Records(usize::from(byte - 127)),
        }
    }

    fn before(self, bytes: &[u8]) -> Vec<u8> {
        let mut input = Vec::new();
        if !matches!(self, Self::Nothing) {
            input.extend(preamble());
        }
        if matches!(self, Self::Greeting | Self::Records(_)) {
            input.extend(record(&Message::Hello(hello())));
        }
        match self {
            Self::Records(most) => {
                bytes.chunks(most.min(127)).for_each(|content| {
                    input.push(content.len() as u8);
                    input.extend(content);
                });
            }
            _ => input.extend(bytes),
        }
        input
    }
}

/// Bytes as an entry: refused, or a frame that is the same after another turn.
pub(crate) fn check_entry(bytes: &[u8]) {
    let Some((frame, delta_us, rest)) = entry::decode(bytes) else { return };
    assert!(bytes.ends_with(rest) && bytes.len() - rest.len() <= ENTRY_MAX);
    let mut again = [0; ENTRY_MAX];
    let used = entry::encode(&frame, delta_us, &mut again).unwrap();
    assert!(used <= bytes.len() - rest.len(), "the shortest form is the one written");
    assert_eq!(entry::decode(&again[..used]), Some((frame, delta_us, &[][..])));
}

/// Bytes into links of both kinds, in pieces of the given sizes (in turn, at least one byte). They
/// end the link or they do not, in the same way however they are cut; nothing else happens.
pub(crate) fn check_link(lead: Lead, bytes: &[u8], pieces: &[u8]) {
    let input = lead.before(bytes);
    for is_dialling in [false, true] {
        let whole = talk(is_dialling, &input, &mut core::iter::repeat(usize::MAX));
        let sizes = pieces.iter().map(|size| usize::from(*size) + 1).chain([usize::MAX]);
        let mut sizes: Vec<usize> = sizes.collect();
        sizes.reverse();
        assert_eq!(whole, talk(is_dialling, &input, &mut sizes.into_iter().cycle()));
    }
}

/// What a link says, and how it stands, after an input in pieces.
fn talk(
    is_dialling: bool,
    input: &[u8],
    sizes: &mut dyn Iterator<Item = usize>,
) -> (String, Vec<u8>) {
    let now = Instant::from_micros(9_000_000);
    let mut hub: Hub<Heap> = Hub::new("can0", 5, vec![0; 2 * 4096], Bounded::new(128)).unwrap();
    hub.set_policy(Policy { is_virtual: false, window: 40, ..Policy::default() });
    hub.set_state(BusState::Up, None);
    let options = LinkOptions::default();
    let mut link = if is_dialling {
        let place = Place { hub: 0, peer: hub.dial(now).unwrap() };
        Link::dial(now, 1, place, "can0", options).unwrap()
    } else {
        Link::accept(now, 1, options)
    };
    let mut hubs = [hub];
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        link.handle_input(now, piece, &mut hubs);
        rest = after;
    }
    let mut said = Vec::new();
    let mut out = [0; RECORD_MAX];
    loop {
        let used = link.poll_transmit(now, &mut hubs, &mut out);
        if used == 0 {
            break;
        }
        said.extend(&out[..used]);
        assert!(said.len() < 64 * 1024, "there is no end to what it says");
    }
    let mut events = Vec::new();
    events.extend(core::iter::from_fn(|| link.poll_event()));
    let peers: Vec<_> = hubs[0].peers().collect();
    (format!("{:?} {events:?} {peers:?}", link.ended()), said)
}
