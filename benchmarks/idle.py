"""Resident memory of an idle connection: ``python -m benchmarks.idle [--connections N] [--seconds S] [--rounds N]``.

Each connection has one hit of 1 KiB and is then left alone. The growth of the process's resident memory by the time
that all have been idle for some seconds is divided by their number. A hundred connections come first, as some memory is
taken once.
"""

from __future__ import annotations

import argparse
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine, servers, works
from benchmarks.processes import BenchError, Child, exit_status, free_port

FIRST = 100


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--connections", type=int, default=4_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="idle for so long")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the release wheel")
    options = parser.parse_args(arguments)
    return exit_status(lambda: bench(options))


def bench(options: argparse.Namespace) -> int:
    machine.prepare()
    found = [a_round(options) for _ in range(options.rounds)]
    print("| | at once, KiB | idle, KiB | least and greatest |\n|---|---:|---:|---:|")
    for name, column in (("resident", 0), ("of it the program's own", 1)):
        at_once = statistics.median(busy[column] for busy, _ in found)
        idle = [quiet[column] for _, quiet in found]
        spread = f"{min(idle):.1f}–{max(idle):.1f}"
        print(f"| {name}, a connection | {at_once:.1f} | {statistics.median(idle):.1f} | {spread} |")
    return 0


def a_round(options: argparse.Namespace) -> tuple[tuple[float, float], tuple[float, float]]:
    """KiB a connection with a new process: right after their requests, and after the idle time."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgerouter-idle-")))
        port = free_port()
        program = [str(servers.compile_c("origin")), str(port)]
        stack.enter_context(Child("origin", program, 1, scratch / "origin.log")).wait_until_listening(port)
        edge = servers.Edgerouter(options.python)
        if edge.missing:
            raise BenchError(edge.missing)
        child = stack.enter_context(edge.child(servers.Place(0, scratch, port, "a" * 64)))
        child.wait_until_listening(edge.port)
        connections: list[socket.socket] = []
        grow(stack, connections, edge.port, FIRST)
        time.sleep(options.seconds)
        before = resident(child.pid)
        grow(stack, connections, edge.port, options.connections)
        at_once = resident(child.pid)
        time.sleep(options.seconds)
        idle = resident(child.pid)
        if any(is_closed(connection) for connection in connections):
            raise BenchError("the edge closed connections meanwhile")
        each = [
            tuple((now - then) / options.connections for now, then in zip(state, before, strict=True))
            for state in (at_once, idle)
        ]
        return (each[0][0], each[0][1]), (each[1][0], each[1][1])


def grow(stack: ExitStack, connections: list[socket.socket], port: int, number: int) -> None:
    for _ in range(number):
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        client.sendall(b"GET /hit/1k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        received = b""
        while not received.endswith(works.BODY_1K):
            if not (more := client.recv(65_536)):
                raise BenchError("the edge closed a connection before its response was whole")
            received += more
        connections.append(client)


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def resident(pid: int) -> tuple[float, float]:
    """KiB in all, and of anonymous memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = [re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE) for name in ("VmRSS", "RssAnon")]
    if not all(found):
        raise BenchError("/proc has no VmRSS")
    return float(found[0][1] if found[0] else 0), float(found[1][1] if found[1] else 0)


if __name__ == "__main__":
    raise SystemExit(main())
