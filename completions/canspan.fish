# Completion of canspan for fish. Made by `cargo run --example pages`; what is changed here is lost.

# The CAN interfaces of this machine: those of type 280, ARPHRD_CAN.
function __canspan_interfaces
    for type in /sys/class/net/*/type
        test (cat $type 2>/dev/null) = 280; and basename (dirname $type)
    end
    echo sim:
end

complete -c canspan -f
complete -c canspan -s h -l help -d 'print this and stop'
complete -c canspan -l version -s V -d 'print the version and stop'
complete -c canspan -s v -l verbose -d 'log more'
complete -c canspan -n __fish_use_subcommand -a serve -d 'own buses and let peers join them'
complete -c canspan -n __fish_use_subcommand -a connect -d 'join a peer\'s buses to local interfaces'
complete -c canspan -n __fish_use_subcommand -a dump -d 'print the frames of a peer\'s buses, as candump -L does'
complete -c canspan -n __fish_use_subcommand -a send -d 'send frames to a peer\'s bus, as cansend does'
complete -c canspan -n __fish_use_subcommand -a status -d 'ask a running canspan about its buses and links'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l listen -x -d 'address to accept peers on'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l insecure -d 'listen beyond this machine although there are no keys'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l dial -x -d 'also dial this peer, for ever, and join each bus to the one it calls the same'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l read-only -d 'let nothing from peers reach the buses'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l create -d 'make vcan interfaces that are missing, and remove them at the end'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l bitrate -x -a '125k 250k 500k 1M' -d 'set every interface to this many bits per second'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l dbitrate -x -a '1M 2M 4M 5M 8M' -d 'use CAN FD, with this rate in the data phase'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l sample-point -l dsample-point -x -d 'sample point within the bit, as in 0.875'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l restart-ms -x -d 'let the controller come back by itself so many milliseconds after bus-off'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l listen-only -d 'send nothing at all, no acknowledgements either'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l filter -x -d 'let only these frames leave BUS, or every bus without one of its own'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l tx-filter -x -d 'let only these frames of peers reach the bus'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l history -x -d 'memory for the history of each bus, in bytes, or with k, M or G'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l max-age -x -a 'none' -d 'frames from peers that are older are dropped and counted, not sent to the bus'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l heartbeat -x -d 'silence after which a sign of life is sent, 50ms to 5m'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l hold -x -d 'hold a frame this long at most, up to 1s, so that others join it in one packet'
complete -c canspan -n '__fish_seen_subcommand_from serve' -l metrics -x -d 'serve metrics for Prometheus, the numbers of `canspan status`, at http://ADDR:PORT/metrics'
complete -c canspan -n '__fish_seen_subcommand_from serve' -a '(__canspan_interfaces)'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l listen -x -d 'wait here for peers that dial, and dial none'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l create -d 'make local vcan interfaces that are missing, and remove them at the end'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l netns -x -d 'the local interfaces are in this network namespace, a container\'s as a rule'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l filter -x -d 'ask only for these frames of REMOTE, or of every bus without one of its own'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l history -x -d 'memory for the history of each bus, in bytes, or with k, M or G'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l max-age -x -a 'none' -d 'frames from the peer that are older are dropped and counted, not sent to the local bus'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l heartbeat -x -d 'silence after which a sign of life is sent, 50ms to 5m'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l hold -x -d 'hold a frame this long at most, up to 1s, so that others join it in one packet'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l metrics -x -d 'serve metrics for Prometheus, the numbers of `canspan status`, at http://ADDR:PORT/metrics'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l status -x -d 'answer `canspan status` here'
complete -c canspan -n '__fish_seen_subcommand_from connect' -l insecure -d 'allow an ADDR others can reach although there are no keys'
complete -c canspan -n '__fish_seen_subcommand_from connect' -a '(__fish_print_hostnames)'
complete -c canspan -n '__fish_seen_subcommand_from dump' -l last -x -d 'begin with what the peer still has of the last TIME'
complete -c canspan -n '__fish_seen_subcommand_from dump' -l filter -x -d 'ask only for these frames of BUS, or of every bus without one of its own'
complete -c canspan -n '__fish_seen_subcommand_from dump' -a '(__fish_print_hostnames)'
complete -c canspan -n '__fish_seen_subcommand_from send' -a '(__fish_print_hostnames)'
complete -c canspan -n '__fish_seen_subcommand_from status' -l json -d 'one JSON object on one line'
complete -c canspan -n '__fish_seen_subcommand_from status' -l watch -d 'ask again every second, until interrupted'
complete -c canspan -n '__fish_seen_subcommand_from status' -l check -d 'succeed only if the host answers, every bus takes frames, every peer that is dialled there is linked, and every bus of `connect --listen` has a peer'
complete -c canspan -n '__fish_seen_subcommand_from status' -a '(__fish_print_hostnames)'
