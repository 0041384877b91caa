//! A snapshot as JSON, on one line (RFC 8259). Written by hand: a dozen numbers need no library.

use core::fmt::{self, Display, Write as _};

use super::{BusView, LinkView, Snapshot};
use crate::protocol::{Counters, Outcome};

/// A string with its quotes.
struct Text<'t>(&'t str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
                letter => f.write_char(letter)?,
            }
        }
        f.write_char('"')
    }
}

/// A value that may not be there.
struct Maybe<T>(Option<T>);

impl<T: Display> Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// Items with commas between them.
fn list<T>(items: &[T], each: impl Fn(&T) -> String) -> String {
    items.iter().map(each).collect::<Vec<_>>().join(",")
}

/// Frames that took one way, by their end.
fn account(counters: &Counters) -> String {
    let ends = Outcome::ALL.map(|end| format!(r#""{}":{}"#, end.name(), counters.of(end)));
    format!(r#"{{"frames":{},"lost":{},{}}}"#, counters.frames, counters.lost, ends.join(","))
}

impl BusView {
    fn json(&self) -> String {
        let status = &self.status;
        let errors = status.errors.map(|(sent, received)| format!("[{sent},{received}]"));
        let max_age_ms = (status.max_age_us > 0).then(|| status.max_age_us as f64 / 1_000.0);
        format!(
            concat!(
                r#"{{"name":{},"state":"{}","mode":{},"errors":{},"bitrate":{},"dbitrate":{},"#,
                r#""load_percent":{},"frames_per_s":{:.1},"received":{},"sent":{},"#,
                r#""overflow":{},"overrun":{},"dropped":{},"max_age_ms":{}}}"#
            ),
            Text(&self.name),
            status.state.name(),
            Text(&self.mode),
            Maybe(errors),
            Maybe(self.rates.nominal),
            Maybe(self.rates.data),
            Maybe(self.load.map(|load| format!("{:.1}", load * 100.0))),
            self.frames_per_s,
            self.received,
            self.sent,
            status.overflow,
            status.overrun,
            status.dropped,
            Maybe(max_age_ms),
        )
    }
}

impl LinkView {
    fn json(&self) -> String {
        let status = &self.status;
        let bus = (!self.bus.is_empty()).then_some(Text(&self.bus));
        format!(
            concat!(
                r#"{{"bus":{},"number":{},"peer":{},"role":"{}","up":{},"up_s":{},"#,
                r#""round_trip_us":{},"behind":{},"reconnects":{},"restarts":{},"#,
                r#""history":"{:08x}","from_peer":{},"to_peer":{}}}"#
            ),
            Maybe(bus),
            self.number,
            Text(&self.peer),
            self.role(),
            self.up_for.is_some(),
            Maybe(self.up_for.map(|time| format!("{:.1}", time.as_secs_f64()))),
            Maybe(self.round_trip.map(|time| time.as_micros())),
            status.behind,
            status.links.saturating_sub(1),
            status.restarts,
            self.history_tag(),
            account(&status.received),
            account(&status.sent),
        )
    }
}

impl Snapshot {
    /// One JSON object, with a line feed behind it. `docs/status.md` says what it holds.
    #[must_use]
    pub fn json(&self) -> String {
        format!(
            r#"{{"version":"{}","up":{},"running_s":{:.1},"buses":[{}],"links":[{}]}}"#,
            env!("CARGO_PKG_VERSION"),
            self.is_up(),
            self.running.as_secs_f64(),
            list(&self.buses, BusView::json),
            list(&self.links, LinkView::json),
        ) + "\n"
    }
}
