"""Few, long connections are spread evenly over the workers (docs/decisions/0054)."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..origins import wait_until
from ..processes import Process, free_port, reachable


def registered(pid: int) -> list[int]:
    """The sockets of each event loop of a process, fewest first."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") == "anon_inode:[eventpoll]":
                found.append(Path(f"/proc/{pid}/fdinfo/{name}").read_text().count("tfd:"))
        except OSError:
            continue
    return sorted(found)


@pytest.mark.parametrize(("workers", "count"), [(2, 4), (2, 16), (3, 12)])
def test_each_worker_has_its_share_of_few_long_connections(tmp_path: Path, workers: int, count: int) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', respond='x')\n")
    port = free_port()
    process = Process("run", str(app), "--listen", f"127.0.0.1:{port}", "--workers", str(workers))
    try:
        wait_until(lambda: reachable(port), 20, "the listener")
        # The check that it is reachable was a connection as well, and has to be gone.
        idle = len(registered(process.process.pid)) * [1]
        wait_until(lambda: max(registered(process.process.pid)) <= 3, 10, "the end of other connections")
        before = registered(process.process.pid)
        assert len(before) == len(idle)
        with ExitStack() as stack:
            for _ in range(count):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
            after = registered(process.process.pid)
            grown = sorted(now - then for now, then in zip(after[-workers:], before[-workers:], strict=True))
            assert grown == [count // workers] * workers
    finally:
        process.process.kill()
        process.process.wait(10)
