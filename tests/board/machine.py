"""The emulated board: a process of qemu, its monitor (QMP), and the agent that runs scripts on it."""

import base64
import json
import os
import shlex
import shutil
import socket
import subprocess
import time

PATIENCE = 300  # seconds for anything the board is asked to do, on a busy machine


class Trouble(Exception):
    """A check failed, or the board did not do what it was asked to."""


def free_port():
    """A TCP port of this machine's loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(path, process, seconds=PATIENCE):
    """A connection to a Unix socket that `process` is about to make."""
    end = time.monotonic() + seconds
    while True:
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(path)
            return stream
        except OSError as error:
            stream.close()
            if process.poll() is not None or time.monotonic() > end:
                raise Trouble(f"qemu does not answer at {path}: {error}") from error
            time.sleep(0.05)


class Lines:
    """A stream socket, read by lines, each with a time limit."""

    def __init__(self, stream):
        self.stream = stream
        self.rest = b""

    def next(self, seconds, what):
        end = time.monotonic() + seconds
        while b"\n" not in self.rest:
            self.stream.settimeout(max(0.01, end - time.monotonic()))
            try:
                part = self.stream.recv(65536)
            except TimeoutError as error:
                raise Trouble(f"{what}: no answer within {seconds} s") from error
            if not part:
                raise Trouble(f"{what}: qemu closed the connection")
            self.rest += part
        line, self.rest = self.rest.split(b"\n", 1)
        return line

    def send(self, data):
        self.stream.settimeout(PATIENCE)
        self.stream.sendall(data + b"\n")


class Board:
    """A board that is switched on; `with` switches it off."""

    def __init__(self, image, overlay, work):
        self.work = work
        self.port = free_port()
        self.console = os.path.join(work, "console")
        root = os.path.join(work, "root.cpio")
        with open(root, "wb") as out:  # the kernel unpacks one archive after the other
            for part in (os.path.join(image, "base.cpio"), overlay):
                with open(part, "rb") as archive:
                    shutil.copyfileobj(archive, out, 1 << 20)
        self.command = [
            "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "1024", "-display", "none", "-no-reboot",
            # One instruction takes 1 ns of the board's time: a processor like that of a small board, which a busy
            # machine makes slow in our time but not in its own. Only while it is idle its clock follows this machine's.
            "-smp", "1", "-icount", "shift=0,sleep=on",
            "-kernel", os.path.join(image, "vmlinuz"), "-initrd", root,
            "-append", "console=ttyAMA0 rdinit=/usr/sbin/board-init quiet systemd.log_level=notice",
            "-serial", f"file:{self.console}",
            "-chardev", f"socket,id=monitor,path={work}/monitor,server=on,wait=off",
            "-mon", "chardev=monitor,mode=control",
            "-chardev", f"socket,id=agent,path={work}/agent,server=on,wait=off",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=board",
            "-netdev", f"user,id=network,hostfwd=tcp:127.0.0.1:{self.port}-:22677",
            # Nothing boots from the network, and the ROM for it is in a package that qemu only recommends.
            "-device", "virtio-net-pci,netdev=network,romfile=",
            "-object", "can-bus,id=wire",
        ]
        for number in (0, 1):  # in slots from which they can be pulled
            self.command += [
                "-device", f"pcie-root-port,id=slot{number},chassis={number + 1}",
                "-device", f"kvaser_pci,canbus=wire,id=controller{number},bus=slot{number}",
            ]

    def __enter__(self):
        self.events = []
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(os.path.join(self.work, "qemu.err"), "w"))
        try:
            self.agent = Lines(connect(f"{self.work}/agent", self.process))
            self.monitor = Lines(connect(f"{self.work}/monitor", self.process))
            self.monitor.next(PATIENCE, "the monitor's greeting")
            self.ask("qmp_capabilities")
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_for_boot(self, seconds):
        """Until systemd has started the agent."""
        line = self.agent.next(seconds, "the board's boot")
        if line != b"ready":
            raise Trouble(f"the board's agent says {line!r} instead of ready")

    def ask(self, command, **arguments):
        """A command of qemu's monitor."""
        self.monitor.send(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.monitor.next(PATIENCE, f"the monitor's {command}"))
            if "error" in answer:
                raise Trouble(f"the monitor's {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
            self.events.append(answer)  # what happens meanwhile

    def wait_for_events(self, name, devices):
        """Until the monitor has told of something that happens to each of these devices."""
        missing = set(devices)
        while missing:
            if not self.events:
                self.events.append(json.loads(self.monitor.next(PATIENCE, f"the monitor's {name} of {missing}")))
            event = self.events.pop(0)
            if event.get("event") == name:
                missing.discard(event["data"].get("device"))

    def plug(self, controller):
        """Puts a controller back that was pulled."""
        self.ask("device_add", driver="kvaser_pci", id=controller, canbus="wire", bus=controller.replace("controller", "slot"))

    def last_words(self):
        """What the service and the kernel said last."""
        journal = "journalctl --no-pager -o short-monotonic -n 25"
        try:
            return self.try_run(f"{journal} -u 'canspan@*'; echo; {journal} -k; ip -br link; canspan status")[1]
        except Trouble as trouble:
            return f"board: {trouble}"

    def try_run(self, script, seconds=PATIENCE):
        """Runs a bash script on the board; its exit status and output."""
        self.agent.send(base64.b64encode(script.encode()))
        answer = self.agent.next(seconds, f"on the board: {script.strip()[:200]}").split(b" ", 1)
        return int(answer[0]), base64.b64decode(answer[1]).decode(errors="replace")

    def run(self, script, seconds=PATIENCE):
        """Runs a bash script that must succeed; its output."""
        status, output = self.try_run("set -eo pipefail\n" + script, seconds)
        if status != 0:
            raise Trouble(f"on the board: {script.strip()}\n  ended with status {status}: {output.strip()}")
        return output

    def wait_until(self, condition, what, seconds=PATIENCE):
        """Until a script succeeds on the board."""
        loop = f"end=$((SECONDS + {seconds})); until {{ {condition}\n}} >/tmp/until 2>&1; do"
        status, output = self.try_run(
            f"{loop} [ $SECONDS -lt $end ] || {{ cat /tmp/until; exit 1; }}; sleep 0.1; done", seconds + PATIENCE)
        if status != 0:
            raise Trouble(f"{what}: not within {seconds} s ({condition}): {output.strip()}")

    def start(self, command, log):
        """Starts a program in the background, its output in a file; its process id."""
        return self.run(f"{command} </dev/null >{log} 2>&1 & echo $!").strip()

    def end(self, pid):
        """Ends a program that `start` has started, and waits until it is gone."""
        self.try_run(f"kill {pid}")
        self.wait_until(f"[ ! -e /proc/{pid} ]", f"the end of process {pid}")

    def write(self, path, text):
        """Makes a file on the board."""
        self.run(f"mkdir -p {shlex.quote(os.path.dirname(path))}; printf %s {shlex.quote(text)} >{shlex.quote(path)}")
