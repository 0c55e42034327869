"""Clients that do not read, each on a large object of its own: memory of the edge, and what others notice.

Hits are paced at half of what the edge can serve while the clients come. Then they run at full rate beside them and, in
turns, at an edge that has no such clients. Purges are timed all the while.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import generator, isolation, servers
from benchmarks.cache.purge import Desk
from benchmarks.faults.figure import Figure, median
from benchmarks.faults.stage import Edge, Machine, must, running, send, wait_until
from benchmarks.processes import BenchError, pinned

CLIENTS = 400
WINDOW = 4_096
ROUNDS = 5
SECONDS = 1.0
SHARE = 0.5
PURGES = 10
BEFORE, ACCOUNT = (
    37,
    64,
)  # MiB: an edge that has just begun to serve, and the default of `request_memory_bytes`
PATH = "/hit/1k"
KINDS = {
    "slices": "with a lifetime and a validator",
    "whole": "with a lifetime only",
    "passed": "that nobody may store",
}


@dataclass
class Seen:
    """The figures of one kind of object: MiB, milliseconds, and ratios to the other edge by round."""

    before: float = 0
    most: float = 0
    stored: float = 0
    answered: float = 0
    p99: float = 0
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    purges: list[float] = field(default_factory=list)

    def figures(self, words: str) -> list[Figure]:
        beside = self.most - self.before - self.stored
        return [
            Figure(f"objects {words}: resident before", [self.before], "MiB", form=",.1f"),
            Figure(f"resident at most, {CLIENTS} clients", [self.most], "MiB", BEFORE + ACCOUNT, ",.1f"),
            Figure("… more than before and beside the cache", [beside], "MiB", ACCOUNT, ",.1f"),
            Figure("hits/s beside them, of those without", self.rates, "%", 95, ".1f", median, least=True),
            Figure("CPU of a hit beside them, of one without", self.costs, "%", form=".1f", judged=median),
            Figure("paced hits answered while they come", [self.answered], "%", 99.5, ".2f", least=True),
            Figure("… their p99", [self.p99 / 1e3], "ms", form=",.1f"),
            Figure("purge acknowledged", self.purges, "ms", 100, ".1f"),
        ]


def measure(machine: Machine) -> list[Figure]:
    figures = []
    with running(machine, workers=2) as other:
        must(other.port, PATH)
        for kind, words in KINDS.items():
            with running(machine, workers=2, environment={"FAULTS_CONNECTIONS": "600"}) as edge:
                figures += stall(edge, other, machine.cores[1], kind).figures(words)
    return figures


def stall(edge: Edge, other: Edge, core: int, kind: str) -> Seen:
    seen = Seen()
    must(edge.port, PATH)
    rate = min(hits(each, core)[0] for each in (other, edge)) * SHARE
    seen.before = edge.resident() / 2**20
    held = edge.metric("edgerouter_cache_bytes")
    with ExitStack() as stack:
        paced = stack.enter_context(pace(edge.port, rate, core))
        stack.callback(paced.kill)
        for number in range(CLIENTS):
            stack.enter_context(send(edge.port, f"/large/{kind}/{number}", WINDOW))
        seen.purges += purges(edge, kind)
        wait_until(lambda: edge.asked("large") >= CLIENTS, 30, "every request to reach the origin")
        seen.purges += purges(edge, kind)
        paced.terminate()
        out, err = paced.communicate(timeout=30)
        if paced.returncode != 0:
            raise BenchError(f"paced: {err.strip() or out.strip()}")
        load = generator.read_paced(out)
        seen.answered = 100 * load.requests / (load.requests + load.lost)
        seen.p99 = load.p99
        for _ in range(ROUNDS):
            without, cost_without = hits(other, core)
            beside, cost_beside = hits(edge, core)
            seen.rates.append(100 * beside / without)
            seen.costs.append(100 * cost_beside / cost_without)
        seen.purges += purges(edge, kind)
        if edge.asked("hit") != 1:
            raise BenchError("not every hit was one")
        seen.most = edge.resident("VmHWM") / 2**20
        seen.stored = (edge.metric("edgerouter_cache_bytes") - held) / 2**20
    return seen


def hits(edge: Edge, core: int) -> tuple[float, float]:
    """Hits a second, and seconds of CPU for each."""
    before = edge.child.cpu_seconds()
    load = generator.wrk(core, edge.port, PATH, SECONDS, {})
    return load.per_second, (edge.child.cpu_seconds() - before) / load.requests


def pace(port: int, rate: float, core: int) -> subprocess.Popen[str]:
    command = [str(servers.compile_c("paced")), str(port), PATH, f"{rate:.0f}", "60", "64"]
    if isolation.may_be_realtime():
        command = ["chrt", "-f", "1", *command]
    return subprocess.Popen(pinned(core, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def purges(edge: Edge, kind: str) -> list[float]:
    """Milliseconds until each of some purges of one object is acknowledged, the connection included."""
    took = []
    for number in range(PURGES):
        started = time.perf_counter()
        desk = Desk(edge.admin)
        desk.ask("POST", "/v1/purges", {"urls": [f"http://faults.example/large/{kind}/{number}"]})
        took.append(1e3 * (time.perf_counter() - started))
        desk.connection.close()
        time.sleep(0.05)
    return took
