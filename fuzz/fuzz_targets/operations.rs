//! Any order of events on a board with two PCs, or any deeds of hostile peers; then the account.
#![no_main]

#[path = "../../tests/field/mod.rs"]
mod field;
#[path = "../../tests/field/memory.rs"]
mod memory;
#[path = "../../tests/field/talk.rs"]
mod talk;

use field::{hostile, operation};
use libfuzzer_sys::fuzz_target;

/// Longer schedules find nothing more, and take long.
const SCHEDULE_MAX: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    if kind % 2 == 0 {
        let (operations, _) = rest.as_chunks();
        let operations = operations.iter().take(SCHEDULE_MAX).copied();
        operation::run(operations.map(operation::Operation::from_bytes));
    } else {
        let (deeds, _) = rest.as_chunks();
        hostile::run(deeds.iter().take(SCHEDULE_MAX).copied());
    }
});
