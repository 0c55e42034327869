"""The faults, and their order."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import machine
from benchmarks.faults import abandoned, admin, attacks, frozen, logs, names, readers
from benchmarks.faults.figure import Figure, table
from benchmarks.faults.stage import Machine, allow_many_descriptors
from benchmarks.processes import BenchError

FAULTS: dict[str, tuple[str, Callable[[Machine], list[Figure]]]] = {
    "readers": (f"{readers.CLIENTS} clients that do not read, each on its own 5 MB object", readers.measure),
    "logs": ("A million log lines into a stalled pipe", logs.measure),
    "frozen": ("A hot key at an origin that freezes", frozen.measure),
    "names": ("A name server that falls silent", names.measure),
    "abandoned": ("Slow requests whose clients are gone", abandoned.measure),
    "attacks": ("Attacks on connections, and good clients beside them", attacks.measure),
    "admin": ("Silent connections to the admin listener", admin.measure),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that children are stopped then, too
    allow_many_descriptors()
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()), end="\n\n", flush=True)
    here = Machine(options.python, (options.server_core, options.generator_core))
    missed, began = 0, time.monotonic()
    try:
        for name in options.only or FAULTS:
            title, measure = FAULTS[name]
            started = time.monotonic()
            try:
                figures = measure(here)
            except BenchError as error:
                print(f"### {title}\n\n- problem: {error}\n", flush=True)
                missed += 1
                continue
            missed += sum(figure.met is False for figure in figures)
            print("\n".join(table(title, figures)), flush=True)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("\nbench: stopped", file=sys.stderr)
        return 130
    print(f"{missed} missed, in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="edgerouter under faults.")
    parser.add_argument("--only", action="append", choices=list(FAULTS), help="may be repeated; all by default")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has edgerouter installed")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--generator-core", type=int, default=1)
    return parser.parse_args(arguments)
