//! Sizes and times with their units.

use core::ops::RangeInclusive;
use core::time::Duration;

use super::MaxAge;
use super::error::ValueError;

/// Lowest bit rate in bit/s: less than any transceiver's time-out for a stuck bus allows. Chosen to
/// catch a missing unit.
const BITRATE_MIN: u64 = 1_000;
/// Highest in bit/s: that of a classic bus (ISO 11898-1), which is that of arbitration in CAN FD.
const BITRATE_MAX: u64 = 1_000_000;
/// Highest in bit/s of the data phase: twice what transceivers are made for. Chosen to catch a wrong
/// unit; the controller knows its own limit.
const DATA_BITRATE_MAX: u64 = 20_000_000;
/// Longest pause of a controller after bus-off, in milliseconds: an hour. Chosen to catch a wrong
/// unit.
const RESTART_MAX: u32 = 3_600_000;

/// Smallest history, in bytes: a few thousand frames, so that a link in trouble for a blink has
/// something to resume from.
const SIZE_MIN: u64 = 64 << 10;
/// Largest history, in bytes: hours of many buses. Chosen to catch a wrong unit.
const SIZE_MAX: u64 = 64 << 30;
/// Shortest time.
const TIME_MIN: Duration = Duration::from_millis(1);
/// Longest time. Chosen to catch a wrong unit; in microseconds it is far from any limit.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Shortest heartbeat: less would load a slow link with nothing.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);
/// Longest heartbeat: a NAT forgets a flow that is silent for longer (RFC 5382 asks it for two
/// hours, many keep five minutes).
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// Longest hold: what is held for longer is no live stream any more. Chosen to catch a wrong unit, too.
const HOLD_MAX: Duration = Duration::from_secs(1);

/// Reads a size in bytes: `4M`, `512k`, `1G` (of 1024) or plain bytes.
pub(super) fn parse_size(text: &str) -> Result<usize, ValueError> {
    let bytes = split_unit(text).and_then(|(number, unit)| {
        let shift = match unit {
            "" => 0,
            "k" | "K" => 10,
            "m" | "M" => 20,
            "g" | "G" => 30,
            // Too much, which is said below.
            "t" | "T" => 40,
            _ => return None,
        };
        Some(number.saturating_mul(1 << shift))
    });
    let Some(bytes) = bytes else {
        let hint = if text.contains('.') { "a whole number, " } else { "" };
        return Err(ValueError::new(format!("`{text}` is no size; one is {hint}4M, 512k or 1G")));
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

/// Reads a bit rate in bit/s: `500k`, `1M` (of 1000) or plain bits.
pub(super) fn parse_bitrate(text: &str) -> Result<u32, ValueError> {
    parse_rate(text, BITRATE_MAX, "1M, or more only in the data phase (--dbitrate)")
}

/// Reads a bit rate of the data phase in bit/s.
pub(super) fn parse_data_bitrate(text: &str) -> Result<u32, ValueError> {
    parse_rate(text, DATA_BITRATE_MAX, "20M")
}

fn parse_rate(text: &str, max: u64, most: &str) -> Result<u32, ValueError> {
    let rate = split_unit(text).and_then(|(number, unit)| match unit {
        "" => Some(number),
        "k" | "K" => number.checked_mul(1_000),
        "m" | "M" => number.checked_mul(1_000_000),
        _ => None,
    });
    let Some(rate) = rate else {
        return Err(ValueError::new(format!("`{text}` is no bit rate; one is 500k or 1M")));
    };
    if rate < BITRATE_MIN {
        let known = if split_unit(text).is_some_and(|(_, unit)| unit.is_empty()) && rate > 0 {
            format!("; is {text}k meant?")
        } else {
            String::new()
        };
        return Err(ValueError::new(format!("`{text}` is less than 1k bit/s{known}")));
    }
    u32::try_from(rate)
        .ok()
        .filter(|_| rate <= max)
        .ok_or_else(|| ValueError::new(format!("`{text}` is too fast; the most is {most}")))
}

/// Reads a sample point, `0.875`, into thousandths of a bit.
pub(super) fn parse_sample_point(text: &str) -> Result<u32, ValueError> {
    let digits = text.strip_prefix("0.").filter(|digits| {
        (1..=3).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    let thousandths = digits.and_then(|digits| format!("{digits:0<3}").parse().ok());
    thousandths.filter(|thousandths| *thousandths > 0).ok_or_else(|| {
        ValueError::new(format!(
            "`{text}` is no sample point; one is 0.875, a part of a bit with up to three digits"
        ))
    })
}

/// Reads the milliseconds after which a controller leaves bus-off; zero for not at all.
pub(super) fn parse_restart(text: &str) -> Result<u32, ValueError> {
    let millis = split_unit(text).filter(|(_, unit)| matches!(*unit, "" | "ms"));
    let millis = millis.and_then(|(number, _)| u32::try_from(number).ok());
    millis.filter(|millis| *millis <= RESTART_MAX).ok_or_else(|| {
        ValueError::new(format!(
            "`{text}` is no pause; one is 100, in milliseconds; 0 is for a controller that stays \
             off, and an hour is the most"
        ))
    })
}

/// Reads a time that is not zero: `500ms`, `3s`, `2m`, `1h`.
pub(super) fn parse_time(text: &str) -> Result<Duration, ValueError> {
    match parse_any_time(text, &(TIME_MIN..=TIME_MAX))? {
        Duration::ZERO => {
            Err(ValueError::new(format!("`{text}` is no time at all; the least is 1ms")))
        }
        time if time > TIME_MAX => Err(ValueError::new(format!("`{text}` is more than a year"))),
        time => Ok(time),
    }
}

/// Reads the silence before a heartbeat.
pub(super) fn parse_heartbeat(text: &str) -> Result<Duration, ValueError> {
    let bounds = HEARTBEAT_MIN..=HEARTBEAT_MAX;
    let time = parse_any_time(text, &bounds)?;
    if bounds.contains(&time) {
        return Ok(time);
    }
    Err(ValueError::new(format!("`{text}` is not between 50ms and 5m")))
}

/// Reads how long a frame may be held; zero for not at all.
pub(super) fn parse_hold(text: &str) -> Result<Duration, ValueError> {
    let time = parse_any_time(text, &(TIME_MIN..=HOLD_MAX))?;
    if time <= HOLD_MAX {
        return Ok(time);
    }
    Err(ValueError::new(format!(
        "`{text}` is too long to hold live frames; the most is 1s, and 4ms saves most of what can be \
         saved on a busy bus"
    )))
}

/// Reads an age limit: a time or `none`.
pub(super) fn parse_max_age(text: &str) -> Result<MaxAge, ValueError> {
    if text == "none" {
        return Ok(MaxAge::Unlimited);
    }
    let time = parse_time(text).map(MaxAge::Limit);
    time.map_err(|error| ValueError::new(format!("{error}; or none, for no limit")))
}

/// Reads a time, zero and endless ones, too. Where the unit is missing, those are offered that make a
/// time within `bounds`.
fn parse_any_time(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, ValueError> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1000), ("m", 60_000), ("min", 60_000), ("h", 3_600_000)];
    let Some((number, unit)) = split_unit(text) else {
        return Err(ValueError::new(format!("`{text}` is no time; one is 500ms, 3s or 2m")));
    };
    let time = |millis: u64| Duration::from_millis(number.saturating_mul(millis));
    match UNITS.into_iter().find(|(name, _)| *name == unit) {
        Some((_, millis)) => Ok(time(millis)),
        None if unit.is_empty() && number == 0 => Ok(Duration::ZERO),
        None if unit.is_empty() => {
            let fits =
                UNITS.into_iter().take(3).filter(|(_, millis)| bounds.contains(&time(*millis)));
            let offered: Vec<String> = fits.map(|(name, _)| format!("{number}{name}")).collect();
            let offered = match offered.split_last() {
                Some((last, [])) => last.clone(),
                Some((last, first)) => format!("{} or {last}", first.join(", ")),
                None => "as in 500ms, 3s or 2m".to_owned(),
            };
            Err(ValueError::new(format!("`{text}` has no unit; a time is written {offered}")))
        }
        None => Err(ValueError::new(format!(
            "`{text}`: `{unit}` is no unit of time; there are ms, s, m and h, as in 500ms"
        ))),
    }
}

/// A whole number, at most the largest there is, and what follows it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let digits = text.strip_suffix(unit).filter(|digits| !digits.is_empty())?;
    // Nothing but digits, so only too large a number is none.
    Some((digits.parse().unwrap_or(u64::MAX), unit))
}
