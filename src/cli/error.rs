//! Usage errors: what is wrong with a command line.

use core::{error, fmt};

use super::help::CommandName;

/// Why an argument has no meaning: a sentence that quotes it and shows what would have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError(String);

impl ValueError {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for ValueError {}

/// Why the command line is not followed. Displays as sentences for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CliError {
    /// It cannot be followed.
    Usage {
        /// What is wrong.
        sentence: String,
        /// Whose help tells more.
        command: Option<CommandName>,
    },
    /// It is understood, and too dangerous to be done without a further word.
    Refused(String),
}

impl CliError {
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage { sentence: sentence.into(), command: None }
    }

    /// Says which command was meant, so that the right help is pointed to.
    pub(super) fn of_command(mut self, name: Option<CommandName>) -> Self {
        if let Self::Usage { command, .. } = &mut self {
            *command = name;
        }
        self
    }

    /// The exit code: 2, as everywhere where the command line is at fault.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        2
    }
}

impl From<ValueError> for CliError {
    fn from(error: ValueError) -> Self {
        Self::usage(error.0)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { sentence, command: None } => {
                write!(f, "{sentence}\nTry `canspan --help`.")
            }
            Self::Usage { sentence, command: Some(command) } => {
                write!(f, "{sentence}\nTry `canspan {command} --help`.")
            }
            Self::Refused(sentence) => f.write_str(sentence),
        }
    }
}

impl error::Error for CliError {}
