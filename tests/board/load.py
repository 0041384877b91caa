"""A full bus: as many frames as a wire of 500 kbit/s carries, half of them each way, and an account of every one.

The emulated wire takes no time, so the senders keep the pace of a real one. The processor's time goes by the instructions
it has executed, so what the gateway needs of it does not depend on how busy this machine is. How long a frame is under
way does, because the clock of an idle board follows this machine's; so that is not looked at.
"""

import os

from checks import UNIT, check, unit

BITRATE = 500_000
# A classic frame with an 11-bit id and 8 bytes: 44 bits around 64 of data and 3 between frames; no stuff bits.
FRAME_BITS = 111
EVERY_MS = 2 * 1000 * FRAME_BITS / BITRATE  # from one frame to the next, each way
# What a wire shows that is full: less than this is a pause of the senders.
FULL = 0.97

# Each way a cangen of its own: its counter is the frame's data, so a doubled or swapped frame is another one.
FILL = """
generators=()
for one in can1:123 vcan0:456; do
    cangen ${one%:*} -I ${one#*:} -L 8 -D i -a -g EVERY -n COUNT -p 100 &
    generators+=($!)
done
for one in "${generators[@]}"; do wait $one; done
"""
# For each way: how many frames there were, and how long it took.
COMPARE = """
cd /run
for one in 123:can1:vcan0 456:vcan0:can1; do
    IFS=: read -r id from to <<<"$one"
    for side in from to; do grep " $id#" load-${!side} | tr -d '()' | cut -d ' ' -f 1,3 >$side; done
    cmp <(cut -d ' ' -f 2 from) <(cut -d ' ' -f 2 to) || { echo "frames $id from $from to $to differ"; exit 1; }
    echo "$from $to $(gawk 'NR == 1 { first = $1 } { last = $1 } END { print NR, last - first }' to)"
done
"""


def processor_seconds(board, name):
    """What a service has used of the processor."""
    return int(board.run(f"systemctl show {name} -p CPUUsageNSec --value")) / 1e9


def resident_kb(board):
    """Memory of the gateway."""
    return int(board.run(f"sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/{unit(board, 'MainPID')[0]}/status"))


def account(client):
    """The gateway's counters must say the same: nothing lost, dropped or refused."""
    status = client.status()
    check(status["buses"][0]["overflow"] == 0, f"the kernel dropped frames: {status['buses']}")
    for link in status["links"]:
        for way in ("from_peer", "to_peer"):
            bad = {cause: count for cause, count in link[way].items() if count and cause not in ("frames", "sent")}
            check(not bad, f"frames {way}: {bad}")


def full_bus(board, client, _work):
    """a full bus, both directions: every frame comes to the other side, once and in order"""
    seconds = float(os.environ.get("BOARD_LOAD_SECONDS", "5"))
    count = round(seconds * 1000 / EVERY_MS)
    patience = 300 + 40 * seconds  # of this machine, which needs some 8 s for one of the board
    board.run(f"systemctl restart {UNIT}")
    client.wait_for_state("up")
    started = []
    try:
        board.run("modprobe vcan && ip link add vcan0 type vcan && ip link set vcan0 up")
        started.append(board.start("canspan connect 127.0.0.1 can0:vcan0", "/run/load-pc"))
        client.wait_for(lambda status: any(link["up"] for link in status["links"]), "the link of the PC's side")
        for one in ("can1", "vcan0"):
            started.append(board.start(f"candump -r 4194304 -L {one}", f"/run/load-{one}"))
            board.wait_until(f"grep -q '^ *{one} ' /proc/net/can/rcvlist_all", f"a candump of {one}")
        before, memory = processor_seconds(board, UNIT), resident_kb(board)
        board.run(FILL.replace("EVERY", f"{EVERY_MS}").replace("COUNT", f"{count}"), patience)
        for one in ("can1", "vcan0"):
            board.wait_until(f"[ $(wc -l </run/load-{one}) -ge {2 * count} ]", f"all frames on {one}", 30)
        used = processor_seconds(board, UNIT) - before
        ways = [way.split() for way in board.run(COMPARE, patience).splitlines()]
        account(client)
        for start, end, frames, took in ways:
            check(int(frames) == count, f"{frames} and not {count} frames from {start} to {end}")
            print(f"        {start} to {end}: {frames} frames in {float(took):.2f} s of the board, none lost", flush=True)
        took = max(float(took) for *_, took in ways)
        load = 2 * count * FRAME_BITS / BITRATE / took
        print(f"        {100 * load:.1f} % of the bus; the gateway: {100 * used / took:.1f} % of the processor, "
              f"{1e6 * used / 2 / count:.1f} us a frame, {memory} KB before and {resident_kb(board)} KB behind it", flush=True)
        check(load >= FULL, f"the bus was full to {100 * load:.1f} % only: the emulated processor was too slow for it")
    finally:
        for pid in started:
            board.end(pid)
        board.try_run("ip link del vcan0; rm -f /run/load-*")
