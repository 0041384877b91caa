//! The completion for bash. It needs nothing of the package `bash-completion`.

use super::help::{Command, Entry, Help};

pub(crate) fn script(help: &Help) -> String {
    let mut out = String::from(HEAD);
    let names: Vec<&str> = help.commands.iter().map(|command| command.name.as_str()).collect();
    let everywhere = words(help.everywhere.iter().flat_map(Entry::names));
    out.push_str(&format!(
        "_canspan_of() {{\n    case $1 in\n        '') commands='{}' options='{everywhere}' ;;\n",
        names.join(" ")
    ));
    for command in &help.commands {
        let options = command.options.iter().chain(&help.everywhere).flat_map(Entry::names);
        let options = words(options);
        out.push_str(&format!(
            "        {}) options='{options}' first={} others={} ;;\n",
            command.name,
            operand(command, 0),
            operand(command, 1),
        ));
    }
    out.push_str("    esac\n}\n\n# The values of an option; fails when it takes none.\n_canspan_values() {\n    case $1:$2 in\n");
    for command in &help.commands {
        for option in command.options.iter().filter(|option| option.value().is_some()) {
            let names: Vec<String> =
                option.names().map(|name| format!("{}:{name}", command.name)).collect();
            let values = option.suggestions().join(" ");
            out.push_str(&format!("        {}) values='{values}' ;;\n", names.join("|")));
        }
    }
    out.push_str("        *) return 1 ;;\n    esac\n}\n");
    out + TAIL
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// What an operand is, for the function at the end of the script.
fn operand(command: &Command, at: usize) -> &'static str {
    match command
        .operands
        .get(at)
        .or_else(|| command.operands.last().filter(|last| last.ends_with("...")))
    {
        Some(operand) if operand.trim_start_matches('[').starts_with("HOST") => "host",
        // Where a host comes first, the bus is one of its own, which cannot be known here.
        Some(operand) if operand.starts_with("BUS") && command.operands.len() == 1 => "interface",
        _ => "none",
    }
}

const HEAD: &str = "\
# Completion of canspan for bash. Made by `cargo run --example pages`; what is changed here is lost.

# The CAN interfaces of this machine: those of type 280, ARPHRD_CAN.
_canspan_interfaces() {
    local type
    for type in /sys/class/net/*/type; do
        if [ \"$(cat \"$type\" 2>/dev/null)\" = 280 ]; then type=${type%/type}; echo \"${type##*/}\"; fi
    done
}

";

const TAIL: &str = r#"
# No word that is offered has a space in it.
# shellcheck disable=SC2207
_canspan() {
    local current=${COMP_WORDS[COMP_CWORD]} before='' command='' operands=0 word i
    local commands='' options='' first='' others='' values=''
    # --option=value comes as three words.
    if [ "$current" = = ]; then current=''; before=${COMP_WORDS[COMP_CWORD - 1]}
    elif [ "${COMP_WORDS[COMP_CWORD - 1]}" = = ]; then before=${COMP_WORDS[COMP_CWORD - 2]}
    else before=${COMP_WORDS[COMP_CWORD - 1]}; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [ "$word" = = ]; then i=$((i + 1))
        elif [ "$word" = : ]; then i=$((i + 1))          # a part of the operand before it
        elif [[ $word == -* ]]; then
            if _canspan_values "$command" "$word" && [ "${COMP_WORDS[i + 1]}" != = ]; then i=$((i + 1)); fi
        elif [ -z "$command" ]; then command=$word
        else operands=$((operands + 1)); fi
    done
    COMPREPLY=()
    if _canspan_values "$command" "$before"; then
        COMPREPLY=($(compgen -W "$values" -- "$current"))
        return
    fi
    _canspan_of "$command"
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
        return
    fi
    if [ "$operands" = 0 ]; then others=$first; fi
    case ${commands:+commands}${others} in
        commands*) COMPREPLY=($(compgen -W "$commands" -- "$current")) ;;
        host) COMPREPLY=($(compgen -A hostname -- "$current")) ;;
        interface) COMPREPLY=($(compgen -W "$(_canspan_interfaces) sim:" -- "$current")) ;;
    esac
}
complete -F _canspan canspan
"#;
