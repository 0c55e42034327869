"""CPU a request while something grows: ``python -m benchmarks.scaling [WORK …] [--rounds N] [--seconds S]``.

Each work compares two states of the edge, in turn within one run: workers, routes, redirects, hosts, stored objects,
connections. A ratio near 1.0 says that a request costs the same in both. CPU is user and system time of the process.
The raw limit (``raw.c``) has the kernel's part of many connections only.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import generator, machine, servers
from benchmarks.processes import BenchError, Child, exit_status, family, free_port, threads

APP = """
import os
from edgerouter import Edge

edge = Edge("scaling")
origin = edge.origin("origin", f"http://127.0.0.1:{os.environ['BENCH_ORIGIN']}")
for number in range(int(os.environ["BENCH_ROUTES"])):
    edge.route(f"/section{number}/*", to=origin)
for number in range(int(os.environ["BENCH_REDIRECTS"])):
    edge.route(f"/old{number}", redirect=f"/new{number}")
for number in range(int(os.environ["BENCH_HOSTS"])):
    edge.route(f"site{number}.example/*", to=origin)
edge.route("/*", to=origin)
"""


@dataclass(frozen=True)
class State:
    """One side of a comparison."""

    workers: int = 1
    routes: int = 0
    redirects: int = 0
    hosts: int = 0
    objects: int = 1
    connections: int = 64
    host: str = "127.0.0.1"
    path: str = "/hit/1k"
    server: str = "edgerouter"


OBJECT = "/hit/sized/{:08}/1024"
FILLERS, PIPELINED = 16, 100
FEW = 1_000
VERSION = b"HTTP/1.1 "
WORKS = {
    "workers": ("1 and 2 workers", State(), State(workers=2)),
    "routes": (
        "1 and 10,000 routes",
        State(routes=1, path="/section0/1k"),
        State(routes=10_000, path="/section7777/1k"),
    ),
    "redirects": (
        "1 and 100,000 redirects",
        State(redirects=1, path="/old0"),
        State(redirects=100_000, path="/old77777"),
    ),
    "hosts": (
        "1 and 10,000 hosts",
        State(hosts=1, host="site0.example"),
        State(hosts=10_000, host="site7777.example"),
    ),
    "objects": ("1,000 and 1,000,000 objects", State(objects=1_000), State(objects=1_000_000)),
    "connections": ("64 and 10,000 connections", State(), State(connections=10_000)),
    "raw-connections": (
        "the same, the raw limit",
        State(server="raw"),
        State(server="raw", connections=10_000),
    ),
}


class Scaled(servers.Edgerouter):
    """The edge in one of the states."""

    def __init__(self, python: str, state: State, name: str) -> None:
        super().__init__(python)
        self.state = state
        self.name = name

    def child(self, place: servers.Place) -> Child:
        app = place.scratch / "app.py"
        app.write_text(APP)
        command = [self.python, "-m", "edgerouter", "run", str(app), "--listen", f"127.0.0.1:{self.port}"]
        command += ["--workers", str(self.state.workers), "--memory-cache-size", "4GiB"]
        counts = {name: str(getattr(self.state, name)) for name in ("routes", "redirects", "hosts")}
        environment = {f"BENCH_{name.upper()}": count for name, count in counts.items()}
        return self._child(place, command, {"BENCH_ORIGIN": str(place.origin), **environment})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the release wheel")
    options = parser.parse_args(arguments)
    return exit_status(lambda: bench(options))


def bench(options: argparse.Namespace) -> int:
    machine.prepare()
    print("| | µs a request | then | ratio | lowest and highest ratio of a round |\n|---|---|---|---|---|")
    for name in options.works or WORKS:
        title, *states = WORKS[name]
        print(compare(title, states, options), flush=True)
    return 0


def compare(title: str, states: Sequence[State], options: argparse.Namespace) -> str:
    """The line of one work."""
    spent: list[list[float]] = [[] for _ in states]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scaling-")))
        port = free_port()
        program = [str(servers.compile_c("origin")), str(port)]
        origin = stack.enter_context(Child("origin", program, 1, scratch / "origin.log"))
        origin.wait_until_listening(port)
        started: list[tuple[servers.Server, Child, State]] = []
        for index, state in enumerate(states):
            server: servers.Server = Scaled(options.python, state, f"edge{index}")
            if state.server == "raw":
                server = servers.Raw(servers.compile_c("raw"))
            if server.missing:
                raise BenchError(server.missing)
            child = stack.enter_context(server.child(servers.Place(0, scratch, port, "")))
            child.wait_until_listening(server.port, 120)
            if state.workers > 1:
                spread(child)
            fill(server.port, state)
            started.append((server, child, state))
        for _ in range(options.rounds):
            for (server, child, state), of_state in zip(started, spent, strict=True):
                of_state.append(micros(server, child, state, options.seconds, scratch))
    first, last = (statistics.median(of_state) for of_state in spent)
    ratios = [then / before for before, then in zip(*spent, strict=True)]
    ratio = statistics.median(ratios)
    return f"| {title} | {first:.2f} | {last:.2f} | {ratio:.2f} | {min(ratios):.2f}–{max(ratios):.2f} |"


def spread(child: Child) -> None:
    """Lets the workers run on both cores; the generator shares one of them."""
    for pid in family(child.pid):
        for thread in threads(pid):
            os.sched_setaffinity(thread, {0, 1})


def paths(state: State) -> list[str]:
    return [state.path] if state.objects == 1 else [OBJECT.format(number) for number in range(state.objects)]


def fill(port: int, state: State) -> None:
    """Requests every path of the state once, over some connections, a hundred at a time on each."""
    wanted = paths(state)
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(FILLERS)
        ]
        for at in range(0, len(wanted), FILLERS * PIPELINED):
            parts = [
                (connection, wanted[start : start + PIPELINED])
                for connection, start in zip(connections, range(at, len(wanted), PIPELINED), strict=False)
            ]
            for connection, part in parts:
                lines = (f"GET {path} HTTP/1.1\r\nHost: {state.host}\r\n\r\n" for path in part)
                connection.sendall("".join(lines).encode())
            for connection, part in parts:
                receive(connection, len(part), b"HTTP/1.1 3" if "/old" in state.path else b"HTTP/1.1 200")


def receive(connection: socket.socket, responses: int, status: bytes) -> None:
    """Reads as many status lines, all of which must have one status. Bytes after the last are left or dropped."""
    received = bytearray()
    while received.count(VERSION) < responses or len(received) < received.rfind(VERSION) + len(status):
        if not (got := connection.recv(1 << 18)):
            raise BenchError(f"the edge closed the connection after {received.count(VERSION)} of {responses} responses")
        received += got
    if (right := received.count(status)) != responses:
        raise BenchError(f"{responses - right} of {responses} responses are not {status.decode()}")


SCRIPT = """
local number = 0
request = function()
    number = (number + 7919) % {objects}
    return wrk.format("GET", string.format("/hit/sized/%08d/1024", number))
end
"""


def micros(server: servers.Server, child: Child, state: State, seconds: float, scratch: Path) -> float:
    """CPU of the server a request, in µs."""
    script = None
    if state.objects > 1:
        script = scratch / f"{server.name}.lua"
        script.write_text(SCRIPT.format(objects=state.objects))

    def spent(seconds: float) -> tuple[float, int]:
        before = child.cpu_seconds()
        load = generator.wrk(1, server.port, state.path, seconds, {"Host": state.host}, state.connections, script)
        wrong = [problem for problem in load.problems if "Non-2xx" not in problem or "/old" not in state.path]
        if wrong:
            raise BenchError(f"{server.name}: {'; '.join(wrong)}")
        return child.cpu_seconds() - before, load.requests

    if state.connections <= FEW:
        cpu, requests = spent(seconds)
        return cpu / requests * 1e6
    # Thousands of connections take seconds to open, and CPU: it is in both of two loads, and not in their difference.
    opening = state.connections / 2_500
    shorter, longer = spent(opening), spent(opening + seconds)
    return (longer[0] - shorter[0]) / (longer[1] - shorter[1]) * 1e6


if __name__ == "__main__":
    sys.exit(main())
