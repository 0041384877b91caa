//! What a shell sees of the command line: exit codes, and what goes to which stream.
#![cfg(feature = "std")]

use std::process::{Command, Output, Stdio};

fn canspan(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_canspan");
    let output = Command::new(binary).args(arguments).stdin(Stdio::null()).output();
    output.expect("the binary starts")
}

#[test]
fn help_and_version_go_to_standard_output() {
    for arguments in [["--help"].as_slice(), &["help", "serve"], &["dump", "-h"], &["--version"]] {
        let output = canspan(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_mistake_is_2_and_a_refusal_is_1_with_a_sentence_on_standard_error() {
    let open_port = ["serve", "sim:hub", "--listen=0.0.0.0"];
    for (arguments, code) in
        [([].as_slice(), 2), (&["sing"], 2), (&["send", "h", "can0", "123"], 2), (&open_port, 1)]
    {
        let output = canspan(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(output.stderr.starts_with(b"canspan: "), "{arguments:?}");
    }
}
