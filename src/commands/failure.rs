//! Why a command did not succeed.

use core::fmt;
use std::io;

/// Exit status of a failure.
const FAILED: u8 = 1;
/// Exit status of `send` when something took the frames that cannot tell whether they reached the bus.
const NOT_CONFIRMED: u8 = 3;

/// A sentence for the operator, and the exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    sentence: String,
    exit_code: u8,
}

impl Failure {
    /// Everything was handed over, and nobody can say that it arrived.
    pub(super) fn not_confirmed(sentence: String) -> Self {
        Self { sentence, exit_code: NOT_CONFIRMED }
    }

    /// The exit status of the process; never 0, which is success, nor 2, which is a usage error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self { sentence, exit_code: FAILED }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl core::error::Error for Failure {}

/// Says that standard output cannot be written.
#[must_use]
pub fn not_written(error: &io::Error) -> String {
    format!("standard output cannot be written: {}", sentence(error))
}

/// What the system said, without its number.
pub(super) fn sentence(error: &io::Error) -> String {
    let said = error.to_string();
    said.split_once(" (os error").map_or(said.as_str(), |(said, _)| said).to_owned()
}
