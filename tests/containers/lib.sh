# shellcheck shell=bash
# What the checks have in common. Sourced by tests/containers/checks.

# The containers of compose.yml.
board=canspan-board-1 lab=canspan-lab-1

fail() { echo "    $*" >&2; exit 1; }

# until_true WHAT COMMAND...: waits for a command to succeed, as long as the busiest machine may need.
until_true() {
    local limit=120 what=$1 end; shift
    end=$((SECONDS + limit))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "not within $limit s: $what"
        sleep 0.2
    done
}

same() { # same WHAT EXPECTED GOT
    [ "$2" = "$3" ] || fail "$1: expected:
$2
    got:
$3"
}

holds() { # holds WHAT TEXT PART...: the text has these parts
    local what=$1 text=$2 part; shift 2
    for part in "$@"; do
        case $text in *"$part"*) ;; *) fail "$what: \"$part\" is not in: $text" ;; esac
    done
}

pid_of() { docker inspect -f '{{.State.Pid}}' "$1"; }

start_engine() {
    modprobe -a can-raw can-gw vcan vxcan veth overlay bridge br_netfilter
    ip link set lo up
    # On a busy machine a witness may be behind: room for all the frames of a check.
    echo 8388608 >/proc/sys/net/core/rmem_default
    # By itself the engine gives this up after 15 s, which a busy machine may need.
    containerd >/shared/containerd.log 2>&1 </dev/null &
    until_true 'containerd listens' test -S /run/containerd/containerd.sock
    # Nothing here is to be reached from outside, and there is nothing to filter; for names see bin/iptables.
    PATH=$PWD/tests/containers/bin:$PATH dockerd --containerd /run/containerd/containerd.sock \
        --iptables=false --ip6tables=false >/shared/dockerd.log 2>&1 </dev/null &
    until_true 'the engine listens' test -S /run/docker.sock
    until_true 'the engine answers' docker version -f '{{.Server.Version}}'
    docker version -f 'Docker {{.Server.Version}}, Linux {{.Server.KernelVersion}}'
    docker network create plain >/dev/null
}

# An image with the CAN tools, from this machine's own files.
import_tools() {
    local files=(usr/bin/{candump,cansend,cangen,busybox} usr/lib64/ld-linux-x86-64.so.2)
    mapfile -t -O "${#files[@]}" files < <(ldd /usr/bin/{candump,cansend,cangen} |
        sed -n 's|.*=> /\(lib/.*\) (.*|usr/\1|p' | sort -u)
    tar -C / -c bin lib lib64 sbin "$(readlink -f /usr/lib64/ld-linux-x86-64.so.2 | cut -c 2-)" "${files[@]}" |
        docker import --change 'USER 65534:65534' - canspan-tools >/dev/null
}

# Options of a container that may do nothing.
unprivileged=(--cap-drop ALL --user 65534:65534 --read-only --security-opt no-new-privileges)

# send WITNESS FRAME...: sends frames from the container of a witness, one after the other.
# shellcheck disable=SC2016 # it is for the container's shell
send() {
    local from=$1; shift
    docker exec "$from" busybox sh -c 'for frame in "$@"; do cansend can0 "$frame" || exit; done' - "$@"
}

# How many CAN receivers there are in a container's network.
listeners() { cat "/proc/$(pid_of "$1")"/net/can/rcvlist_{all,err,fil} | grep -c ' raw *$' || true; }

# witness NAME CONTAINER [NAME CONTAINER]: writes down all frames in the network of each container, error frames and raw
# DLCs, too, in a file outside, where to look costs no call of the engine.
witness() {
    local arguments=("$@") before=() starts=() start
    install -d -m 1777 /run/witness
    while [ $# -gt 0 ]; do
        before+=("$(listeners "$2")")
        # shellcheck disable=SC2016 # it is for the container's shell
        docker run -d --init --name "$1" "${unprivileged[@]}" --network "container:$2" -v /run/witness:/witness \
            canspan-tools busybox sh -c 'exec candump -L -d can0,0:0,#FFFFFFFF >"/witness/$0" 2>&1' "$1" >/dev/null &
        starts+=($!); shift 2
    done
    for start in "${starts[@]}"; do wait "$start"; done
    set -- "${arguments[@]}"
    while [ $# -gt 0 ]; do
        until_true "$1 listens" more_listeners "$2" "${before[0]}"
        before=("${before[@]:1}"); shift 2
    done
}
more_listeners() { [ "$(listeners "$1")" -gt "$2" ]; }

# seen NAME [PATTERN]: the frames a witness has seen, without time and interface.
seen() { sed -n 's/^([0-9.]*) can0 //p' "/run/witness/$1" | grep -E "${2:-.}" || true; }

# has_seen NAME COUNT [PATTERN]
has_seen() { [ "$(seen "$1" "${3:-.}" | wc -l)" -ge "$2" ]; }

# stream WITNESS ID COUNT MILLISECONDS: numbered frames, in the background.
stream() { docker exec -d "$1" cangen can0 -I "$2" -L 8 -D i -g "$4" -n "$3"; }

# whole ID COUNT THERE HERE: what a witness saw of a stream at its origin is what the other saw, in the same order.
whole() {
    until_true "$2 frames $1 at $3" has_seen "$3" "$2" "^$1#"
    until_true "$2 frames $1 at $4" has_seen "$4" "$2" "^$1#"
    sleep 0.3                                             # for one that comes twice
    ! grep DROPCOUNT "/run/witness/$3" "/run/witness/$4" || fail 'that witness was too slow: a fault of the test'
    same "frames $1 at $4" "$(seen "$3" "^$1#")" "$(seen "$4" "^$1#")"
    same "number of frames $1" "$2" "$(seen "$4" "^$1#" | sort -u | wc -l)"
}

# no_loss CONTAINER: its account knows of no frame that was not delivered.
no_loss() {
    local status word
    status=$(docker exec "$1" /canspan status --json)
    for word in lost stale refused unsupported failed unconfirmed; do
        ! grep -q "\"$word\":[1-9]" <<<"$status" || fail "$1 counts $word frames: $status"
    done
}

# compose_does WORD...: does it, and says what was said only if it fails.
compose_does() {
    local said
    said=$(compose "$@" 2>&1) || fail "docker compose $*: $said"
}
compose_up() { compose_does up -d --wait; }
compose() {
    CANSPAN_IMAGE=canspan CANSPAN_TOOLS_IMAGE=canspan-tools docker compose -f compose.yml -f tests/containers/calm.yml "$@"
}
# Reads to the end: a writer whose reader leaves early fails, and its pipeline with it.
logged() { docker logs "$1" 2>&1 | grep -e "$2" >/dev/null; }

# Leaves board and lab of compose.yml as they are: to start them anew for each check takes longer than the check.
clean() { remove "$(docker ps -a --format '{{.Names}}' | grep -v -x -e "$board" -e "$lab" || true)"; }

# What a failed check leaves behind is nothing the next one should begin with.
clean_all() {
    remove "$(docker ps -aq)"
    docker network rm -f canspan_default >/dev/null 2>&1 || true
}

# shellcheck disable=SC2086 # several names are several words
remove() {
    [ -z "$1" ] || docker rm -f $1 >/dev/null
    rm -rf /run/witness /run/netns/target
}

# What the witnesses have seen, what the containers have said last, and what became of the relays for names.
last_words() {
    local file container
    for file in /run/witness/*; do
        [ -f "$file" ] || continue
        echo "    the witness ${file##*/} has seen:"
        seen "${file##*/}" | awk '{ sub(/#.*/, ""); count[$0]++ } END { for (id in count) print "        " count[id] " frames " id }'
    done
    for container in $(docker ps -a --format '{{.Names}}'); do
        echo "    the last words of $container ($(docker inspect -f '{{.State.Status}}' "$container")):"
        docker logs -n 8 "$container" 2>&1 | cut -c 1-200 | sed 's/^/        /'
    done
    tail -n 3 /run/relays/*.udp /run/relays/*.tcp 2>/dev/null | sed 's/^/    /'
}
