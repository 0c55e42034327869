"""The works of ``python -m benchmarks.cache``, and their order."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.cache import disk, hit_ratio, memory, peers, purge, restart, traces
from benchmarks.processes import BenchError, exit_status

WORKS = ("hit-ratio", "memory", "purge", "restart", "disk")
CAPACITY = 32 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return exit_status(lambda: bench_in_a_folder(options))


def bench_in_a_folder(options: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(prefix="edgerouter-cache-", dir=options.disk))
    folder.chmod(0o755)
    try:
        bench(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description="The cache of edgerouter measured.")
    parser.add_argument("--quick", action="store_true", help="short traces and small caches: is everything in place?")
    parser.add_argument("--works", default=",".join(WORKS), help="only these, comma-separated: " + ", ".join(WORKS))
    parser.add_argument("--servers", help="of hit-ratio, comma-separated: edgerouter, varnish, nginx")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has edgerouter installed")
    parser.add_argument("--disk", default=tempfile.gettempdir(), help="a directory on the disk that is measured")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    return parser.parse_args(arguments)


def bench(options: argparse.Namespace, folder: Path) -> None:
    chosen = [key.strip() for key in options.works.split(",")]
    unknown = set(chosen) - set(WORKS)
    if unknown:
        raise BenchError(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    cores = (options.server_core, options.generator_core)
    python, quick = options.python, options.quick
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()), end="\n\n", flush=True)
    for name, work in (
        ("hit-ratio", _hit_ratio),
        ("memory", _memory),
        ("purge", _purge),
        ("restart", _restart),
        ("disk", _disk),
    ):
        if name in chosen:
            started = time.monotonic()
            work(python, quick, folder, cores, options.servers)
            tell(f"{name}: {time.monotonic() - started:.0f} s")


def _hit_ratio(python: str, quick: bool, folder: Path, cores: tuple[int, int], servers: str | None) -> None:
    names = set(servers.lower().split(",")) if servers else None
    present = []
    for cache in peers.caches(python, CAPACITY, names):
        if cache.server.missing:
            print(f"Without {cache.name}: {cache.server.missing}", flush=True)
        else:
            print(f"{cache.name} {cache.server.version}", flush=True)
            present.append(cache)
    requests = 30_000 if quick else 100_000
    found = {}
    for shape in traces.SHAPES:
        found[shape] = hit_ratio.on_trace(shape, requests, CAPACITY, present, cores)
        tell(f"{shape.name}: " + ", ".join(f"{r.who} {r}" for r in found[shape]))
    show(["", *hit_ratio.table(found, CAPACITY, requests)])


def _memory(python: str, quick: bool, folder: Path, cores: tuple[int, int], _: str | None) -> None:
    show(memory.table(memory.measure(python, 100_000 if quick else 1_000_000, cores)))
    limits = [32 << 20] if quick else [32 << 20, 256 << 20]
    show(memory.bounds_table(memory.bounds(python, limits, 64 << 20 if quick else 256 << 20, folder, cores)))


def _purge(python: str, quick: bool, folder: Path, cores: tuple[int, int], _: str | None) -> None:
    sizes = {1_000: 2, 20_000: 1} if quick else {1_000: 5, 100_000: 3, 1_000_000: 1}
    show(purge.cost_table(purge.costs(python, sizes, cores)))
    show(purge.latency_table(purge.latency(python, 50_000 if quick else 1_000_000, 1 if quick else 2, cores)))


def _restart(python: str, quick: bool, folder: Path, cores: tuple[int, int], _: str | None) -> None:
    starts = restart.measure(python, 50_000 if quick else 1_000_000, 1 if quick else 3, folder, cores)
    show(restart.table(starts, folder.parent))


def _disk(python: str, quick: bool, folder: Path, cores: tuple[int, int], _: str | None) -> None:
    bytes_, requests, rounds = (64 << 20, 5_000, 1) if quick else (256 << 20, 25_000, 3)
    show(
        disk.table(disk.measure(python, bytes_, requests, rounds, folder, cores, tell), bytes_, requests, folder.parent)
    )


def show(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)


def tell(text: str) -> None:
    """Prints the progress."""
    print(text, file=sys.stderr, flush=True)
