"""Clients that go away from slow requests, and clients that have only sent all that they have.

600 GETs of an origin that does not answer are abandoned; then misses of the same origin are timed, one after the other.
Half-closed connections must have their whole answer: by `nc -N` where there is one, by a socket otherwise.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from contextlib import ExitStack

from benchmarks.faults.figure import Figure
from benchmarks.faults.origin import LARGE, LATE
from benchmarks.faults.stage import Edge, Machine, get, running, send, wait_until
from benchmarks.processes import BenchError

ABANDONED = 600
SEATS = 256  # what a worker's default of connections to an origin lets through; the others wait
MISSES = 20
HALF_CLOSED = 5


def measure(machine: Machine) -> list[Figure]:
    figures = []
    for kind, prefix, how in (
        ("uncacheable GETs, closed", "/pass", ""),
        ("uncacheable GETs, reset", "/pass", "reset"),
        ("cacheable GETs, closed", "", ""),
        ("uncacheable GETs, closed with a request behind", "/pass", "pipelined"),
    ):
        with running(machine) as edge:
            took, failed = misses_behind(edge, prefix, how)
        figures.append(Figure(f"a new miss behind {ABANDONED} {kind}", took, "s", 1, ".3f"))
        if failed:
            figures.append(Figure("… of which were not answered by 200", [failed], "", 0))
    with running(machine, workers=2) as edge:
        by = "`nc -N`" if shutil.which("nc") else "a half-closed socket"
        for path, size in ((f"/late/2/{{}}?{LATE}", LATE), ("/large/passed/{}", LARGE)):
            got = [half_closed(edge, path.format(number)) for number in range(HALF_CLOSED)]
            whole = sum(length == size for length in got)
            what = f"answers of {size:,} bytes that are whole, by {by}, of {HALF_CLOSED}"
            figures.append(Figure(what, [whole], "", HALF_CLOSED, least=True))
    return figures


def misses_behind(edge: Edge, prefix: str, how: str) -> tuple[list[float], int]:
    """Seconds of each miss, and how many were not answered by 200."""
    with ExitStack() as stack:
        clients = [stack.enter_context(send(edge.port, f"{prefix}/slow/{n}")) for n in range(ABANDONED)]
        wait_until(lambda: edge.asked("slow") >= SEATS, 20, "the slow requests to reach the origin")
        for client in clients:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "pipelined":
                client.sendall(b"GET /pass/quick HTTP/1.1\r\nhost: faults.example\r\n\r\n")
            client.close()
    took, failed = [], 0
    for number in range(MISSES):
        started = time.perf_counter()
        status, _ = get(edge.port, f"{prefix}/quick/{number}", 60)
        took.append(time.perf_counter() - started)
        failed += status != 200
    return took, failed


def half_closed(edge: Edge, path: str) -> int:
    """Bytes of content that came to a client which closed its side behind the request."""
    request = f"GET {path} HTTP/1.1\r\nhost: faults.example\r\nconnection: close\r\n\r\n".encode()
    if nc := shutil.which("nc"):
        command = [nc, "-N", "127.0.0.1", str(edge.port)]
        answer = subprocess.run(command, input=request, capture_output=True, timeout=60, check=False).stdout
    else:
        answer = b""
        with socket.create_connection(("127.0.0.1", edge.port), 60) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(1 << 20):
                answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"a half-closed request for {path} got {head[:80]!r}")
    return len(body)
