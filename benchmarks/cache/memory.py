"""What an object of 1 KiB takes in memory beyond its kilobyte."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import dataclass

from benchmarks import servers, works
from benchmarks.cache.hit_ratio import CONNECTIONS, running
from benchmarks.cache.peers import EdgerouterCache, resident
from benchmarks.processes import BenchError, pinned

SIZE = 1024


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
    with running(cache, cores) as (child, place):
        fill(cache.server.port, 10_000, 50_000_000, place, cores)  # buffers, pools and the first pages of everything
        before, first, accounted = resident(child), cache.metric("edgerouter_cache_entries"), cache.held(child, place)
        fill(cache.server.port, entries, 1, place, cores)
        after, last = resident(child), cache.metric("edgerouter_cache_entries")
        accounted = cache.held(child, place) - accounted
    stored = last - first
    if stored < entries:
        raise BenchError(f"{stored} of {entries} objects were stored")
    return Memory(stored, (after - before) / stored - SIZE, accounted / stored - SIZE)


def fill(port: int, entries: int, first: int, place: servers.Place, cores: tuple[int, int], size: int = SIZE) -> None:
    file = place.scratch / "fill"
    file.write_bytes(b"".join(struct.pack("<II", key, size) for key in range(first, first + entries)))
    command = [str(servers.compile_c("cache/replay")), str(port), str(file), str(CONNECTIONS)]
    done = subprocess.run(pinned(cores[1], command), capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode != 0 or json.loads(done.stdout)["wrong"]:
        raise BenchError(f"filling the cache: {done.stderr.strip() or done.stdout.strip()}")
    file.unlink()
    works.get(port, "/hit/sized/0/1", {})


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
