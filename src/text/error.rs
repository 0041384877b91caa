//! What can be wrong with a frame or a log line someone wrote.

use core::{error, fmt};

/// Why a text is not a frame. Displays as a sentence with an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseFrameError {
    /// There is no `#`.
    NoSeparator,
    /// The identifier has this many digits, which is neither 3 nor 8.
    IdWidth(usize),
    /// The identifier holds something that is no hexadecimal digit.
    IdDigit(char),
    /// Three digits, but above `7FF`.
    StandardTooHigh(u32),
    /// Eight digits, but above `1FFFFFFF` and no error class.
    ExtendedTooHigh(u32),
    /// The five digits of a CAN XL frame.
    Xl,
    /// The data holds something that is no hexadecimal digit.
    DataDigit(char),
    /// A data byte has one digit.
    HalfByte,
    /// More data than this many bytes.
    TooLong(usize),
    /// The length after `R` is not 0 to 8.
    RemoteLength,
    /// What follows `_` is not one digit from 9 to F.
    RawDlc,
    /// A `_` on a frame that is not of eight bytes.
    RawDlcWithoutEight,
    /// No hexadecimal digit after `##`.
    Flags,
    /// An error frame written as FD or remote.
    ErrorWithoutData,
    /// The parts do not fit together; the other variants leave no case for it that we know of.
    Impossible,
}

impl fmt::Display for ParseFrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSeparator => {
                f.write_str("a frame has a # after its identifier, as in 123#DEADBEEF")
            }
            Self::IdWidth(digits) => write!(
                f,
                "an identifier has 3 digits (11 bits, as in 123#00) or 8 (29 bits, as in \
                 1F334455#00), and this one has {digits}"
            ),
            Self::IdDigit(found) => {
                write!(
                    f,
                    "an identifier is hexadecimal, as in 5AA#00, and {found:?} is no such digit"
                )
            }
            Self::StandardTooHigh(bits) => write!(
                f,
                "{bits:03X} is above 7FF, the highest 11-bit identifier; with 29 bits it is \
                 {bits:08X}#"
            ),
            Self::ExtendedTooHigh(bits) => write!(
                f,
                "{bits:08X} is above 1FFFFFFF, the highest 29-bit identifier, and an error frame \
                 begins with 2 or 3, as in 20000004#0004000000000000"
            ),
            Self::Xl => f.write_str(
                "five digits before the # are a CAN XL frame, which canspan cannot carry yet; an \
                 identifier has 3 or 8, as in 123#00",
            ),
            Self::DataDigit(found) => {
                write!(f, "data is hexadecimal, as in 123#11.22.AA, and {found:?} is no such digit")
            }
            Self::HalfByte => f.write_str("a data byte has two digits, as in 123#01.02"),
            Self::TooLong(8) => f.write_str(
                "a classic frame carries at most 8 bytes; an FD frame carries up to 64 and is \
                 written with ##, as in 123##1112233445566778899",
            ),
            Self::TooLong(max) => write!(f, "a frame carries at most {max} bytes"),
            Self::RemoteLength => {
                f.write_str("the length of a remote request is one digit from 0 to 8, as in 123#R5")
            }
            Self::RawDlc => f.write_str(
                "the raw DLC after _ is one digit from 9 to F, as in 123#1122334455667788_B",
            ),
            Self::RawDlcWithoutEight => f.write_str(
                "a raw DLC needs a frame of eight bytes, as in 123#1122334455667788_B or 123#R8_B",
            ),
            Self::Flags => f.write_str(
                "an FD frame has one digit of flags after ## (1 = bit rate switch, 2 = error \
                 state; 4, which marks FD itself, is added), as in 123##1DEADBEEF",
            ),
            Self::ErrorWithoutData => f.write_str(
                "an error frame is neither FD nor a remote request; it is written as in \
                 20000004#0004000000000000",
            ),
            Self::Impossible => f.write_str("no such frame can exist; one is 123#DEADBEEF"),
        }
    }
}

impl error::Error for ParseFrameError {}

/// Why a line is not one of `candump -L`. Displays as a sentence with an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseLogError {
    /// It does not begin with a time in seconds, in parentheses.
    Stamp,
    /// There is no bus or no frame after the time.
    Incomplete,
    /// The frame is none.
    Frame(ParseFrameError),
    /// Something other than `R` or `T` follows the frame.
    Trailing,
}

impl fmt::Display for ParseLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stamp => f.write_str(
                "a line of a candump log begins with a time in seconds, as in \
                 (1436509052.249713) can0 044#2A366C2BBA",
            ),
            Self::Incomplete => f.write_str(
                "a line of a candump log has a time, a bus and a frame, as in \
                 (1436509052.249713) can0 044#2A366C2BBA",
            ),
            Self::Frame(error) => error.fmt(f),
            Self::Trailing => f.write_str(
                "after the frame a candump log has nothing, or R or T for received or sent, as \
                 in (1436509052.249713) can0 044#2A R",
            ),
        }
    }
}

impl error::Error for ParseLogError {}

impl From<ParseFrameError> for ParseLogError {
    fn from(error: ParseFrameError) -> Self {
        Self::Frame(error)
    }
}
