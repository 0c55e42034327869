"""The time and memory of a prediction: ``python -m benchmarks.replay [--lines N]``.

Writes an access log in the combined form, by default of ten million requests for a million URLs by Zipf's law over a
day, into the memory of the machine or the folder of ``--folder``, and has ``edgerouter replay`` read it for one size of
the cache. Prints wall clock, processor time and the most resident memory.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.processes import BenchError, exit_status

APP = """
from edgerouter import Edge, cache

edge = Edge("replay")
site = edge.origin("site", "http://127.0.0.1:9")
edge.route("/*", to=site)
edge.route("/assets/*", to=site, cache=cache.OPTIMIZED, compress=True)
"""
BEGIN, DAY, URLS, PART = 1_795_737_600, 86_400, 1_000_000, 100_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64)"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--memory", default="1GiB", help="the size of the cache")
    parser.add_argument(
        "--folder", type=Path, default=Path("/dev/shm"), help="where the log is written, 125 bytes a line"
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the release wheel")
    options = parser.parse_args(arguments)
    return exit_status(lambda: bench(options))


def bench(options: argparse.Namespace) -> int:
    machine.prepare()
    with tempfile.TemporaryDirectory(prefix="replay-", dir=options.folder) as folder:
        app, log = Path(folder, "app.py"), Path(folder, "access.log")
        app.write_text(APP)
        write(log, options.lines)
        size = log.stat().st_size
        command = [options.python, "-P", "-m", "edgerouter", "replay", str(log), "--app", str(app)]
        began = time.monotonic()
        process = subprocess.Popen([*command, "--memory", options.memory, "--assume", "/*=86400"])
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        if os.waitstatus_to_exitcode(status) != 0:
            raise BenchError("edgerouter replay failed")
    print(
        f"\n{options.lines:,} lines, {size / 1e6:,.0f} MB: {seconds:.1f} s,"
        f" {used.ru_utime + used.ru_stime:.1f} s of the processor, {used.ru_maxrss / 1024:,.0f} MiB resident at most"
    )
    return 0


def write(log: Path, count: int) -> None:
    chance = random.Random(1)
    each_second = max(1, count // DAY)
    second, stamp = -1, ""
    with log.open("w", buffering=1 << 22) as out:
        for start in range(0, count, PART):
            lines = []
            for number in range(start, min(start + PART, count)):
                if number // each_second != second:
                    second = number // each_second
                    stamp = f"{datetime.fromtimestamp(BEGIN + second, UTC):%d/%b/%Y:%H:%M:%S +0000}"
                rank = int(URLS ** chance.random())
                size = 500 + rank * 2_654_435_761 % 40_000
                client = f"10.{number & 255}.{number >> 8 & 255}.7"
                request = f'"GET /assets/{rank}.css HTTP/1.1" 200 {size} "-" "{AGENT}"'
                lines.append(f"{client} - - [{stamp}] {request}\n")
            out.writelines(lines)


if __name__ == "__main__":
    raise SystemExit(main())
