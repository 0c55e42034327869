"""``Expect: 100-continue``: the origin decides whether it wants the content (RFC 9110 §10.1.1)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from edgerouter import Context, Edge, Request, Response, cache

from ..conftest import Serve
from ..raw import connect, read_all

HEAD = b"POST /%s HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"


class Careful:
    """An origin that answers a request's head by a script, before it has read any content."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.script: Callable[[socket.socket], None] = lambda connection: None
        self.heads: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                more = connection.recv(1)
                if not more:
                    return
                head += more
            self.heads.append(head.lower())
            with contextlib.suppress(OSError):
                self.script(connection)


def content(connection: socket.socket) -> bytes:
    data = b""
    while len(data) < 7:
        more = connection.recv(7 - len(data))
        if not more:
            break
        data += more
    return data


@pytest.fixture
def careful() -> Iterator[Careful]:
    made = Careful()
    yield made
    made.listener.close()


@pytest.fixture
def edge_url(careful: Careful, serve: Serve) -> str:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", careful.url, expect_timeout=10), cache=cache.DISABLED)
    edge.route("/soon/*", to=edge.origin("soon", careful.url, expect_timeout=0.05), cache=cache.DISABLED)
    edge.route("/fixed", respond={"status": 403, "body": "no"})

    @edge.function("/function")
    def function(request: Request, ctx: Context) -> Response:
        return Response(request.body)

    return serve(edge).url


def test_a_100_of_the_origin_is_passed_on(careful: Careful, edge_url: str) -> None:
    asked = threading.Event()

    def script(connection: socket.socket) -> None:
        assert asked.wait(60)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = content(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n" + body)

    careful.script = script
    with connect(edge_url) as sock:
        sock.sendall(HEAD % b"a")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(10)
        asked.set()
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"content")
        data = read_all(sock)
    assert data.startswith(b"HTTP/1.1 200 ") and data.endswith(b"\r\n\r\ncontent")
    assert b"expect: 100-continue\r\n" in careful.heads[0]


def test_a_final_answer_before_the_100_ends_the_upload(careful: Careful, edge_url: str) -> None:
    careful.script = lambda connection: connection.sendall(
        b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"
    )
    with connect(edge_url) as sock:
        sock.sendall(HEAD % b"a")
        data = read_all(sock)
    assert data.startswith(b"HTTP/1.1 413 ") and data.endswith(b"\r\n\r\nbig")


def test_the_edge_sends_the_100_when_the_origin_is_silent(careful: Careful, edge_url: str) -> None:
    def script(connection: socket.socket) -> None:
        body = content(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n" + body)

    careful.script = script
    with connect(edge_url) as sock:
        sock.sendall(HEAD % b"soon/a")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"content")
        assert read_all(sock).endswith(b"\r\n\r\ncontent")


def test_an_origin_known_as_http_1_0_is_not_asked(careful: Careful, edge_url: str) -> None:
    def script(connection: socket.socket) -> None:
        if b"get /" not in careful.heads[-1]:
            content(connection)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")

    careful.script = script
    with connect(edge_url) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        assert read_all(sock).endswith(b"ok")
    with connect(edge_url) as sock:
        sock.sendall(HEAD % b"a")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"content")
        assert read_all(sock).endswith(b"\r\n\r\nok")
    assert b"expect" not in careful.heads[1]


def test_a_function_that_reads_the_content_causes_the_100(edge_url: str) -> None:
    with connect(edge_url) as sock:
        sock.sendall(HEAD % b"function")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"content")
        assert read_all(sock).endswith(b"\r\n\r\ncontent")


def test_an_answer_that_needs_no_content_causes_no_100(edge_url: str) -> None:
    with connect(edge_url) as sock:
        sock.sendall(HEAD % b"fixed")
        assert read_all(sock).startswith(b"HTTP/1.1 403 ")
