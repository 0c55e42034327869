"""Hit ratio and byte hit ratio on traces, beside what the known policies would reach.

A hit is a request that the origin did not see; the origin counts its answers and their bytes. The first request for an
object is a miss for everybody, so no policy reaches 100 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import works
from benchmarks.cache import policies, stage, traces
from benchmarks.cache.peers import Cache, resident
from benchmarks.cache.stage import origin_counts, running

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
        works.get(cache.server.port, "/hit/sized/0/1", {})
        empty = resident(child)
        asked, sent = origin_counts(place.origin)
        seen = stage.replay(cache.server.port, trace, place, cores[1])
        asked_after, sent_after = origin_counts(place.origin)
        hits = 1 - (asked_after - asked) / seen.requests
        hit_bytes = 1 - (sent_after - sent) / total
        return Ratio(cache.name, 100 * hits, 100 * hit_bytes, cache.held(child, place), resident(child) - empty)


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
