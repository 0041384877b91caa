//! The canspan binary: reads the command line, runs the command, and makes an exit code of it.

use core::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use canspan::cli::{self, Request};
use canspan::{commands, logging};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Request::Print(text)) => print(&text),
        Ok(Request::Run { command, verbose }) => {
            logging::init_logging(verbose);
            log::debug!("canspan {}", env!("CARGO_PKG_VERSION"));
            match commands::run(*command) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    complain(&failure);
                    ExitCode::from(failure.exit_code())
                }
            }
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints help. A reader that has seen enough (`canspan --help | head -1`) is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&commands::not_written(&error));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Tells why nothing is done. Not through the log: RUST_LOG must not hide it. Where standard error
/// is closed there is nobody to tell.
fn complain(problem: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "canspan: {problem}");
}
