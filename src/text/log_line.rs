//! Lines of a candump log: `(1436509052.249713) can0 044#2A366C2BBA`.

use core::fmt;

use super::{AsText, ParseLogError, parse_exact};
use crate::protocol::frame::Frame;

/// Microseconds in a second.
const SECOND_US: u64 = 1_000_000;

/// One frame of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'t> {
    /// When, in microseconds, since whatever the log counts from; mostly 1970.
    pub stamp_us: u64,
    /// The bus' name as the log has it.
    pub bus: &'t str,
    /// The frame, its FD length as it stands.
    pub frame: Frame,
}

/// Writes the line `candump -L` prints for this frame, without the line break.
///
/// `stamp_us` is in microseconds since 1970.
pub fn write_log_line(
    out: &mut impl fmt::Write,
    stamp_us: u64,
    bus: &str,
    frame: &Frame,
) -> fmt::Result {
    let (seconds, fraction) = (stamp_us / SECOND_US, stamp_us % SECOND_US);
    write!(out, "({seconds:010}.{fraction:06}) {bus} {}", AsText(frame))
}

/// Reads a line of a candump log, with or without its line break and the `R` or `T` that
/// `candump -x` adds.
///
/// `Ok(None)` is a line without a frame on purpose: blank, a comment (`#` or `;`), or the note
/// candump leaves where it lost frames.
pub fn parse_log_line(line: &str) -> Result<Option<LogLine<'_>>, ParseLogError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) || line.starts_with("DROPCOUNT:") {
        return Ok(None);
    }
    let (stamp, rest) =
        line.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or(ParseLogError::Stamp)?;
    let stamp_us = parse_stamp(stamp.trim()).ok_or(ParseLogError::Stamp)?;
    let mut words = rest.split_ascii_whitespace();
    let (Some(bus), Some(frame)) = (words.next(), words.next()) else {
        return Err(ParseLogError::Incomplete);
    };
    let frame = parse_exact(frame)?;
    match (words.next(), words.next()) {
        (None | Some("R" | "T"), None) => Ok(Some(LogLine { stamp_us, bus, frame })),
        _ => Err(ParseLogError::Trailing),
    }
}

/// Seconds with a fraction of any length to microseconds; what is finer is cut off.
fn parse_stamp(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut stamp_us = digits(seconds)?.checked_mul(SECOND_US)?;
    digits(fraction)?;
    let mut unit_us = SECOND_US;
    for digit in fraction.chars().take(6) {
        unit_us /= 10;
        stamp_us = stamp_us.checked_add(u64::from(digit.to_digit(10)?) * unit_us)?;
    }
    Some(stamp_us)
}

/// A number of nothing but digits; `u64::from_str` would take a sign too.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}
