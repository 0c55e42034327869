"""P6: what visitors of cached pages notice while a Python function holds the interpreter.

Hits arrive at 70 % of the rate that the worker can serve, at fixed times, with and without a request to ``/spin`` in
flight. Twice: with everything on the worker's core, where the function also competes for the CPU itself, and with
every thread but the worker on the generator's core, where only the engine's own design can let a spinning interpreter
delay a hit. The generator is then given real-time priority, so that what it measures is the server.
"""

from __future__ import annotations

import http.client
import os
import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import generator, machine
from benchmarks.processes import BenchError, Child, threads

PATH = "/hit/1k"
SHARE = 0.7
LIMIT = 1.5
NOISY_P99 = 20_000.0  # µs without a spinning function: such a machine can't show what the function adds
STOLEN = 0.02  # a round is repeated when the host took more than this share of a core


@dataclass(frozen=True)
class Isolation:
    """Medians of the rounds, in µs, and what went wrong."""

    placement: str
    per_second: float
    quiet_p50: float
    quiet_p99: float
    spinning_p50: float
    spinning_p99: float
    spins: int
    lost: int  # hits not answered in time while the function span: the p99 knows nothing of them
    problems: tuple[str, ...]

    @property
    def ratio(self) -> float:
        return self.spinning_p99 / self.quiet_p99 if self.quiet_p99 else float("inf")

    @property
    def within(self) -> bool | None:
        """True if P6 is met; None when the quiet rounds were not quiet enough for an answer."""
        return None if self.quiet_p99 > NOISY_P99 else self.ratio <= LIMIT and not self.lost


class Spinner:
    """Keeps one request to ``/spin`` in flight until the block ends; ``spun`` counts those that ran to their end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.started = 0
        self.spun = 0
        self.failure = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)

    def __enter__(self) -> Spinner:
        self._thread.start()
        deadline = time.monotonic() + 2
        while not self.started and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)

    def _spin(self) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=14)
            try:
                connection.request("GET", "/spin")
                self.started += 1
                response = connection.getresponse()
                response.read()
                if response.status == 200:
                    self.spun += 1
                else:
                    self.failure = f"/spin answered {response.status}"
                    self._stop.wait(0.05)
            except (OSError, http.client.HTTPException) as error:
                self.failure = f"/spin: {error!r}"
                self._stop.wait(0.05)
            finally:
                connection.close()


def measure(
    child: Child, port: int, program: Path, cores: tuple[int, int], rounds: int, seconds: float
) -> list[Isolation]:
    """Both placements, quiet and spinning rounds interleaved."""
    core, generator_core = cores
    worker, rate = find_worker(child, port, generator_core, PATH, SHARE)
    found = []
    for placement in ("all threads on the worker's core", "the function on another core"):
        apart = placement.startswith("the function")
        realtime = apart and may_be_realtime()
        seen: dict[bool, list[generator.Load]] = {False: [], True: []}
        problems: list[str] = []
        spins = lost = 0
        for _ in range(rounds):
            for spinning in (False, True):
                for _attempt in range(3):
                    stolen = sum(machine.stolen_seconds(each) for each in cores)
                    with Spinner(port) if spinning else _Nothing() as spinner:
                        place(child, worker, core, generator_core if apart else core)
                        load = generator.paced(program, generator_core, port, PATH, rate, seconds, realtime=realtime)
                        stolen = sum(machine.stolen_seconds(each) for each in cores) - stolen
                    if isinstance(spinner, Spinner):
                        spins += spinner.spun
                        if spinner.failure:
                            problems.append(spinner.failure)
                    if stolen <= STOLEN * seconds:
                        break
                seen[spinning].append(load)
                lost += load.lost if spinning else 0
                if load.problems and not spinning:
                    problems.append("noise: without a spinning function: " + "; ".join(load.problems))
        if not spins:
            problems.append("no request to /spin ran to its end")
        if apart and not realtime:
            problems.append("noise: no real-time priority for the generator (not root): its p99 includes waiting")
        middle = {
            (spinning, what): statistics.median(getattr(load, what) for load in loads)
            for spinning, loads in seen.items()
            for what in ("p50", "p99")
        }
        found.append(
            Isolation(
                placement,
                rate,
                middle[False, "p50"],
                middle[False, "p99"],
                middle[True, "p50"],
                middle[True, "p99"],
                spins,
                lost,
                tuple(dict.fromkeys(problems)),
            )
        )
    place(child, worker, core, core)
    return found


class _Nothing:
    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def find_worker(child: Child, port: int, generator_core: int, path: str, share: float) -> tuple[int, float]:
    """The thread that serves hits is the one that a burst of them keeps busy; and a share of what it can do."""
    pid = child.pid
    before = threads(pid)
    load = generator.wrk(generator_core, port, path, 2, {})
    spent = {thread: cpu - before.get(thread, 0.0) for thread, cpu in threads(pid).items()}
    if not spent:
        raise BenchError("the server has no threads")
    return max(spent, key=lambda thread: spent[thread]), load.per_second * share


def place(child: Child, worker: int, core: int, others: int) -> None:
    """Pins the worker to one core and every other thread to another."""
    for thread in threads(child.pid):
        try:
            os.sched_setaffinity(thread, {core if thread == worker else others})
        except ProcessLookupError:
            continue


def may_be_realtime() -> bool:
    return os.geteuid() == 0
