"""The cost of watching: ``python -m benchmarks.telemetry [--rounds N] [--seconds S]``.

Edges with more and more of it on answer the same cached hits in turn, round by round within one run: nothing, metrics
that are scraped, and an access log in JSON, and one in a hundred requests traced and sent by OTLP. Ratios compare each
round with that of the edge with nothing on. Counters cannot be switched off: the first edge has them and nobody reads
them. The whole process is on one core, the threads that write and send among it; the generator, the scrapes and the
receiver of traces are on another.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import os
import statistics
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import generator, machine, servers, works
from benchmarks.processes import BenchError, Child, exit_status, free_port

EDGE_CORE, GENERATOR_CORE = 0, 1
PATH = "/hit/1k"
#: Throughput with everything on is to be at least this share of that with nothing on.
TARGET = 0.95
SCRAPE_EVERY = 5.0
#: A round is measured again if the host took more than this share of a core from it, at most so many times.
STOLEN, TRIES = 0.02, 3

APP = """
import os
from edgerouter import Edge, Tracing

endpoint = os.environ.get("BENCH_TRACES")
edge = Edge("telemetry", tracing=Tracing(endpoint=endpoint, ratio=0.01, keep_errors=False) if endpoint else None)
edge.route("/*", to=edge.origin("origin", f"http://127.0.0.1:{os.environ['BENCH_ORIGIN']}"))
"""


@dataclass(frozen=True)
class State:
    """The parts that are on."""

    title: str
    metrics: bool = False
    log: bool = False
    traces: bool = False


STATES = (
    State("nothing"),
    State("metrics, scraped every 5 s", metrics=True),
    State("… and the access log, JSON", metrics=True, log=True),
    State("… and 1 % of traces, sent", metrics=True, log=True, traces=True),
)


class Watched(servers.Edgerouter):
    """The edge in one of the states."""

    def __init__(self, python: str, state: State, number: int, receiver: int) -> None:
        super().__init__(python)
        self.state = state
        self.name = f"edge{number}"
        self.receiver = receiver
        self.admin = free_port()

    def log(self, place: servers.Place) -> Path:
        return place.scratch / f"{self.name}.access"

    def child(self, place: servers.Place) -> Child:
        app = place.scratch / "app.py"
        app.write_text(APP)
        command = [self.python, "-m", "edgerouter", "run", str(app), "--listen", f"127.0.0.1:{self.port}"]
        command += ["--workers", "1"]
        if self.state.metrics:
            command += ["--admin", f"127.0.0.1:{self.admin}"]
        if self.state.log:
            command += ["--access-log", str(self.log(place)), "--access-log-format", "json"]
        environment = {"BENCH_ORIGIN": str(place.origin)}
        if self.state.traces:
            environment["BENCH_TRACES"] = f"http://127.0.0.1:{self.receiver}"
        return self._child(place, command, environment)


class Receiver:
    """Takes traces and drops them; ``requests`` and ``bytes`` prove that some came."""

    def __init__(self) -> None:
        self.requests = self.bytes = 0
        receiver = self

        class Taker(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                receiver.bytes += len(self.rfile.read(length))
                receiver.requests += 1
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taker)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])


class Scraper:
    """Reads the metrics of an edge at fixed times until the block ends."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._scrape, daemon=True)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _scrape(self) -> None:
        while True:
            scrape(self.port)
            if self._end.wait(SCRAPE_EVERY):
                return


def scrape(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@dataclass(frozen=True)
class Round:
    per_second: float
    micros: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.telemetry", description=(__doc__ or "").split("\n\n", maxsplit=1)[1]
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the release wheel")
    parser.add_argument("--enforce", action="store_true", help="exit 1 if the target is missed")
    options = parser.parse_args(arguments)
    return exit_status(lambda: bench(options))


def bench(options: argparse.Namespace) -> int:
    machine.prepare()
    rounds = measured(options)
    lines, ratio = table(rounds)
    print("\n".join(lines))
    met = ratio >= TARGET
    print(f"\nthroughput with all of it on: {ratio:.3f} of that with nothing on (target: at least {TARGET:g})")
    return 0 if met or not options.enforce else 1


def table(rounds: Sequence[Sequence[Round]]) -> tuple[list[str], float]:
    """The lines, and the median ratio of the throughput with everything on."""
    lines = [
        "| on | hits/s | ratio, lowest and highest of a round | CPU µs a hit | ratio, lowest and highest |",
        "|---|---:|---:|---:|---:|",
    ]
    last = 1.0
    for state, own in zip(STATES, rounds, strict=True):
        pairs = list(zip(own, rounds[0], strict=True))
        speed = [one.per_second / base.per_second for one, base in pairs]
        cost = [one.micros / base.micros for one, base in pairs]
        last = statistics.median(speed)
        lines.append(
            f"| {state.title} | {statistics.median(one.per_second for one in own):,.0f}"
            f" | {last:.3f} ({min(speed):.3f}–{max(speed):.3f})"
            f" | {statistics.median(one.micros for one in own):.2f}"
            f" | {statistics.median(cost):.3f} ({min(cost):.3f}–{max(cost):.3f}) |"
        )
    return lines, last


def measured(options: argparse.Namespace) -> list[list[Round]]:
    """The rounds of each state."""
    rounds: list[list[Round]] = [[] for _ in STATES]
    with ExitStack() as stack:
        # The harness must not disturb the edge.
        os.sched_setaffinity(0, {GENERATOR_CORE})
        stack.callback(os.sched_setaffinity, 0, {EDGE_CORE, GENERATOR_CORE})
        shared_memory = Path("/dev/shm")
        base = shared_memory if shared_memory.is_dir() else None
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemetry-", dir=base)))
        port = free_port()
        program = [str(servers.compile_c("origin")), str(port)]
        origin = stack.enter_context(Child("origin", program, GENERATOR_CORE, scratch / "origin.log"))
        origin.wait_until_listening(port)
        receiver = Receiver()
        place = servers.Place(EDGE_CORE, scratch, port, "")
        started: list[tuple[Watched, Child]] = []
        for number, state in enumerate(STATES):
            edge = Watched(options.python, state, number, receiver.port)
            if edge.missing:
                raise BenchError(edge.missing)
            child = stack.enter_context(edge.child(place))
            child.wait_until_listening(edge.port)
            for _ in range(2):
                works.body_is(works.BODY_1K)(works.get(edge.port, PATH, {}))
            started.append((edge, child))
        for _ in range(options.rounds):
            for (edge, child), of_state in zip(started, rounds, strict=True):
                of_state.append(one_round(edge, child, options.seconds))
                # A log of gigabytes would fill the memory in which it is.
                if edge.state.log:
                    with suppress(OSError):
                        os.truncate(edge.log(place), 0)
        prove(started, receiver)
    return rounds


def one_round(edge: Watched, child: Child, seconds: float) -> Round:
    for attempt in range(TRIES):
        stolen = machine.stolen_seconds(EDGE_CORE)
        with Scraper(edge.admin) if edge.state.metrics else ExitStack():
            before = child.cpu_seconds()
            load = generator.wrk(GENERATOR_CORE, edge.port, PATH, seconds, {})
            spent = child.cpu_seconds() - before
        if load.problems:
            raise BenchError(f"{edge.name}: {'; '.join(load.problems)}")
        if machine.stolen_seconds(EDGE_CORE) - stolen <= STOLEN * seconds or attempt == TRIES - 1:
            break
    return Round(load.per_second, spent / load.requests * 1e6)


def prove(started: Sequence[tuple[Watched, Child]], receiver: Receiver) -> None:
    """Everything that was on has done its work."""
    for edge, _ in started:
        if not edge.state.metrics:
            continue
        text = scrape(edge.admin)
        names = ("edgerouter_log_dropped_total{", "edgerouter_trace_dropped")
        dropped = [line for line in text.splitlines() if line.startswith(names) and not line.endswith(" 0")]
        if dropped:
            print(f"problem: {edge.state.title}: {'; '.join(dropped)}", file=sys.stderr)
    if not receiver.requests:
        raise BenchError("no trace came to the receiver")
    print(f"traces: {receiver.requests:,} requests with {receiver.bytes:,} bytes")


if __name__ == "__main__":
    raise SystemExit(main())
