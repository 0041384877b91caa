# shellcheck shell=bash disable=SC2154 # names of lib.sh and arrangements.sh
# What happens to containers, and that it costs no frame. Sourced by tests/containers/checks.

# The network is taken from under a link that carries both ways, and given back, twice.
network_is_cut() {
    local round who alias
    compose_up
    witness at-board "$board" at-lab "$lab"
    stream at-board 555 5000 6
    stream at-lab 666 5000 6
    for round in 1 2; do
        sleep 1
        if [ "$round" = 1 ]; then who=$lab alias=lab; else who=$board alias=board; fi
        docker network disconnect canspan_default "$who"
        # Longer than the 2.7 s after which silence is noticed.
        sleep 5
        docker network connect --alias "$alias" canspan_default "$who"
        until_true 'all is up again' all_up "$lab"
    done
    whole 555 5000 at-board at-lab
    whole 666 5000 at-lab at-board
    no_loss "$board"
    no_loss "$lab"
    holds 'the lab was cut off' "$(docker exec "$lab" /canspan status --json)" '"lost":0'
    [ "$(docker logs "$lab" 2>&1 | grep -c 'link up')" -ge 3 ] || fail 'the link was not cut twice'
}

# The board's container dies and is started again: its bus is new, what the lab sent meanwhile gets there.
board_is_killed() {
    local reader
    compose_up
    witness at-board "$board" at-lab "$lab"
    send at-board 101#01
    until_true 'the frame before' has_seen at-lab 1 '^101#01$'
    docker kill "$board" >/dev/null
    until_true 'the lab sees that it is gone' not_up "$lab"
    send at-lab 202#0{1..8}
    docker start "$board" >/dev/null
    until_true 'the lab is linked again' all_up "$lab"
    # What was sent while there was no board is in its history now, though no tool could listen so early.
    docker run -d --name reader --network canspan_default "${unprivileged[@]}" canspan dump board can0 --last 5m >/dev/null
    until_true 'the frames sent meanwhile' logged reader ' can0 202#08$'
    reader=$(docker logs reader 2>/dev/null | awk '$3 ~ /^202#/ {print $3}' | xargs)
    same 'frames on the board' '202#01 202#02 202#03 202#04 202#05 202#06 202#07 202#08' "$reader"
    witness at-new-board "$board"
    send at-new-board 101#02
    until_true 'the frame after' has_seen at-lab 1 '^101#02$'
    no_loss "$lab"
}
all_up() { docker exec "$1" /canspan status --check; }
not_up() { ! all_up "$1"; }

# The lab's container dies and is started again. What was on the board's bus meanwhile is in the board's history, and
# the new lab can ask for it; what comes from then on is whole.
lab_is_killed() {
    compose_up
    witness at-board "$board"
    stream at-board 555 1000 6
    docker kill "$lab" >/dev/null
    sleep 1
    docker start "$lab" >/dev/null
    until_true 'the lab is linked again' all_up "$lab"
    witness at-lab "$lab"
    stream at-lab 666 300 6
    stream at-board 777 300 6
    whole 666 300 at-lab at-board
    whole 777 300 at-board at-lab
    docker run -d --name reader --network canspan_default "${unprivileged[@]}" canspan dump board can0 --last 5m >/dev/null
    until_true 'the whole stream at the board' has_seen at-board 1000 '^555#'
    until_true 'the whole stream from the history' has_read reader 1000
    same 'what the history has' "$(seen at-board '^555#')" "$(docker logs reader 2>/dev/null | awk '$3 ~ /^555#/ {print $3}')"
    no_loss "$board"
}
has_read() { [ "$(docker logs "$1" 2>/dev/null | grep -c ' 555#')" -ge "$2" ]; }
