"""The works of ``python -m benchmarks.cache``, and their order."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from benchmarks import machine
from benchmarks.cache import hit_ratio, memory, peers, traces
from benchmarks.processes import BenchError

WORKS = ("hit-ratio", "memory")
CAPACITY = 32 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that children are stopped then, too
    try:
        bench(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache", description="The cache of edgerouter measured.")
    parser.add_argument("--quick", action="store_true", help="short traces and small caches: is everything in place?")
    parser.add_argument("--works", default=",".join(WORKS), help="only these, comma-separated: " + ", ".join(WORKS))
    parser.add_argument("--servers", help="of hit-ratio, comma-separated: edgerouter, varnish, nginx")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has edgerouter installed")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    return parser.parse_args(arguments)


def bench(options: argparse.Namespace) -> None:
    chosen = [key.strip() for key in options.works.split(",")]
    unknown = set(chosen) - set(WORKS)
    if unknown:
        raise BenchError(f"no such work: {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    cores = (options.server_core, options.generator_core)
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()), end="\n\n", flush=True)
    if "hit-ratio" in chosen:
        names = set(options.servers.lower().split(",")) if options.servers else None
        present = []
        for cache in peers.caches(options.python, CAPACITY, names):
            if cache.server.missing:
                print(f"Without {cache.name}: {cache.server.missing}", flush=True)
            else:
                print(f"{cache.name} {cache.server.version}", flush=True)
                present.append(cache)
        requests = 30_000 if options.quick else 100_000
        found = {}
        for shape in traces.SHAPES:
            found[shape] = hit_ratio.on_trace(shape, requests, CAPACITY, present, cores)
            print(f"{shape.name}: " + ", ".join(f"{r.who} {r}" for r in found[shape]), file=sys.stderr, flush=True)
        show(["", *hit_ratio.table(found, CAPACITY, requests)])
    if "memory" in chosen:
        show(memory.table(memory.measure(options.python, 100_000 if options.quick else 1_000_000, cores)))


def show(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)
