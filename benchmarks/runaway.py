"""The cost of functions that run away to everybody else: ``python -m benchmarks.runaway [CASE …] [--rounds N]``.

Hits of a stored page arrive at fixed times, in turns without and with one request to a bad function under way. Each
line has the medians of the 99th percentiles of both, the bad function's own answers, and those of a plain and of an
isolated function that were called meanwhile. A hit that is lost, or an answer that is not promised, fails the run.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import generator, machine, start
from benchmarks.processes import BenchError, exit_status, free_port
from benchmarks.servers import compile_c

APP = """
import ctypes
import os
import time

from edgerouter import CachePolicy, Edge, Isolation

edge = Edge("runaway")
APART = Isolation(processes=2, memory_bytes=128 << 20, cpu_seconds=1)


@edge.function("/page", cache=CachePolicy(ttl=3_600), varies=[])
def page(request, ctx):
    return "x" * 1_024


@edge.function("/plain")
def plain(request, ctx):
    return "plain"


@edge.function("/apart", isolation=APART)
def apart(request, ctx):
    return "apart"


@edge.function("/spins", timeout=1)
def spins(request, ctx):
    while True:
        pass


@edge.function("/spins-apart", isolation=APART, timeout=1)
def spins_apart(request, ctx):
    while True:
        pass


@edge.function("/exits", isolation=APART)
def exits(request, ctx):
    os._exit(3)


@edge.function("/segfaults", isolation=APART)
def segfaults(request, ctx):
    ctypes.string_at(1)


@edge.function("/loops-in-c", isolation=APART, timeout=30)
def loops_in_c(request, ctx):
    # With the interpreter's lock: no exception reaches it.
    sum(range(10**15))


@edge.function("/leaks", isolation=APART)
def leaks(request, ctx):
    kept = []
    while True:
        kept.append(bytearray(4 << 20))
        time.sleep(0.005)
"""
#: The page, and hits of it in a second.
PAGE, RATE = "/page", 2_000.0


@dataclass(frozen=True)
class Case:
    """A function that runs away, and the status that its calls are promised."""

    path: str
    what: str
    status: int


CASES = {
    "spins": Case("/spins", "an endless loop in the edge's process", 504),
    "spins-apart": Case("/spins-apart", "an endless loop in a process of its own", 504),
    "exits": Case("/exits", "os._exit", 502),
    "segfaults": Case("/segfaults", "a segmentation fault", 502),
    "loops-in-c": Case("/loops-in-c", "an endless loop in C with the interpreter's lock", 504),
    "leaks": Case("/leaks", "a leak", 502),
}


class Caller:
    """Keeps one request to a path under way until the block ends, and counts the statuses."""

    def __init__(self, port: int, path: str) -> None:
        self.port, self.path = port, path
        self.seen: Counter[int | str] = Counter()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("GET", self.path)
                response = connection.getresponse()
                response.read()
                self.seen[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.seen[type(error).__name__] += 1
                self.stop.wait(0.05)
            finally:
                connection.close()

    def __enter__(self) -> Caller:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(30)


class Visitor(Caller):
    """The same, with a pause after each request: for functions that should go on as before."""

    def run(self) -> None:
        while not self.stop.wait(0.02):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("GET", self.path)
                self.seen[connection.getresponse().status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.seen[type(error).__name__] += 1
            finally:
                connection.close()


@dataclass(frozen=True)
class Found:
    """Medians of the rounds in µs, and what was answered."""

    case: Case
    quiet: float
    during: float
    lost: int
    bad: Counter[int | str]
    plain: Counter[int | str]
    apart: Counter[int | str]

    @property
    def problems(self) -> list[str]:
        """The promises that were not kept."""
        found = []
        if set(self.bad) != {self.case.status}:
            found.append(f"{self.case.path} answered {shown(self.bad)}, not {self.case.status}")
        for name, seen in (("/plain", self.plain), ("/apart", self.apart)):
            if set(seen) - {200}:
                found.append(f"{name} answered {shown(seen)} beside {self.case.path}")
        if self.lost:
            found.append(f"{self.lost} hits were lost beside {self.case.path}")
        return found


def shown(seen: Counter[int | str]) -> str:
    return ", ".join(f"{count} × {status}" for status, count in seen.items()) or "nothing"


def measure(case: Case, port: int, program: Path, rounds: int, seconds: float) -> Found:
    """Rounds without and with the bad function, in turns."""
    p99s: dict[bool, list[float]] = {False: [], True: []}
    lost = 0
    bad, plain, apart = (Counter[int | str]() for _ in range(3))
    for _ in range(rounds):
        for runs_away in (False, True):
            with callers(port, case.path if runs_away else None) as made:
                load = generator.paced(program, 1, port, PAGE, RATE, seconds)
            p99s[runs_away].append(load.p99)
            if runs_away:
                lost += load.lost
                for total, caller in zip((bad, plain, apart), made, strict=True):
                    total.update(caller.seen)
    return Found(case, statistics.median(p99s[False]), statistics.median(p99s[True]), lost, bad, plain, apart)


@contextmanager
def callers(port: int, path: str | None) -> Iterator[list[Caller]]:
    """The request that runs away, if there is one, and the visitors of the other functions."""
    visitors: list[Caller] = [Visitor(port, "/plain"), Visitor(port, "/apart")]
    with visitors[0], visitors[1]:
        if path is None:
            yield visitors
            return
        with Caller(port, path) as bad:
            time.sleep(0.2)
            yield [bad, *visitors]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runaway", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"{unknown[0]}: there are {', '.join(CASES)}")

    def bench() -> int:
        program = compile_c("paced")
        print(" | ".join(machine.describe().values()))
        problems: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            app = Path(folder) / "app.py"
            app.write_text(APP)
            port = free_port()
            with start.serving(sys.executable, app, port) as process:
                lines = start.said(process)
                start.wait_for(lines, "http://")
                print(f"{'':50} {'p99 before':>11} {'during':>11}   answers of it; /plain; /apart")
                for name in given.cases or CASES:
                    found = measure(CASES[name], port, program, given.rounds, given.seconds)
                    answers = "; ".join(shown(seen) for seen in (found.bad, found.plain, found.apart))
                    print(f"{found.case.what:50} {found.quiet:8,.0f} µs {found.during:8,.0f} µs   {answers}")
                    problems += found.problems
                if process.poll() is not None:
                    raise BenchError(f"the edge ended with {process.returncode}")
        for problem in problems:
            print(problem, file=sys.stderr)
        return 1 if problems else 0

    return exit_status(bench)


if __name__ == "__main__":
    sys.exit(main())
