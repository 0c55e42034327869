"""Bounds on a connection: its requests, and clients that take or send bytes too slowly."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgerouter import Edge, HttpLimits, Limits, cache
from edgerouter.testing import Running

from ..conftest import Serve
from ..metrics import metric
from ..origins import Origin, Reply, wait_until

LARGE = b"x" * (16 << 20)


def connect(edge: Running, *, window: int | None = None) -> socket.socket:
    host, _, port = edge.url.removeprefix("http://").partition(":")
    client = socket.socket()
    if window is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    client.settimeout(20)
    client.connect((host, int(port)))
    return client


@pytest.fixture
def slow(origin: Origin, serve: Serve) -> Running:
    """An edge that gives a client two seconds, and wants a megabyte a second of it."""
    origin.on("/large", Reply(200, {}, LARGE))
    edge = Edge("test", limits=Limits(http=HttpLimits(body_timeout=2, min_rate=1_000_000)))
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    return serve(edge)


def test_a_connection_ends_after_its_requests(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "content")
    edge = Edge("test", limits=Limits(http=HttpLimits(connection_requests=2)))
    edge.route("/*", to=edge.origin("first", origin.url))
    with connect(serve(edge)) as client, client.makefile("rb") as responses:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        text = responses.read().lower()
    assert text.count(b"http/1.1 200") == 2
    assert text.count(b"connection: close") == 1


def test_a_client_that_takes_a_response_too_slowly_is_disconnected(slow: Running) -> None:
    pause = threading.Event()
    taken = 0
    with connect(slow, window=4_096) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            while piece := client.recv(1_024):
                taken += len(piece)
                pause.wait(0.02)
                if metric(slow, "edgerouter_refused_total", '{reason="slow-reader"}'):
                    break
        except ConnectionError:
            pass
    assert taken < len(LARGE)
    wait_until(lambda: metric(slow, "edgerouter_refused_total", '{reason="slow-reader"}') == 1, what="the count")


def test_a_client_that_sends_a_body_too_slowly_gets_408(slow: Running) -> None:
    pause = threading.Event()
    with connect(slow) as client, client.makefile("rb") as responses:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        stop = threading.Event()

        def trickle() -> None:
            while not stop.is_set():
                try:
                    client.sendall(b"x")
                except OSError:
                    return
                pause.wait(0.05)

        sender = threading.Thread(target=trickle)
        sender.start()
        try:
            assert responses.readline().startswith(b"HTTP/1.1 408")
        finally:
            stop.set()
            sender.join(60)


def test_a_client_that_keeps_the_pace_gets_all_of_it(slow: Running) -> None:
    with connect(slow) as client, client.makefile("rb") as responses:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert responses.read().endswith(LARGE)
    assert metric(slow, "edgerouter_refused_total", '{reason="slow-reader"}') == 0


def read_for(client: socket.socket, seconds: float, rate: int) -> int:
    """Reads at most ``rate`` bytes a second, from a window that leaves the rest with the edge; the bytes that came."""
    taken, begun, pause = 0, time.monotonic(), threading.Event()
    while (passed := time.monotonic() - begun) < seconds:
        if taken < rate * passed:
            piece = client.recv(4_096)
            assert piece, f"the edge has closed after {passed:.1f} s and {taken} bytes"
            taken += len(piece)
        else:
            pause.wait(0.01)
    return taken


#: Seconds that a write may be blocked, and bytes a second with which a socket is not free by a third in that time.
BLOCKED, RATE = 4, 50_000
#: Content from a file, from an origin through pipes, and from memory.
LARGE_PATHS = ["/files/large", "/passed", "/stored"]


@pytest.fixture
def sends_large(origin: Origin, tmp_path: Path, serve: Serve) -> Running:
    """Content of 16 MiB at each of ``LARGE_PATHS``."""
    (tmp_path / "large").write_bytes(LARGE)
    origin.on("/passed", Reply(200, {}, LARGE))
    origin.on("/stored", Reply(200, {"Cache-Control": "max-age=600"}, LARGE))
    edge = Edge("test", limits=Limits(http=HttpLimits(body_timeout=BLOCKED)))
    edge.files("/files", tmp_path)
    edge.route("/passed", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    edge.route("/stored", to=edge.origin("second", origin.url))
    return serve(edge)


def test_a_client_that_reads_slowly_all_the_time_gets_all_of_it(sends_large: Running) -> None:
    def received(path: str) -> int:
        with connect(sends_large, window=4_096) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            taken = read_for(client, 3 * BLOCKED, RATE)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            while piece := client.recv(1 << 20):
                taken += len(piece)
        return taken

    # Beside each other, as each takes as long as a client has to be slow.
    with ThreadPoolExecutor(len(LARGE_PATHS)) as threads:
        taken = dict(zip(LARGE_PATHS, threads.map(received, LARGE_PATHS), strict=True))
    assert {path: amount > len(LARGE) for path, amount in taken.items()} == dict.fromkeys(LARGE_PATHS, True)
    assert metric(sends_large, "edgerouter_refused_total", '{reason="slow-reader"}') == 0


@pytest.mark.parametrize("path", LARGE_PATHS)
def test_a_quick_client_that_stops_reading_is_disconnected(sends_large: Running, path: str) -> None:
    taken = 0
    with connect(sends_large, window=1 << 20) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        while taken < 4 << 20 and (piece := client.recv(1 << 20)):
            taken += len(piece)
        wait_until(
            lambda: metric(sends_large, "edgerouter_refused_total", '{reason="slow-reader"}') == 1, what="the count"
        )
        rest: list[int] = []
        # The kernel has kept nothing for it.
        with pytest.raises(ConnectionResetError):
            rest.extend(iter(lambda: len(client.recv(1 << 20)), 0))
    assert taken + sum(rest) < len(LARGE)
