//! What holds for any frame, any bytes, any order of events and any peer. proptest makes the cases
//! and shrinks what fails; `fuzz/` drives the same code without an end.
//!
//! `PROPTEST_CASES=N cargo test --test properties` looks further.

#[path = "field/bytes.rs"]
mod bytes;
mod field;
#[path = "field/memory.rs"]
mod memory;
#[path = "field/talk.rs"]
mod talk;

use proptest::collection::vec;
use proptest::prelude::*;

use bytes::Lead;
use canspan::protocol::entry::{self, ENTRY_MAX};
use canspan::protocol::{Frame, Id, Kind};
use field::operation::Operation;

fn operation() -> impl Strategy<Value = Operation> {
    any::<[u8; 4]>().prop_map(Operation::from_bytes)
}

/// Any frame there is: parts that do not fit together are made to.
fn frame() -> impl Strategy<Value = Frame> {
    let parts = (any::<u32>(), 0..7_usize, any::<u8>(), vec(any::<u8>(), 0..=64));
    parts.prop_map(|(bits, form, shape, mut data)| {
        let wide = Id::Extended(bits & Id::EXTENDED_MAX);
        let id = if form & 1 == 1 { wide } else { Id::Standard(bits as u16 & Id::STANDARD_MAX) };
        let raw_dlc = shape % 16;
        match form {
            0 | 1 => {
                data.resize(usize::from(raw_dlc.min(8)), shape);
                Frame::build(id, Kind::Data { raw_dlc }, &data)
            }
            2 | 3 => Frame::remote(id, raw_dlc),
            4 | 5 => Frame::fd(id, shape, &data),
            _ => Frame::error(wide.bits(), &data[..data.len().min(8)]),
        }
        .unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_account_is_kept_whatever_happens(operations in vec(operation(), 0..60)) {
        field::operation::run(operations);
    }

    #[test]
    fn a_hostile_peer_ends_its_own_link_only(deeds in vec(any::<[u8; 6]>(), 0..80)) {
        field::hostile::run(deeds);
    }

    #[test]
    fn any_bytes_are_an_entry_or_refused(bytes in vec(any::<u8>(), 0..100)) {
        bytes::check_entry(&bytes);
    }

    #[test]
    fn any_frame_is_the_same_after_the_wire(frame in frame(), delta_us in any::<u64>()) {
        let mut bytes = [0; ENTRY_MAX + 3];
        let used = entry::encode(&frame, delta_us, &mut bytes).unwrap();
        prop_assert!(used <= ENTRY_MAX);
        let (again, delta, rest) = entry::decode(&bytes).unwrap();
        prop_assert_eq!((again, delta, rest.len()), (frame, delta_us, bytes.len() - used));
        // A part of an entry is none, and a buffer too small is refused.
        for short in 0..used {
            prop_assert!(entry::decode(&bytes[..short]).is_none());
            prop_assert!(entry::encode(&frame, delta_us, &mut vec![0; short]).is_none());
        }
    }

    #[test]
    fn any_input_ends_the_link_at_most_however_it_is_cut(
        lead in any::<u8>(),
        input in vec(any::<u8>(), 0..600),
        pieces in vec(any::<u8>(), 0..20),
    ) {
        bytes::check_link(Lead::from_byte(lead), &input, &pieces);
    }
}
