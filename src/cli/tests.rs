use std::os::unix::ffi::OsStringExt;

use argh::FromArgs;

use super::help::CommandName;
use super::*;
use crate::bus::controller::BitTiming;
use crate::bus::sim::SimSource;
use crate::text::AsText;

fn request(line: &str) -> Result<Request, CliError> {
    parse(line.split_whitespace().map(OsString::from))
}

fn command(line: &str) -> Command {
    match request(line) {
        Ok(Request::Run { command, .. }) => *command,
        other => panic!("{line}: {other:?}"),
    }
}

fn serve(line: &str) -> Serve {
    let Command::Serve(serve) = command(line) else { panic!("{line} is no serve") };
    serve
}

fn connect(line: &str) -> Connect {
    let Command::Connect(connect) = command(line) else { panic!("{line} is no connect") };
    connect
}

fn printed(line: &str) -> String {
    match request(line) {
        Ok(Request::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

fn usage_error(line: &str) -> String {
    match request(line) {
        Err(error @ CliError::Usage { .. }) => {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn help_is_where_anyone_looks_for_it() {
    for line in ["-h", "--help", "help", "help help", "-v -h"] {
        assert!(printed(line).contains("canspan - carries a CAN bus"), "{line}");
    }
    for name in CommandName::ALL {
        for line in ["{} -h", "{} --help", "{} help", "help {}", "--help {}", "{} x --bogus -h"] {
            let line = line.replace("{}", &name.to_string());
            assert!(printed(&line).contains(&format!("canspan {name} - ")), "{line}");
        }
    }
}

#[test]
fn help_names_every_option_argh_knows() {
    for name in CommandName::ALL {
        let of_argh = typed::Typed::from_args(&["canspan"], &[name.to_string().as_str(), "--help"])
            .unwrap_err()
            .output;
        let ours = help::text(Some(name));
        let options: Vec<&str> = of_argh
            .split_whitespace()
            .filter(|word| word.starts_with("--"))
            .map(|word| word.trim_end_matches([']', ',']))
            .collect();
        assert!(options.contains(&"--help"));
        let switches = of_argh
            .split_whitespace()
            .filter_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
            .filter(|word| word.starts_with("--") && *word != "--");
        for switch in switches {
            assert!(typed::SWITCHES.contains(&switch), "{switch} is missing among the switches");
        }
        for option in options {
            assert!(ours.contains(option), "the help of {name} says nothing of {option}");
        }
    }
}

#[test]
fn help_fits_a_terminal_and_its_examples_are_valid() {
    for name in CommandName::ALL {
        let text = help::text(Some(name));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let (_, examples) = text.split_once("EXAMPLES").unwrap();
        let examples: Vec<&str> =
            examples.lines().filter_map(|line| line.trim().strip_prefix("canspan ")).collect();
        assert!(!examples.is_empty());
        for example in examples {
            let example = example.split(['|', '<']).next().unwrap_or_default().replace('\'', "");
            command(&example);
        }
    }
}

#[test]
fn version_is_printed() {
    for line in ["--version", "-V", "serve --version"] {
        assert_eq!(printed(line), format!("canspan {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn verbose_may_stand_anywhere_before_the_end_of_options() {
    for line in ["-v serve can0", "serve can0 -v", "serve --verbose can0"] {
        assert!(matches!(request(line), Ok(Request::Run { verbose: true, .. })), "{line}");
    }
    assert!(matches!(request("serve can0"), Ok(Request::Run { verbose: false, .. })));
}

#[test]
fn serve_has_defaults() {
    assert_eq!(
        serve("serve can0"),
        Serve {
            buses: vec![BusSpec::Interface("can0".into())],
            listen: vec![ListenAddress { host: "127.0.0.1".into(), port: 22677 }],
            dial: vec![],
            create: false,
            read_only: false,
            settings: None,
            filters: vec![],
            tx_filters: vec![],
            metrics: vec![],
            limits: Limits {
                history_bytes: 4 * 1024 * 1024,
                max_age: MaxAge::ByBus,
                heartbeat: Duration::from_millis(900),
                hold: Duration::ZERO,
            },
        }
    );
}

#[test]
fn serve_takes_all_its_options_in_both_spellings() {
    let apart = serve(
        "serve can0 --listen [::]:1 --listen :2 --insecure --read-only sim:x --history 512k \
         --max-age none --heartbeat 1s --hold 4ms",
    );
    assert_eq!(apart.buses.len(), 2);
    assert_eq!(apart.listen[0].to_string(), "[::]:1");
    assert_eq!(apart.listen[1].to_string(), "127.0.0.1:2");
    assert!(apart.read_only);
    assert_eq!(apart.limits.history_bytes, 512 * 1024);
    assert_eq!(apart.limits.max_age, MaxAge::Unlimited);
    assert_eq!(apart.limits.heartbeat, Duration::from_secs(1));
    assert_eq!(apart.limits.hold, Duration::from_millis(4));
    let joined = "serve --listen=[::]:1 --listen=:2 --insecure --read-only --history=512k \
                  --max-age=none --heartbeat=1s --hold=4ms -- can0 sim:x";
    assert_eq!(serve(joined), apart);
}

#[test]
fn hold_is_zero_to_a_second() {
    for (given, millis) in [("0", 0), ("0ms", 0), ("4ms", 4), ("1s", 1_000)] {
        let hold = Duration::from_millis(millis);
        assert_eq!(serve(&format!("serve can0 --hold {given}")).limits.hold, hold);
        assert_eq!(connect(&format!("connect board --hold {given}")).limits.hold, hold);
    }
}

#[test]
fn controllers_are_set_as_told() {
    let plain = serve("serve can0 --bitrate 500k").settings.unwrap();
    let timing = BitTiming { bitrate: 500_000, sample_point: 0 };
    let nothing = Settings { timing, data_timing: None, restart_ms: None, listen_only: false };
    assert_eq!(plain, nothing);
    let full = serve(
        "serve can0 --bitrate 1M --sample-point 0.8 --dbitrate 2M --dsample-point 0.75 \
         --restart-ms 100 --listen-only",
    );
    assert_eq!(
        full.settings.unwrap(),
        Settings {
            timing: BitTiming { bitrate: 1_000_000, sample_point: 800 },
            data_timing: Some(BitTiming { bitrate: 2_000_000, sample_point: 750 }),
            restart_ms: Some(100),
            listen_only: true,
        }
    );
    assert!(!full.read_only, "a simulated bus beside it may still be written");
}

#[test]
fn an_open_port_is_refused_unless_asked_for() {
    for address in ["0.0.0.0", "[::]", "192.168.1.20:5", "board", "[fe80::1%eth0]"] {
        let line = format!("serve can0 --listen {address}");
        let Err(error @ CliError::Refused(_)) = request(&line) else { panic!("{line} is done") };
        assert_eq!(error.exit_code(), 2);
        for word in ["no keys", "--insecure", "send to it", address] {
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(matches!(command(&format!("{line} --insecure")), Command::Serve(_)));
    }
    for address in ["127.0.0.1", "127.9.9.9:1", "localhost", "[::1]", ":0", "::ffff:127.0.0.1"] {
        serve(&format!("serve can0 --listen {address}"));
    }
    let error = request("serve can0 --listen 0.0.0.0 --read-only").unwrap_err().to_string();
    assert!(!error.contains("send to it"), "{error}");
}

#[test]
fn connect_pairs_buses() {
    let all = connect("connect board");
    let board = Endpoint { host: "board".into(), port: 22677 };
    assert_eq!(all.way, Way::Dial { endpoint: board, status: vec![] });
    assert_eq!((all.buses.len(), all.create), (0, false));
    let some = connect("connect [::1]:5 can0 can1:vcan7 can2:sim:hub can3:sim:r?rate=5 --create");
    let Way::Dial { endpoint, .. } = &some.way else { panic!("{:?}", some.way) };
    assert_eq!(endpoint.to_string(), "[::1]:5");
    assert!(some.create);
    let pairs: Vec<String> = some.buses.iter().map(ToString::to_string).collect();
    assert_eq!(pairs, ["can0:can0", "can1:vcan7", "can2:sim:hub", "can3:sim:r?rate=5"]);
    let age = connect("connect board can0 --max-age=250ms").limits.max_age;
    assert_eq!(age, MaxAge::Limit(Duration::from_millis(250)));
    assert_eq!(all.netns, None);
    let other = connect("connect board --netns 42").netns;
    assert_eq!(other, Some(crate::bus::NamespaceSpec::Process(42)));
    assert!(usage_error("connect board --netns 0").contains("--netns: there is no process 0"));
}

#[test]
fn serve_makes_interfaces_only_without_a_bit_rate() {
    assert!(serve("serve can0 --create").create);
    assert!(!serve("serve can0").create);
    assert!(usage_error("serve can0 --create --bitrate 500k").contains("give one of them"));
}

#[test]
fn either_side_may_dial() {
    let board = serve("serve can0 can1 --dial lab --dial [::1]:7");
    let hosts: Vec<String> = board.dial.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["lab:22677", "[::1]:7"]);
    assert_eq!(board.listen.len(), 1, "it can still be asked how it is");
    let Way::Listen(at) = connect("connect --listen :5 --listen [::1] can0:vcan0 can1").way else {
        panic!("it was to listen")
    };
    assert_eq!(at.len(), 2);
    let Way::Dial { status, .. } = connect("connect board can0 --status :5").way else {
        panic!("it was to dial")
    };
    assert_eq!(status[0].to_string(), "127.0.0.1:5");
    for (line, reason) in [
        ("connect --listen 0.0.0.0 can0", "not listening on 0.0.0.0:22677"),
        ("connect --listen :5", "connect --listen needs the buses"),
        ("connect --listen :5 can0 --status :6", "--status means nothing with --listen"),
        ("connect board can0 --status 0.0.0.0", "not answering on 0.0.0.0:22677"),
        ("serve can0 --dial lab --dial lab", "--dial is given twice for"),
        ("serve can0 --dial lab:x", "--dial: "),
    ] {
        let error = request(line).unwrap_err().to_string();
        assert!(error.contains(reason), "{line}: {error}");
    }
    request("connect --listen 0.0.0.0 --insecure can0").unwrap();
}

#[test]
fn dump_and_send_are_understood() {
    let Command::Dump(dump) = command("dump board:1 can0 can1 --last 30s") else { panic!() };
    assert_eq!((dump.endpoint.port, dump.buses.join("+")), (1, "can0+can1".to_owned()));
    assert_eq!(dump.last, Some(Duration::from_secs(30)));
    let Command::Send(send) = command("send board can0 123#R 1F334455##1AA") else { panic!() };
    let FrameInput::Given(frames) = send.frames else { panic!() };
    let frames: Vec<String> = frames.iter().map(|frame| AsText(frame).to_string()).collect();
    assert_eq!(frames, ["123#R", "1F334455##5AA"]);
    for line in ["send board can0", "send board can0 -", "send -- board can0 -"] {
        let Command::Send(send) = command(line) else { panic!() };
        assert_eq!((send.bus.as_str(), send.frames), ("can0", FrameInput::Stdin), "{line}");
    }
}

/// A line that makes no sense, and what must be said about it.
#[test]
fn nonsense_is_explained() {
    for (line, said) in [
        ("", "what should be done"),
        ("-v", "what should be done"),
        ("sing", "there is no command `sing`"),
        ("--bogus serve can0", "--bogus"),
        ("serve", "serve needs a bus"),
        ("serve can0 --bogus", "there is no option --bogus"),
        ("serve can0 --bogus=1", "there is no option --bogus"),
        ("serve can0 --listen", "--listen needs a value"),
        ("serve can0 --verbose=3", "--verbose takes no value"),
        ("--version=1", "--version takes no value"),
        ("serve can0 --insecure=yes", "--insecure takes no value"),
        ("serve can0 --history 1M --history 2M", "--history is given twice"),
        ("serve can0 can0", "two buses are called `can0`"),
        ("serve can0 sim:can0", "two buses are called `can0`"),
        ("serve can0 --listen :1 --listen 127.0.0.1:1", "twice for `127.0.0.1:1`"),
        ("serve can0 --listen=", "names no host"),
        ("serve can0 --listen 22677", "written with a colon"),
        ("serve can0 --history 4X", "--history: `4X` is no size"),
        ("serve can0 --history 1T", "--history: `1T` is too much for a history; the most is 64G"),
        ("serve can0 --history 18446744073709551616", "too much"),
        ("serve can0 --history 9999999999G", "too much"),
        ("serve can0 --history 3.5M", "one is a whole number, 4M"),
        ("serve can0 --history 63k", "too small"),
        ("serve can0 --history 99999G", "too much"),
        ("serve can0 --history=-4M", "is no size"),
        (
            "serve can0 --max-age 500",
            "`500` has no unit; a time is written 500ms, 500s or 500m; or none",
        ),
        ("serve can0 --max-age 0ms", "no time at all"),
        ("serve can0 --max-age 0", "`0` is no time at all; the least is 1ms; or none"),
        ("serve can0 --max-age NONE", "or none, for no limit"),
        ("dump board --last 0", "`0` is no time at all; the least is 1ms"),
        ("serve can0 --heartbeat 0", "`0` is not between 50ms and 5m"),
        ("serve can0 --heartbeat 900", "a time is written 900ms\n"),
        ("serve can0 --heartbeat 2", "a time is written 2s or 2m\n"),
        ("serve can0 --heartbeat 400000", "a time is written as in 500ms, 3s or 2m\n"),
        ("serve can0 --heartbeat none", "is no time"),
        ("serve can0 --heartbeat 1ms", "not between"),
        ("serve can0 --heartbeat 10m", "not between"),
        ("serve can0 --hold 4", "a time is written 4ms\n"),
        ("serve can0 --hold none", "`none` is no time"),
        ("connect board --hold 1001ms", "--hold: `1001ms` is too long"),
        ("connect board --hold 2m", "the most is 1s"),
        ("dump board --hold 4ms", "there is no option --hold"),
        ("serve -", "`-`"),
        ("serve can0 --bitrate 500", "is 500k meant"),
        ("serve can0 --bitrate 0", "less than 1k"),
        ("serve can0 --bitrate fast", "--bitrate: `fast` is no bit rate"),
        ("serve can0 --bitrate 2M", "only in the data phase"),
        ("serve can0 --bitrate 500k --dbitrate 21M", "the most is 20M"),
        ("serve can0 --bitrate 500k --dbitrate 250k", "lower than --bitrate"),
        ("serve can0 --bitrate 500k --dsample-point 0.8", "without --dbitrate"),
        ("serve can0 --bitrate 500k --sample-point 87.5%", "is no sample point"),
        ("serve can0 --bitrate 500k --sample-point 0.000", "is no sample point"),
        ("serve can0 --bitrate 500k --restart-ms 1s", "--restart-ms: `1s` is no pause"),
        ("serve can0 --sample-point 0.8", "--sample-point means nothing without --bitrate"),
        ("serve can0 --dbitrate 2M", "--dbitrate means nothing without --bitrate"),
        ("serve can0 --restart-ms 100", "--restart-ms means nothing without --bitrate"),
        ("serve can0 --listen-only", "--listen-only means nothing without --bitrate"),
        ("serve can0 --listen-only=yes", "--listen-only takes no value"),
        ("connect", "connect needs a host"),
        ("connect board can0 can0:vcan1", "remote bus `can0`"),
        ("connect board can0:x can1:x", "the local `x`"),
        ("connect board can0:x can1:sim:x", "the local `x`"),
        ("connect board sim:hub", "as in hub:can0"),
        ("connect board can0:", "needs a name"),
        ("connect board :can0", "needs a name"),
        ("dump", "dump needs a host"),
        ("dump board sim:hub", "write `hub`"),
        ("dump board can0 can0", "named twice"),
        ("dump board --last none", "--last: `none` is no time"),
        ("dump board --last 9999999h", "more than a year"),
        ("dump board --last 99999999999999999999s", "more than a year"),
        ("send", "send needs a host"),
        ("send board", "send needs a bus"),
        ("send board can0 123", "`123` is no frame: a frame has a #"),
        ("send board can0 20000004#00", "error frame"),
        ("send board can0 123#11 -", "beside it"),
        ("send board can0 - 123#11", "beside it"),
        ("serve sim:a --bitrate 500k", "--bitrate is for interfaces"),
        ("serve sim:a sim:b --create", "--create is for interfaces"),
        ("connect board a:sim:a --create", "--create is for interfaces"),
        ("connect board a:sim:a --netns lab", "--netns is for interfaces"),
        ("serve can0 --insecure", "--insecure alone opens nothing"),
        ("connect board can0 --insecure", "opens no port"),
        ("serve can0 --listen :7 --metrics :7", "are one address"),
        ("serve can0 --listen [::]:7 --metrics 127.0.0.1:7 --insecure", "are one address"),
        ("serve can0 --listen localhost:7 --metrics 127.0.0.1:7", "are one address"),
        ("connect board can0 --status :7 --metrics :7", "--status 127.0.0.1:7 and --metrics"),
        ("connect --listen :7 can0 --metrics :7", "--listen 127.0.0.1:7 and --metrics"),
        ("connect board:22677 can0 --listen :7", "looks like a peer to dial"),
        ("connect 192.168.1.20 can0 --listen :7", "connect --listen dials nobody"),
        ("connect [::1]:5 can0 --listen :7", "connect --listen dials nobody"),
    ] {
        let sentence = usage_error(line);
        assert!(sentence.contains(said), "{line}: {sentence}");
        assert!(sentence.contains("--help"), "{line}: {sentence}");
    }
    assert!(usage_error("dump").ends_with("Try `canspan dump --help`."));
}

#[test]
fn an_argument_that_is_not_utf8_is_no_panic() {
    let arguments = [OsString::from("serve"), OsString::from_vec(vec![b'c', 0xFF])];
    assert!(parse(arguments).unwrap_err().to_string().contains("is not UTF-8"));
}

#[test]
fn endpoints_are_names_and_addresses_of_both_kinds() {
    for (typed, displayed) in [
        ("board", "board:22677"),
        ("board.local:1", "board.local:1"),
        ("192.168.1.20", "192.168.1.20:22677"),
        ("[::1]:22677", "[::1]:22677"),
        ("[::1]", "[::1]:22677"),
        ("::1", "[::1]:22677"),
        ("fe80::1%eth0", "[fe80::1%eth0]:22677"),
        ("[fe80::1%eth0]:7", "[fe80::1%eth0]:7"),
        ("x_y-1:65535", "x_y-1:65535"),
    ] {
        let endpoint: Endpoint = typed.parse().unwrap_or_else(|error| panic!("{typed}: {error}"));
        assert_eq!(endpoint.to_string(), displayed);
        assert_eq!(displayed.parse(), Ok(endpoint));
    }
    for typed in [
        "",
        ":",
        ":1",
        "board:",
        "board:x",
        "board:0",
        "board:65536",
        "board:+1",
        "board:-1",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[board]:1",
        "[]:1",
        "::1:22677",
        "::g",
        "fe80::1%",
        "tcp://board",
        "tcp://board:1",
        "a b",
        "user@board",
        "256.1.1.1",
        "1.2.3",
        "22677",
        "-board",
        ".",
        "a..b",
        "börd",
        "a/b",
    ] {
        let parsed = typed.parse::<Endpoint>();
        assert!(parsed.is_err(), "{typed} was read as {parsed:?}");
    }
}

#[test]
fn listen_addresses_may_leave_anything_out() {
    for (typed, displayed) in [
        ("0.0.0.0", "0.0.0.0:22677"),
        ("[::]", "[::]:22677"),
        ("::", "[::]:22677"),
        (":5", "127.0.0.1:5"),
        ("localhost:0", "localhost:0"),
    ] {
        let address: ListenAddress = typed.parse().unwrap();
        assert_eq!(address.to_string(), displayed);
    }
    assert_eq!(ListenAddress::default().to_string(), "127.0.0.1:22677");
}

#[test]
fn buses_are_interfaces_or_simulated() {
    let sim = |source| BusSpec::Sim { name: "demo".into(), source };
    for (typed, spec) in [
        ("can0", BusSpec::Interface("can0".into())),
        ("a23456789012345", BusSpec::Interface("a23456789012345".into())),
        ("sim:demo", sim(SimSource::Silent)),
        ("sim:demo?rate=1000", sim(SimSource::Rate(1000))),
        ("sim:demo?trace=a/b?c=d.log", sim(SimSource::Trace("a/b?c=d.log".into()))),
    ] {
        assert_eq!(typed.parse(), Ok(spec.clone()), "{typed}");
        assert_eq!(spec.to_string(), typed);
    }
    for typed in [
        "",
        "sim",
        "sim:",
        "sim:sim",
        "sim:?rate=1",
        "a234567890123456",
        "can 0",
        "can/0",
        "can:0",
        ".",
        "..",
        "can\n",
        "sim:demo?",
        "sim:demo?rate",
        "sim:demo?rate=",
        "sim:demo?rate=0",
        "sim:demo?rate=+1",
        "sim:demo?rate=1000001",
        "sim:demo?trace=",
        "sim:demo?speed=1",
    ] {
        let parsed = typed.parse::<BusSpec>();
        assert!(parsed.is_err(), "{typed} was read as {parsed:?}");
    }
}

#[test]
fn quantities_have_units() {
    use quantity::{parse_max_age, parse_size, parse_time};
    for (typed, bytes) in [("64k", 65_536), ("65536", 65_536), ("4M", 4 << 20), ("1g", 1 << 30)] {
        assert_eq!(parse_size(typed), Ok(bytes));
    }
    for typed in ["", "M", "4 M", "4MB", "1.5M", "+4M", "65535", "18446744073709551616", "65G"] {
        assert!(parse_size(typed).is_err(), "{typed}");
    }
    for (typed, millis) in
        [("1ms", 1), ("500ms", 500), ("3s", 3000), ("2m", 120_000), ("1h", 3_600_000)]
    {
        assert_eq!(parse_time(typed), Ok(Duration::from_millis(millis)));
    }
    for typed in ["", "s", "3", "0s", "-3s", "+3s", "1.5s", "3 s", "3S", "3days", "9000h"] {
        assert!(parse_time(typed).is_err(), "{typed}");
    }
    assert_eq!(parse_max_age("none"), Ok(MaxAge::Unlimited));
    assert_eq!(parse_max_age("2m"), Ok(MaxAge::Limit(Duration::from_secs(120))));
}

#[test]
fn status_asks_this_machine_unless_told_otherwise() {
    let status = |line: &str| match command(line) {
        Command::Status(status) => status,
        other => panic!("{line}: {other:?}"),
    };
    let here = Endpoint { host: "127.0.0.1".into(), port: DEFAULT_PORT };
    let plain = Status { endpoint: here, json: false, watch: false, check: false };
    assert_eq!(status("status"), plain);
    assert_eq!(status("status --json --check"), Status { json: true, check: true, ..plain });
    let there = status("status --watch board:5");
    assert_eq!((there.endpoint.to_string().as_str(), there.watch), ("board:5", true));
    assert!(usage_error("status a b").contains("`b` is too many"));
    assert!(usage_error("status --watch --check").contains("--check"));
    assert!(usage_error("status --json=yes").contains("takes no value"));
    assert!(usage_error("status :0").contains("names no host"));
}

#[test]
fn metrics_stay_on_this_machine_unless_insecure_is_said() {
    assert_eq!(serve("serve can0 --metrics :9177").metrics[0].to_string(), "127.0.0.1:9177");
    assert_eq!(connect("connect b can0 --metrics [::1]:1").metrics[0].to_string(), "[::1]:1");
    assert_eq!(connect("connect b can0 --metrics 0.0.0.0:1 --insecure").metrics.len(), 1);
    for line in ["serve can0 --metrics 0.0.0.0:1", "connect b can0 --metrics board:1"] {
        assert!(matches!(request(line), Err(CliError::Refused(_))), "{line}");
    }
    for line in ["serve can0 --metrics 127.0.0.1", "serve can0 --metrics :1 --metrics :1"] {
        assert!(usage_error(line).contains("--metrics"), "{line}");
    }
}

#[test]
fn filters_are_for_one_bus_or_for_all_others() {
    let of = |list: &[BusFilter], bus: &str| filters_of(list, bus).to_string();
    let both = serve("serve can0 can1 --filter can1,123:7FF --filter 200~7FF,j --tx-filter #1");
    assert_eq!(of(&both.filters, "can1"), "123:7FF,#0");
    assert_eq!(of(&both.filters, "can0"), "200~7FF,j,#0");
    assert_eq!(of(&both.tx_filters, "can0"), "#1");
    let joined = connect("connect b x:y --filter x,1:2");
    assert_eq!(of(&joined.filters, "x"), "1:2,#0".replace('1', "001"));
    assert!(filters_of(&joined.filters, "y").is_all());
    for (line, words) in [
        ("serve can0 --filter can1,1:2", "none of the buses"),
        ("serve can0 --filter 1:2 --filter 3:4", "given twice for every bus"),
        ("serve can0 --tx-filter can0", "--tx-filter: `can0` is no filter"),
        ("dump board --filter 123", "123:7FF"),
        ("connect b y --filter y,1:g", "hexadecimal"),
    ] {
        assert!(usage_error(line).contains(words), "{line}: {}", usage_error(line));
    }
}

#[test]
fn more_buses_than_there_is_room_for_are_a_usage_error() {
    let names = |most: usize| (0..most).map(|n| format!("can{n}")).collect::<Vec<_>>().join(" ");
    for command_name in ["serve", "connect board", "dump board"] {
        command(&format!("{command_name} {}", names(64)));
        let said = usage_error(&format!("{command_name} {}", names(65)));
        assert!(said.contains("room for 64 buses, and 65 are given"), "{said}");
    }
}

#[test]
fn a_port_of_the_systems_choice_may_be_given_to_each() {
    serve("serve can0 --listen :0 --metrics :0");
    serve("serve can0 --listen :7 --metrics :8");
    connect("connect --listen :7 can0:vcan0 can1:can1");
}

#[test]
fn a_line_of_candump_is_no_frame_and_its_frame_is_shown() {
    let said = frame_to_send("(1436509052.249713) can0 044#2A36").unwrap_err().to_string();
    assert!(said.contains("line of `candump -L`") && said.contains("as in 044#2A36"), "{said}");
    let said = frame_to_send("12\u{1b}[31m#").unwrap_err().to_string();
    assert!(!said.contains('\u{1b}'), "{said}");
}
