"""ISO-TP by can-isotp: an ECU that answers, and a tester that measures.

usage: flash.py ecu INTERFACE
       flash.py tester INTERFACE, with a command in each line of standard input:
           request COUNT        so many requests of one frame, each answered by one
           transfer BLOCK_SIZE  4 KB, with a flow control after so many frames (0: only one)

The ECU answers a message with its checksum. A message of one byte also sets the block size it asks for from then on. The
tester writes a line for each command: how long it took, for one request, in milliseconds; and how often it waited for a
frame of the ECU, which is each flow control and each answer.

Both are as quick as these libraries can be: the stack is driven by blocking reads and not by its threads, which hand each
frame from one to the other, and the kernel keeps from them what else is on the bus.
"""

import socket
import sys
import time
import zlib

import can
import isotp

ASKS, ANSWERS = 0x7E0, 0x7E8
BLOCK = (bytes(range(256)) * 16)[:4095]  # the longest without the escape sequence
PATIENCE = 10  # s
SO_RCVBUFFORCE = 33  # Python does not name it
# For all frames of a block: on a bus without a bit rate they come as quickly as the tester sends them.
ROOM = 4 << 20


class Stack(isotp.CanStack):
    """A stack whose `process` ends as soon as a message is whole, and not after one more wait for a frame."""

    received = 0

    def _rx_canbus(self, timeout):
        if self.available():
            return None
        message = super()._rx_canbus(timeout)
        self.received += message is not None
        return message

    def next(self):
        """The next message, for which it waits; what is to be sent goes first."""
        while not self.available():
            self.process(PATIENCE)
        return self.recv()


def fail(error):
    """No frame may be lost here, so whatever the stack complains of ends the program."""
    raise error


def checksum(message):
    return zlib.crc32(message).to_bytes(4, "big")


def ecu(stack):
    while True:
        message = stack.next()
        if len(message) == 1:
            stack.params.set("blocksize", message[0])
        stack.send(checksum(message))


def ask(stack, message):
    """Sends a message and waits for its answer."""
    stack.send(message)
    answer = stack.next()
    if answer != checksum(message):
        sys.exit(f"a message of {len(message)} bytes has checksum {answer.hex()} at the ECU")


def tester(stack):
    for line in sys.stdin:
        command, number = line.split()
        message, count = (BLOCK, 1) if command == "transfer" else (bytes([1]), int(number))
        if command == "transfer":
            ask(stack, bytes([int(number)]))
        stack.received = 0
        start = time.monotonic_ns()
        for _ in range(count):
            ask(stack, message)
        took = time.monotonic_ns() - start
        print(took / count / 1e6, stack.received, flush=True)


def main():
    role, interface = sys.argv[1:]
    own, other = (ANSWERS, ASKS) if role == "ecu" else (ASKS, ANSWERS)
    filters = [{"can_id": other, "can_mask": 0x7FF, "extended": False}]
    timeouts = {"rx_flowcontrol_timeout": 1000 * PATIENCE, "rx_consecutive_frame_timeout": 1000 * PATIENCE}
    with can.Bus(interface="socketcan", channel=interface, can_filters=filters) as bus:
        bus.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        address = isotp.Address(isotp.AddressingMode.Normal_11bits, txid=own, rxid=other)
        stack = Stack(bus, address=address, error_handler=fail, params={"stmin": 0, **timeouts})
        print("ready", flush=True)
        {"ecu": ecu, "tester": tester}[role](stack)


main()
