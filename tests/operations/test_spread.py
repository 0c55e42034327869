"""Few, long connections are spread evenly over the workers (docs/decisions/0055)."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..processes import Process


def registered(pid: int) -> list[int]:
    """The sockets of each event loop of a process, fewest first."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(descriptor.readlink()) == "anon_inode:[eventpoll]":
                found.append(Path(f"/proc/{pid}/fdinfo", descriptor.name).read_text().count("tfd:"))
        except OSError:
            # It was closed meanwhile.
            continue
    return sorted(found)


@pytest.mark.parametrize(("workers", "count"), [(2, 4), (2, 16), (3, 12)])
def test_each_worker_has_its_share_of_few_long_connections(tmp_path: Path, workers: int, count: int) -> None:
    app = tmp_path / "app.py"
    app.write_text("from edgerouter import Edge\nedge = Edge('test')\nedge.route('/*', respond='x')\n")
    process = Process("run", str(app), "--listen", "127.0.0.1:0", "--workers", str(workers))
    try:
        port = int(process.wait_for(r"http://127\.0\.0\.1:(\d+)")[1])
        before = registered(process.process.pid)
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
        process.process.wait(60)
