//! The completion for fish.

use super::help::{Command, Entry, Help};

pub(crate) fn script(help: &Help) -> String {
    let mut out = String::from(HEAD);
    for option in &help.everywhere {
        out.push_str(&line("", option));
    }
    for command in &help.commands {
        out.push_str(&format!(
            "complete -c canspan -n __fish_use_subcommand -a {} -d {}\n",
            command.name,
            quoted(&command.summary)
        ));
    }
    for command in &help.commands {
        let seen = format!(" -n '__fish_seen_subcommand_from {}'", command.name);
        for option in &command.options {
            out.push_str(&line(&seen, option));
        }
        if let Some(source) = operands(command) {
            out.push_str(&format!("complete -c canspan{seen} -a '({source})'\n"));
        }
    }
    out
}

fn line(seen: &str, option: &Entry) -> String {
    let mut names = String::new();
    for name in option.names() {
        match name.strip_prefix("--") {
            Some(long) => names.push_str(&format!(" -l {long}")),
            None => names.push_str(&format!(" -s {}", name.trim_start_matches('-'))),
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let mut value = String::new();
    if option.value().is_some() {
        value.push_str(" -x");
        let words = option.suggestions();
        if !words.is_empty() {
            value.push_str(&format!(" -a {}", quoted(&words.join(" "))));
        }
    }
    format!("complete -c canspan{seen}{names}{value} -d {}\n", quoted(&option.brief()))
}

fn operands(command: &Command) -> Option<&'static str> {
    let first = command.operands.first()?.trim_start_matches('[');
    if first.starts_with("HOST") {
        Some("__fish_print_hostnames")
    } else {
        first.starts_with("BUS").then_some("__canspan_interfaces")
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\\', "\\\\").replace('\'', "\\'"))
}

const HEAD: &str = r#"# Completion of canspan for fish. Made by `cargo run --example pages`; what is changed here is lost.

# The CAN interfaces of this machine: those of type 280, ARPHRD_CAN.
function __canspan_interfaces
    for type in /sys/class/net/*/type
        test (cat $type 2>/dev/null) = 280; and basename (dirname $type)
    end
    echo sim:
end

complete -c canspan -f
"#;
