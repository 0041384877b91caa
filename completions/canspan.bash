# Completion of canspan for bash. Made by `cargo run --example pages`; what is changed here is lost.

# The CAN interfaces of this machine: those of type 280, ARPHRD_CAN.
_canspan_interfaces() {
    local type
    for type in /sys/class/net/*/type; do
        if [ "$(cat "$type" 2>/dev/null)" = 280 ]; then type=${type%/type}; echo "${type##*/}"; fi
    done
}

_canspan_of() {
    case $1 in
        '') commands='serve connect dump send status' options='-h --help --version -V -v --verbose' ;;
        serve) options='--listen --insecure --dial --read-only --create --bitrate --dbitrate --sample-point --dsample-point --restart-ms --listen-only --filter --tx-filter --history --max-age --heartbeat --hold --metrics -h --help --version -V -v --verbose' first=interface others=interface ;;
        connect) options='--listen --create --netns --filter --history --max-age --heartbeat --hold --metrics --status --insecure -h --help --version -V -v --verbose' first=host others=none ;;
        dump) options='--last --filter -h --help --version -V -v --verbose' first=host others=none ;;
        send) options='-h --help --version -V -v --verbose' first=host others=none ;;
        status) options='--json --watch --check -h --help --version -V -v --verbose' first=host others=none ;;
    esac
}

# The values of an option; fails when it takes none.
_canspan_values() {
    case $1:$2 in
        serve:--listen) values='' ;;
        serve:--dial) values='' ;;
        serve:--bitrate) values='125k 250k 500k 1M' ;;
        serve:--dbitrate) values='1M 2M 4M 5M 8M' ;;
        serve:--sample-point|serve:--dsample-point) values='' ;;
        serve:--restart-ms) values='' ;;
        serve:--filter) values='' ;;
        serve:--tx-filter) values='' ;;
        serve:--history) values='' ;;
        serve:--max-age) values='none' ;;
        serve:--heartbeat) values='' ;;
        serve:--hold) values='' ;;
        serve:--metrics) values='' ;;
        connect:--listen) values='' ;;
        connect:--netns) values='' ;;
        connect:--filter) values='' ;;
        connect:--history) values='' ;;
        connect:--max-age) values='none' ;;
        connect:--heartbeat) values='' ;;
        connect:--hold) values='' ;;
        connect:--metrics) values='' ;;
        connect:--status) values='' ;;
        dump:--last) values='' ;;
        dump:--filter) values='' ;;
        *) return 1 ;;
    esac
}

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
