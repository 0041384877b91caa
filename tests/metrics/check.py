"""Starts a board and a PC with simulated buses, and checks what both tell Prometheus.

The parser is Prometheus' own. Checked are the metrics of docs/status.md by name, kind and labels, that no sample comes
twice, that counters do not go back, and that they lie between the numbers of `canspan status --json` before and after.
"""

import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

# What a simulated bus has not: a controller and a bit rate.
ABSENT = {"canspan_bus_errors", "canspan_bus_load_ratio", "canspan_bus_bitrate"}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def documented():
    """Name -> (kind, labels), from the table of the document."""
    text = pathlib.Path("docs/status.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(canspan_\w+)(?:\{([\w,]+)\})?` \| (\w+) \|", text, re.MULTILINE)
    assert len(rows) > 10, "docs/status.md has no table of metrics"
    return {name: (kind, set(filter(None, labels.split(",")))) for name, labels, kind in rows}


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        kind = answer.headers["Content-Type"]
        assert kind.startswith("text/plain; version=0.0.4"), kind
        return list(text_string_to_metric_families(answer.read().decode()))


def samples(families):
    found = {}
    for family in families:
        assert family.documentation, f"{family.name} has no HELP"
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, f"{key} comes twice"
            assert math.isfinite(sample.value), f"{key} is {sample.value}"
            found[key] = sample.value
    return found


def check_names(families, links):
    expected = documented()
    kinds = {name: family.type for family in families for name in {s.name for s in family.samples}}
    missing = set(expected) - set(kinds) - ABSENT
    if not links:
        missing = {name for name in missing if "_link_" not in name}
    assert not missing, f"documented and not told: {sorted(missing)}"
    assert not set(kinds) - set(expected), f"told and not documented: {sorted(set(kinds) - set(expected))}"
    for name, kind in kinds.items():
        assert kind == expected[name][0], f"{name} is told as {kind}"
    for family in families:
        for sample in family.samples:
            assert set(sample.labels) == expected[sample.name][1], sample


def check_states(found):
    states = [value for (name, _), value in found.items() if name == "canspan_bus_state"]
    assert len(states) == 6 and sum(states) == 1, states


def status(binary, port):
    run = subprocess.run([binary, "status", f"127.0.0.1:{port}", "--json"], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)


def told_by_status(answer):
    """The counters of a status answer under the names that Prometheus gets."""
    bus = answer["buses"][0]
    told = {("canspan_bus_frames_total", (("bus", bus["name"]), ("way", "from_bus"))): bus["received"]}
    for link in answer["links"]:
        for way in ("from_peer", "to_peer"):
            labels = (("bus", link["bus"]), ("link", str(link["number"])), ("way", way))
            told["canspan_link_frames_total", labels] = link[way]["frames"]
            told["canspan_link_lost_total", labels] = link[way]["lost"]
            for outcome in ("sent", "stale", "refused", "unsupported", "failed", "unconfirmed"):
                with_outcome = tuple(sorted((*labels, ("outcome", outcome))))
                told["canspan_link_outcomes_total", with_outcome] = link[way][outcome]
    return told


def within(deadline, what, holds):
    while not holds():
        assert time.monotonic() < deadline, f"not within 20 s: {what}"
        time.sleep(0.1)


def check(binary, listen, board_metrics, pc_metrics):
    deadline = time.monotonic() + 20

    def up(port):
        try:
            return any(s.name == "canspan_link_up" and s.value for f in scrape(port) for s in f.samples)
        except OSError:
            return False

    within(deadline, "both are linked", lambda: up(board_metrics) and up(pc_metrics))
    time.sleep(2)
    before = told_by_status(status(binary, listen))
    first = scrape(board_metrics)
    after = told_by_status(status(binary, listen))
    found = samples(first)
    check_names(first, links=True)
    check_states(found)
    for key, value in found.items():
        if key in before:
            assert before[key] <= value <= after[key], f"{key}: {before[key]} <= {value} <= {after[key]}"
    assert set(before) <= set(found), set(before) - set(found)
    second = samples(scrape(board_metrics))
    for (name, labels), value in found.items():
        assert not name.endswith("_total") or second[name, labels] >= value, f"{name}{labels} went back"
    assert second["canspan_bus_frames_total", (("bus", "demo"), ("way", "from_bus"))] > 1000
    check_names(scrape(pc_metrics), links=True)
    check_states(samples(scrape(pc_metrics)))
    return len(found)


def main():
    binary = sys.argv[1]
    listen, board_metrics, pc_metrics = free_ports(3)
    quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    board = [binary, "serve", "sim:demo?rate=1000", "--listen", f"127.0.0.1:{listen}", "--metrics", f":{board_metrics}"]
    pc = [binary, "connect", f"127.0.0.1:{listen}", "demo:sim:here", "--metrics", f":{pc_metrics}"]
    processes = [subprocess.Popen(board, **quiet), subprocess.Popen(pc, **quiet)]
    try:
        count = check(binary, listen, board_metrics, pc_metrics)
    finally:
        for process in processes:
            process.terminate()
    for process in processes:
        assert process.wait(10) == 0, f"{process.args} ended with {process.returncode}"
    print(f"prometheus_client understands every one of {count} samples, and they are what canspan status says")


main()
