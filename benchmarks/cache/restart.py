"""Duration of a start with a large disk cache: from the start of the process to the first hit that comes from disk.

After a clean stop, after ``kill -9`` while responses are being written (no clean index), and with nothing of the cache
in the page cache.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import servers, works
from benchmarks.cache import stage
from benchmarks.cache.peers import EdgerouterCache
from benchmarks.cache.stage import spread
from benchmarks.processes import BenchError, Child
from benchmarks.servers import Place

MEMORY = 64 << 20
DISK = 4 << 30
HOST = {"host": "bench.example"}
PATIENCE = 30.0
FILLS = 3
SAMPLE = 500  # objects that must be there after a start
LATE = 20_000  # requests that are under way when the process is killed


@dataclass
class Start:
    """Seconds by round; ``index``: what the disk cache itself took to read back its index."""

    after: str
    entries: int = 0
    hit: list[float] = field(default_factory=list)
    index: list[float] = field(default_factory=list)


def measure(python: str, stored: int, rounds: int, folder: Path, cores: tuple[int, int]) -> list[Start]:
    disk = folder / "restart"
    cache = EdgerouterCache(servers.Edgerouter(python), MEMORY, disk=disk, disk_bytes=DISK)
    starts = [Start("a clean stop"), Start("kill -9 while writing"), Start("a clean stop, nothing in the page cache")]
    late = iter(range(100_000_000, 200_000_000, LATE))
    with stage.origin(cores) as place:
        with cache.child(place) as child:
            child.wait_until_listening(cache.server.port)
            for _ in range(FILLS):  # objects that found no room in the writer's queue are requested again
                stage.fill(cache.server.port, range(stored), place, cores[1])
                if settled(cache) >= stored:
                    break
            else:
                raise BenchError(f"not all of {stored} objects are on disk")
        for _ in range(rounds):
            for start in starts:
                if "page cache" in start.after:
                    forget(disk)
                with cache.child(place) as child:
                    begun = time.perf_counter()
                    first_hit(cache, place, child)
                    start.hit.append(time.perf_counter() - begun)
                    start.index.append(index_seconds(child))
                    start.entries = verify(cache, place, stored)
                    if start is starts[0]:  # so that the next one starts after a crash
                        crash(cache, child, place, next(late), cores[1])
    return starts


def settled(cache: EdgerouterCache) -> int:
    """Objects on disk once everything is written."""
    deadline = time.monotonic() + PATIENCE
    while cache.metric("edgerouter_disk_waiting_bytes"):
        if time.monotonic() > deadline:
            raise BenchError("the disk cache does not come to an end with writing")
        time.sleep(0.05)
    return cache.metric("edgerouter_disk_entries")


def first_hit(cache: EdgerouterCache, place: Place, child: Child) -> None:
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        if not child.alive():
            raise BenchError(f"edgerouter ended at its start:\n{child.log_tail()}")
        try:
            answer = works.get(cache.server.port, "/hit/sized/7/1024", HOST)
        except (OSError, works.WrongAnswerError):
            time.sleep(0.001)
            continue
        if answer.status != 200 or "hit" not in answer.headers.get("cache-status", ""):
            raise BenchError(f"the first answer was no hit: {answer.status} {answer.headers.get('cache-status')}")
        if not cache.metric("edgerouter_disk_hits_total"):
            raise BenchError("the first hit did not come from disk")
        return
    raise BenchError(f"no hit within {PATIENCE:g} s")


def index_seconds(child: Child) -> float:
    found = re.search(r"disk cache is open.*?millis=(\d+)", plain(child.log.read_text(errors="replace")))
    if not found:
        raise BenchError("the log does not say when the disk cache was open")
    return int(found[1]) / 1e3


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def verify(cache: EdgerouterCache, place: Place, stored: int) -> int:
    """A sample of what was stored is there: the origin gets no request."""
    asked, _ = stage.origin_counts(place.origin)
    for key in random.Random(1).sample(range(stored), SAMPLE):
        works.get(cache.server.port, f"/hit/sized/{key}/1024", HOST)
    missing = stage.origin_counts(place.origin)[0] - asked
    if missing:
        raise BenchError(f"{missing} of {SAMPLE} objects were not there after the start")
    return cache.metric("edgerouter_disk_entries")


def crash(cache: EdgerouterCache, child: Child, place: Place, first: int, core: int) -> None:
    trace = [(key, 1024) for key in range(first, first + LATE)]
    written = cache.metric("edgerouter_disk_written_total")
    command = stage.replay_command(cache.server.port, trace, place, core, stage.FILLING)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as writing:
        deadline = time.monotonic() + PATIENCE
        while cache.metric("edgerouter_disk_written_total") < written + 2000 and time.monotonic() < deadline:
            time.sleep(0.005)
        child.kill()
        writing.kill()


def forget(disk: Path) -> None:
    """Takes every file out of the page cache."""
    for file in disk.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def table(found: Sequence[Start], folder: Path) -> list[str]:
    lines = [
        f"### start with {found[0].entries:,} objects of 1 KiB on disk ({folder})",
        "",
        "| after | entries | index read back, s | process start to first hit from disk, s |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {start.after} | {start.entries:,} | {spread(start.index, '.2f')} | {spread(start.hit, '.2f')} |"
        for start in found
    ]
    return [*lines, ""]
