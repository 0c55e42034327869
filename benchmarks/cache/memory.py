"""Memory of objects beyond their bytes, and the bounds of both tiers under churn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import servers, works
from benchmarks.cache import stage, traces
from benchmarks.cache.peers import EdgerouterCache, resident
from benchmarks.cache.stage import running, spread
from benchmarks.processes import BenchError

SIZE = 1024
LIMIT = 300
SEED = 7
TURNOVERS = 6  # times that the bytes of the bound pass through the cache


@dataclass(frozen=True)
class Memory:
    """Bytes per object beyond its body: by the growth of resident memory, and by the cache's own account."""

    entries: int
    resident: float
    accounted: float

    @property
    def error(self) -> float:
        """By how much the account is below (positive) or above what the process really holds."""
        return (self.resident - self.accounted) / (self.accounted + SIZE)


def measure(python: str, entries: int, cores: tuple[int, int]) -> Memory:
    cache = EdgerouterCache(servers.Edgerouter(python), 8 << 30)
    port = cache.server.port
    with running(cache, cores) as (child, place):
        # Buffers, pools and the first pages of everything.
        stage.fill(port, range(50_000_000, 50_010_000), place, cores[1])
        before, first, accounted = resident(child), cache.metric("edgerouter_cache_entries"), cache.held(child, place)
        stage.fill(port, range(1, 1 + entries), place, cores[1])
        after, last = resident(child), cache.metric("edgerouter_cache_entries")
        accounted = cache.held(child, place) - accounted
    stored = last - first
    if stored < entries:
        raise BenchError(f"{stored} of {entries} objects were stored")
    return Memory(stored, (after - before) / stored - SIZE, accounted / stored - SIZE)


@dataclass
class Bound:
    """Of one tier while objects of all sizes come and go: its fill in % of the bound, looked at all the time once it is
    full, and by how many bytes resident memory is larger than before the first object."""

    tier: str
    limit: int
    objects: int = 0
    fill: list[float] = field(default_factory=list)
    grown: list[int] = field(default_factory=list)


def bounds(python: str, limits: Sequence[int], disk: int, folder: Path, cores: tuple[int, int]) -> list[Bound]:
    found = []
    for limit in limits:
        cache = EdgerouterCache(servers.Edgerouter(python), limit)
        bound = Bound("memory", limit)
        churn(cache, bound, partial(cache.metric, "edgerouter_cache_bytes"), cores)
        found.append(bound)
    path = folder / "bound"
    cache = EdgerouterCache(servers.Edgerouter(python), 32 << 20, disk=path, disk_bytes=disk)
    bound = Bound("disk", disk)
    churn(cache, bound, lambda: sum(file.stat().st_size for file in files(path)), cores)
    bound.grown = []
    found.append(bound)
    return found


def files(path: Path) -> list[Path]:
    return [file for file in path.glob("*.*") if file.suffix in (".seg", ".idx")]


def churn(cache: EdgerouterCache, bound: Bound, held: Callable[[], int], cores: tuple[int, int]) -> None:
    """New objects, none of which is requested again, in rounds of as many as fill the bound."""
    mean = sum(traces.size_of(key, SEED) for key in range(2000)) // 2000
    each = bound.limit // mean
    port = cache.server.port
    with running(cache, cores) as (child, place):
        works.get(port, "/hit/sized/0/1", {})
        empty = resident(child)
        for turn in range(TURNOVERS):
            keys = range(1 + turn * each, 1 + (turn + 1) * each)
            trace = [(key, traces.size_of(key, SEED)) for key in keys]
            with watching(held, bound.fill, bound.limit) if turn > 1 else watching(held, [], bound.limit):
                stage.replay(port, trace, place, cores[1])
            bound.objects += len(trace)
            if turn > 1:
                bound.grown.append(resident(child) - empty)


class watching:  # noqa: N801
    """Looks again and again until the block ends."""

    def __init__(self, held: Callable[[], int], into: list[float], limit: int) -> None:
        self.held, self.into, self.limit = held, into, limit
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self) -> None:
        while not self.over.wait(0.02):
            try:
                self.into.append(100 * self.held() / self.limit)
            except (OSError, BenchError):  # a file that has just left
                continue

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def table(found: Memory) -> list[str]:
    return [
        f"### memory of {found.entries:,} objects of 1 KiB",
        "",
        "| beyond the body, bytes per object | |",
        "|---|---|",
        f"| by resident memory | {found.resident:.0f} |",
        f"| by the cache's own account | {found.accounted:.0f} |",
        f"| the account is off by | {found.error:+.1%} |",
        "",
    ]


def bounds_table(found: Sequence[Bound]) -> list[str]:
    lines = [
        f"### bounds, while {TURNOVERS} times their bytes pass through (median 4 KiB, at most 512 KiB)",
        "",
        "| tier | bound, MiB | objects | fill once full, % | growth of resident memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for bound in found:
        grown = spread([g / 2**20 for g in bound.grown]) if bound.grown else ""
        cells = [bound.tier, str(bound.limit >> 20), f"{bound.objects:,}", spread(bound.fill, ".1f"), grown]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]
