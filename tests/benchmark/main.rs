//! Latency, processor time, bytes and the most frames a second, of canspan and of what it is compared with, in one run.
//!
//! `tests/benchmark/run` builds it and runs it in the lab. Everything is up at once, each in network namespaces of its
//! own, and one measurement goes round all of them before the next, so that what else happens on the machine
//! happens to all. Figures of one run can be compared with each other, not with those of another machine.
//!
//! - `sockets`: two CAN sockets on one vcan; nothing is quicker.
//! - `forwarder`: `forwarder.rs`; what two processes and TCP cost at least.
//! - `canspan`, and `canspan-hold` where it knows `--hold`.
//! - any other pair of commands that is given.

#[path = "../kernel/lab.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod lab;
#[path = "../kernel/numbered.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod numbered;
#[path = "../kernel/process.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod process;
#[path = "../kernel/sys.rs"]
#[allow(dead_code, reason = "not every program needs all of the lab")]
mod sys;

mod forwarder;
mod measure;
mod results;
mod runs;
mod systems;

use std::{fs::File, process::ExitCode};

use results::Results;
use runs::Amount;
use systems::{System, Template};

const USAGE: &str = "\
usage: tests/benchmark/run [--quick] [--sweep] [--only NAME[,NAME]] [--csv FILE] [--pair NAME SERVE CONNECT]...
  --quick   fewer and shorter repeats
  --sweep   latency and processor time at many rates instead of the table; tests/benchmark/plot draws its CSV
  --only    only these of sockets, forwarder, canspan, canspan-hold and the pairs
  --csv     writes every figure of every repeat to FILE
  --pair    measures another pair of commands too: SERVE runs on the board, CONNECT on the PC. In both are replaced
            {interface} (CAN), {address} (the board's), {peer} (the PC's), {port}; the cable is called wire";

/// The command line.
#[derive(Default)]
struct Arguments {
    is_quick: bool,
    is_sweep: bool,
    only: Option<Vec<String>>,
    csv: Option<String>,
    pairs: Vec<Template>,
}

impl Arguments {
    /// Nothing where the command line makes no sense.
    fn read(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => arguments.is_quick = true,
                "--sweep" => arguments.is_sweep = true,
                "--only" => {
                    arguments.only = Some(words.next()?.split(',').map(str::to_owned).collect());
                }
                "--csv" => arguments.csv = Some(words.next()?),
                "--pair" => arguments.pairs.push(Template {
                    name: words.next()?,
                    serve: words.next()?,
                    connect: words.next()?,
                }),
                _ => return None,
            }
        }
        Some(arguments)
    }
}

/// Starts what was asked for; the names there are when one is not among them.
fn start(only: Option<Vec<String>>, pairs: Vec<Template>) -> Result<Vec<System>, String> {
    let all = systems::all(pairs);
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    let unknown = only.iter().flatten().find(|name| !names.contains(&name.as_str()));
    if let Some(unknown) = unknown {
        return Err(format!("{unknown} is not one of {}", names.join(", ")));
    }
    let is_wanted = |name: &String| only.as_ref().is_none_or(|only| only.contains(name));
    Ok(all.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, start)| start()).collect())
}

fn main() -> ExitCode {
    if let Ok(task) = std::env::var(forwarder::TASK) {
        return match forwarder::run(&task) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("forwarder: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), String> {
    let csv = match &arguments.csv {
        Some(path) => Some(File::create(path).map_err(|error| format!("{path}: {error}"))?),
        None => None,
    };
    let systems = start(arguments.only, arguments.pairs)?;
    let names = systems.iter().map(|system| system.name.clone()).collect();
    let mut results = Results::new(names, csv);
    let amount = if arguments.is_quick { Amount::QUICK } else { Amount::FULL };
    if arguments.is_sweep {
        runs::sweep(&systems, &mut results, &amount);
    } else {
        runs::table(&systems, &mut results, &amount);
    }
    Ok(())
}
