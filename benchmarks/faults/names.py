"""A name server that falls silent: requests to an origin with a name, from when its address has gone stale.

Runs itself again in namespaces of its own (`unshare --net --mount`, which needs root), where `/etc/resolv.conf` names a
server here that answers until it is switched to silence. The origin closes each connection, so that each request needs
the address.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.figure import Figure
from benchmarks.faults.stage import ROOT, Machine, get, is_root, must, running
from benchmarks.processes import BenchError

REQUESTS = 120
SECONDS = 20.0  # over which they are spread
FRESH = 30.0  # how long the edge uses an address without looking it up again
NAME = "origin.faults.test"
A, AAAA, IN = 1, 28, 1


def measure(machine: Machine) -> list[Figure]:
    if not is_root():
        raise BenchError("a name server of its own needs root (unshare --net --mount)")
    with tempfile.NamedTemporaryFile("w", prefix="resolv-", suffix=".conf") as settings:
        settings.write("nameserver 127.0.0.1\n")
        settings.flush()
        script = f'ip link set lo up && mount --bind {settings.name} /etc/resolv.conf && exec "$@"'
        command = ["unshare", "--net", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", __name__]
        command += [machine.python, *map(str, machine.cores)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode != 0:
        raise BenchError(f"in namespaces of its own: {done.stderr.strip()[-2000:]}")
    seen = json.loads(done.stdout)
    return [
        Figure(f"failures of {REQUESTS} requests", [seen["failed"]], "", 0),
        Figure("their longest wait", seen["waits"], "s", form=".3f"),
        Figure("look-ups that were not answered", [seen["unanswered"]]),
        Figure("threads more than before", [seen["threads"]], "", 16),
    ]


class NameServer(threading.Thread):
    """Answers queries for ``NAME`` with 127.0.0.1 until ``silent`` is set."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.silent = threading.Event()
        self.answered = self.unanswered = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))

    def run(self) -> None:
        while True:
            query, client = self.socket.recvfrom(4096)
            if self.silent.is_set():
                self.unanswered += 1
            else:
                self.socket.sendto(reply(query), client)
                self.answered += 1


def reply(query: bytes) -> bytes:
    """One A record for a query of one (RFC 1035 §4.1), nothing for others."""
    end = query.index(0, 12) + 5
    kind, _ = struct.unpack("!HH", query[end - 4 : end])
    answers = int(kind == A)
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, answers, 0, 0)
    record = struct.pack("!HHHIH4s", 0xC00C, A, IN, 1, 4, socket.inet_aton("127.0.0.1"))
    return head + query[12:end] + record * answers


def inside(machine: Machine) -> dict[str, object]:
    server = NameServer()
    server.start()
    with running(machine, workers=2, origin_host=NAME) as edge:
        must(edge.port, "/once/first")
        server.silent.set()
        looked_up = time.monotonic()
        must(edge.port, "/once/second")
        threads = most = edge.threads()
        time.sleep(max(0.0, looked_up + FRESH + 0.5 - time.monotonic()))
        failed, waits = 0, []
        lock = threading.Lock()

        def ask(number: int) -> None:
            nonlocal failed
            started = time.perf_counter()
            try:
                status, _ = get(edge.port, f"/once/{number}", 60)
            except OSError:
                status = 0
            with lock:
                failed += status != 200
                waits.append(time.perf_counter() - started)

        clients = []
        started = time.monotonic()
        for number in range(REQUESTS):
            time.sleep(max(0.0, started + number * SECONDS / REQUESTS - time.monotonic()))
            clients.append(threading.Thread(target=ask, args=(number,), daemon=True))
            clients[-1].start()
            most = max(most, edge.threads())
        for client in clients:
            client.join(90)
    if not server.answered or not server.unanswered:
        raise BenchError(f"the name server was asked {server.answered} times, then {server.unanswered} times")
    return {"failed": failed, "waits": waits, "unanswered": server.unanswered, "threads": most - threads}


def main(arguments: Sequence[str]) -> int:
    python, core, other = arguments
    if not Path("/etc/resolv.conf").read_text().startswith("nameserver 127.0.0.1"):
        raise BenchError("not in namespaces of its own")
    print(json.dumps(inside(Machine(python, (int(core), int(other))))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
