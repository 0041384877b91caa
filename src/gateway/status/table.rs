//! A snapshot as a person reads it.

use core::fmt::Write as _;
use core::time::Duration;

use super::{BusView, LinkView, Snapshot};
use crate::protocol::{Counters, Outcome};

impl BusView {
    fn row(&self) -> [String; 7] {
        let status = &self.status;
        let errors = status.errors.map(|(sent, received)| format!("{sent}/{received}"));
        let rates = match (self.rates.nominal, self.rates.data) {
            (Some(nominal), Some(data)) => format!("{}/{}", bits(nominal), bits(data)),
            (Some(nominal), None) => bits(nominal),
            _ => "-".to_owned(),
        };
        let load = self.load.map_or_else(String::new, |load| format!("{:.1} % ", load * 100.0));
        [
            self.name.clone(),
            if self.mode.is_empty() {
                status.state.name().to_owned()
            } else {
                format!("{} ({})", status.state.name(), self.mode)
            },
            errors.unwrap_or_else(|| "-".to_owned()),
            rates,
            format!("{load}{:.0}/s", self.frames_per_s),
            format!("{} in, {} out", self.received, self.sent),
            causes(&[
                ("overflow", status.overflow),
                ("overrun", status.overrun),
                ("dropped", status.dropped),
            ]),
        ]
    }
}

impl LinkView {
    /// Who made the connection.
    pub(super) fn role(&self) -> &'static str {
        if self.dialled { "dialled" } else { "accepted" }
    }

    fn row(&self) -> [String; 8] {
        let status = &self.status;
        let path = self.round_trip.map(|time| format!("{:.1} ms", time.as_secs_f64() * 1_000.0));
        let reconnects = status.links.saturating_sub(1);
        let restarts = status.restarts;
        let restarts = if restarts > 0 { format!(" ({restarts} restarts)") } else { String::new() };
        [
            if self.bus.is_empty() { "?".to_owned() } else { self.bus.clone() },
            self.peer.clone(),
            self.role().to_owned(),
            self.up_for.map_or_else(|| "down".to_owned(), |time| format!("up {}", span(time))),
            path.unwrap_or_else(|| "-".to_owned()),
            status.behind.to_string(),
            format!("{reconnects}{restarts}"),
            format!("{}; {}", way("in", &status.received), way("out", &status.sent)),
        ]
    }
}

impl Snapshot {
    /// Tables of the buses and links.
    #[must_use]
    pub fn table(&self) -> String {
        let state = if self.is_up() { "all is up" } else { "not everything is up" };
        let mut text = format!(
            "canspan {}, running for {}: {state}\n\n",
            env!("CARGO_PKG_VERSION"),
            span(self.running)
        );
        let heads = ["BUS", "STATE", "ERRORS", "BIT/S", "LOAD", "FRAMES", "LOST"];
        columns(&mut text, heads, self.buses.iter().map(BusView::row));
        if self.links.is_empty() {
            text.push_str("\nno links\n");
            return text;
        }
        text.push('\n');
        let heads = ["BUS", "PEER", "ROLE", "LINK", "ROUND TRIP", "BEHIND", "RECONNECTS", "FRAMES"];
        let shown = self.links.iter().filter(|link| !link.is_closed());
        columns(&mut text, heads, shown.map(LinkView::row));
        let closed: Vec<&LinkView> = self.links.iter().filter(|link| link.is_closed()).collect();
        if !closed.is_empty() {
            let sum =
                |count: fn(&LinkView) -> u64| closed.iter().map(|link| count(link)).sum::<u64>();
            let (received, sent) =
                (sum(|l| l.status.received.frames), sum(|l| l.status.sent.frames));
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "and {} gone for good, with {received} frames in and {sent} out; --json shows each",
                closed.len()
            );
        }
        text
    }
}

/// What became of the frames that took one way.
fn way(name: &str, counters: &Counters) -> String {
    let named = |outcome: Outcome| (outcome.name(), counters.of(outcome));
    let mut counts = vec![("lost", counters.lost)];
    let kept = |outcome: &Outcome| *outcome != Outcome::Sent;
    counts.extend(Outcome::ALL.into_iter().filter(kept).map(named));
    let causes = match causes(&counts) {
        causes if causes == "-" => String::new(),
        causes => format!(" ({causes})"),
    };
    format!("{} {name}{causes}", counters.of(Outcome::Sent))
}

/// The counters that are not zero.
fn causes(counts: &[(&str, u64)]) -> String {
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
    if counts.is_empty() { "-".to_owned() } else { counts.join(", ") }
}

/// A bit rate as it is typed.
fn bits(rate: u32) -> String {
    match rate {
        rate if rate % 1_000_000 == 0 => format!("{}M", rate / 1_000_000),
        rate if rate % 1_000 == 0 => format!("{}k", rate / 1_000),
        rate => rate.to_string(),
    }
}

/// A time by its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

/// Writes rows under their heads, each column as wide as its widest word.
fn columns<const N: usize>(
    text: &mut String,
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let rows: Vec<[String; N]> = core::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = word.chars().count().max(*width);
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (word, width) in row.iter().zip(widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{word:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
