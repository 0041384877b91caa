//! The CAN controller behind an interface, as the kernel tells of it and as it is set: bit rates,
//! modes, state and error counters (`linux/can/netlink.h`).
//!
//! ```text
//! IFLA_LINKINFO
//!   IFLA_INFO_KIND  "can"
//!   IFLA_INFO_DATA
//!     IFLA_CAN_BITTIMING       struct can_bittiming: bit/s u32, sample point u32, six more u32
//!     IFLA_CAN_DATA_BITTIMING  the same for the data phase of CAN FD
//!     IFLA_CAN_CTRLMODE        struct can_ctrlmode: mask u32, flags u32
//!     IFLA_CAN_RESTART_MS      u32
//!     IFLA_CAN_STATE           enum can_state, told only
//!     IFLA_CAN_BERR_COUNTER    struct can_berr_counter: transmit u16, receive u16, told only
//! ```
//! A virtual interface has none of it.

use core::fmt;
use std::io;

use super::netlink::{IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, Link};
use super::raw::FD_BYTES;
use super::route::{Request, Route, attributes, read};
use super::state::Health;
use crate::protocol::wire::BusState;

/// What `IFLA_INFO_KIND` says of an interface with a controller (`can_link_ops` in
/// `drivers/net/can/dev/netlink.c`).
pub(super) const KIND: &str = "can";
/// Attribute numbers in `linux/can/netlink.h`.
const IFLA_CAN_BITTIMING: u16 = 1;
const IFLA_CAN_STATE: u16 = 4;
const IFLA_CAN_CTRLMODE: u16 = 5;
const IFLA_CAN_RESTART_MS: u16 = 6;
const IFLA_CAN_BERR_COUNTER: u16 = 8;
const IFLA_CAN_DATA_BITTIMING: u16 = 9;
/// Modes in `linux/can/netlink.h`.
const CAN_CTRLMODE_LISTENONLY: u32 = 0x02;
const CAN_CTRLMODE_ONE_SHOT: u32 = 0x08;
const CAN_CTRLMODE_FD: u32 = 0x20;
/// Bytes of `struct can_bittiming`.
const BITTIMING_BYTES: usize = 32;
/// States in `linux/can/netlink.h`.
const CAN_STATE_ERROR_WARNING: u32 = 1;
const CAN_STATE_ERROR_PASSIVE: u32 = 2;
const CAN_STATE_BUS_OFF: u32 = 3;

/// How bits are sent: their rate, and where in a bit it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitTiming {
    /// Bits per second; as told by the kernel zero where it was never set.
    pub bitrate: u32,
    /// In thousandths of a bit; zero where the kernel is to choose, as CiA 301 recommends.
    pub sample_point: u32,
}

impl BitTiming {
    fn parse(payload: &[u8]) -> Option<Self> {
        let bitrate = u32::from_ne_bytes(read(payload, 0)?);
        Some(Self { bitrate, sample_point: u32::from_ne_bytes(read(payload, 4)?) })
    }

    /// As `struct can_bittiming`: what is zero the kernel works out.
    fn bytes(self) -> [u8; BITTIMING_BYTES] {
        let mut bytes = [0; BITTIMING_BYTES];
        let (rate, rest) = bytes.split_at_mut(4);
        rate.copy_from_slice(&self.bitrate.to_ne_bytes());
        let (sample_point, _) = rest.split_at_mut(4);
        sample_point.copy_from_slice(&self.sample_point.to_ne_bytes());
        bytes
    }

    fn write(self, f: &mut fmt::Formatter<'_>, prefix: &str) -> fmt::Result {
        write!(f, "{prefix}bitrate {}", self.bitrate)?;
        match self.sample_point {
            0 => Ok(()),
            point => write!(f, " {prefix}sample-point 0.{point:03}"),
        }
    }

    /// Whether a controller set so has what was asked for.
    fn is_met_by(self, set: Self) -> bool {
        let sample_point = self.sample_point == 0 || self.sample_point == set.sample_point;
        self.bitrate == set.bitrate && sample_point
    }
}

/// A controller as the kernel tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controller {
    /// How bits are sent.
    pub timing: BitTiming,
    /// The same in the data phase of CAN FD.
    pub data_timing: BitTiming,
    /// `enum can_state`.
    state: u32,
    /// Transmit and receive error counters, where the driver gives them; 255 stands for more.
    pub errors: Option<(u8, u8)>,
    /// `CAN_CTRLMODE_` flags.
    modes: u32,
    /// Milliseconds after which it leaves bus-off by itself; zero: not at all.
    pub restart_ms: u32,
}

impl Controller {
    /// Reads `IFLA_INFO_DATA`; what is not told, or cut short, is zero.
    pub(super) fn parse(data: &[u8]) -> Self {
        let number = |payload| read(payload, 0).map_or(0, u32::from_ne_bytes);
        let mut controller = Self::default();
        for (attribute, payload) in attributes(data) {
            match attribute {
                IFLA_CAN_BITTIMING => {
                    controller.timing = BitTiming::parse(payload).unwrap_or_default();
                }
                IFLA_CAN_DATA_BITTIMING => {
                    controller.data_timing = BitTiming::parse(payload).unwrap_or_default();
                }
                IFLA_CAN_STATE => controller.state = number(payload),
                IFLA_CAN_CTRLMODE => {
                    controller.modes = read(payload, 4).map_or(0, u32::from_ne_bytes);
                }
                IFLA_CAN_RESTART_MS => controller.restart_ms = number(payload),
                IFLA_CAN_BERR_COUNTER => {
                    let count = |at| {
                        let count = read(payload, at).map(u16::from_ne_bytes);
                        count.map(|count| u8::try_from(count).unwrap_or(u8::MAX))
                    };
                    controller.errors = count(0).zip(count(2));
                }
                _ => {}
            }
        }
        controller
    }

    /// Whether it sends nothing, no acknowledgement either: what it is given to send vanishes.
    #[must_use]
    pub fn is_listen_only(&self) -> bool {
        self.modes & CAN_CTRLMODE_LISTENONLY != 0
    }

    /// Whether it gives a frame up after one attempt: then its echo never comes.
    #[must_use]
    pub fn is_one_shot(&self) -> bool {
        self.modes & CAN_CTRLMODE_ONE_SHOT != 0
    }

    /// The state of the bus while the interface is up.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = match self.state {
            CAN_STATE_ERROR_WARNING => BusState::ErrorWarning,
            CAN_STATE_ERROR_PASSIVE => BusState::ErrorPassive,
            CAN_STATE_BUS_OFF => BusState::BusOff,
            // Stopped and sleeping are no states of the bus, and some drivers are slow to leave
            // them.
            _ => BusState::Up,
        };
        Health { state, errors: self.errors }
    }
}

/// How a controller is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How bits are sent.
    pub timing: BitTiming,
    /// The same in the data phase of CAN FD; `None`: classic CAN only.
    pub data_timing: Option<BitTiming>,
    /// Milliseconds after which it leaves bus-off by itself, zero for not at all; `None`: as it is.
    pub restart_ms: Option<u32>,
    /// Whether it only listens: it sends nothing, no acknowledgement either.
    pub listen_only: bool,
}

impl Settings {
    fn modes(&self) -> u32 {
        let fd = if self.data_timing.is_some() { CAN_CTRLMODE_FD } else { 0 };
        fd | if self.listen_only { CAN_CTRLMODE_LISTENONLY } else { 0 }
    }

    /// Whether a controller is set so.
    #[must_use]
    pub fn is_met_by(&self, set: &Controller) -> bool {
        self.timing.is_met_by(set.timing)
            && self.data_timing.is_none_or(|data| data.is_met_by(set.data_timing))
            && self.restart_ms.is_none_or(|restart_ms| restart_ms == set.restart_ms)
            && self.modes() == set.modes & (CAN_CTRLMODE_FD | CAN_CTRLMODE_LISTENONLY)
    }

    /// The request that sets the controller of this interface, which must be down, and switches it
    /// on.
    fn request(&self, index: u32) -> Request {
        let mut data = Request(Vec::new());
        data.push(IFLA_CAN_BITTIMING, &self.timing.bytes());
        // A flag outside the mask stays as it is. Of the two in question both are meant.
        let mask = CAN_CTRLMODE_FD | CAN_CTRLMODE_LISTENONLY;
        data.push(IFLA_CAN_CTRLMODE, &[mask.to_ne_bytes(), self.modes().to_ne_bytes()].concat());
        if let Some(timing) = self.data_timing {
            data.push(IFLA_CAN_DATA_BITTIMING, &timing.bytes());
        }
        if let Some(restart_ms) = self.restart_ms {
            data.push(IFLA_CAN_RESTART_MS, &restart_ms.to_ne_bytes());
        }
        let mut info = Request(Vec::new());
        info.push_text(IFLA_INFO_KIND, KIND);
        info.push(IFLA_INFO_DATA, &data.0);
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, index);
        request.switch(true);
        if self.data_timing.is_some() {
            request.push(IFLA_MTU, &(FD_BYTES as u32).to_ne_bytes());
        }
        request.push(IFLA_LINKINFO, &info.0);
        request
    }
}

/// As `ip link set can0 type can` wants it: for a log line, and to be copied from one.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timing.write(f, "")?;
        if let Some(data) = self.data_timing {
            f.write_str(" ")?;
            data.write(f, "d")?;
            f.write_str(" fd on")?;
        }
        if let Some(restart_ms) = self.restart_ms {
            write!(f, " restart-ms {restart_ms}")?;
        }
        if self.listen_only { f.write_str(" listen-only on") } else { Ok(()) }
    }
}

/// Why a controller could not be set. Displays as a sentence for the operator.
#[derive(Debug)]
pub enum ConfigureError {
    /// There is no interface of this name, yet.
    Absent,
    /// It is of this kind, and only `can` has a bit rate.
    NoController {
        /// The interface.
        name: String,
        /// Its kind, or nothing.
        kind: String,
    },
    /// The process lacks `CAP_NET_ADMIN`.
    Denied {
        /// The interface.
        name: String,
        /// What was to be set.
        settings: Settings,
    },
    /// The controller or its driver cannot do that.
    Unable {
        /// The interface.
        name: String,
        /// What was to be set.
        settings: Settings,
        /// What the kernel said.
        error: io::Error,
    },
    /// Anything else; it may pass.
    Other {
        /// The interface.
        name: String,
        /// What the kernel said.
        error: io::Error,
    },
}

impl fmt::Display for ConfigureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such interface"),
            Self::NoController { name, kind } => {
                write!(f, "{name} has no bit rate to set, being ")?;
                match kind.as_str() {
                    "vcan" | "vxcan" => write!(f, "a virtual interface ({kind})")?,
                    _ => f.write_str("no interface of a CAN controller")?,
                }
                f.write_str("; it is used as it is, leave --bitrate out")
            }
            Self::Denied { name, settings } => write!(
                f,
                "not allowed to set the bit rate of {name}: that needs the capability \
                 CAP_NET_ADMIN; run as root, or set it before with `ip link set {name} up type \
                 can {settings}`"
            ),
            Self::Unable { name, settings, error } => write!(
                f,
                "the controller of {name} cannot do `{settings}`: {error}; `ip -details link show \
                 {name}` tells what it can"
            ),
            Self::Other { name, error } => {
                write!(f, "cannot set the bit rate of {name}: {error}")
            }
        }
    }
}

impl core::error::Error for ConfigureError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Unable { error, .. } | Self::Other { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl ConfigureError {
    fn new(name: &str, settings: &Settings, error: io::Error) -> Self {
        let (name, settings) = (name.to_owned(), *settings);
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Some(libc::EPERM | libc::EACCES) => Self::Denied { name, settings },
            // What `can_changelink` and the calculation of a bit's parts answer with.
            Some(libc::EINVAL | libc::ERANGE | libc::EDOM | libc::EOPNOTSUPP) => {
                Self::Unable { name, settings, error }
            }
            _ => Self::Other { name, error },
        }
    }

    /// Whether it is worth trying again with the same interface.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Absent | Self::Other { .. })
    }
}

/// Sets the controller of an interface and switches it on; one that is on and set so already is
/// left alone. Returns the interface's index, and whether anything was changed.
///
/// An interface that is on is switched off for it, as the kernel demands; if the controller then
/// cannot do what is asked for, it is switched on again as it was.
///
/// PRIVILEGED: needs `CAP_NET_ADMIN` in the network namespace, unless there is nothing to do.
pub fn configure(name: &str, settings: &Settings) -> Result<(u32, bool), ConfigureError> {
    let failed = |error| ConfigureError::new(name, settings, error);
    let route = Route::open().map_err(failed)?;
    let link = Link::named(&route, name).map_err(failed)?;
    let Some(controller) = link.controller else {
        return Err(ConfigureError::NoController { name: name.to_owned(), kind: link.kind });
    };
    if link.is_up && settings.is_met_by(&controller) {
        return Ok((link.index, false));
    }
    if link.is_up {
        switch(&route, link.index, false).map_err(failed)?;
    }
    let done = route.exchange(&settings.request(link.index));
    if done.is_err() && link.is_up {
        let _ = switch(&route, link.index, true);
    }
    done.map(|_| (link.index, true)).map_err(failed)
}

fn switch(route: &Route, index: u32, is_on: bool) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, index);
    request.switch(is_on);
    route.exchange(&request).map(drop)
}

/// Switches an interface off and on, with all its settings: the kernel and the controller forget
/// the frames they had to send.
///
/// PRIVILEGED: needs `CAP_NET_ADMIN` in the network namespace.
pub(super) fn restart(route: &Route, index: u32) -> io::Result<()> {
    switch(route, index, false)?;
    switch(route, index, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Settings = Settings {
        timing: BitTiming { bitrate: 500_000, sample_point: 875 },
        data_timing: Some(BitTiming { bitrate: 2_000_000, sample_point: 0 }),
        restart_ms: Some(100),
        listen_only: true,
    };
    const PLAIN: Settings = Settings {
        timing: BitTiming { bitrate: 125_000, sample_point: 0 },
        data_timing: None,
        restart_ms: None,
        listen_only: false,
    };

    /// Native-endian numbers as bytes: two halves make `u16`s, the rest are `u32`s.
    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn header(length: u16, number: u16) -> Vec<u8> {
        [length.to_ne_bytes(), number.to_ne_bytes()].concat()
    }

    #[test]
    fn the_request_is_laid_out_as_the_kernels_headers_say() {
        let bytes = PLAIN.request(7).0;
        let expected = [
            // struct nlmsghdr: length (filled in when sent), type and flags, sequence, port.
            words(&[0]),
            [libc::RTM_NEWLINK.to_ne_bytes(), 5_u16.to_ne_bytes()].concat(),
            words(&[0, 0]),
            // struct ifinfomsg: family and type, index, flags, change.
            words(&[0, 7, 1, 1]),
            header(64, 18),
            header(8, 1),
            b"can\0".to_vec(),
            header(52, 2),
            header(36, 1),
            words(&[125_000, 0, 0, 0, 0, 0, 0, 0]),
            header(12, 5),
            words(&[0x22, 0]),
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn everything_asked_for_is_in_the_request_and_is_read_back() {
        let bytes = FULL.request(7).0;
        // MTU first, then all of the link's information.
        assert_eq!(bytes[32..40], [header(8, 4), words(&[72])].concat());
        let data = &bytes[32 + 8 + 4 + 8 + 4..];
        let lengths: Vec<_> = attributes(data).map(|(n, payload)| (n, payload.len())).collect();
        assert_eq!(lengths, [(1, 32), (5, 8), (9, 32), (6, 4)]);
        let told = Controller::parse(data);
        assert!(FULL.is_met_by(&told) && !PLAIN.is_met_by(&told));
        assert_eq!((told.modes, told.restart_ms, told.errors), (0x22, 100, None));
        let other = [
            Settings { restart_ms: Some(0), ..FULL },
            Settings { listen_only: false, ..FULL },
            Settings { data_timing: None, ..FULL },
            Settings { timing: BitTiming { sample_point: 800, ..FULL.timing }, ..FULL },
            Settings { timing: BitTiming { bitrate: 1, ..FULL.timing }, ..FULL },
        ];
        assert!(other.iter().all(|other| !other.is_met_by(&told)));
        let less = Settings { restart_ms: None, ..FULL };
        let less = Settings { timing: BitTiming { sample_point: 0, ..FULL.timing }, ..less };
        assert!(less.is_met_by(&told));
    }

    #[test]
    fn state_and_counters_are_read_and_cut_anywhere_without_a_panic() {
        let mut data = Request(Vec::new());
        data.push(IFLA_CAN_STATE, &words(&[CAN_STATE_ERROR_PASSIVE]));
        data.push(IFLA_CAN_BERR_COUNTER, &[300_u16.to_ne_bytes(), 17_u16.to_ne_bytes()].concat());
        let health = Controller::parse(&data.0).health();
        let passive = Health { state: BusState::ErrorPassive, errors: Some((255, 17)) };
        assert_eq!(health, passive);
        let full = [FULL.request(1).0, data.0].concat();
        for cut in 0..full.len() {
            let _ = Controller::parse(&full[32 + 8..][..cut.min(full.len() - 40)]);
        }
        let state = |state| Controller { state, ..Controller::default() }.health().state;
        let told: Vec<_> = (0..7).map(|number| state(number).name()).collect();
        let up = BusState::Up.name();
        assert_eq!(told, [up, "error-warning", "error-passive", "bus-off", up, up, up]);
    }

    #[test]
    fn modes_that_lose_frames_are_read() {
        let told = |flags: u32| {
            let mut data = Request(Vec::new());
            data.push(IFLA_CAN_CTRLMODE, &words(&[u32::MAX, flags]));
            let controller = Controller::parse(&data.0);
            (controller.is_listen_only(), controller.is_one_shot())
        };
        let modes = [0, 0x01, 0x02, 0x08, 0x0A, !0x0A].map(told);
        let neither = (false, false);
        assert_eq!(modes, [neither, neither, (true, false), (false, true), (true, true), neither]);
    }

    #[test]
    fn errors_are_sentences_with_what_to_try() {
        let told = |number| {
            let error = io::Error::from_raw_os_error(number);
            ConfigureError::new("can7", &FULL, error).to_string()
        };
        let line = "bitrate 500000 sample-point 0.875 dbitrate 2000000 fd on restart-ms 100 \
                    listen-only on";
        assert_eq!(FULL.to_string(), line);
        assert_eq!(PLAIN.to_string(), "bitrate 125000");
        let denied = told(libc::EPERM);
        assert!(denied.contains("CAP_NET_ADMIN") && denied.contains(line), "{denied}");
        for number in [libc::EINVAL, libc::ERANGE, libc::EDOM, libc::EOPNOTSUPP] {
            assert!(told(number).contains("the controller of can7 cannot do"), "{number}");
        }
        assert!(told(libc::EBUSY).contains("cannot set the bit rate of can7"));
    }

    #[test]
    fn what_is_no_controller_has_no_bit_rate() {
        let told = configure("lo", &PLAIN).map_err(|error| (error.may_pass(), error.to_string()));
        let Err((false, sentence)) = told else { panic!("{told:?}") };
        assert!(sentence.contains("lo has no bit rate to set"), "{sentence}");
        let absent = configure("nosuch", &PLAIN);
        assert!(matches!(absent, Err(ConfigureError::Absent)));
    }
}
