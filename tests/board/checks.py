"""What is checked on the board while it runs, each in the state the one before leaves."""

import json

from client import Dump, parse, same
from machine import Trouble

UNIT = "canspan@can0"
IDS = ["000", "001", "123", "7FF", "00000000", "00000123", "000007FF", "00000800", "1FFFFFFF"]
DATA = "FFFEFDFC00010280"
# Every classic kind but raw DLCs above 8, which are not tried here, and remote requests for bytes: those come when the
# controllers are pulled.
KINDS = [f"{can_id}#{DATA[:2 * length]}" for can_id in IDS for length in range(9)] + [f"{can_id}#R" for can_id in IDS]


def check(condition, what):
    """Fails with a sentence unless the condition holds."""
    if not condition:
        raise Trouble(what)


def link(board, name):
    """What `ip` tells of an interface."""
    return json.loads(board.run(f"ip -json -details -statistics link show {name}"))[0]


def can(board, name="can0"):
    """What `ip` tells of a controller."""
    return link(board, name)["linkinfo"]["info_data"]


def unit(board, *names):
    """Properties of the gateway's service."""
    lines = board.run(f"systemctl show {UNIT} " + " ".join(f"-p {name}" for name in names)).splitlines()
    values = dict(line.split("=", 1) for line in lines)
    return [values[name] for name in names]


class Wire:
    """A `candump` of the wire on the board, by the second controller."""

    def __init__(self, board, name="can1"):
        self.board, self.name, self.log = board, name, f"/run/wire-{name}"

    def __enter__(self):
        before = self.listeners()
        self.pid = self.board.start(f"candump -D -L {self.name}", self.log)
        self.board.wait_until(f"[ $(grep -c '^ *{self.name} ' /proc/net/can/rcvlist_all) -gt {before} ]",
                              f"a candump of {self.name}")
        return self

    def listeners(self):
        return int(self.board.run(f"grep -c '^ *{self.name} ' /proc/net/can/rcvlist_all || true"))

    def __exit__(self, *_):
        self.board.end(self.pid)

    def frames(self):
        return parse(self.board.run(f"cat {self.log}"))

    def wait_for(self, frame):
        self.board.wait_until(f"grep -q ' {frame}' {self.log}", f"{frame} on the wire")
        return self.frames()


def play(board, frames, interface="can1"):
    """Sends frames from an interface of the board, in order, 2 ms apart: the emulated controller has few places."""
    board.write("/run/play", "".join(f"({0.002 * number:.6f}) {interface} {frame}\n" for number, frame in enumerate(frames)))
    board.run(f"canplayer -g 1 -I /run/play {interface}={interface}")


class Joined:
    """A PC's side on the board: a `canspan connect` that makes its interface `vcan0`."""

    def __init__(self, board, program="canspan", port=22677):
        self.board, self.program, self.port = board, program, port

    def __enter__(self):
        self.board.run("modprobe vcan")
        self.pid = self.board.start(f"{self.program} connect 127.0.0.1:{self.port} can0:vcan0 --create", "/run/joined")
        self.board.wait_until(f"canspan status 127.0.0.1:{self.port} --json | grep -q '\"up\":true,\"up_s\"' && "
                              "grep -q '^ *vcan0 ' /proc/net/can/rcvlist_all", "the link of the PC's side")
        return self

    def __exit__(self, *_):
        self.board.end(self.pid)
        self.board.run("if ip link del vcan0 2>&-; then echo 'it has not removed the interface it made'; exit 1; fi")


def crosses(board, client, dump, mark):
    """A frame crosses each way."""
    play(board, [f"5A5#{mark}"])
    dump.wait_for(f"5A5#{mark}")
    with Wire(board) as wire:
        client.send([f"6B6#{mark}"])
        wire.wait_for(f"6B6#{mark}")


def booted(board, client, _work):
    """systemd has booted, networkd has set the bit rate, and the service from the package runs under its watchdog"""
    board.wait_until("systemctl is-system-running", "a boot without a failed unit", 300)
    switched_on(board, "can0")
    switched_on(board, "can1")
    info = can(board)
    check(info["bittiming"]["bitrate"] == 500000, f"can0 has {info['bittiming']} and not 500 kbit/s")
    check(info["restart_ms"] == 100, f"can0 has restart-ms {info.get('restart_ms')} and not 100")
    check(not board.run(f"systemctl show {UNIT} -p DropInPaths --value").strip(), f"{UNIT} has drop-ins already")
    kind, watchdog, state, pid = unit(board, "Type", "WatchdogUSec", "ActiveState", "MainPID")
    check((kind, state) == ("notify", "active"), f"{UNIT} has Type={kind} and is {state}")
    check(watchdog not in ("0", "infinity"), f"{UNIT} has no watchdog")
    owner = board.run(f"stat -c %u /proc/{pid}; grep ^Cap /proc/{pid}/status").split()
    check(owner[0] != "0", f"{UNIT} runs as root")
    check(int(owner[6], 16) == 0 and owner[5] == "CapEff:", f"{UNIT} has capabilities: {owner}")
    check(board.run(f"readlink /proc/{pid}/exe").strip() == "/usr/bin/canspan", f"{UNIT} runs another program")
    check(board.run("dpkg-query -W -f '${Status} ${Architecture}' canspan") == "install ok installed arm64",
          "the package is not installed")
    client.wait_for_state("up")


def cross_both_ways(board, what):
    """Every kind crosses between the wire and the PC's side, which is there."""
    with Wire(board, "vcan0") as pc:
        play(board, [*KINDS, "123#E0"])
        same(KINDS, pc.wait_for("123#E0")[:-1], f"the wire to {what}")
    with Wire(board) as wire:
        play(board, [*KINDS, "123#E1"], "vcan0")
        same(KINDS, wire.wait_for("123#E1")[:-1], f"{what} to the wire")


def every_kind(board, client, work):
    """every classic kind crosses bit for bit, from the wire to clients and from a client to the wire"""
    with Dump(client, work) as dump, Joined(board):
        cross_both_ways(board, "the PC's side")
        same(KINDS, dump.wait_for("123#E0")[:len(KINDS)], "the wire to the client outside")


def error_frames(board, client, work):
    """error frames of every class reach a client, put in by a raw socket"""
    frames = ["20000004#0008000000006080", "20000040#0000000000000000", "200001FF#0102030405060708"]
    with Dump(client, work, "--filter", "0~0,#FFFFFFFF") as dump:
        play(board, [*frames, "20000008#01"], "can0")
        same(frames, dump.wait_for("20000008#01")[:-1], "wire to client")
    # What was put in told of bus-off and more; the controller knows nothing of it.
    board.run("ip link set can0 down; ip link set can0 up")
    client.wait_for_state("up")


def down_and_up(board, client, work):
    """can0 goes down and comes up: the same process goes on, and so does its client"""
    pid = unit(board, "MainPID")
    with Dump(client, work) as dump:
        crosses(board, client, dump, "D0")
        board.run("ip link set can0 down")
        client.wait_for_state("down")
        check(client.try_send(["123#D1"])[0] != 0, "a frame to a bus that is down counts as sent")
        board.run("ip link set can0 up")
        client.wait_for_state("up")
        crosses(board, client, dump, "D2")
        check("123#D1" not in dump.frames(), "the frame of the time without a bus was sent later")
    check(unit(board, "MainPID") == pid, f"{UNIT} was started again, which it should not need")


def switched_on(board, interface):
    """Until networkd has switched an interface on."""
    # Without a program of its own: each try costs the emulated processor a good part of a second.
    board.wait_until(f"read -r carrier </sys/class/net/{interface}/carrier && [ $carrier = 1 ]", f"{interface} is on")


def pulled_and_put_back(board, client, work):
    """both controllers are removed and put back: networkd sets them up, and the same process goes on, and its client"""
    pid = unit(board, "MainPID")
    with Dump(client, work) as dump:
        crosses(board, client, dump, "A0")
        # Here, because only a pull makes the emulated controllers whole again: one stores the bytes that such a request
        # does not have and never lets go of them, and reads garbage from then on.
        play(board, ["7FF#R5"])
        dump.wait_for("7FF#R5")
        with Wire(board) as wire:
            client.send(["1FFFFFFF#R8"])
            wire.wait_for("1FFFFFFF#R8")
        for number in (0, 1):
            board.ask("device_del", id=f"controller{number}")
        board.wait_for_events("DEVICE_DELETED", {"controller0", "controller1"})
        board.wait_until("[ ! -e /sys/class/net/can0 ] && [ ! -e /sys/class/net/can1 ]", "can0 and can1 are gone")
        client.wait_for_state("absent")
        check(client.try_send(["123#A1"])[0] != 0, "a frame to a bus that is gone counts as sent")
        board.plug("controller0")
        switched_on(board, "can0")
        board.plug("controller1")  # second, so that the names stay
        switched_on(board, "can1")
        check(can(board)["bittiming"]["bitrate"] == 500000, "can0 came back with another bit rate")
        client.wait_for_state("up")
        crosses(board, client, dump, "A2")
        came = [frame for frame in dump.frames() if not frame.startswith("6B6#")]  # without the last from a client
        same(["5A5#A0", "7FF#R5", "1FFFFFFF#R8", "5A5#A2"], came, "what the client got")
    check(unit(board, "MainPID") == pid, f"{UNIT} was started again, which it should not need")


def starts_again(board, client, died, pid):
    """Until the service has ended, systemd has started it again, once, and the client is back."""
    board.wait_until(f"[ ! -e /proc/{pid} ]", f"the end of {UNIT}")
    client.wait_for(lambda status: any(link["up"] for link in status["links"]), "the client is back")
    now, state = unit(board, "NRestarts", "ActiveState")
    check((int(now), state) == (int(died) + 1, "active"), f"{UNIT} is {state}, started again {now} times, and {died} before")


def killed(board, client, work):
    """SIGKILL: systemd starts the service again, and the client goes on"""
    with Dump(client, work) as dump:
        crosses(board, client, dump, "B0")
        died, pid = unit(board, "NRestarts", "MainPID")
        board.run(f"kill -KILL {pid}")
        starts_again(board, client, died, pid)
        crosses(board, client, dump, "B1")


def stopped(board, client, work):
    """SIGSTOP: the watchdog ends the service, systemd starts it again, and the client goes on"""
    with Dump(client, work) as dump:
        died, pid = unit(board, "NRestarts", "MainPID")
        board.run(f"kill -STOP {pid}")
        starts_again(board, client, died, pid)
        journal = board.run(f"journalctl -u {UNIT} --no-pager -o cat _PID=1")
        check("Watchdog timeout" in journal, f"it was not the watchdog that ended {UNIT}: {journal[-400:]}")
        crosses(board, client, dump, "C0")


def other_processors(board, _client, _work):
    """the ARMv7 and ARMv6 binaries exchange every kind of frame in the same boot, each with the other"""
    for server, client in (("armv7", "armv6"), ("armv6", "armv7")):
        check(board.run(f"/board/canspan-{server} --version") == board.run("canspan --version"), f"{server} has another version")
        pid = board.start(f"/board/canspan-{server} serve can0 --listen 127.0.0.1:22000", "/run/other")
        try:
            board.wait_until(f"/board/canspan-{client} status 127.0.0.1:22000 --check", f"the bus of {server}")
            with Joined(board, f"/board/canspan-{client}", 22000):
                cross_both_ways(board, f"{server} to {client}")
        finally:
            board.end(pid)


def sets_bit_rate(board, client, work):
    """with the drop-in the service sets the bit rate itself: 500 kbit/s, another one, and listen-only"""
    board.run("""rm /etc/systemd/network/80-can.network; networkctl reload
        ip link set can0 down; ip link set can0 type can bitrate 125000 restart-ms 0
        mkdir -p /etc/systemd/system/canspan@.service.d
        cp "$(dpkg -L canspan | grep /canspan-bitrate.conf$)" /etc/systemd/system/canspan@.service.d/bitrate.conf
        cp /etc/canspan/can0.conf /run/can0.conf; systemctl daemon-reload""")
    for options, bitrate, restart, listen_only in (("--bitrate 500k --restart-ms 100", 500000, 100, False),
                                                   ("--bitrate 250k --restart-ms 50", 250000, 50, False),
                                                   ("--bitrate 500k --listen-only", 500000, 50, True)):
        board.run(f"""sed 's/^CANSPAN_ARGS="/&{options} /' /run/can0.conf >/etc/canspan/can0.conf; systemctl restart {UNIT}""")
        client.wait_for_state("up")
        info = can(board)
        found = (info["bittiming"]["bitrate"], info.get("restart_ms", 0), "LISTEN-ONLY" in info.get("ctrlmode", []))
        check(found == (bitrate, restart, listen_only), f"{options} made it {found}")
        with Dump(client, work) as dump:
            if listen_only:
                play(board, ["123#F0"])
                dump.wait_for("123#F0")
                check(client.try_send(["123#F1"])[0] != 0, "a frame to a listen-only bus counts as sent")
                check("123#F1" not in dump.frames(), "a frame of a client is on a listen-only bus")
            else:
                crosses(board, client, dump, "F2")
    board.run(f"cp /run/can0.conf /etc/canspan/can0.conf; systemctl restart {UNIT}")
    pid = unit(board, "MainPID")[0]
    # 1 << 12 is CAP_NET_ADMIN (linux/capability.h).
    effective = board.run(f"sed -n 's/^CapEff:[[:space:]]*//p' /proc/{pid}/status")
    check(int(effective, 16) == 1 << 12, f"{UNIT} has the capabilities {effective.strip()} and not CAP_NET_ADMIN alone")
    board.run("ip link set can0 down; ip link set can0 type can bitrate 500000 listen-only off; ip link set can0 up")
    client.wait_for_state("up")


CHECKS = [booted, every_kind, error_frames, down_and_up, other_processors,
          pulled_and_put_back, killed, stopped, sets_bit_rate]
