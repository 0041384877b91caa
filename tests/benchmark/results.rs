//! Everything that was measured: as lines of CSV while it comes, as Markdown tables at the end.

use std::{collections::BTreeMap, fs::File, io::Write};

/// What a figure is about: what was measured, the cable, the frames a second.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) measure: &'static str,
    pub(crate) cable: &'static str,
    pub(crate) rate: u64,
}

impl Key {
    /// On a cable that nothing is done to.
    pub(crate) fn new(measure: &'static str, rate: u64) -> Self {
        Self { measure, cable: GOOD, rate }
    }
}

/// The cable as it is.
pub(crate) const GOOD: &str = "good";

/// A column: its heading, and the figures whose medians a cell shows.
pub(crate) struct Column {
    pub(crate) heading: String,
    pub(crate) keys: Vec<Key>,
}

/// The figures of all repeats.
pub(crate) struct Results {
    systems: Vec<String>,
    values: BTreeMap<(String, Key), Vec<f64>>,
    csv: Option<File>,
}

impl Results {
    /// None yet, of these systems. Each figure that comes is a line of `csv`, too.
    pub(crate) fn new(systems: Vec<String>, csv: Option<File>) -> Self {
        let mut results = Self { systems, values: BTreeMap::new(), csv };
        results.line("system,measure,cable,rate,value");
        results
    }

    fn line(&mut self, text: &str) {
        if let Some(csv) = &mut self.csv {
            writeln!(csv, "{text}").expect("the CSV file takes a line");
        }
    }

    /// Adds a figure; one that could not be measured is left out.
    pub(crate) fn add(&mut self, system: &str, key: Key, value: Option<f64>) {
        let Some(value) = value else { return };
        self.line(&format!("{system},{},{},{},{value:.2}", key.measure, key.cable, key.rate));
        self.values.entry((system.to_owned(), key)).or_default().push(value);
    }

    fn sorted(&self, system: &str, key: &Key) -> Option<Vec<f64>> {
        let mut values = self.values.get(&(system.to_owned(), key.clone()))?.clone();
        values.sort_by(f64::total_cmp);
        Some(values)
    }

    fn median(&self, system: &str, key: &Key) -> Option<f64> {
        let sorted = self.sorted(system, key)?;
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(f64::midpoint(low, high))
    }

    fn range(&self, system: &str, key: &Key) -> Option<(f64, f64)> {
        let sorted = self.sorted(system, key)?;
        Some((*sorted.first()?, *sorted.last()?))
    }

    /// Two tables with a line for each system: the medians, and from the least to the most.
    pub(crate) fn print(&self, title: &str, columns: &[Column]) {
        println!("\n## {title}\n\nMedians:\n");
        self.print_table(columns, |system, key| self.median(system, key).map(number));
        println!("\nFrom the least to the most of the repeats:\n");
        self.print_table(columns, |system, key| {
            self.range(system, key).map(|(low, high)| format!("{}–{}", number(low), number(high)))
        });
    }

    fn print_table(&self, columns: &[Column], cell: impl Fn(&str, &Key) -> Option<String>) {
        let headings: Vec<&str> = columns.iter().map(|column| column.heading.as_str()).collect();
        println!("| | {} |", headings.join(" | "));
        println!("|---|{}", "---|".repeat(columns.len()));
        for system in &self.systems {
            let cells = columns.iter().map(|column| {
                let cell = |key| cell(system, key).unwrap_or_else(|| "-".into());
                let parts: Vec<String> = column.keys.iter().map(cell).collect();
                let nothing = parts.iter().all(|part| part == "-");
                if nothing { "-".into() } else { parts.join(" / ") }
            });
            println!("| {system} | {} |", cells.collect::<Vec<String>>().join(" | "));
        }
    }

    /// Says where `measure`, a loss in percent, was not nothing: the latency of what came says little there.
    pub(crate) fn print_losses(&self, measure: &str, what: &str) {
        let losses: Vec<String> = self
            .values
            .iter()
            .filter(|((_, key), _)| key.measure == measure)
            .filter_map(|((system, key), values)| {
                let most = values.iter().copied().fold(0.0, f64::max);
                let cable = if key.cable == GOOD { "" } else { &format!(", {}", key.cable) };
                let rate = number(key.rate as f64);
                (most > 0.0).then(|| format!("{system}, {rate}/s{cable}: {most:.1} %"))
            })
            .collect();
        let losses = if losses.is_empty() { "none".to_owned() } else { losses.join("; ") };
        println!("\n{what}, at most: {losses}.");
    }
}

/// The measure that says how many frames of a stream did not arrive, in percent.
pub(crate) const LOST: &str = "lost";

/// Three digits or all before the point, thousands with a comma.
fn number(value: f64) -> String {
    if value.abs() < 10.0 && value.fract().abs() > 0.004 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
