//! What was typed, as argh takes it apart. Every value is still the text it was, so that all
//! judging is in one place and in our words.

use argh::FromArgs;

use super::error::CliError;
use super::words::Words;

/// The options that take no value.
pub(super) const SWITCHES: &[&str] =
    &["--insecure", "--read-only", "--create", "--listen-only", "--json", "--watch", "--check"];

/// Carries a CAN bus over TCP.
#[derive(FromArgs, Debug)]
#[argh(help_triggers("--help"))]
pub(super) struct Typed {
    #[argh(subcommand)]
    pub(super) command: TypedCommand,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub(super) enum TypedCommand {
    Serve(TypedServe),
    Connect(TypedConnect),
    Dump(TypedDump),
    Send(TypedSend),
    Status(TypedStatus),
}

/// own buses and let peers join them
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "serve", help_triggers("--help"))]
pub(super) struct TypedServe {
    /// the buses
    #[argh(positional)]
    pub(super) buses: Vec<String>,
    /// where to listen
    #[argh(option)]
    pub(super) listen: Vec<String>,
    /// whom to dial
    #[argh(option)]
    pub(super) dial: Vec<String>,
    /// listen beyond this machine without keys
    #[argh(switch)]
    pub(super) insecure: bool,
    /// make missing interfaces
    #[argh(switch)]
    pub(super) create: bool,
    /// let nothing from peers reach the buses
    #[argh(switch)]
    pub(super) read_only: bool,
    /// bits per second
    #[argh(option)]
    pub(super) bitrate: Option<String>,
    /// bits per second of the data phase
    #[argh(option)]
    pub(super) dbitrate: Option<String>,
    /// sample point within the bit
    #[argh(option)]
    pub(super) sample_point: Option<String>,
    /// the same in the data phase
    #[argh(option)]
    pub(super) dsample_point: Option<String>,
    /// milliseconds from bus-off to the next try
    #[argh(option)]
    pub(super) restart_ms: Option<String>,
    /// send nothing, not even acknowledgements
    #[argh(switch)]
    pub(super) listen_only: bool,
    /// which frames
    #[argh(option)]
    pub(super) filter: Vec<String>,
    /// which frames may be sent to the buses
    #[argh(option)]
    pub(super) tx_filter: Vec<String>,
    /// where to tell the numbers
    #[argh(option)]
    pub(super) metrics: Vec<String>,
    /// bytes of history
    #[argh(option)]
    pub(super) history: Option<String>,
    /// age limit toward the bus
    #[argh(option)]
    pub(super) max_age: Option<String>,
    /// silence before a heartbeat
    #[argh(option)]
    pub(super) heartbeat: Option<String>,
    /// longest wait of a frame for company
    #[argh(option)]
    pub(super) hold: Option<String>,
}

/// join a peer's buses to local ones
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "connect", help_triggers("--help"))]
pub(super) struct TypedConnect {
    /// the peer and the buses; argh would ask for a missing host in words of its own
    #[argh(positional)]
    pub(super) operands: Vec<String>,
    /// where to listen instead of dialling
    #[argh(option)]
    pub(super) listen: Vec<String>,
    /// where to answer `canspan status`
    #[argh(option)]
    pub(super) status: Vec<String>,
    /// make missing interfaces
    #[argh(switch)]
    pub(super) create: bool,
    /// where the interfaces are
    #[argh(option)]
    pub(super) netns: Option<String>,
    /// which frames
    #[argh(option)]
    pub(super) filter: Vec<String>,
    /// where to tell the numbers
    #[argh(option)]
    pub(super) metrics: Vec<String>,
    /// listen beyond this machine without keys
    #[argh(switch)]
    pub(super) insecure: bool,
    /// bytes of history
    #[argh(option)]
    pub(super) history: Option<String>,
    /// age limit toward the bus
    #[argh(option)]
    pub(super) max_age: Option<String>,
    /// silence before a heartbeat
    #[argh(option)]
    pub(super) heartbeat: Option<String>,
    /// longest wait of a frame for company
    #[argh(option)]
    pub(super) hold: Option<String>,
}

/// print the frames of a peer's buses
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "dump", help_triggers("--help"))]
pub(super) struct TypedDump {
    /// the peer and the buses; argh would ask for a missing host in words of its own
    #[argh(positional)]
    pub(super) operands: Vec<String>,
    /// which frames
    #[argh(option)]
    pub(super) filter: Vec<String>,
    /// how much of the past to begin with
    #[argh(option)]
    pub(super) last: Option<String>,
}

/// send frames to a peer's bus
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "send", help_triggers("--help"))]
pub(super) struct TypedSend {
    /// the peer, the bus and the frames
    #[argh(positional)]
    pub(super) operands: Vec<String>,
}

/// request the status of a running canspan
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "status", help_triggers("--help"))]
pub(super) struct TypedStatus {
    /// whom to ask
    #[argh(positional)]
    pub(super) operands: Vec<String>,
    /// print JSON
    #[argh(switch)]
    pub(super) json: bool,
    /// ask again and again
    #[argh(switch)]
    pub(super) watch: bool,
    /// fail unless everything is up
    #[argh(switch)]
    pub(super) check: bool,
}

impl Typed {
    /// Hands the words to argh and puts what it says of them into our form.
    pub(super) fn read(words: &Words) -> Result<TypedCommand, CliError> {
        if words.command.is_none() && words.left.is_empty() {
            return Err(CliError::usage(
                "what should be done? serve, connect, dump, send or status",
            ));
        }
        let left: Vec<&str> = words.left.iter().map(String::as_str).collect();
        Self::from_args(&["canspan"], &left)
            .map(|typed| typed.command)
            .map_err(|exit| CliError::usage(sentence(&exit.output)).of_command(words.command))
    }
}

/// argh's messages in our words where we have any; in lower case and on one line, as the rest of
/// ours.
fn sentence(output: &str) -> String {
    let option = output.split('\'').nth(1).unwrap_or_default();
    if output.contains("duplicate values provided") {
        return format!("{option} is given twice");
    }
    if output.starts_with("No value provided for option") {
        return format!("{option} needs a value");
    }
    if let Some(argument) = output.trim_end().strip_prefix("Unrecognized argument: ") {
        return format!("there is no option {argument}");
    }
    let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = output.trim_end_matches('.').chars();
    letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
}
