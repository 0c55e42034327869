"""Parts of every workload: an origin and a cache that run, requests that fill it, and figures with their spread."""

from __future__ import annotations

import json
import statistics
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers, works
from benchmarks.cache.peers import Cache
from benchmarks.processes import BenchError, Child, free_port, pinned
from benchmarks.servers import Place

CONNECTIONS = 4
FILLING = 32
Trace = Sequence[tuple[int, int]]


class running:  # noqa: N801
    """The origin and one cache, listening; both stopped at the end."""

    def __init__(self, cache: Cache, cores: tuple[int, int]) -> None:
        self.cache = cache
        self.cores = cores
        self.stack = ExitStack()

    def __enter__(self) -> tuple[Child, Place]:
        with ExitStack() as stack:
            place = stack.enter_context(origin(self.cores))
            child = stack.enter_context(self.cache.child(place))
            child.wait_until_listening(self.cache.server.port)
            self.stack = stack.pop_all()
        return child, place

    def __exit__(self, *_: object) -> None:
        self.stack.close()


class origin:  # noqa: N801
    """The origin alone, and the scratch directory; for works that start and stop the cache themselves."""

    def __init__(self, cores: tuple[int, int]) -> None:
        self.cores = cores
        self.stack = ExitStack()

    def __enter__(self) -> Place:
        with ExitStack() as stack:
            memory = Path("/dev/shm")
            parent = memory if memory.is_dir() else None
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-cache-", dir=parent)))
            scratch.chmod(0o755)
            port = free_port()
            command = [str(servers.compile_c("origin")), str(port)]
            child = stack.enter_context(Child("origin", command, self.cores[1], scratch / "origin.log"))
            child.wait_until_listening(port)
            self.stack = stack.pop_all()
        return Place(self.cores[0], scratch, port, "")

    def __exit__(self, *_: object) -> None:
        self.stack.close()


@dataclass(frozen=True)
class Replay:
    """The client's observations; latencies in µs."""

    requests: int
    wrong: int
    seconds: float
    p50: int
    p99: int
    p999: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def replay(
    port: int, trace: Trace, place: Place, core: int, connections: int = CONNECTIONS, kind: str = "sized"
) -> Replay:
    """Every request of the trace, each answered rightly."""
    done = subprocess.run(
        replay_command(port, trace, place, core, connections, kind),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"replay: {done.stderr.strip()}")
    seen = json.loads(done.stdout)
    found = Replay(*(seen[name] for name in ("requests", "wrong", "seconds", "p50", "p99", "p999")))
    if found.wrong:
        raise BenchError(f"{found.wrong} of {found.requests} answers were wrong")
    return found


def replay_command(
    port: int, trace: Trace, place: Place, core: int, connections: int = CONNECTIONS, kind: str = "sized"
) -> list[str]:
    file = place.scratch / "trace"
    file.write_bytes(b"".join(struct.pack("<II", key, size) for key, size in trace))
    return pinned(core, [str(servers.compile_c("cache/replay")), str(port), str(file), str(connections), kind])


def fill(port: int, keys: Iterable[int], place: Place, core: int, size: int = 1024, kind: str = "sized") -> Replay:
    """Stores an object under each key; done when the last one can be looked up."""
    found = replay(port, [(key, size) for key in keys], place, core, FILLING, kind)
    works.get(port, "/hit/sized/0/1", {})
    return found


def origin_counts(port: int) -> tuple[int, int]:
    """Requests that it answered, and bytes that it sent."""
    answers, sent = works.get(port, "/counts", {}).body.split()
    return int(answers), int(sent)


def spread(figures: Sequence[float], form: str = ",.0f") -> str:
    """The median, and from where to where the figures go."""
    middle = format(statistics.median(figures), form)
    if len(figures) < 2:
        return middle
    return f"{middle} ({min(figures):{form}}–{max(figures):{form}})"
