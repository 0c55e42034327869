"""Attacks on connections, one at a time, and good clients beside them: hits at a fixed rate by HTTP/1.1 and HTTP/2.

The good clients' p99 under each attack is compared with theirs before it, round by round. Attackers and good clients
share the second core. The good clients are in the real-time class there, which root may choose: even an attacker of the
least priority keeps the core for milliseconds otherwise, and those would count as the edge's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.faults.attacker import ATTACKS, SECURED
from benchmarks.faults.figure import Figure, median
from benchmarks.faults.stage import HERE, Edge, Machine, must, running
from benchmarks.processes import BenchError, Child, free_port, make_certificate, pinned

ROUNDS = 3
SECONDS = 4
CONNECTIONS, RATE = 4, 100  # of each protocol: connections, and requests a second of each
MOST = 2.0  # times the p99 without an attack
#: Before a command that goes before all others of its core.
FIRST = ["chrt", "-f", "10"] if os.geteuid() == 0 else []


def measure(machine: Machine) -> list[Figure]:
    port, secured = free_port(), free_port()
    ratios: dict[tuple[str, str], list[float]] = {}
    alone: dict[str, list[float]] = {}
    failed = 0
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-attacks-")))
        make_certificate(scratch)
        environment = {"FAULTS_BOTH": f"127.0.0.1:{port}", "FAULTS_TLS": f"127.0.0.1:{secured}"}
        environment["FAULTS_CERTIFICATE"] = str(scratch)
        edge = stack.enter_context(running(machine, environment=environment))
        must(edge.port, "/hit/1")
        must(edge.port, "/large/slices/1")
        good(machine, port, scratch)
        for _ in range(ROUNDS):
            for name in ATTACKS:
                before = good(machine, port, scratch)
                target = str(secured if name in SECURED else port)
                command = ["nice", "-n", "19", sys.executable, str(HERE / "attacker.py"), name, target]
                with Child(name, command, machine.cores[1], scratch / "attacker.log") as attacker:
                    under = good(machine, port, scratch)
                    if not attacker.alive():
                        raise BenchError(f"{name}: the attacker ended: {attacker.log_tail()}")
                settled(edge)
                for protocol in before:
                    failed += under[protocol][1]
                    alone.setdefault(protocol, []).append(before[protocol][0] / 1_000)
                    ratio = under[protocol][0] / before[protocol][0]
                    ratios.setdefault((name, protocol), []).append(ratio)
    return [
        *(
            Figure(f"p99 of hits by {protocol} without an attack", values, "ms", form=".2f", judged=median)
            for protocol, values in alone.items()
        ),
        *(
            Figure(f"{name}: p99 by {protocol}", values, "×", MOST, ".2f", median)
            for (name, protocol), values in ratios.items()
        ),
        Figure("hits that failed under attack", [failed], "", 0),
    ]


def settled(edge: Edge) -> None:
    """Lets the connections of an attack end; the edge has to answer then."""
    must(edge.port, "/hit/1")


def good(machine: Machine, port: int, scratch: Path) -> dict[str, tuple[float, int]]:
    """The p99 in microseconds, and the failures, of good clients of each protocol."""
    running_: list[tuple[str, Path, subprocess.Popen[bytes]]] = []
    for protocol, more in (("HTTP/1.1", ["--h1"]), ("HTTP/2", [])):
        log = scratch / f"{protocol.replace('/', '')}.log"
        log.unlink(missing_ok=True)
        load = ["h2load", "-c", str(CONNECTIONS), "-m", "1", "--rps", str(RATE), "-D", str(SECONDS)]
        command = pinned(
            machine.cores[1], [*FIRST, *load, f"--log-file={log}", *more, f"http://127.0.0.1:{port}/hit/1"]
        )
        try:
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            raise BenchError("taskset and h2load are needed: run scripts/install-packages") from None
        running_.append((protocol, log, child))
    found = {}
    for protocol, log, child in running_:
        try:
            child.wait(SECONDS + 20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise BenchError(f"h2load by {protocol} did not end") from None
        found[protocol] = judged(log.read_text().splitlines(), protocol)
    return found


def judged(lines: Sequence[str], protocol: str) -> tuple[float, int]:
    rows = [line.split("\t") for line in lines]
    times = [float(row[2]) for row in rows if row[1] == "200"]
    if len(times) < CONNECTIONS * RATE * SECONDS // 2:
        raise BenchError(
            f"only {len(times)} hits by {protocol} in {SECONDS} s, of {len(rows)}: {os.linesep.join(lines[:3])}"
        )
    return statistics.quantiles(times, n=100)[98], len(rows) - len(times)
