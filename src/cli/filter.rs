//! Which frames of which bus.

use core::fmt;
use core::str::FromStr;

use super::bus_spec::parse_name;
use super::error::{CliError, ValueError};
use crate::protocol::Filters;

/// Filters for one bus, or for all that have none of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusFilter {
    /// The bus; `None`: every other one.
    pub bus: Option<String>,
    /// Which of its frames.
    pub filters: Filters,
}

impl FromStr for BusFilter {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let is_filter =
            |part: &str| part.eq_ignore_ascii_case("j") || part.contains([':', '~', '#']);
        let (bus, filters) = match text.split_once(',') {
            Some((first, rest)) if !is_filter(first) => (Some(parse_name(first)?), rest),
            _ => (None, text),
        };
        let filters = filters.parse();
        let filters =
            filters.map_err(|error| ValueError::new(format!("`{text}` is no filter: {error}")))?;
        Ok(Self { bus, filters })
    }
}

/// What an option's name and values mean for these buses; none: any bus.
pub(super) fn parse_filters<'b>(
    name: &str,
    texts: &[String],
    buses: impl IntoIterator<Item = &'b str>,
) -> Result<Vec<BusFilter>, CliError> {
    let buses: Vec<&str> = buses.into_iter().collect();
    let mut filters: Vec<BusFilter> = Vec::new();
    let fail = |problem: fmt::Arguments<'_>| CliError::usage(format!("{name}: {problem}"));
    for text in texts {
        let filter: BusFilter = text.parse().map_err(|error| fail(format_args!("{error}")))?;
        let bus = filter.bus.as_deref();
        if let Some(bus) = bus.filter(|bus| !buses.is_empty() && !buses.contains(bus)) {
            return Err(fail(format_args!("`{bus}` is none of the buses given")));
        }
        if filters.iter().any(|other| other.bus == filter.bus) {
            let bus = bus.unwrap_or("every bus");
            return Err(fail(format_args!(
                "given twice for {bus}; filters of one bus are joined by commas, as in 123:7FF,200:700"
            )));
        }
        filters.push(filter);
    }
    Ok(filters)
}

/// The filters that hold for a bus: its own, or those for all, or none.
#[must_use]
pub fn filters_of(filters: &[BusFilter], bus: &str) -> Filters {
    let own = filters.iter().find(|filter| filter.bus.as_deref() == Some(bus));
    let found = own.or_else(|| filters.iter().find(|filter| filter.bus.is_none()));
    found.map_or(Filters::ALL, |filter| filter.filters)
}

/// The first bus that has filters and is none of these.
#[must_use]
pub fn filtered_stranger<'f>(filters: &'f [BusFilter], buses: &[String]) -> Option<&'f str> {
    let mut named = filters.iter().filter_map(|filter| filter.bus.as_deref());
    named.find(|bus| !buses.iter().any(|other| other == bus))
}
