//! The completion for zsh, by its own `_arguments`.

use super::help::{Command, Entry, Help};

pub(crate) fn script(help: &Help) -> String {
    let mut out = String::from(
        "#compdef canspan\n# Completion of canspan for zsh. Made by `cargo run --example pages`; what is changed here is lost.\n\n",
    );
    out.push_str(INTERFACES);
    out.push_str("_canspan() {\n    local context state state_descr line\n    typeset -A opt_args\n    local -a everywhere commands\n    everywhere=(\n");
    for option in &help.everywhere {
        out.push_str(&specification(option, false));
    }
    out.push_str("    )\n    commands=(\n");
    for command in &help.commands {
        out.push_str(&format!(
            "        {}\n",
            quoted(&format!("{}:{}", command.name, command.summary))
        ));
    }
    out.push_str("    )\n    _arguments -C $everywhere '1:command:->command' '*::argument:->argument' && return\n");
    out.push_str("    case $state in\n    command) _describe command commands ;;\n    argument)\n        case $words[1] in\n");
    for command in &help.commands {
        out.push_str(&format!("        {}) _arguments $everywhere \\\n", command.name));
        for option in &command.options {
            let may_repeat = option.names().any(|name| command.may_repeat(name));
            for line in specification(option, may_repeat).lines() {
                out.push_str(&format!("{line} \\\n"));
            }
        }
        out.push_str(&format!("            {} ;;\n", operands(command)));
    }
    out.push_str("        esac ;;\n    esac\n}\n\n_canspan \"$@\"\n");
    out
}

/// The lines of an option, one for each of its names.
fn specification(option: &Entry, may_repeat: bool) -> String {
    let brief = option.brief().replace('[', "(").replace(']', ")").replace(':', "\\:");
    let value = option.value().map_or_else(String::new, |value| {
        let action = match option.suggestions() {
            words if words.is_empty() => " ".to_owned(),
            words => format!("({})", words.join(" ")),
        };
        format!(":{}:{action}", value.replace(':', "\\:"))
    });
    let repeat = if may_repeat { "*" } else { "" };
    let names = option.names().map(|name| {
        // A value may stand behind `=` as well.
        let equals = if value.is_empty() { "" } else { "=" };
        format!("            {}\n", quoted(&format!("{repeat}{name}{equals}[{brief}]{value}")))
    });
    names.collect()
}

fn operands(command: &Command) -> String {
    let specifications = command.operands.iter().enumerate().map(|(at, operand)| {
        let repeats = operand.ends_with("...");
        let operand = operand.replace("...", "");
        let plain = operand.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let plain = plain.unwrap_or(&operand);
        let action = match plain {
            host if host.starts_with("HOST") => "_hosts",
            bus if bus.starts_with("BUS") && at == 0 => "_canspan_interfaces",
            _ => "_nothing",
        };
        let place = if repeats { "*".to_owned() } else { (at + 1).to_string() };
        quoted(&format!("{place}:{}:{action}", plain.replace(':', "\\:")))
    });
    specifications.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

const INTERFACES: &str = r#"# The CAN interfaces of this machine: those of type 280, ARPHRD_CAN.
_canspan_interfaces() {
    local type
    local -a interfaces
    for type in /sys/class/net/*/type(N); do
        [[ $(<$type) == 280 ]] && interfaces+=($type:h:t)
    done
    compadd -- $interfaces
    compadd -S '' -- sim:
}

"#;
