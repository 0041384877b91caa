//! A snapshot in the text format of Prometheus, version 0.0.4
//! (prometheus.io/docs/instrumenting/exposition_formats).

use core::fmt::{self, Display, Write as _};

use super::{LinkView, Snapshot};
use crate::protocol::wire::BusState;
use crate::protocol::{Counters, Outcome};

/// A label's value, escaped.
struct Label<'l>(&'l str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                '\n' => f.write_str("\\n")?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// Writes one metric: its kind, its sentence, and a sample for each label.
fn metric(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    mut samples: impl Iterator<Item = (String, f64)>,
) {
    write_metric(text, name, kind, help, &mut samples);
}

/// The same, made once and not for each kind of iterator: a board's flash is small.
fn write_metric(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: &mut dyn Iterator<Item = (String, f64)>,
) {
    for (number, (labels, value)) in samples.enumerate() {
        // Writing to a string does not fail. Without a sample there is no heading either.
        if number == 0 {
            let _ = writeln!(text, "# HELP canspan_{name} {help}\n# TYPE canspan_{name} {kind}");
        }
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(text, "canspan_{name}{labels} {value}");
    }
}

fn bool(value: bool) -> f64 {
    f64::from(u8::from(value))
}

impl LinkView {
    fn labels(&self) -> String {
        format!("bus=\"{}\",link=\"{}\"", Label(&self.bus), self.number)
    }

    /// Samples of both ways, each with labels of its own.
    fn ways<const N: usize>(
        &self,
        each: impl Fn(&Counters) -> [(String, u64); N],
    ) -> impl Iterator<Item = (String, f64)> {
        let ways = [("from_peer", &self.status.received), ("to_peer", &self.status.sent)];
        let labels = self.labels();
        let samples = ways.map(|(way, counters)| {
            each(counters)
                .map(|(more, count)| (format!("{labels},way=\"{way}\"{more}"), count as f64))
        });
        samples.into_iter().flatten()
    }
}

impl Snapshot {
    /// What `GET /metrics` answers.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let one = |value: f64| core::iter::once((String::new(), value));
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        let info = core::iter::once((version, 1.0));
        metric(&mut text, "build_info", "gauge", "The version that runs.", info);
        let running = one(self.running.as_secs_f64());
        metric(&mut text, "running_seconds", "gauge", "Time since the start.", running);
        let help = "Whether every bus takes frames and every dialled peer is linked.";
        metric(&mut text, "up", "gauge", help, one(bool(self.is_up())));
        self.bus_metrics(&mut text);
        self.link_metrics(&mut text);
        text
    }

    fn bus_metrics(&self, text: &mut String) {
        let buses = || self.buses.iter().map(|bus| (format!("bus=\"{}\"", Label(&bus.name)), bus));
        let states = buses().flat_map(|(labels, bus)| {
            BusState::ALL.map(|state| {
                let labels = format!("{labels},state=\"{}\"", state.name());
                (labels, bool(state == bus.status.state))
            })
        });
        metric(text, "bus_state", "gauge", "1 for the state the bus is in.", states);
        let frames = buses().flat_map(|(labels, bus)| {
            let way = |way: &str, count: u64| (format!("{labels},way=\"{way}\""), count as f64);
            [way("from_bus", bus.received), way("to_bus", bus.sent)]
        });
        metric(text, "bus_frames_total", "counter", "Frames read from the bus, and sent.", frames);
        let overflow = buses().map(|(labels, bus)| (labels, bus.status.overflow as f64));
        let help = "Frames the kernel dropped before they could be read.";
        metric(text, "bus_overflow_total", "counter", help, overflow);
        let overrun = buses().map(|(labels, bus)| (labels, bus.status.overrun as f64));
        let help = "Times the controller reported that it had lost frames.";
        metric(text, "bus_overrun_total", "counter", help, overrun);
        let dropped = buses().map(|(labels, bus)| (labels, bus.status.dropped as f64));
        let help = "Frames the kernel dropped before any socket was given them.";
        metric(text, "bus_dropped_total", "counter", help, dropped);
        let errors = buses().flat_map(|(labels, bus)| {
            bus.status.errors.into_iter().flat_map(move |(sent, received)| {
                let side = |side: &str, count| (format!("{labels},side=\"{side}\""), count);
                [side("transmit", f64::from(sent)), side("receive", f64::from(received))]
            })
        });
        metric(text, "bus_errors", "gauge", "The controller's error counters.", errors);
        let rate = buses().map(|(labels, bus)| (labels, bus.frames_per_s));
        let help = "Frames a second, over the last one or two seconds.";
        metric(text, "bus_frames_per_second", "gauge", help, rate);
        let load = buses().filter_map(|(labels, bus)| Some((labels, bus.load?)));
        let help = "Part of the time the bus was busy, without stuff bits, 0 to 1.";
        metric(text, "bus_load_ratio", "gauge", help, load);
        let bitrate =
            buses().filter_map(|(labels, bus)| Some((labels, f64::from(bus.rates.nominal?))));
        metric(text, "bus_bitrate", "gauge", "Nominal bit rate, bit/s.", bitrate);
    }

    fn link_metrics(&self, text: &mut String) {
        let links = || self.links.iter();
        let info = links().map(|link| {
            let (labels, peer) = (link.labels(), Label(&link.peer));
            let history = link.history_tag();
            let role = link.role();
            let labels =
                format!("{labels},peer=\"{peer}\",role=\"{role}\",history=\"{history:08x}\"");
            (labels, 1.0)
        });
        metric(text, "link_info", "gauge", "Who is at the other end.", info);
        let up = links().map(|link| (link.labels(), bool(link.up_for.is_some())));
        metric(text, "link_up", "gauge", "Whether there is a connection.", up);
        let since = links().filter_map(|link| Some((link.labels(), link.up_for?.as_secs_f64())));
        metric(text, "link_up_seconds", "gauge", "How long it has been there.", since);
        let path = links().filter_map(|link| Some((link.labels(), link.round_trip?.as_secs_f64())));
        metric(text, "link_round_trip_seconds", "gauge", "The last round trip.", path);
        let behind = links().map(|link| (link.labels(), link.status.behind as f64));
        let help = "Frames of the bus the peer has not been sent yet.";
        metric(text, "link_behind_frames", "gauge", help, behind);
        let reconnects =
            links().map(|link| (link.labels(), link.status.links.saturating_sub(1) as f64));
        metric(text, "link_reconnects_total", "counter", "Links after the first.", reconnects);
        let restarts = links().map(|link| (link.labels(), link.status.restarts as f64));
        let help = "How often the peer came back as a new process.";
        metric(text, "link_restarts_total", "counter", help, restarts);
        let frames = links().flat_map(|link| link.ways(|way| [(String::new(), way.frames)]));
        metric(text, "link_frames_total", "counter", "Frames carried.", frames);
        let lost = links().flat_map(|link| link.ways(|way| [(String::new(), way.lost)]));
        let help = "Frames overwritten before they could be carried.";
        metric(text, "link_lost_total", "counter", help, lost);
        let ends = links().flat_map(|link| {
            link.ways(|way| {
                Outcome::ALL.map(|end| (format!(",outcome=\"{}\"", end.name()), way.of(end)))
            })
        });
        metric(text, "link_outcomes_total", "counter", "What became of frames.", ends);
    }
}
