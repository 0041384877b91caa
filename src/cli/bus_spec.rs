//! Which buses, and what they are called.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

use super::error::ValueError;
use crate::bus::sim::{RATE_MAX, SimSource};
use crate::text::{Visible, is_visible};

/// Bytes of a bus' name: `IFNAMSIZ` of `linux/if.h` without its zero byte.
const NAME_MAX: usize = 15;
/// What a simulated bus begins with.
const SIM: &str = "sim";

/// A bus on this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusSpec {
    /// A SocketCAN interface.
    Interface(String),
    /// A bus inside this process.
    Sim {
        /// What peers call it.
        name: String,
        /// What traffic it makes by itself.
        source: SimSource,
    },
}

impl BusSpec {
    /// What peers call this bus.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Interface(name) | Self::Sim { name, .. } => name,
        }
    }
}

impl FromStr for BusSpec {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some(text) = text.strip_prefix("sim:") else {
            return Ok(Self::Interface(parse_name(text)?));
        };
        let (name, source) = match text.split_once('?') {
            Some((name, source)) => (name, parse_source(text, source)?),
            None => (text, SimSource::Silent),
        };
        Ok(Self::Sim { name: parse_name(name)?, source })
    }
}

/// As it is typed.
impl fmt::Display for BusSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::Sim { name, source: SimSource::Silent } => write!(f, "sim:{name}"),
            Self::Sim { name, source: SimSource::Trace(path) } => {
                write!(f, "sim:{name}?trace={}", path.display())
            }
            Self::Sim { name, source: SimSource::Rate(rate) } => {
                write!(f, "sim:{name}?rate={rate}")
            }
        }
    }
}

fn parse_source(text: &str, source: &str) -> Result<SimSource, ValueError> {
    match source.split_once('=') {
        // Whatever a path holds belongs to it, so there is no second setting after one.
        Some(("trace", path)) if !path.is_empty() => Ok(SimSource::Trace(PathBuf::from(path))),
        Some(("trace", _)) => Err(ValueError::new(format!(
            "`sim:{text}` names no file; a trace is played with sim:NAME?trace=FILE"
        ))),
        Some(("rate", rate)) => match rate.parse() {
            // `u32::from_str` takes a sign.
            Ok(number @ 1..=RATE_MAX) if !rate.starts_with('+') => Ok(SimSource::Rate(number)),
            _ => Err(ValueError::new(format!(
                "`sim:{text}`: a rate is 1 to {RATE_MAX} frames per second, as in \
                 sim:demo?rate=1000"
            ))),
        },
        _ => Err(ValueError::new(format!(
            "`sim:{text}`: `{source}` is no source of traffic; there are trace=FILE and rate=N, \
             as in sim:demo?rate=1000"
        ))),
    }
}

/// A name the kernel takes for an interface, and that stands alone in a log line. Peers name their
/// buses by the same rules.
pub fn parse_name(name: &str) -> Result<String, ValueError> {
    let shown = Visible(name);
    let problem = if name.is_empty() {
        "a bus needs a name, as in can0".to_owned()
    } else if name == SIM {
        "`sim` alone names no bus; a simulated bus is written sim:NAME".to_owned()
    } else if name.len() > NAME_MAX {
        format!("`{shown}` is no bus: its name is longer than the {NAME_MAX} bytes Linux allows")
    } else if name == "." || name == ".." || name.starts_with('-') {
        format!("`{shown}` is no bus; one is can0")
    } else if let Some(odd) =
        name.chars().find(|c| "/:".contains(*c) || c.is_whitespace() || !is_visible(*c))
    {
        format!("`{shown}` is no bus: {odd:?} is in no interface's name; one is can0")
    } else {
        return Ok(name.to_owned());
    };
    Err(ValueError::new(problem))
}

/// A peer's bus and the local one it is joined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusPair {
    /// What the peer calls it.
    pub remote: String,
    /// The bus on this side.
    pub local: BusSpec,
}

impl FromStr for BusPair {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some((remote, local)) = text.split_once(':') else {
            let remote = parse_name(text)?;
            return Ok(Self { local: BusSpec::Interface(remote.clone()), remote });
        };
        if remote == SIM {
            return Err(ValueError::new(format!(
                "`{text}` begins with a simulated bus, and a peer's bus has only a name; it is \
                 written REMOTE:LOCAL, as in {}:can0",
                local.split([':', '?']).next().filter(|name| !name.is_empty()).unwrap_or("demo"),
            )));
        }
        Ok(Self { remote: parse_name(remote)?, local: local.parse()? })
    }
}

/// As it is typed.
impl fmt::Display for BusPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.remote, self.local)
    }
}
