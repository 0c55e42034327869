"""Hit ratio and byte hit ratio on traces, beside what the known policies would reach.

A hit is a request that the origin did not see; the origin counts its answers and their bytes. The first request for an
object is a miss for everybody, so no policy reaches 100 %.
"""

from __future__ import annotations

import json
import struct
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers, works
from benchmarks.cache import policies, traces
from benchmarks.cache.peers import Cache, resident
from benchmarks.processes import BenchError, Child, free_port, pinned
from benchmarks.servers import Place

CONNECTIONS = 4
ATTEMPTS = 4


@dataclass(frozen=True)
class Ratio:
    """Of one server (or policy) on one trace, in percent; and the bytes that it held at the end."""

    who: str
    hits: float
    bytes: float
    held: int = 0
    grown: int = 0

    def __str__(self) -> str:
        return f"{self.hits:.1f} / {self.bytes:.1f}"


def on_trace(
    shape: traces.Shape, requests: int, capacity: int, caches: Sequence[Cache], cores: tuple[int, int]
) -> list[Ratio]:
    trace = traces.make(shape, requests)
    total = sum(size for _, size in trace)
    found = [replayed(cache, trace, total, cores) for cache in caches]
    for name, policy in policies.POLICIES.items():
        hits = policy(trace, capacity)
        found.append(Ratio(name, 100 * hits.requests / requests, 100 * hits.bytes / total, capacity))
    return found


def replayed(cache: Cache, trace: policies.Trace, total: int, cores: tuple[int, int]) -> Ratio:
    for _ in range(ATTEMPTS):
        ratio = replay(cache, trace, total, cores)
        if not cache.adjust(ratio.held):
            break
    return ratio


def replay(cache: Cache, trace: policies.Trace, total: int, cores: tuple[int, int]) -> Ratio:
    """One run from an empty cache."""
    with running(cache, cores) as (child, place):
        file = place.scratch / "trace"
        file.write_bytes(b"".join(struct.pack("<II", key, size) for key, size in trace))
        works.get(cache.server.port, "/hit/sized/0/1", {})
        empty = resident(child)
        asked, sent = origin_counts(place.origin)
        command = [str(servers.compile_c("cache/replay")), str(cache.server.port), str(file), str(CONNECTIONS)]
        done = subprocess.run(pinned(cores[1], command), capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise BenchError(f"replay against {cache.name}: {done.stderr.strip()}")
        seen = json.loads(done.stdout)
        if seen["wrong"]:
            raise BenchError(f"{cache.name} gave {seen['wrong']} wrong answers of {seen['requests']}")
        asked_after, sent_after = origin_counts(place.origin)
        hits = 1 - (asked_after - asked) / seen["requests"]
        hit_bytes = 1 - (sent_after - sent) / total
        return Ratio(cache.name, 100 * hits, 100 * hit_bytes, cache.held(child, place), resident(child) - empty)


def origin_counts(port: int) -> tuple[int, int]:
    answers, sent = works.get(port, "/counts", {}).body.split()
    return int(answers), int(sent)


class running:  # noqa: N801
    """The origin and one cache, listening; both stopped at the end."""

    def __init__(self, cache: Cache, cores: tuple[int, int]) -> None:
        self.cache = cache
        self.cores = cores
        self.stack = ExitStack()

    def __enter__(self) -> tuple[Child, Place]:
        with ExitStack() as stack:
            memory = Path("/dev/shm")
            parent = memory if memory.is_dir() else None
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-cache-", dir=parent)))
            scratch.chmod(0o755)
            port = free_port()
            command = [str(servers.compile_c("origin")), str(port)]
            origin = stack.enter_context(Child("origin", command, self.cores[1], scratch / "origin.log"))
            origin.wait_until_listening(port)
            place = Place(self.cores[0], scratch, port, "")
            child = stack.enter_context(self.cache.child(place))
            child.wait_until_listening(self.cache.server.port)
            self.stack = stack.pop_all()
        return child, place

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def table(found: dict[traces.Shape, list[Ratio]], capacity: int, requests: int) -> list[str]:
    """Rows are traces, columns who cached; each cell hit ratio / byte hit ratio."""
    names = [ratio.who for ratio in next(iter(found.values()))]
    lines = [
        f"### hit ratio / byte hit ratio in %, {requests:,} requests a trace, {capacity >> 20} MiB",
        "",
        "| trace | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for shape, ratios in found.items():
        lines.append(f"| {shape.name} | " + " | ".join(map(str, ratios)) + " |")

    def mean(of: Callable[[Ratio], float], at: int) -> float:
        return sum(of(ratios[at]) for ratios in found.values()) / len(found)

    means = [f"{mean(lambda r: r.hits, i):.1f} / {mean(lambda r: r.bytes, i):.1f}" for i in range(len(names))]
    lines.append("| **mean** | " + " | ".join(means) + " |")
    lines += [
        "",
        "Held at the end, and growth of resident memory, in MiB:",
        "",
        "| trace | " + " | ".join(name for name in names if name not in policies.POLICIES) + " |",
    ]
    lines.append("|---|" + "---|" * sum(name not in policies.POLICIES for name in names))
    for shape, ratios in found.items():
        cells = [f"{r.held / 2**20:.1f}, {r.grown / 2**20:.1f}" for r in ratios if r.who not in policies.POLICIES]
        lines.append(f"| {shape.name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- `{shape.name}`: {shape}" for shape in found), ""]
    return lines
