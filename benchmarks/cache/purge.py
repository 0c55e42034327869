"""The cost of a purge, and its effect on visitors while it runs.

``cost``: time until the admin API has acknowledged a purge (its connection included), and until its status is
``Completed``, by what it names and by how much is stored. ``latency``: hits at a fixed rate while a purge of everything
in a large cache runs, beside the same hits without one. It sends at fixed times and counts latency from then,
and measures exactly as long as the purge takes.
"""

from __future__ import annotations

import http.client
import json
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks import generator, isolation, servers
from benchmarks.cache import stage
from benchmarks.cache.peers import EdgerouterCache
from benchmarks.cache.stage import running, spread
from benchmarks.processes import BenchError, pinned

MEMORY = 8 << 30
PATIENCE = 120.0
TIMES = 5
HOT = 10_000  # keys that are requested while a purge runs; no purge names them
SHARE = 0.5  # of the rate that the worker can serve


class Desk:
    """The admin API over one kept-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.connection.connect()

    def ask(self, method: str, path: str, order: object = None) -> dict[str, Any]:
        body = None if order is None else json.dumps(order)
        self.connection.request(method, path, body, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            raise BenchError(f"{method} {path}: {answer.status} {text[:300]!r}")
        found: dict[str, Any] = json.loads(text)
        return found

    def completed(self, number: str, started: float, pause: float = 0.0005) -> tuple[dict[str, Any], float]:
        """The purge once it is completed, and how long that took from ``started``."""
        while time.perf_counter() - started < PATIENCE:
            purge = self.ask("GET", f"/v1/purges/{number}")
            if purge["status"] == "Completed":
                return purge, time.perf_counter() - started
            time.sleep(pause)
        raise BenchError(f"purge {number} did not complete within {PATIENCE:g} s")

    def purge(self, order: dict[str, object]) -> tuple[float, float, int]:
        """Seconds to acknowledge, seconds to complete, and how many objects matched."""
        started = time.perf_counter()
        purge = self.ask("POST", "/v1/purges", order)
        acknowledged = time.perf_counter() - started
        purge, completed = self.completed(purge["id"], started)
        return acknowledged, completed, purge["matched"]["objects"]


@dataclass
class Cost:
    """Of one kind of purge with so many objects stored; seconds."""

    stored: int
    kind: str
    acknowledged: list[float] = field(default_factory=list)
    completed: list[float] = field(default_factory=list)
    matched: list[int] = field(default_factory=list)


# Each names something else each time: a key, a hundredth by tag, a tenth by the last digit of the key.
KINDS: dict[str, Callable[[int, int], dict[str, object]]] = {
    "url": lambda time, stored: {"urls": [f"http://bench.example/hit/tagged/{stored - 1 - time * 10}/1024"]},
    "tag": lambda time, stored: {"tags": [f"tag-{11 + time * 10}"]},
    "path": lambda time, stored: {"paths": [f"/hit/tagged/*{time}/1024"]},
    "everything": lambda time, stored: {"everything": True},
}


def costs(python: str, sizes: dict[int, int], cores: tuple[int, int]) -> list[Cost]:
    """``sizes``: how many objects are stored, and how often the cache is filled with so many."""
    cache = EdgerouterCache(servers.Edgerouter(python), MEMORY)
    found: list[Cost] = []
    with running(cache, cores) as (_, place):
        for stored, fills in sizes.items():
            of = {kind: Cost(stored, kind) for kind in KINDS}
            for _ in range(fills):
                stage.fill(cache.server.port, range(stored), place, cores[1], kind="tagged")
                desk = Desk(cache.admin)
                for kind, order in KINDS.items():
                    for number in range(1 if kind == "everything" else TIMES):
                        acknowledged, completed, matched = desk.purge(order(number, stored))
                        of[kind].acknowledged.append(acknowledged)
                        of[kind].completed.append(completed)
                        of[kind].matched.append(matched)
                        if not matched:
                            raise BenchError(f"a purge by {kind} matched nothing of {stored}")
            found += of.values()
    return found


@dataclass
class Latency:
    """Hits with all threads of the server where ``placement`` says; µs by round."""

    placement: str
    rate: float
    quiet: list[generator.Load] = field(default_factory=list)
    purging: list[generator.Load] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    matched: list[int] = field(default_factory=list)


def latency(python: str, stored: int, rounds: int, cores: tuple[int, int]) -> list[Latency]:
    """Each round fills the cache once for each placement."""
    cache = EdgerouterCache(servers.Edgerouter(python), MEMORY)
    paced = servers.compile_c("paced")
    found = []
    with running(cache, cores) as (child, place):
        port = cache.server.port
        stage.fill(port, range(HOT), place, cores[1])
        worker, rate = isolation.find_worker(child, port, cores[1], "/hit/sized/1/1024", SHARE)
        for placement, other in (("on the worker's core", cores[0]), ("on the other core", cores[1])):
            seen = Latency(placement, rate)
            for _ in range(rounds):
                stage.fill(port, range(stored), place, cores[1], kind="tagged")
                isolation.place(child, worker, cores[0], other)
                asked, _ = stage.origin_counts(place.origin)
                desk = Desk(cache.admin)
                with load(paced, port, rate, cores[1]) as (generating, loads):
                    time.sleep(0.3)
                    generating.send_signal(signal.SIGUSR1)
                    time.sleep(0.5)
                seen.quiet.append(loads[0])
                with load(paced, port, rate, cores[1]) as (generating, loads):
                    time.sleep(0.3)
                    generating.send_signal(signal.SIGUSR1)
                    started = time.perf_counter()
                    purge = desk.ask("POST", "/v1/purges", {"paths": ["/hit/tagged/*"]})
                    purge, took = desk.completed(purge["id"], started, 0.005)
                seen.purging.append(loads[0])
                seen.took.append(took)
                seen.matched.append(purge["matched"]["objects"])
                if seen.matched[-1] != stored:
                    raise BenchError(f"the purge matched {seen.matched[-1]} of {stored}")
                if stage.origin_counts(place.origin)[0] != asked:
                    raise BenchError("not every request was a hit while the purge ran")
            found.append(seen)
    return found


@contextmanager
def load(
    program: object, port: int, rate: float, core: int
) -> Iterator[tuple[subprocess.Popen[str], list[generator.Load]]]:
    """Hits until the block ends; then the list has what was measured since the last SIGUSR1."""
    command = [str(program), str(port), "/hit/sized/%/1024", f"{rate:.0f}", f"{PATIENCE:g}", "64", str(HOT)]
    if isolation.may_be_realtime():
        command = ["chrt", "-f", "1", *command]
    loads: list[generator.Load] = []
    with subprocess.Popen(pinned(core, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, loads
            process.terminate()
            out, err = process.communicate(timeout=30)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise BenchError(f"paced: {err.strip() or out.strip()}")
    loads.append(generator.read_paced(out))


def cost_table(found: Sequence[Cost]) -> list[str]:
    lines = [
        "### purges: cost by what they name and by what is stored",
        "",
        "| stored | purge of | objects matched | acknowledged, ms | completed, ms |",
        "|---|---|---|---|---|",
    ]
    for cost in found:
        acknowledged = spread([1e3 * s for s in cost.acknowledged], ".2f")
        completed = spread([1e3 * s for s in cost.completed], ",.1f")
        matched = f"{statistics.median(cost.matched):,.0f}"
        lines.append(f"| {cost.stored:,} | {cost.kind} | {matched} | {acknowledged} | {completed} |")
    return [*lines, ""]


def latency_table(found: Sequence[Latency]) -> list[str]:
    lines = [f"### hits while {found[0].matched[0]:,} objects are purged", ""]
    lines += [
        "| the purge's thread | hits/s | | p50, µs | p99, µs | p99.9, µs | purge took, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for seen in found:
        for name, loads in (("no purge", seen.quiet), ("purge", seen.purging)):
            cells = [spread([getattr(load, what) for load in loads]) for what in ("p50", "p99", "p999")]
            took = spread([1e3 * s for s in seen.took]) if name == "purge" else ""
            lines.append(f"| {seen.placement} | {seen.rate:,.0f} | {name} | {' | '.join(cells)} | {took} |")
    problems = {problem for seen in found for load in (*seen.quiet, *seen.purging) for problem in load.problems}
    return [*lines, "", *(f"- problem: {problem}" for problem in sorted(problems)), ""]
