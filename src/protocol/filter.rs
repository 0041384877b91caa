//! Which frames are meant: filters in candump's syntax, with the kernel's meaning.
//!
//! ```text
//! 123:7FF   frames where id & 7FF is 123          123~7FF   all others
//! #1FF      error frames of these classes         j         all of the above must hold, not one
//! ```
//!
//! An id of eight digits is a 29-bit one. As in `struct can_filter` (`linux/can.h`) an id has the
//! flags of `can_id` above its bits: 80000000 for 29 bits, 40000000 for a remote request. Several
//! `#` are one with the classes of all. With no id filter all frames but error frames pass; with no
//! `#` and any other filter no error frame does.

use core::fmt;
use core::str::FromStr;

use heapless::Vec;

use super::frame::{Frame, Id, Kind};

/// Most filters by id. Chosen: more than anybody types, and a hub's table of peers stays below
/// 32 KiB.
pub const FILTERS_MAX: usize = 32;
/// Longest text of a set of filters: each `12345678:12345678,`, the error classes, and `j`.
pub(super) const FILTER_TEXT_MAX: usize = FILTERS_MAX * 18 + 10 + 2;

/// Flags above an id (`CAN_EFF_FLAG`, `CAN_RTR_FLAG`, `CAN_ERR_FLAG` in `linux/can.h`).
const EXTENDED: u32 = 0x8000_0000;
const REMOTE: u32 = 0x4000_0000;
const ERROR: u32 = 0x2000_0000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ById {
    id: u32,
    mask: u32,
    inverted: bool,
}

impl ById {
    fn passes(self, id: u32) -> bool {
        (id & self.mask == self.id & self.mask) != self.inverted
    }
}

/// Which frames pass. [`Filters::ALL`] lets every one pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filters {
    by_id: [ById; FILTERS_MAX],
    amount: usize,
    /// Error classes that pass.
    errors: u32,
    /// Whether all filters by id must hold, not one of them.
    joined: bool,
}

impl Filters {
    /// Every frame passes.
    pub const ALL: Self = Self {
        by_id: [ById { id: 0, mask: 0, inverted: false }; FILTERS_MAX],
        amount: 0,
        errors: u32::MAX,
        joined: false,
    };

    /// Whether every frame passes.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether a frame passes.
    #[must_use]
    pub fn passes(&self, frame: &Frame) -> bool {
        let bits = frame.id().bits();
        if frame.is_error() {
            return self.errors == u32::MAX || bits & self.errors != 0;
        }
        let by_id = self.by_id.get(..self.amount).unwrap_or(&[]);
        if by_id.is_empty() {
            return true;
        }
        let wide = if matches!(frame.id(), Id::Extended(_)) { EXTENDED } else { 0 };
        let remote = if matches!(frame.kind(), Kind::Remote { .. }) { REMOTE } else { 0 };
        let id = bits | wide | remote;
        if self.joined {
            by_id.iter().all(|filter| filter.passes(id))
        } else {
            by_id.iter().any(|filter| filter.passes(id))
        }
    }

    fn add(&mut self, filter: ById) -> Result<(), FilterError> {
        *self.by_id.get_mut(self.amount).ok_or(FilterError::TooMany)? = filter;
        self.amount += 1;
        Ok(())
    }
}

/// Why a text is no set of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterError {
    /// A part is none of the forms there are.
    Form,
    /// An id or a mask has more than 32 bits, or is not hexadecimal.
    Number,
    /// There are more than [`FILTERS_MAX`].
    TooMany,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("a filter is 123:7FF, 123~7FF, #1FF or j"),
            Self::Number => f.write_str("ids and masks are 1 to 8 hexadecimal digits"),
            Self::TooMany => write!(f, "{FILTERS_MAX} filters by id are the most"),
        }
    }
}

impl core::error::Error for FilterError {}

impl FromStr for Filters {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filters = Self { errors: 0, ..Self::ALL };
        for part in text.split(',') {
            if part.eq_ignore_ascii_case("j") {
                filters.joined = true;
            } else if let Some(classes) = part.strip_prefix('#') {
                filters.errors |= number(classes)?;
            } else {
                let inverted = part.contains('~');
                let split = part.split_once(if inverted { '~' } else { ':' });
                let (id, mask) = split.ok_or(FilterError::Form)?;
                // As candump has it: 40000123, a remote request, becomes a 29-bit one by this.
                let wide = if id.len() == 8 { EXTENDED } else { 0 };
                let (id, mask) = (number(id)? | wide, number(mask)? & !ERROR);
                filters.add(ById { id, mask, inverted })?;
            }
        }
        // All classes there are, and none in particular, are the same.
        if filters.errors & Id::EXTENDED_MAX == Id::EXTENDED_MAX {
            filters.errors = u32::MAX;
        }
        Ok(filters)
    }
}

fn number(text: &str) -> Result<u32, FilterError> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok()).flatten().ok_or(FilterError::Number)
}

/// As it is typed, and as it travels.
impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_id = self.by_id.get(..self.amount).unwrap_or(&[]);
        for ById { id, mask, inverted } in by_id {
            let between = if *inverted { '~' } else { ':' };
            if id & EXTENDED == 0 {
                write!(f, "{id:03X}{between}{mask:X},")?;
            } else {
                write!(f, "{id:08X}{between}{mask:X},")?;
            }
        }
        if self.joined {
            f.write_str("j,")?;
        }
        write!(f, "#{:X}", self.errors)
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// A set of filters as it travels.
pub(super) fn text(filters: &Filters) -> Vec<u8, FILTER_TEXT_MAX> {
    let mut text = heapless::String::<FILTER_TEXT_MAX>::new();
    // It has room for the longest.
    let _ = fmt::Write::write_fmt(&mut text, format_args!("{filters}"));
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn passes(text: &str, frame: Option<Frame>) -> bool {
        filters(text).passes(&frame.unwrap())
    }

    fn short(id: u16) -> Option<Frame> {
        Frame::data_frame(Id::Standard(id), &[])
    }

    fn long(id: u32) -> Option<Frame> {
        Frame::data_frame(Id::Extended(id), &[])
    }

    #[test]
    fn they_mean_what_candump_means() {
        assert!(passes("123:7FF", short(0x123)) && !passes("123:7FF", short(0x124)));
        assert!(!passes("123~7FF", short(0x123)) && passes("123~7FF", short(0x124)));
        assert!(passes("120:7F0", short(0x12F)) && passes("100:700,200:7FF", short(0x200)));
        // Without the flag in the mask the width does not matter; with it, it does.
        assert!(passes("123:7FF", long(0x123)) && passes("00000123:7FF", short(0x123)));
        assert!(!passes("123:C00007FF", long(0x123)));
        assert!(passes("00000123:DFFFFFFF", long(0x123)));
        assert!(!passes("00000123:DFFFFFFF", short(0x123)));
        let remote = Frame::remote(Id::Standard(0x123), 0);
        assert!(passes("123:7FF", remote) && !passes("123:400007FF", remote));
        assert!(!passes("40000123:C00007FF", remote) && passes("40000123:400007FF", remote));
        // Joined: both must hold.
        assert!(passes("123~7FF,124~7FF", short(0x123)));
        assert!(!passes("123~7FF,124~7FF,j", short(0x123)));
        assert!(passes("J,123~7FF,124~7FF", short(0x125)));
    }

    #[test]
    fn error_frames_pass_by_their_class() {
        let error = Frame::error(0x04, &[0; 8]);
        assert!(Filters::ALL.passes(&error.unwrap()));
        assert!(!passes("0:0", error) && !passes("#3", error) && passes("#FF", error));
        assert!(passes("0:0,#FFFFFFFF", error) && passes("#4", short(1)));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["123:7FF", "123~7FF,00000001:1FFFFFFF,j,#1F", "#0", "#FFFFFFFF", "0:0,J"] {
            let once = filters(text);
            assert_eq!(filters(core::str::from_utf8(&super::text(&once)).unwrap()), once, "{text}");
        }
        assert_eq!(
            filters(core::str::from_utf8(&super::text(&Filters::ALL)).unwrap()),
            Filters::ALL
        );
        let most = ["9ABCDEF0~12345678"; FILTERS_MAX].join(",") + ",j,#12345678";
        assert_eq!(super::text(&filters(&most)).len(), FILTER_TEXT_MAX - 1);
        assert_eq!((most + ",1:1").parse::<Filters>(), Err(FilterError::TooMany));
    }

    #[test]
    fn nothing_else_is_a_filter() {
        for odd in ["", ",", "123", "can0", "123:7FF,", "jj"] {
            assert_eq!(odd.parse::<Filters>(), Err(FilterError::Form), "{odd}");
        }
        for odd in ["123:", ":7FF", "#", "#g", "123:123456789", "+1:7FF", "1:2:3", "1~2~3"] {
            assert_eq!(odd.parse::<Filters>(), Err(FilterError::Number), "{odd}");
        }
    }
}
