"""The outside of the board: canspan on this machine, which reaches the board through the network of qemu."""

import json
import os
import re
import subprocess
import time

from machine import PATIENCE, Trouble


class Client:
    """Commands of this machine's canspan, toward the board."""

    def __init__(self, program, port):
        self.program = program
        self.peer = f"127.0.0.1:{port}"

    def status(self):
        """What the board tells of itself."""
        done = subprocess.run([self.program, "status", self.peer, "--json"], capture_output=True, text=True,
                              timeout=PATIENCE, check=False)
        if done.returncode != 0:
            raise Trouble(f"canspan status {self.peer}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def wait_for(self, condition, what, seconds=PATIENCE):
        """Until a condition holds for the status; the status."""
        end = time.monotonic() + seconds
        status = None
        while time.monotonic() < end:
            try:
                status = self.status()
                if condition(status):
                    return status
            except Trouble as trouble:
                status = trouble
            time.sleep(0.1)
        raise Trouble(f"{what}: not within {seconds} s; the status is {status}")

    def wait_for_state(self, state, seconds=PATIENCE):
        """Until the bus is in a state."""
        return self.wait_for(lambda status: status["buses"][0]["state"] == state, f"the bus is {state}", seconds)

    def send(self, frames):
        """Sends frames to the board's bus, which must take every one."""
        status, output = self.try_send(frames)
        if status != 0:
            raise Trouble(f"canspan send ended with status {status}: {output}")

    def try_send(self, frames):
        """Sends frames to the board's bus; exit status and messages."""
        done = subprocess.run([self.program, "send", self.peer, "can0"], input="".join(f"{one}\n" for one in frames),
                              capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.returncode, done.stderr.strip()


class Dump:
    """A `canspan dump` of the board's bus that runs on; `with` ends it."""

    def __init__(self, client, work, *options):
        self.client = client
        self.name = os.path.join(work, "dump")
        self.command = [client.program, "dump", client.peer, "can0", *options]

    def __enter__(self):
        linked = sum(link["up"] for link in self.client.status()["links"])
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=open(self.name, "w"),
                                        stderr=open(f"{self.name}.err", "w"))
        try:
            self.client.wait_for(lambda status: sum(link["up"] for link in status["links"]) > linked, "the link of a dump")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def frames(self):
        """What came so far, as in a candump log."""
        with open(self.name) as lines:
            return parse(lines.read())

    def wait_for(self, frame, seconds=PATIENCE):
        """Until a frame has come; everything that came."""
        end = time.monotonic() + seconds
        while frame not in (frames := self.frames()):
            if self.process.poll() is not None or time.monotonic() > end:
                with open(f"{self.name}.err") as messages:
                    raise Trouble(f"the client did not get {frame} within {seconds} s, but {frames[-5:]}; it says: "
                                  f"{messages.read().strip()}")
            time.sleep(0.05)
        return frames


def parse(log):
    """The frames of a candump log, without its last line when that is not whole yet."""
    lines = log.split("\n")[:-1]
    frames = [re.fullmatch(r"\(\d+\.\d{6}\) \S+ (\S+)( [RT])?", line) for line in lines]
    if None in frames:
        raise Trouble(f"not a line of a candump log: {lines[frames.index(None)]!r}")
    return [frame[1] for frame in frames]


def same(expected, came, where):
    """Fails unless exactly these frames came, in this order."""
    if expected == came:
        return
    for position, (one, other) in enumerate(zip(expected, came)):
        if one != other:
            raise Trouble(f"{where}: frame {position} is {other} and not {one}")
    raise Trouble(f"{where}: {len(came)} frames came and not {len(expected)}; behind the common ones: "
                  f"{(came[len(expected):] or expected[len(came):])[:5]}")
