"""Attacks on connections, one at a time, and good clients beside them: hits at a fixed rate by HTTP/1.1 and HTTP/2.

The good clients' p99 under each attack is compared with theirs without one, round by round. Attackers and good clients
share the second core, where the good clients are in the real-time class, which root may choose. A thread that is woken
may still wait for the next tick of the kernel while something else has its core: 4 ms with 250 of them a second, and
some of these are the p99 of a hit of 0.1 ms. So the time for which the edge's worker or the good clients were ready to
run and did not is taken off each hit, as the kernel counts it, and the p99 with it stands beside.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.attacker import ATTACKS, SECURED
from benchmarks.faults.figure import Figure, median
from benchmarks.faults.good import CONNECTIONS, PATIENCE, PROTOCOLS, RATE
from benchmarks.faults.stage import HERE, Edge, Machine, must, running
from benchmarks.processes import BenchError, Child, free_port, make_certificate, pinned

ROUNDS = 5
SECONDS = 4
MOST = 2.0  # times the p99 without an attack
#: Before a command that goes before all others of its core.
FIRST = ["chrt", "-f", "10"] if os.geteuid() == 0 else []


@dataclass(frozen=True)
class Hits:
    """Those of one protocol in one round: milliseconds, with the waits for cores and without them."""

    p99: float
    whole: float
    #: Hits in whose time the edge's worker or the client had no core at all, so that nothing is known of the edge.
    left_out: int
    failed: int


def measure(machine: Machine) -> list[Figure]:
    port, secured = free_port(), free_port()
    rounds: dict[str, list[dict[str, Hits]]] = {"": [], **{name: [] for name in ATTACKS}}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-attacks-")))
        make_certificate(scratch)
        environment = {"FAULTS_BOTH": f"127.0.0.1:{port}", "FAULTS_TLS": f"127.0.0.1:{secured}"}
        environment["FAULTS_CERTIFICATE"] = str(scratch)
        edge = stack.enter_context(running(machine, environment=environment))
        must(edge.port, "/large/slices/1")
        good(machine, edge, port)
        for _ in range(ROUNDS):
            rounds[""].append(good(machine, edge, port))
            for name in ATTACKS:
                target = str(secured if name in SECURED else port)
                command = ["nice", "-n", "19", sys.executable, str(HERE / "attacker.py"), name, target]
                attacker = Child(name, command, machine.cores[1], scratch / "attacker.log")
                rounds[name].append(good(machine, edge, port, attacker))
                settled(edge)
    every = [hits for seen in rounds.values() for one in seen for hits in one.values()]
    return [*figures(rounds), *totals(every)]


def figures(rounds: dict[str, list[dict[str, Hits]]]) -> list[Figure]:
    alone = rounds[""]
    found = []
    for protocol in PROTOCOLS:
        without = f"p99 of hits by {protocol} without an attack"
        found.append(Figure(without, [one[protocol].p99 for one in alone], "ms", form=".2f", judged=median))
        found.append(
            Figure(f"{without}, with waits for cores", [one[protocol].whole for one in alone], "ms", form=".2f")
        )
    for name in ATTACKS:
        for protocol in PROTOCOLS:
            pairs = [(one[protocol], under[protocol]) for one, under in zip(alone, rounds[name], strict=True)]
            ratios = [under.p99 / one.p99 for one, under in pairs]
            found.append(Figure(f"{name}: p99 by {protocol}", ratios, "×", MOST, ".2f", median))
            ratios = [under.whole / one.whole for one, under in pairs]
            found.append(Figure("… with waits for cores", ratios, "×", form=".2f", judged=median))
    return found


def totals(every: list[Hits]) -> list[Figure]:
    return [
        Figure("hits that are left out, as a core was taken all the time", [sum(one.left_out for one in every)]),
        Figure("hits that failed", [sum(one.failed for one in every)], "", 0),
    ]


def settled(edge: Edge) -> None:
    """Lets the connections of an attack end; the edge has to answer then."""
    must(edge.port, "/hit/1")


def good(machine: Machine, edge: Edge, port: int, attacker: Child | None = None) -> dict[str, Hits]:
    """The hits of good clients of each protocol, which are there before the attacker."""
    command = [*FIRST, sys.executable, str(HERE / "good.py"), str(port), str(edge.child.pid), str(SECONDS)]
    with ExitStack() as stack:
        clients = subprocess.Popen(pinned(machine.cores[1], command), stdout=subprocess.PIPE, text=True)
        stack.callback(clients.wait)
        stack.callback(clients.kill)
        if clients.stdout is None or clients.stdout.readline() != "ready\n":
            raise BenchError("the good clients did not begin")
        if attacker is not None:
            stack.enter_context(attacker)
        try:
            out, _ = clients.communicate(timeout=SECONDS + 2 * PATIENCE)
        except subprocess.TimeoutExpired:
            raise BenchError("the good clients did not end") from None
        if clients.returncode != 0:
            raise BenchError("the good clients failed")
        if attacker is not None and not attacker.alive():
            raise BenchError(f"{attacker.name}: the attacker ended: {attacker.log_tail()}")
    rows = [line.split() for line in out.splitlines()]
    return {protocol: judged([row[1:] for row in rows if row[0] == protocol], protocol) for protocol in PROTOCOLS}


def judged(rows: Sequence[list[str]], protocol: str) -> Hits:
    times = [(float(row[0]), float(row[1])) for row in rows if len(row) > 1]
    own = [took - waited for took, waited in times if waited < took]
    if len(own) < CONNECTIONS * RATE * SECONDS // 2:
        raise BenchError(f"only {len(own)} hits by {protocol} in {SECONDS} s say something, of {len(rows)}")
    p99, whole = (statistics.quantiles(values, n=100)[98] / 1_000 for values in (own, [took for took, _ in times]))
    return Hits(p99, whole, len(times) - len(own), len(rows) - len(times))
