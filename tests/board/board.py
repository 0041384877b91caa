#!/usr/bin/env python3
"""Boots the emulated board and checks what it does. Called by `run`, which makes what it is given.

usage: board.py IMAGE OVERLAY CLIENT [CHECK...]
"""

import os
import sys
import tempfile
import time
import traceback

import checks
import load
from client import Client
from machine import Board, Trouble

BOOT_SECONDS = 600  # a boot takes 50 s of a processor that may be shared


def attempt(check, board, client, work):
    """One check; whether it passed."""
    begin = time.monotonic()
    name, what = check.__name__, " ".join(check.__doc__.split())
    try:
        check(board, client, work)
    except Trouble as trouble:
        print(f"FAILED  {name}: {what}\n        {trouble}", flush=True)
        print(board.last_words(), flush=True)
        return False
    except Exception:  # a mistake in the check itself, or an answer nobody expected
        print(f"FAILED  {name}: {what}\n{traceback.format_exc()}", flush=True)
        return False
    print(f"passed  {name}: {what} ({time.monotonic() - begin:.0f} s)", flush=True)
    return True


def main(image, overlay, program, *names):
    every = [*checks.CHECKS, load.full_bus]
    unknown = set(names) - {check.__name__ for check in every}
    if unknown:
        sys.exit(f"board: no such check: {', '.join(sorted(unknown))}; there are {', '.join(check.__name__ for check in every)}")
    begin = time.monotonic()
    failed = []
    with tempfile.TemporaryDirectory(prefix="board.") as work:
        try:
            with Board(image, overlay, work) as board:
                board.wait_for_boot(BOOT_SECONDS)
                print(f"board: booted after {time.monotonic() - begin:.0f} s", flush=True)
                client = Client(program, board.port)
                for check in every:
                    # Each begins in the state that `booted` has waited for.
                    if names and check.__name__ not in names and check is not checks.booted:
                        continue
                    if not attempt(check, board, client, work):
                        failed.append(check.__name__)
                        if check is checks.booted:
                            break
        except Trouble as trouble:
            print(f"FAILED  {trouble}", flush=True)
            for name in ("console", "qemu.err"):
                path = os.path.join(work, name)
                if os.path.exists(path):
                    with open(path, errors="replace") as text:
                        print(f"the end of {name}:\n{text.read()[-4000:]}", flush=True)
            failed.append("boot")
    if failed:
        sys.exit(f"board: FAILED: {', '.join(failed)}")
    print(f"board: all passed in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
