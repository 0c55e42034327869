"""Good clients of both protocols beside an attack: ``good.py PORT PID SECONDS`` prints what each hit took.

Each connection has its times: a request that is late because the one before it was slow counts from its time on. A line
has the protocol, the microseconds, and those of them in which the edge's worker or this process was ready to run while
something else had its core; or the protocol and ``failed``.
"""

from __future__ import annotations

import bisect
import gc
import os
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.faults.attacker import (
    DATA,
    END_STREAM,
    HEADERS,
    SETTINGS,
    WINDOW_UPDATE,
    connect,
    frame,
    request,
    settings,
)

PROTOCOLS = ("HTTP/1.1", "HTTP/2")
CONNECTIONS, RATE = 4, 100  # of each protocol: connections, and requests a second of each
PATIENCE = 20.0
STATUS_200 = 0x88  # the field of the static table
HTTP_1 = b"GET /hit/1 HTTP/1.1\r\nhost: faults.example\r\n\r\n"


class Waits:
    """Seconds for which one of the threads was ready to run and did not, as the kernel counts them, by the time."""

    def __init__(self, *threads: Path) -> None:
        self.files = [os.open(thread / "schedstat", os.O_RDONLY) for thread in threads]
        self.times: list[float] = []
        self.seen: list[float] = []

    def read(self) -> float:
        self.times.append(time.monotonic())
        self.seen.append(sum(int(os.pread(file, 64, 0).split()[1]) for file in self.files) / 1e9)
        return self.seen[-1]

    def at(self, when: float) -> float:
        """The last reading before then."""
        return self.seen[max(0, bisect.bisect(self.times, when) - 1)]


def worker(pid: int) -> Path:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return next(one for one in threads if (one / "comm").read_text().strip() == "edge-0")


class FailedError(Exception):
    """A response that is not the hit, or none."""


@dataclass
class Client:
    """One connection. ``due``: the time of its next request."""

    protocol: str
    port: int
    due: float = 0.0
    sock: socket.socket = field(init=False)
    sent: float | None = None
    read: bytes = b""
    stream: int = -1

    def __post_init__(self) -> None:
        self.begin()

    def fileno(self) -> int:
        return self.sock.fileno()

    def begin(self) -> None:
        self.sock, self.sent, self.read, self.stream = connect(self.port), None, b"", -1
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.protocol == "HTTP/2":
            self.sock.sendall(settings())

    def send(self) -> None:
        self.stream += 2
        self.sock.sendall(HTTP_1 if self.protocol == "HTTP/1.1" else request(self.stream, "/hit/1"))

    def is_answered(self) -> bool:
        """Takes what has come. True if that ends the response."""
        data = self.sock.recv(65_536)
        if not data:
            raise FailedError
        self.read += data
        return self.is_whole() if self.protocol == "HTTP/1.1" else self.ends_stream()

    def is_whole(self) -> bool:
        head, found, content = self.read.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 200 "):
            raise FailedError
        if len(content) < int(head.lower().split(b"content-length:")[1].split()[0]):
            return False
        self.read = b""
        return True

    def ends_stream(self) -> bool:
        ends = False
        while len(self.read) >= 9 and len(self.read) >= 9 + (length := int.from_bytes(self.read[:3], "big")):
            kind, flags = self.read[3], self.read[4]
            if kind == SETTINGS and not flags:
                self.sock.sendall(frame(SETTINGS, 1, 0))
            elif kind == DATA and length:
                self.sock.sendall(frame(WINDOW_UPDATE, 0, 0, length.to_bytes(4, "big")))
            elif kind not in (DATA, HEADERS, SETTINGS, WINDOW_UPDATE) or (
                kind == HEADERS and self.read[9] != STATUS_200
            ):
                raise FailedError
            ends |= kind in (DATA, HEADERS) and bool(flags & END_STREAM)
            self.read = self.read[9 + length :]
        return ends


def run(port: int, pid: int, seconds: float) -> list[str]:
    clients = [Client(PROTOCOLS[number % 2], port) for number in range(2 * CONNECTIONS)]
    for client in clients:
        client.send()
        while not client.is_answered():
            pass
    print("ready", flush=True)  # an attack begins beside connections that the edge knows
    waits, lines, began = Waits(worker(pid), Path("/proc/thread-self")), [], time.monotonic()
    for number, client in enumerate(clients):
        client.due = began + number / RATE / len(clients)
    end = began + seconds
    while (now := time.monotonic()) < end or (any(client.sent for client in clients) and now < end + PATIENCE):
        due = min((client.due for client in clients if not client.sent), default=now + 1)
        waits.read()
        # Of microseconds, unlike the time of epoll.
        ready, _, _ = select.select(clients, [], [], min(max(due - now, 0), 1))
        for client in ready:
            try:
                if client.is_answered() and client.sent:
                    took, waited = time.monotonic() - client.sent, waits.read() - waits.at(client.sent)
                    lines.append(f"{client.protocol} {took * 1e6:.1f} {waited * 1e6:.1f}")
                    client.sent = None
            except (FailedError, OSError):
                lines.append(f"{client.protocol} failed")
                client.sock.close()
                client.begin()
        now = time.monotonic()
        for client in clients:
            if not client.sent and client.due <= now < end:
                client.sent = client.due
                client.due += 1 / RATE
                client.send()
    return [*lines, *(f"{client.protocol} failed" for client in clients if client.sent)]


if __name__ == "__main__":
    gc.disable()
    print("\n".join(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
