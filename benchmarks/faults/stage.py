"""The ground of all faults: an origin and an edge that run, what the edge says of itself, and clients by hand."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import BenchError, Child, free_port, threads

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Machine:
    """``python`` has edgerouter; the edge runs on the first core, the origin and the generator on the second."""

    python: str
    cores: tuple[int, int]


@dataclass
class Edge:
    child: Child
    port: int
    admin: int
    origin: Child
    origin_port: int

    def resident(self, which: str = "VmRSS") -> int:
        """Bytes; ``VmHWM`` is the most that it ever was."""
        found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{self.child.pid}/status").read_text())
        if not found:
            raise BenchError(f"/proc says nothing of {which}")
        return int(found[1]) << 10

    def threads(self) -> int:
        return len(threads(self.child.pid))

    def metric(self, name: str) -> float:
        """The sum over all labels that ``name``, a regular expression, lets open."""
        status, text = get(self.admin, "/metrics")
        if status != 200:
            raise BenchError(f"/metrics answered {status}")
        lines = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.MULTILINE)
        return sum(float(line) for line in lines)

    def asked(self, part: str) -> int:
        """Requests for this first part of the path that reached the origin."""
        found: int = json.loads(get(self.origin_port, "/counts")[1]).get(part, 0)
        return found


class running:  # noqa: N801
    """An origin and an edge in front of it, listening; both stopped at the end."""

    def __init__(
        self,
        machine: Machine,
        *,
        workers: int = 1,
        arguments: list[str] | None = None,
        environment: Mapping[str, str] | None = None,
        output: int | None = None,
        origin_host: str = "127.0.0.1",
    ) -> None:
        self.machine = machine
        self.workers = workers
        self.arguments = arguments or []
        self.environment = environment or {}
        self.output = output
        self.origin_host = origin_host
        self.stack = ExitStack()

    def __enter__(self) -> Edge:
        core, other = self.machine.cores
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-faults-")))
            origin_port, port, admin = free_port(), free_port(), free_port()
            command = [sys.executable, str(HERE / "origin.py"), str(origin_port)]
            origin = stack.enter_context(Child("origin", command, other, scratch / "origin.log"))
            origin.wait_until_listening(origin_port)
            command = [self.machine.python, "-m", "edgerouter", "run", str(HERE / "app.py")]
            command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
            command += ["--workers", str(self.workers), *self.arguments]
            url = f"http://{self.origin_host}:{origin_port}"
            environment = {"FAULTS_ORIGIN": url, **self.environment}
            child = stack.enter_context(
                Child("edgerouter", command, core, scratch / "edge.log", environment, self.output)
            )
            child.wait_until_listening(port)
            self.stack = stack.pop_all()
        return Edge(child, port, admin, origin, origin_port)

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def get(port: int, path: str, patience: float = 30.0) -> tuple[int, bytes]:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def must(port: int, path: str) -> bytes:
    status, body = get(port, path)
    if status != 200:
        raise BenchError(f"{path} answered {status}: {body[:200]!r}")
    return body


def send(port: int, path: str, window: int = 0) -> socket.socket:
    """A client that has sent a request and reads nothing; with ``window`` its kernel takes no more than about that."""
    client = socket.socket()
    try:
        if window:  # before the connection is made: its first segment says so
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.settimeout(20)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: faults.example\r\n\r\n".encode())
    except BaseException:
        client.close()
        raise
    return client


def wait_until(true: Callable[[], bool], patience: float, what: str, pause: float = 0.01) -> float:
    """Seconds until ``true`` was."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > patience:
            raise BenchError(f"waited {patience:g} s for {what}")
        time.sleep(pause)
    return time.monotonic() - started


def allow_many_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))


def is_root() -> bool:
    return os.geteuid() == 0
