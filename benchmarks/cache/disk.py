"""Hits per second when the requested objects are four times as large as the memory of the server.

Every server runs in a memory control group of so many bytes, into which the page cache of its files counts, and keeps
its cache on the same file system. All objects are stored before; every one is as likely to be requested, which is the
worst case for memory.
"""

from __future__ import annotations

import random
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import servers, works
from benchmarks.cache import stage
from benchmarks.cache.bounded import MemoryBound
from benchmarks.cache.peers import Cache, EdgerouterCache
from benchmarks.cache.stage import spread
from benchmarks.processes import BenchError, Child
from benchmarks.servers import Place

SIZE = 16 << 10
TIMES = 4
CONNECTIONS = 32


@dataclass
class Nginx(Cache):
    """``proxy_cache`` on disk; ``aio``: reads on threads of their own."""

    folder: Path
    aio: bool = False

    @property
    def name(self) -> str:
        return "nginx, aio threads" if self.aio else "nginx"

    def child(self, place: Place) -> Child:
        home = place.scratch / "nginx"
        home.mkdir(exist_ok=True)
        text = servers.Nginx().configuration(place, home)
        text = re.sub(r"listen 127\.0\.0\.1:\d+", f"listen 127.0.0.1:{self.server.port}", text)
        text = text.replace(f"proxy_cache_path {home}/cache", f"proxy_cache_path {self.folder}")
        text = text.replace("max_size=1g", f"max_size={8 * self.capacity}")
        if self.aio:
            text = text.replace("tcp_nodelay on;", "tcp_nodelay on;\n    aio threads;")
        (home / "nginx.conf").write_text(text)
        command = [servers.program("nginx"), "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
        return Child(self.name, command, place.core, place.scratch / "nginx.log")


@dataclass
class Varnish(Cache):
    """``-s file``."""

    folder: Path

    def child(self, place: Place) -> Child:
        home = place.scratch / "varnish"
        home.mkdir(exist_ok=True)
        home.chmod(0o755)
        (home / "default.vcl").write_text(servers.Varnish().configuration(place))
        command = [servers.program("varnishd"), "-F", "-j", "none", "-n", str(home / "work")]
        command += ["-f", str(home / "default.vcl"), "-a", f"127.0.0.1:{self.server.port},HTTP", "-T", "none"]
        command += ["-s", f"file,{self.folder}/storage,{8 * self.capacity}b", "-s", "Transient=malloc"]
        # The log of requests in shared memory would take a third of the bound by default.
        for setting in ("thread_pools=1", "thread_pool_min=100", "default_grace=0", "vsl_space=4m"):
            command += ["-p", setting]
        return Child(self.name, command, place.core, place.scratch / "varnish.log")


@dataclass
class Disk:
    """Of one server, by round; CPU in µs per request, hits in % of requests, ``memory`` those of edgerouter's own."""

    who: str
    per_second: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    hits: list[float] = field(default_factory=list)
    from_disk: list[float] = field(default_factory=list)
    problem: str = ""


def contenders(python: str, memory: int, folder: Path) -> list[tuple[Cache, Path]]:
    """Each with the directory of its cache."""
    own = folder / "edgerouter"
    edge = EdgerouterCache(servers.Edgerouter(python), memory // 4, disk=own, disk_bytes=8 * memory)
    found: list[tuple[Cache, Path]] = [(edge, own)]
    found += [
        (Nginx(servers.Nginx(), memory, folder / name, aio), folder / name)
        for name, aio in (("nginx", False), ("nginx-aio", True))
    ]
    found.append((Varnish(servers.Varnish(), memory, folder / "varnish"), folder / "varnish"))
    return [(cache, path) for cache, path in found if not cache.server.missing]


def measure(
    python: str,
    memory: int,
    requests: int,
    rounds: int,
    folder: Path,
    cores: tuple[int, int],
    tell: Callable[[str], None],
) -> list[Disk]:
    objects = TIMES * memory // SIZE
    found = []
    for cache, path in contenders(python, memory, folder):
        path.mkdir(mode=0o755, parents=True)
        if not isinstance(cache, EdgerouterCache):
            path.chmod(0o777)
        try:
            found.append(of_one(cache, memory, objects, requests, rounds, cores))
        except BenchError as error:
            found.append(Disk(cache.name, problem=str(error)))
        shutil.rmtree(path, ignore_errors=True)
        tell(f"disk: {cache.name} {found[-1].problem or spread(found[-1].per_second)}")
    return found


def of_one(cache: Cache, memory: int, objects: int, requests: int, rounds: int, cores: tuple[int, int]) -> Disk:
    seen = Disk(cache.name)
    port = cache.server.port
    with stage.origin(cores) as place, MemoryBound(memory) as bound:
        child = cache.child(place)
        child.command = bound.wrap(child.command)
        with child:
            child.wait_until_listening(port)
            stage.fill(port, range(objects), place, cores[1], SIZE)
            if isinstance(cache, EdgerouterCache):
                works.get(port, "/hit/sized/0/1", {})
            for number in range(rounds):
                draw = random.Random(number)
                trace = [(draw.randrange(objects), SIZE) for _ in range(requests)]
                asked, _ = stage.origin_counts(place.origin)
                before = cache.metric("edgerouter_disk_hits_total") if isinstance(cache, EdgerouterCache) else 0
                spent = child.cpu_seconds()
                load = stage.replay(port, trace, place, cores[1], CONNECTIONS)
                seen.cpu.append((child.cpu_seconds() - spent) / requests * 1e6)
                missed = stage.origin_counts(place.origin)[0] - asked
                seen.per_second.append(load.per_second)
                seen.p50.append(load.p50)
                seen.p99.append(load.p99)
                seen.hits.append(100 * (1 - missed / requests))
                if isinstance(cache, EdgerouterCache):
                    seen.from_disk.append(100 * (cache.metric("edgerouter_disk_hits_total") - before) / requests)
        seen.problem = bound.problem
    return seen


def table(found: Sequence[Disk], memory: int, requests: int, folder: Path) -> list[str]:
    lines = [
        f"### hits from disk: {TIMES * memory >> 20} MiB in objects of {SIZE >> 10} KiB, {memory >> 20} MiB of memory",
        "",
        f"In {folder}; {requests:,} requests a round, {CONNECTIONS} connections.",
        "",
        "| server | hits/s | CPU µs/request | p50, µs | p99, µs | hits, % | read by the disk tier, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        if not one.per_second:
            lines.append(f"| {one.who} | {one.problem} | | | | | |")
            continue
        cells = [spread(one.per_second), spread(one.cpu, ".1f"), spread(one.p50), spread(one.p99)]
        cells += [spread(one.hits, ".1f"), f"{statistics.median(one.from_disk):.0f}" if one.from_disk else ""]
        lines.append(f"| {one.who} | {' | '.join(cells)} |")
    problems = sorted({one.problem for one in found if one.problem and one.per_second})
    return [*lines, "", *(f"- memory was not bounded: {problem}" for problem in problems), ""]
