//! What the README says the program prints is what it prints.
#![cfg(feature = "std")]

use std::process::Command;

const README: &str = include_str!("../README.md");

/// The blocks of the README that begin with a command of canspan: its arguments and what follows.
fn blocks() -> impl Iterator<Item = (&'static str, &'static str)> {
    README.split("```text\n$ canspan ").skip(1).map(|rest| {
        let block = rest.split_once("```").map_or(rest, |(block, _)| block);
        block.split_once('\n').unwrap_or((block, ""))
    })
}

#[test]
fn the_help_in_the_readme_is_the_help_there_is() {
    let mut commands = Vec::new();
    for (arguments, text) in blocks() {
        let binary = env!("CARGO_BIN_EXE_canspan");
        let output = Command::new(binary).args(arguments.split(' ')).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(text == printed, "`canspan {arguments}` prints now:\n{printed}");
        commands.push(arguments);
    }
    let expected =
        ["--help", "serve --help", "connect --help", "dump --help", "send --help", "status --help"];
    assert_eq!(commands, expected);
}

#[test]
fn the_files_the_readme_points_to_are_there() {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (target, _) in links {
        let is_file = !target.starts_with('#') && !target.contains("://");
        assert!(!is_file || root.join(target).exists(), "there is no {target}");
    }
}
