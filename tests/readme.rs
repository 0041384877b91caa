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

#[test]
fn the_tests_that_reliability_md_names_are_there() {
    fn sources(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                sources(&entry.path(), text);
            } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let page = include_str!("../docs/reliability.md");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = String::new();
    sources(&root.join("tests"), &mut tests);
    sources(&root.join("src"), &mut tests);
    let is_name = |word: &&str| word.matches('_').count() > 2 && !word.contains(['/', ' ']);
    let names: Vec<&str> = page.split('`').filter(is_name).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("fn {name}()")), "there is no test {name}");
    }
}
