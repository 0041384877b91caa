//! Any bytes: as an entry, and as the input of links of both kinds, however they are cut.
#![no_main]

#[path = "../../tests/field/bytes.rs"]
mod bytes;
#[path = "../../tests/field/memory.rs"]
mod memory;
#[path = "../../tests/field/talk.rs"]
mod talk;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    bytes::check_entry(input);
    if let Some((&lead, rest)) = input.split_first() {
        let (pieces, rest) = rest.split_at(rest.len().min(8));
        bytes::check_link(bytes::Lead::from_byte(lead), rest, pieces);
    }
});
