"""A slow upload gives its connection to the origin to a request that waits for one; one that moves keeps it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from edgerouter import Edge, HttpLimits, Limits, cache

from ..conftest import Serve
from ..origins import raw_origin, received_until
from ..raw import connect, exchange, read_all, read_until, responses

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = b"3e8\r\n" + b"x" * 1_000 + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


class Uploads:
    """An origin that answers a GET at once, and an upload when it is whole."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.pieces = threading.Semaphore(0)

    def answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(ConnectionError):
            head = received_until(connection, lambda it: b"\r\n\r\n" in it)
            if head is None:
                return
            if head.startswith(b"GET"):
                connection.sendall(OK % (5, b"quick"))
                return
            self.begun.release()
            content = head.partition(b"\r\n\r\n")[2]
            while not content.endswith(b"0\r\n\r\n"):
                more = connection.recv(65536)
                if not more:
                    return
                content += more
                self.pieces.release()
            connection.sendall(OK % (6, b"stored"))


@pytest.fixture
def uploads() -> Iterator[tuple[Uploads, str]]:
    found = Uploads()
    with raw_origin(found.answer) as url:
        yield found, url


def passing(origin: str, serve: Serve, limits: Limits | None = None, **options: float) -> str:
    edge = Edge("test", limits=limits) if limits else Edge("test")
    edge.route("/*", to=edge.origin("first", origin, **options), cache=cache.DISABLED)  # type: ignore[arg-type]
    return serve(edge).url


@pytest.mark.parametrize(
    "head",
    [POST, b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n", POST + b"2\r\nxx\r\n"],
    ids=["chunked", "length", "two bytes"],
)
def test_a_slow_upload_gives_its_connection_to_a_request_that_waits(
    head: bytes, uploads: tuple[Uploads, str], serve: Serve
) -> None:
    found, origin = uploads
    url = passing(origin, serve, max_connections=2, connect_timeout=60)
    with ExitStack() as stack:
        slow, other = (stack.enter_context(connect(url, 60)) for _ in range(2))
        for sock, data in ((slow, head), (other, POST + PIECE)):
            sock.sendall(data)
            assert found.begun.acquire(timeout=60)
        assert responses(exchange(url, GET, 60))[0].body == b"quick"
        refused = responses(read_all(slow))[0]
        assert (refused.status, b"body-too-slow" in refused.body) == (408, True)
        assert refused.get("connection") == "close"
        other.sendall(b"0\r\n\r\n")
        assert responses(read_until(other, b"stored"))[0].status == 200, "it was ahead, and one place was enough"


def test_an_upload_that_moves_keeps_its_connection(uploads: tuple[Uploads, str], serve: Serve) -> None:
    found, origin = uploads
    url = passing(origin, serve, max_connections=1, connect_timeout=3)
    with connect(url, 60) as sock, ThreadPoolExecutor(1) as pool:
        sock.sendall(POST)
        assert found.begun.acquire(timeout=60)
        waiting = pool.submit(exchange, url, GET, 60)
        while not waiting.done():
            sock.sendall(PIECE)
            assert found.pieces.acquire(timeout=60)
        assert responses(waiting.result())[0].status == 502
        sock.sendall(b"0\r\n\r\n")
        assert responses(read_until(sock, b"stored"))[0].status == 200


def test_without_a_rate_no_upload_is_slow(uploads: tuple[Uploads, str], serve: Serve) -> None:
    found, origin = uploads
    limits = Limits(http=HttpLimits(min_rate=0))
    url = passing(origin, serve, limits, max_connections=1, connect_timeout=3)
    with connect(url, 60) as sock:
        sock.sendall(POST)
        assert found.begun.acquire(timeout=60)
        assert responses(exchange(url, GET, 60))[0].status == 502
        sock.sendall(PIECE + b"0\r\n\r\n")
        assert responses(read_until(sock, b"stored"))[0].status == 200
