//! Sizes and times with their units.

use core::time::Duration;

use super::MaxAge;
use super::error::ValueError;

/// Smallest history, in bytes: a few thousand frames, so that a link in trouble for a blink has
/// something to resume from.
const SIZE_MIN: u64 = 64 << 10;
/// Largest history, in bytes: hours of many buses. Chosen to catch a wrong unit.
const SIZE_MAX: u64 = 64 << 30;
/// Longest time. Chosen to catch a wrong unit; in microseconds it is far from any limit.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads a size in bytes: `4M`, `512k`, `1G` (of 1024) or plain bytes.
pub(super) fn parse_size(text: &str) -> Result<usize, ValueError> {
    let bytes = split_unit(text).and_then(|(number, unit)| {
        let shift = match unit {
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift)
    });
    let Some(bytes) = bytes else {
        return Err(ValueError::new(format!("`{text}` is no size; one is 4M, 512k or 1G")));
    };
    if bytes < SIZE_MIN {
        return Err(ValueError::new(format!(
            "`{text}` is too small for a history; the least is 64k"
        )));
    }
    usize::try_from(bytes).ok().filter(|_| bytes <= SIZE_MAX).ok_or_else(|| {
        ValueError::new(format!(
            "`{text}` is too much for a history; the most is 64G, or what this machine can address"
        ))
    })
}

/// Reads a time that is not zero: `500ms`, `3s`, `2m`, `1h`.
pub(super) fn parse_time(text: &str) -> Result<Duration, ValueError> {
    let Some((number, unit)) = split_unit(text) else {
        return Err(ValueError::new(format!("`{text}` is no time; one is 500ms, 3s or 2m")));
    };
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 3600 * 1000,
        "" => {
            return Err(ValueError::new(format!(
                "`{text}` has no unit; a time is written {number}ms, {number}s or {number}m"
            )));
        }
        _ => {
            return Err(ValueError::new(format!(
                "`{text}`: `{unit}` is no unit of time; there are ms, s, m and h, as in 500ms"
            )));
        }
    };
    let time = number.checked_mul(millis).map(Duration::from_millis);
    match time.filter(|time| *time <= TIME_MAX) {
        Some(Duration::ZERO) => {
            Err(ValueError::new(format!("`{text}` is no time at all; the least is 1ms")))
        }
        Some(time) => Ok(time),
        None => Err(ValueError::new(format!("`{text}` is more than a year"))),
    }
}

/// Reads an age limit: a time or `none`.
pub(super) fn parse_max_age(text: &str) -> Result<MaxAge, ValueError> {
    if text == "none" { Ok(MaxAge::Unlimited) } else { parse_time(text).map(MaxAge::Limit) }
}

/// A whole number and what follows it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let number = text.strip_suffix(unit)?.parse().ok()?;
    Some((number, unit))
}
