# shellcheck shell=bash disable=SC2154 # names of lib.sh and arrangements.sh
# The arrangements of docs/containers.md. Sourced by tests/containers/checks.

# Neither containers nor image nor network; then the two commands of the README, and a frame.
compose_from_nothing() {
    local begin up across reader
    clean_all
    docker rmi -f canspan >/dev/null
    begin=$(date +%s%N)
    scripts/build-image -b /shared/binaries >/dev/null
    compose_up
    up=$((($(date +%s%N) - begin) / 1000000))
    # By hand, as the start of two more containers is not what is measured.
    nsenter -n -t "$(pid_of "$board")" candump -L -n 1 -T 120000 can0,123:7FF >/tmp/first & reader=$!
    until_true 'candump listens' bound "$reader"
    nsenter -n -t "$(pid_of "$lab")" cansend can0 123#DEADBEEF
    wait "$reader"
    across=$((($(date +%s%N) - begin) / 1000000))
    holds 'the first shared frame' "$(cat /tmp/first)" ' can0 123#DEADBEEF'
    echo "    2 commands and $up ms until both are healthy, the making of the image included; the first frame after $across ms"
}
# Whether a process has a CAN receiver in its network.
bound() { grep -q ' raw *$' "/proc/$1/net/can/rcvlist_fil"; }

# Of FD frames the kernel says that they are such (flag 4), whatever cansend was told.
kinds=(123#DEADBEEF 7FF# 000#00 1F334455#1122334455667788 00000123#11 5A1#R 5A1#R8 1F334455#R3
       321#1122334455667788_B 123##4 124##5AABB 1F334455##7000102030405060708090A0B0C0D0E0F)

# What is sent comes out at the other end as it was sent, and as it is seen where it was sent.
every_kind_both_ways() {
    local count
    compose_up
    witness at-board "$board" at-lab "$lab"
    kinds+=("125##5$(printf '%02X' {0..63})")
    count=${#kinds[@]}
    send at-lab "${kinds[@]}"
    until_true 'all kinds at the board' has_seen at-board "$count"
    send at-board "${kinds[@]}"
    until_true 'all kinds at the lab' has_seen at-lab $((2 * count))
    same 'what was sent, and what is at the board' "$(printf '%s\n' "${kinds[@]}" "${kinds[@]}")" "$(seen at-board)"
    same 'both buses' "$(seen at-board)" "$(seen at-lab)"
    # Only a controller reports errors, so from the board.
    send at-board 20000004#0008000000000000
    until_true 'the error frame at the lab' has_seen at-lab 1 '^20000004#0008000000000000$'
    no_loss "$lab"
    no_loss "$board"
}

# Tools in a container of their own, without any right, in the lab's network.
lab_network_is_shared() {
    compose_does --profile tools up -d --wait
    witness at-board "$board"
    send at-board 111#01
    until_true 'candump in the tools container shows the board' logged canspan-tools-1 ' can0 111#01$'
    docker exec canspan-tools-1 cansend can0 112#02
    until_true 'what the tools container sends is on the board' has_seen at-board 1 '^112#02$'
}

# No CAN, no capability, no user, nothing to write to.
simulated_without_privileges() {
    compose_does up -d --wait sim-board sim-lab
    until_true 'the reader has frames' logged canspan-sim-lab-1 ' can0 '
    local network=canspan_default may=("${unprivileged[@]}" --network canspan_default)
    docker run -d --name silent "${unprivileged[@]}" --network "$network" canspan serve sim:hub --listen 0.0.0.0 --insecure >/dev/null
    docker run -d --name reader "${may[@]}" canspan dump silent hub >/dev/null
    until_true 'the reader is linked' logged reader 'link up'
    # A hub without traffic is where others meet: whether a bus behind it took the frames it cannot say.
    local status=0
    docker run --rm "${may[@]}" canspan send silent hub 123#DEADBEEF 1F334455#R3 124##1AABB || status=$?
    same 'exit status of send' 3 "$status"
    # As cansend and the kernel do, canspan sets the flag that says CAN FD, 4.
    until_true 'the reader has what was sent' logged reader ' hub 124##5AABB$'
    same 'frames read' '123#DEADBEEF 1F334455#R3 124##5AABB' "$(docker logs reader 2>/dev/null | awk '{print $3}' | xargs)"
    docker run --rm "${may[@]}" canspan status silent --check >/dev/null
    holds 'capabilities of the reader' "$(grep CapBnd "/proc/$(pid_of reader)/status")" 0000000000000000
}

create_needs_net_admin() {
    docker run -d --name silent --network plain canspan serve sim:can0 --listen 0.0.0.0 --insecure >/dev/null
    docker run -d --name refused "${unprivileged[@]}" --network plain canspan connect silent can0 --create >/dev/null
    until_true 'it says why' logged refused 'not allowed to make can0'
    sleep 3                                               # it tries on, and does not say it again
    same 'times it was said' 1 "$(docker logs refused 2>&1 | grep -c CAP_NET_ADMIN)"
    holds 'the sentence' "$(docker logs refused 2>&1)" '--cap-add NET_ADMIN'
}

# A simulated bus without traffic is where others meet: whether a bus behind it took the frames it cannot say.
sends_to() {                                              # server bus frame…
    local status=0
    docker run --rm --network plain "${unprivileged[@]}" canspan send "$@" || status=$?
    same 'exit status of send' 3 "$status"
}

# A vcan made in a running container, from outside, by a process that dials from where it is.
netns_of_a_container() {
    local address status
    docker run -d --name target --network none --init "${unprivileged[@]}" canspan-tools busybox sleep 1000 >/dev/null
    docker run -d --name source --network plain canspan serve sim:can0 --listen 0.0.0.0 --insecure >/dev/null
    address=$(docker inspect -f '{{.NetworkSettings.Networks.plain.IPAddress}}' source)
    /shared/binaries/linux/amd64/canspan connect "$address" can0 --create --netns "$(pid_of target)" \
        >/tmp/outside 2>&1 </dev/null & outside=$!
    until_true 'the link is up' grep -q 'link up' /tmp/outside
    [ ! -e /sys/class/net/can0 ] || fail 'can0 was made outside'
    witness in-target target
    sends_to source can0 123#01
    until_true 'a frame is in the container' has_seen in-target 1 '^123#01$'
    docker run -d --name at-source --network plain canspan dump source can0 >/dev/null
    until_true 'the reader is linked' logged at-source 'link up'
    send in-target 321#02
    until_true 'a frame comes out of the container' logged at-source ' can0 321#02$'
    docker rm -f in-target target >/dev/null
    status=0; wait "$outside" || status=$?
    same 'exit status when the container has ended' 1 "$status"
    holds 'the last word' "$(tail -n 1 /tmp/outside)" 'has ended, and its network namespace with it'
}

# The same by a path, over a restart of the container: what was meant for it meanwhile is there afterwards.
netns_comes_back() {
    local address
    docker run -d --name target --network none --init "${unprivileged[@]}" canspan-tools busybox sleep 1000 >/dev/null
    docker run -d --name source --network plain canspan serve sim:can0 --listen 0.0.0.0 --insecure >/dev/null
    address=$(docker inspect -f '{{.NetworkSettings.Networks.plain.IPAddress}}' source)
    mkdir -p /run/netns
    /shared/binaries/linux/amd64/canspan connect "$address" can0 --create --netns target \
        >/tmp/outside 2>&1 </dev/null & outside=$!
    until_true 'it waits for the namespace' grep -q 'waiting for the network namespace target' /tmp/outside
    ln -s "$(docker inspect -f '{{.NetworkSettings.SandboxKey}}' target)" /run/netns/target
    until_true 'it has made can0 there' grep -q 'made this virtual interface' /tmp/outside
    docker restart -t 1 target >/dev/null
    until_true 'it has noticed the end' grep -q 'can0: absent' /tmp/outside
    sends_to source can0 123#01 123#02
    # The container has no can0 until the name stands for its new namespace.
    ln -sfn "$(docker inspect -f '{{.NetworkSettings.SandboxKey}}' target)" /run/netns/target
    until_true 'can0 is there again' grep -q can0 "/proc/$(pid_of target)/net/dev"
    witness in-target target
    sends_to source can0 123#03
    until_true 'a frame is in the new container' has_seen in-target 1 '^123#03$'
    kill -TERM "$outside"; wait "$outside"
    holds 'the account' "$(cat /tmp/outside)" 'received=3 taken=0 lost=0 stale=0 refused=0'
    ! grep -q can0 "/proc/$(pid_of target)/net/dev" || fail 'can0 is left in the container'
}

# As the first process of a container no signal acts by itself.
stops_at_once() {
    local name begin took
    docker run -d --name serving --network plain canspan serve sim:can0 --listen 0.0.0.0 --insecure >/dev/null
    docker run -d --name dumping --network plain canspan dump serving can0 >/dev/null
    docker run -d --name watching --network plain canspan status serving --watch >/dev/null
    docker run -d --name joining --network plain canspan connect serving can0:sim:x >/dev/null
    until_true 'they are linked' logged joining 'link up'
    until_true 'the watch has an answer' logged watching 'all is up'
    for name in watching dumping joining serving; do
        begin=$(date +%s%N)
        docker stop "$name" >/dev/null
        took=$((($(date +%s%N) - begin) / 1000000))
        echo "    $name stopped in $took ms"
        [ "$took" -lt 8000 ] || fail "$name did not heed SIGTERM, and was killed after 10 s"
        same "exit status of $name" 0 "$(docker inspect -f '{{.State.ExitCode}}' "$name")"
    done
}
