//! What was typed, turned into what it means.

use core::fmt::Display;
use core::net::IpAddr;
use core::str::FromStr;
use core::time::Duration;

use super::bus_spec::parse_name;
use super::error::{CliError, ValueError};
use super::filter::parse_filters;
use super::namespace::parse_namespace;
use super::quantity::{
    parse_bitrate, parse_data_bitrate, parse_heartbeat, parse_hold, parse_max_age, parse_restart,
    parse_sample_point, parse_size, parse_time,
};
use super::typed::{TypedCommand, TypedConnect, TypedDump, TypedSend, TypedServe, TypedStatus};
use super::{
    BusPair, BusSpec, Command, Connect, DEFAULT_HEARTBEAT, DEFAULT_HISTORY, DEFAULT_PORT, Dump,
    Endpoint, FrameInput, Limits, ListenAddress, MaxAge, SendFrames, Serve, Status, Way,
};
use crate::bus::Settings;
use crate::bus::controller::BitTiming;
use crate::gateway::BUSES_MAX;
use crate::protocol::frame::Frame;
use crate::text::{AsText, Visible, parse_frame, parse_log_line};

pub(super) fn resolve(typed: TypedCommand) -> Result<Command, CliError> {
    match typed {
        TypedCommand::Serve(typed) => resolve_serve(typed).map(Command::Serve),
        TypedCommand::Connect(typed) => resolve_connect(typed).map(Command::Connect),
        TypedCommand::Dump(typed) => resolve_dump(typed).map(Command::Dump),
        TypedCommand::Send(typed) => resolve_send(&typed).map(Command::Send),
        TypedCommand::Status(typed) => resolve_status(&typed).map(Command::Status),
    }
}

/// Reads a frame that is to be sent to a bus: one in the syntax of `cansend`, but no error frame.
pub fn frame_to_send(text: &str) -> Result<Frame, ValueError> {
    let shown = Visible(text);
    if let Ok(Some(line)) = parse_log_line(text) {
        return Err(ValueError::new(format!(
            "`{shown}` is a line of `candump -L`; the frame is its third word, as in {} (`awk \
             '{{print $3}}'` takes it)",
            AsText(&line.frame)
        )));
    }
    let frame = parse_frame(text)
        .map_err(|error| ValueError::new(format!("`{shown}` is no frame: {error}")))?;
    if frame.is_error() {
        return Err(ValueError::new(format!(
            "`{shown}` is an error frame; a controller reports those, and none can be sent to a bus"
        )));
    }
    Ok(frame)
}

fn resolve_serve(typed: TypedServe) -> Result<Serve, CliError> {
    let buses: Vec<BusSpec> = parse_all(&typed.buses)?;
    if buses.is_empty() {
        return Err(CliError::usage("serve needs a bus, as in `canspan serve can0`"));
    }
    refuse_twice(buses.iter().map(BusSpec::name), "two buses are called")?;
    refuse_too_many(buses.len())?;
    let mut listen = resolve_listen("--listen", &typed.listen)?;
    if listen.is_empty() {
        listen.push(ListenAddress::default());
    }
    let dial: Vec<Endpoint> =
        typed.dial.iter().map(|text| option("--dial", text.parse())).collect::<Result<_, _>>()?;
    refuse_twice(&dial, "--dial is given twice for")?;
    let settings = resolve_settings(&typed)?;
    let for_interfaces = [("--bitrate", settings.is_some()), ("--create", typed.create)];
    refuse_without_interface(for_interfaces, &buses)?;
    if typed.create && settings.is_some() {
        return Err(CliError::usage(
            "--create makes virtual interfaces, and --bitrate is for real ones; give one of them",
        ));
    }
    let limits = resolve_limits(typed.history, typed.max_age, typed.heartbeat, typed.hold)?;
    let names = || buses.iter().map(BusSpec::name);
    let filters = parse_filters("--filter", &typed.filter, names())?;
    let tx_filters = parse_filters("--tx-filter", &typed.tx_filter, names())?;
    if typed.insecure && typed.listen.is_empty() && typed.metrics.is_empty() {
        return Err(CliError::usage(
            "--insecure alone opens nothing: it allows an address that others reach, as in \
             --listen 0.0.0.0",
        ));
    }
    // Last, so that nobody adds --insecure only to be told of a typing mistake.
    if !typed.insecure {
        refuse_open(&listen, typed.read_only)?;
    }
    let metrics = resolve_metrics(&typed.metrics, typed.insecure)?;
    refuse_shared(("--listen", &listen), ("--metrics", &metrics))?;
    let TypedServe { create, read_only, .. } = typed;
    Ok(Serve {
        buses,
        listen,
        dial,
        create,
        read_only,
        settings,
        filters,
        tx_filters,
        metrics,
        limits,
    })
}

/// One process has room for so many buses.
fn refuse_too_many(buses: usize) -> Result<(), CliError> {
    if buses <= BUSES_MAX {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "one process has room for {BUSES_MAX} buses, and {buses} are given; start another for the rest"
    )))
}

/// Options that are for interfaces mean nothing where every bus is simulated.
fn refuse_without_interface<'b>(
    options: impl IntoIterator<Item = (&'static str, bool)>,
    buses: impl IntoIterator<Item = &'b BusSpec>,
) -> Result<(), CliError> {
    let given = options.into_iter().find(|(_, is_given)| *is_given);
    let is_interface = |bus: &BusSpec| matches!(bus, BusSpec::Interface(_));
    match given {
        Some((name, _)) if !buses.into_iter().any(is_interface) => Err(CliError::usage(format!(
            "{name} is for interfaces, and every bus given is simulated; an interface is written \
             without sim:, as in can0"
        ))),
        _ => Ok(()),
    }
}

/// Two options cannot have one address.
fn refuse_shared(
    first: (&str, &[ListenAddress]),
    second: (&str, &[ListenAddress]),
) -> Result<(), CliError> {
    for address in first.1 {
        if let Some(other) = second.1.iter().find(|other| other.overlaps(address)) {
            return Err(CliError::usage(format!(
                "{} {address} and {} {other} are one address; give one of them another port",
                first.0, second.0
            )));
        }
    }
    Ok(())
}

/// How controllers are to be set, if at all.
fn resolve_settings(typed: &TypedServe) -> Result<Option<Settings>, CliError> {
    let bitrate = given("--bitrate", &typed.bitrate, parse_bitrate)?;
    let sample_point = given("--sample-point", &typed.sample_point, parse_sample_point)?;
    let dbitrate = given("--dbitrate", &typed.dbitrate, parse_data_bitrate)?;
    let dsample_point = given("--dsample-point", &typed.dsample_point, parse_sample_point)?;
    let restart_ms = given("--restart-ms", &typed.restart_ms, parse_restart)?;
    if dbitrate.is_none() && dsample_point.is_some() {
        return Err(CliError::usage("--dsample-point means nothing without --dbitrate"));
    }
    let Some(bitrate) = bitrate else {
        let companions = [
            ("--sample-point", sample_point.is_some()),
            ("--dbitrate", dbitrate.is_some()),
            ("--restart-ms", restart_ms.is_some()),
            ("--listen-only", typed.listen_only),
        ];
        return match companions.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => Err(CliError::usage(format!(
                "{name} means nothing without --bitrate, as in `canspan serve can0 --bitrate 500k`"
            ))),
            None => Ok(None),
        };
    };
    if dbitrate.is_some_and(|data| data < bitrate) {
        return Err(CliError::usage("--dbitrate is lower than --bitrate; in CAN FD it is not"));
    }
    let timing = BitTiming { bitrate, sample_point: sample_point.unwrap_or(0) };
    let data_timing =
        dbitrate.map(|bitrate| BitTiming { bitrate, sample_point: dsample_point.unwrap_or(0) });
    Ok(Some(Settings { timing, data_timing, restart_ms, listen_only: typed.listen_only }))
}

/// The addresses of an option, no two the same.
fn resolve_listen(name: &str, texts: &[String]) -> Result<Vec<ListenAddress>, CliError> {
    let parsed = texts.iter().map(|text| option(name, text.parse()));
    let addresses = parsed.collect::<Result<Vec<ListenAddress>, _>>()?;
    refuse_twice(&addresses, &format!("{name} is given twice for"))?;
    Ok(addresses)
}

/// There are no keys yet, so an address others can reach has to be asked for in so many words.
fn refuse_open(listen: &[ListenAddress], read_only: bool) -> Result<(), CliError> {
    let Some(open) = listen.iter().find(|address| !address.is_loopback()) else { return Ok(()) };
    let what = if read_only { "read your bus" } else { "read your bus and send to it" };
    Err(CliError::Refused(format!(
        "not listening on {open}: there are no keys yet, so anyone who reaches that port could \
         {what}. Stay on 127.0.0.1 and come through ssh or a VPN, or add --insecure if everyone \
         on that network may."
    )))
}

/// The same for an address where only questions are answered.
fn refuse_open_answers(
    addresses: &[ListenAddress],
    doing: &str,
    risk: &str,
) -> Result<(), CliError> {
    let Some(open) = addresses.iter().find(|address| !address.is_loopback()) else { return Ok(()) };
    Err(CliError::Refused(format!(
        "not {doing} on {open}: anyone who reaches that port could {risk}. Stay on 127.0.0.1, or \
         add --insecure if everyone on that network may."
    )))
}

/// Where to tell the numbers: an address of this machine with a port, or any if the user says so.
fn resolve_metrics(texts: &[String], insecure: bool) -> Result<Vec<ListenAddress>, CliError> {
    let mut addresses = Vec::new();
    for text in texts {
        let address: ListenAddress = option("--metrics", text.parse())?;
        // The port of peers would be the default, and nobody means that one.
        if address.port == DEFAULT_PORT {
            return Err(CliError::usage(format!(
                "--metrics: `{text}` needs a port of its own, as in 127.0.0.1:9177"
            )));
        }
        addresses.push(address);
    }
    refuse_twice(&addresses, "--metrics is given twice for")?;
    if !insecure {
        refuse_open_answers(&addresses, "serving metrics", "read them")?;
    }
    Ok(addresses)
}

fn resolve_connect(typed: TypedConnect) -> Result<Connect, CliError> {
    let mut way = None;
    let mut buses = typed.operands.as_slice();
    if typed.listen.is_empty() {
        let endpoint;
        (endpoint, buses) = resolve_host(buses, "connect", "canspan connect board can0")?;
        way = Some(endpoint);
    } else if buses.is_empty() {
        return Err(CliError::usage(
            "connect --listen needs the buses that peers may join, as in `canspan connect --listen \
             192.168.1.2 can0`",
        ));
    }
    if !typed.listen.is_empty() {
        refuse_peers(buses)?;
    }
    let buses: Vec<BusPair> = parse_all(buses)?;
    refuse_too_many(buses.len())?;
    refuse_twice(buses.iter().map(|pair| pair.remote.as_str()), "joined twice is the remote bus")?;
    refuse_twice(
        buses.iter().map(|pair| pair.local.name()),
        "two buses would be joined to the local",
    )?;
    if !buses.is_empty() {
        let local = buses.iter().map(|pair| &pair.local);
        refuse_without_interface(
            [("--create", typed.create), ("--netns", typed.netns.is_some())],
            local,
        )?;
    }
    let limits = resolve_limits(typed.history, typed.max_age, typed.heartbeat, typed.hold)?;
    let metrics = resolve_metrics(&typed.metrics, typed.insecure)?;
    let names = buses.iter().map(|pair| pair.remote.as_str());
    let filters = parse_filters("--filter", &typed.filter, names)?;
    let netns = given("--netns", &typed.netns, parse_namespace)?;
    let listen = resolve_listen("--listen", &typed.listen)?;
    let status = resolve_listen("--status", &typed.status)?;
    if typed.insecure && listen.is_empty() && status.is_empty() && metrics.is_empty() {
        return Err(CliError::usage(
            "--insecure allows an address that others reach, and there is no --listen, --status or \
             --metrics; who only dials opens no port",
        ));
    }
    refuse_shared(("--listen", &listen), ("--metrics", &metrics))?;
    refuse_shared(("--status", &status), ("--metrics", &metrics))?;
    if !typed.insecure {
        refuse_open(&listen, false)?;
        refuse_open_answers(&status, "answering", "request the status")?;
    }
    let way = match way {
        Some(endpoint) => Way::Dial { endpoint, status },
        None if status.is_empty() => Way::Listen(listen),
        None => {
            return Err(CliError::usage(
                "--status means nothing with --listen, where `canspan status` is answered, too",
            ));
        }
    };
    Ok(Connect { way, buses, create: typed.create, netns, filters, metrics, limits })
}

/// With --listen nobody is dialled, so there is no host among the operands.
fn refuse_peers(operands: &[String]) -> Result<(), CliError> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_peer = |text: &&String| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        is_port(port) || host.parse::<IpAddr>().is_ok() || text.starts_with('[')
    };
    match operands.iter().find(is_peer) {
        Some(peer) => Err(CliError::usage(format!(
            "`{peer}` looks like a peer to dial, and connect --listen dials nobody: it waits for \
             peers, and takes only buses, as in `canspan connect --listen 192.168.1.2 can0`"
        ))),
        None => Ok(()),
    }
}

fn resolve_dump(typed: TypedDump) -> Result<Dump, CliError> {
    let (endpoint, buses) = resolve_host(&typed.operands, "dump", "canspan dump board can0")?;
    let buses: Vec<String> =
        buses.iter().map(|name| resolve_remote(name)).collect::<Result<_, _>>()?;
    refuse_twice(&buses, "named twice is the bus")?;
    refuse_too_many(buses.len())?;
    let last = typed.last.map(|text| option("--last", parse_time(&text))).transpose()?;
    let filters = parse_filters("--filter", &typed.filter, buses.iter().map(String::as_str))?;
    Ok(Dump { endpoint, buses, filters, last })
}

fn resolve_send(typed: &TypedSend) -> Result<SendFrames, CliError> {
    let example = "canspan send board can0 123#DEADBEEF";
    let (endpoint, operands) = resolve_host(&typed.operands, "send", example)?;
    let Some((bus, frames)) = operands.split_first() else {
        return Err(CliError::usage(format!("send needs a bus, as in `{example}`")));
    };
    let bus = resolve_remote(bus)?;
    let frames = match frames {
        [] => FrameInput::Stdin,
        [only] if only == "-" => FrameInput::Stdin,
        frames if frames.iter().any(|frame| frame == "-") => {
            return Err(CliError::usage(
                "`-` takes the frames from standard input, so no other frame can stand beside it",
            ));
        }
        frames => FrameInput::Given(
            frames.iter().map(|text| frame_to_send(text)).collect::<Result<_, _>>()?,
        ),
    };
    Ok(SendFrames { endpoint, bus, frames })
}

fn resolve_status(typed: &TypedStatus) -> Result<Status, CliError> {
    let endpoint = match typed.operands.as_slice() {
        [] => ListenAddress::default().into(),
        [host] => host.parse()?,
        [_, second, ..] => {
            return Err(CliError::usage(format!("status asks one host; `{second}` is too many")));
        }
    };
    if typed.watch && typed.check {
        return Err(CliError::usage("--watch never ends, so --check has nothing to tell"));
    }
    let TypedStatus { json, watch, check, .. } = *typed;
    Ok(Status { endpoint, json, watch, check })
}

/// Takes the host off the operands.
fn resolve_host<'o>(
    operands: &'o [String],
    command: &str,
    example: &str,
) -> Result<(Endpoint, &'o [String]), CliError> {
    let Some((host, operands)) = operands.split_first() else {
        return Err(CliError::usage(format!("{command} needs a host, as in `{example}`")));
    };
    Ok((host.parse()?, operands))
}

/// The name of a peer's bus.
fn resolve_remote(name: &str) -> Result<String, ValueError> {
    match name.strip_prefix("sim:") {
        Some(bare) => Err(ValueError::new(format!(
            "`{name}`: a peer's bus has only a name, simulated or not; write `{bare}`"
        ))),
        None => parse_name(name),
    }
}

fn resolve_limits(
    history: Option<String>,
    max_age: Option<String>,
    heartbeat: Option<String>,
    hold: Option<String>,
) -> Result<Limits, CliError> {
    let history = history.map(|text| option("--history", parse_size(&text))).transpose()?;
    let max_age = max_age.map(|text| option("--max-age", parse_max_age(&text))).transpose()?;
    let heartbeat = heartbeat.map(|text| option("--heartbeat", parse_heartbeat(&text)));
    Ok(Limits {
        history_bytes: history.unwrap_or(DEFAULT_HISTORY),
        max_age: max_age.unwrap_or(MaxAge::ByBus),
        heartbeat: heartbeat.transpose()?.unwrap_or(DEFAULT_HEARTBEAT),
        hold: given("--hold", &hold, parse_hold)?.unwrap_or(Duration::ZERO),
    })
}

/// The value of an option, where it is given.
fn given<T>(
    name: &str,
    text: &Option<String>,
    parse: fn(&str) -> Result<T, ValueError>,
) -> Result<Option<T>, CliError> {
    text.as_deref().map(|text| option(name, parse(text))).transpose()
}

/// Names the option whose value is wrong.
fn option<T>(name: &str, value: Result<T, ValueError>) -> Result<T, CliError> {
    value.map_err(|error| CliError::usage(format!("{name}: {error}")))
}

fn parse_all<T: FromStr<Err = ValueError>>(texts: &[String]) -> Result<Vec<T>, ValueError> {
    texts.iter().map(|text| text.parse()).collect()
}

fn refuse_twice<T: PartialEq + Display>(
    items: impl IntoIterator<Item = T>,
    sentence: &str,
) -> Result<(), CliError> {
    let mut seen = Vec::new();
    for item in items {
        if seen.contains(&item) {
            return Err(CliError::usage(format!("{sentence} `{item}`")));
        }
        seen.push(item);
    }
    Ok(())
}
