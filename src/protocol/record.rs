//! A record: a length of one or two bytes, and one message.

use super::wire::{LENGTH_MAX, MESSAGE_MAX, Refusal};

/// A record's content and what follows it; `None` while it is incomplete.
pub(super) type Record<'a> = Option<(&'a [u8], &'a [u8])>;

/// Splits the first record off.
pub(super) fn split_record(input: &[u8]) -> Result<Record<'_>, Refusal> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        if second >= 0x80 {
            return Err(Refusal::PROTOCOL);
        }
        (usize::from(first & 0x7F) | usize::from(second) << 7, rest)
    };
    if length == 0 || length > MESSAGE_MAX {
        return Err(Refusal::PROTOCOL);
    }
    Ok(rest.split_at_checked(length))
}

/// Puts a record's length before its content, which starts at [`LENGTH_MAX`].
pub(super) fn seal(out: &mut [u8], length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    let prefix = if length < 0x80 { 1 } else { 2 };
    if prefix < LENGTH_MAX {
        out.copy_within(LENGTH_MAX..LENGTH_MAX + length, prefix);
    }
    let low = (length & 0x7F) as u8;
    match out {
        [first, ..] if prefix == 1 => *first = low,
        [first, second, ..] => (*first, *second) = (low | 0x80, (length >> 7) as u8),
        _ => {}
    }
    prefix + length
}
