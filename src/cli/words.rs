//! The first look at the arguments: what argh has no notion of.
//!
//! Help, version and verbosity mean the same wherever they stand, `--option=value` becomes two
//! words, and `-` is an operand.

use std::ffi::OsString;

use super::error::CliError;
use super::help::CommandName;
use super::typed::SWITCHES;

/// The options that mean the same for every command, and take no value.
const EVERYWHERE: [&str; 3] = ["--help", "--version", "--verbose"];

/// The arguments, with what is global taken out.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) verbose: bool,
    /// The command, where one was named.
    pub(super) command: Option<CommandName>,
    /// What is left, for argh; the command's name is the first operand in it.
    pub(super) left: Vec<String>,
}

impl Words {
    pub(super) fn split(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, CliError> {
        let mut words = Self::default();
        let mut arguments = arguments.into_iter();
        let mut after_command = false;
        for argument in arguments.by_ref() {
            let argument = utf8(argument)?;
            let is_operand = !argument.starts_with('-') || argument == "-";
            let may_be_help = words.command.is_none() || after_command;
            after_command = false;
            match argument.as_str() {
                "-h" | "--help" => words.help = true,
                "help" if may_be_help => words.help = true,
                "-V" | "--version" => words.version = true,
                "-v" | "--verbose" => words.verbose = true,
                "--" | "-" => {
                    // To argh `-` is an option it does not know, unless the options have ended.
                    words.left.push("--".to_owned());
                    words.left.extend(is_operand.then_some(argument));
                    break;
                }
                _ if is_operand && words.command.is_none() => {
                    words.command = Some(CommandName::find(&argument)?);
                    after_command = true;
                    words.left.push(argument);
                }
                _ => words.push_option(argument)?,
            }
        }
        for argument in arguments {
            words.left.push(utf8(argument)?);
        }
        Ok(words)
    }

    fn push_option(&mut self, argument: String) -> Result<(), CliError> {
        let split = argument.split_once('=').filter(|(name, _)| name.starts_with("--"));
        let Some((name, value)) = split else {
            self.left.push(argument);
            return Ok(());
        };
        if SWITCHES.contains(&name) || EVERYWHERE.contains(&name) {
            return Err(CliError::usage(format!("{name} takes no value; `{argument}` gives one"))
                .of_command(self.command));
        }
        self.left.extend([name.to_owned(), value.to_owned()]);
        Ok(())
    }
}

fn utf8(argument: OsString) -> Result<String, CliError> {
    argument.into_string().map_err(|argument| {
        CliError::usage(format!("the argument `{}` is not UTF-8", argument.to_string_lossy()))
    })
}
