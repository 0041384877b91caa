//! Hosts and ports.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use super::error::ValueError;

/// The port when none is given: "CANSP" on a phone's keys.
pub const DEFAULT_PORT: u16 = 22677;
/// Longest host name (RFC 1035, section 2.3.4, as text).
const HOST_MAX: usize = 253;

/// A peer to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (host, port) = split(text)?;
        let host = host.ok_or_else(|| {
            ValueError::new(format!(
                "`{text}` names no host; a peer is written as in board:{DEFAULT_PORT}"
            ))
        })?;
        match port {
            Some(0) => Err(ValueError::new(format!("`{text}`: nobody can be reached at port 0"))),
            port => Ok(Self { host: host.to_owned(), port: port.unwrap_or(DEFAULT_PORT) }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, &self.host, self.port)
    }
}

impl Endpoint {
    /// The endpoint and the address behind its name, for the operator; what is an address already
    /// stands once.
    pub fn at(&self, address: SocketAddr) -> impl fmt::Display {
        let (typed, numeric) = (self.to_string(), address.to_string());
        if typed == numeric { typed } else { format!("{typed} ({numeric})") }
    }
}

impl From<ListenAddress> for Endpoint {
    fn from(address: ListenAddress) -> Self {
        Self { host: address.host, port: address.port }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// A name, an IPv4 address or an IPv6 address without brackets.
    pub host: String,
    /// 0 means any that is free.
    pub port: u16,
}

impl ListenAddress {
    /// Whether only this machine can reach it. Of a name other than `localhost` nobody can say, so
    /// it counts as reachable.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.as_str();
        let address = host.split_once('%').map_or(host, |(address, _)| address);
        if let Ok(address) = address.parse::<Ipv6Addr>() {
            return address.to_canonical().is_loopback();
        }
        host.parse::<Ipv4Addr>().map_or_else(
            |_| host.eq_ignore_ascii_case("localhost"),
            |address| address.is_loopback(),
        )
    }
}

impl ListenAddress {
    /// Whether nobody can listen at both. Where names may stand for anything, that is not known.
    #[must_use]
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let is_any = |address: &Self| match address.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_unspecified(),
            Err(_) => false,
        };
        let is_name = |address: &Self| address.host.eq_ignore_ascii_case("localhost");
        // Port 0 is another one each time.
        self.port == other.port
            && self.port != 0
            && (self.host == other.host
                || is_any(self)
                || is_any(other)
                || is_name(self) && other.is_loopback()
                || is_name(other) && self.is_loopback())
    }
}

impl Default for ListenAddress {
    fn default() -> Self {
        Self { host: Ipv4Addr::LOCALHOST.to_string(), port: DEFAULT_PORT }
    }
}

impl FromStr for ListenAddress {
    type Err = ValueError;

    /// `:PORT` is that port of loopback, as for a missing `--listen`: leaving something out never
    /// opens more.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (host, port) = split(text)?;
        let default = Self::default();
        Ok(Self {
            host: host.map_or(default.host, str::to_owned),
            port: port.unwrap_or(default.port),
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(f, &self.host, self.port)
    }
}

fn write_address(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

/// Takes `HOST`, `HOST:PORT`, `:PORT`, `[IPV6]`, `[IPV6]:PORT` or `IPV6` apart.
fn split(text: &str) -> Result<(Option<&str>, Option<u16>), ValueError> {
    if let Some(rest) = text.strip_prefix('[') {
        return split_brackets(text, rest);
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') && !rest.starts_with("//") => {
            check_ipv6(text, text)?;
            Ok((Some(text), None))
        }
        Some(("", port)) => Ok((None, Some(parse_port(text, port)?))),
        Some((host, port)) => {
            check_name(text, host)?;
            Ok((Some(host), Some(parse_port(text, port)?)))
        }
        None => {
            check_name(text, text)?;
            Ok((Some(text), None))
        }
    }
}

/// The same for what begins with a bracket; `rest` is what follows that.
fn split_brackets<'t>(
    text: &str,
    rest: &'t str,
) -> Result<(Option<&'t str>, Option<u16>), ValueError> {
    let (host, rest) = rest
        .split_once(']')
        .ok_or_else(|| not_ipv6(text, "opens a bracket and never closes it"))?;
    check_ipv6(text, host)?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((Some(host), Some(parse_port(text, port)?))),
        None if rest.is_empty() => Ok((Some(host), None)),
        None => Err(not_ipv6(text, "has something other than a port after the bracket")),
    }
}

fn parse_port(text: &str, port: &str) -> Result<u16, ValueError> {
    // `u16::from_str` would take a sign.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| digits).ok_or_else(|| {
        ValueError::new(format!(
            "`{text}`: the port `{port}` is no number from 0 to 65535, as in board:{DEFAULT_PORT}"
        ))
    })
}

/// An IPv6 address with or without a zone (`fe80::1%eth0`).
fn check_ipv6(text: &str, host: &str) -> Result<(), ValueError> {
    let (address, zone) = host.split_once('%').unwrap_or((host, "zone"));
    if address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() {
        return Ok(());
    }
    Err(not_ipv6(text, "is no IPv6 address"))
}

fn not_ipv6(text: &str, problem: &str) -> ValueError {
    ValueError::new(format!(
        "`{text}` {problem}; IPv6 with a port is written in brackets, as in [::1]:{DEFAULT_PORT}"
    ))
}

/// A host name as resolvers take it, or an IPv4 address.
fn check_name(text: &str, host: &str) -> Result<(), ValueError> {
    let is_odd = |c: &char| !c.is_ascii_alphanumeric() && !"-._".contains(*c);
    let is_numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let problem = if host.is_empty() {
        "names no host".to_owned()
    } else if host.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("names no host (a port alone is written with a colon, as in :{host})")
    } else if let Some(odd) = host.chars().find(is_odd) {
        format!("is no address: {odd:?} is in no host's name")
    } else if host.starts_with(['-', '.']) || host.contains("..") || host.len() > HOST_MAX {
        "is no address: no host has such a name".to_owned()
    } else if is_numeric && host.parse::<Ipv4Addr>().is_err() {
        "is no IPv4 address".to_owned()
    } else {
        return Ok(());
    };
    Err(ValueError::new(format!(
        "`{text}` {problem}; an address is written as in board or 192.168.1.20:{DEFAULT_PORT}"
    )))
}
