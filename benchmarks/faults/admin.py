"""Health checks while others keep connections to the admin listener and say nothing, or half, or do not read."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from benchmarks.faults.figure import Figure
from benchmarks.faults.stage import Machine, get, must, running
from benchmarks.processes import BenchError

SILENT = 80
CHECKS = 50
KINDS = {
    "silent": b"",
    "half a head": b"GET /metrics HTTP/1.1\r\nhost:",
    "not reading": b"GET /metrics HTTP/1.1\r\n\r\n",
}


def measure(machine: Machine) -> list[Figure]:
    figures = []
    with running(machine) as edge:
        must(edge.admin, "/healthz")
        for kind, said in KINDS.items():
            with ExitStack() as stack:
                for _ in range(SILENT):
                    client = stack.enter_context(socket.create_connection(("127.0.0.1", edge.admin), 10))
                    client.sendall(said)
                took = []
                for _ in range(CHECKS):
                    started = time.perf_counter()
                    status, _ = get(edge.admin, "/healthz", 10)
                    took.append(1e3 * (time.perf_counter() - started))
                    if status != 200:
                        raise BenchError(f"/healthz answered {status}")
            figures.append(Figure(f"`/healthz` beside {SILENT} connections, {kind}", took, "ms", 50, ".1f"))
    return figures
