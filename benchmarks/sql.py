"""Reads of a row from a SQLite file in a function, beside aiosqlite in Starlette under granian.

    python -m benchmarks.sql [--rounds 5] [--seconds 4] [--python PATH]

Each server has one worker and core 0, and wrk has core 1; the servers take turns in each round. The figure is the CPU
time of the server for each read, and the ratio of both in the same round. Needs ``benchmarks/install-peers``.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import httpx

from benchmarks.function_peers import PEERS
from benchmarks.generator import wrk
from benchmarks.machine import describe
from benchmarks.processes import BenchError, Child, exit_status, free_port
from benchmarks.servers import HERE

ROWS = 1_000
PATH = "/user/700"
WANTED = {"id": 700, "email": "user700@example.com", "name": "User 700"}
#: Of reads for the same CPU time, by the design.
TARGET = 1.5


def file_of_users(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT NOT NULL, name TEXT NOT NULL)")
        rows = ((at, f"user{at}@example.com", f"User {at}") for at in range(1, ROWS + 1))
        database.executemany("INSERT INTO users VALUES (?, ?, ?)", rows)
        database.commit()
    return path


def edgerouter(python: str, port: int) -> list[str]:
    served = ["-m", "edgerouter", "run", str(HERE / "sql_app.py"), "--listen", f"127.0.0.1:{port}", "--workers", "1"]
    return [python, *served]


def starlette(port: int) -> list[str]:
    command = [str(PEERS / "bin" / "granian"), "--interface", "asginl", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--runtime-threads", "1", "--runtime-mode", "st", "--loop", "uvloop", "--no-ws"]
    command += ["--http", "1", "--backlog", "4096", "--backpressure", "4096", "--log-level", "warning"]
    return [*command, "--working-dir", str(HERE.parent), "benchmarks.sql_peer_app:app"]


def cpu_of_a_read(name: str, command: list[str], port: int, folder: Path, seconds: float) -> float:
    file = folder / f"{name}.db"
    if not file.exists():
        file_of_users(file)
    with Child(name, command, 0, folder / f"{name}.log", {"BENCH_FILE": str(file)}) as child:
        child.wait_until_listening(port)
        found = httpx.get(f"http://127.0.0.1:{port}{PATH}")
        if found.status_code != 200 or found.json() != WANTED:
            raise BenchError(f"{name}: {found.status_code} {found.text[:200]}")
        wrk(1, port, PATH, 1, {})
        begun = child.cpu_seconds()
        load = wrk(1, port, PATH, seconds, {})
        took = child.cpu_seconds() - begun
        if load.problems:
            raise BenchError(f"{name}: {', '.join(load.problems)}")
        return took / load.requests * 1e6


def bench() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--python", default=sys.executable, help="the interpreter that has edgerouter installed")
    given = options.parse_args()
    if not (PEERS / "bin" / "granian").exists():
        raise BenchError("granian is not installed; run benchmarks/install-peers")
    times: dict[str, list[float]] = {"edgerouter": [], "Starlette, granian": []}
    with tempfile.TemporaryDirectory() as temporary:
        for _ in range(given.rounds):
            for name, found in times.items():
                port = free_port()
                command = edgerouter(given.python, port) if name == "edgerouter" else starlette(port)
                found.append(cpu_of_a_read(name, command, port, Path(temporary), given.seconds))
    ours, theirs = times.values()
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    print(", ".join(f"{name}: {value}" for name, value in describe().items()) + "\n")
    print("| µs of CPU for a read, median of rounds | | spread |\n|---|---|---|")
    for name, found in times.items():
        print(f"| {name} | {statistics.median(found):.1f} | {min(found):.1f} to {max(found):.1f} |")
    ratio = statistics.median(ratios)
    print(f"\n{ratio:.2f} times the reads ({min(ratios):.2f} to {max(ratios):.2f}); the target is {TARGET} times")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(exit_status(bench))
