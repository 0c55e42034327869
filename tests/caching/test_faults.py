"""Origins that fail in the middle: the client sees 502 or a broken message, and nothing is stored."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from threading import Event

import httpx
import pytest

from edgerouter import CachePolicy, Edge, cache

from ..conftest import Serve
from ..origins import Origin, Reply, Seen
from ..raw import connect, read_all
from .conftest import Cached, status_of

HEAD = b'HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: "a"\r\n'


def closes(data: bytes) -> Callable[[Seen, socket.socket], None]:
    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(data)

    return answer


def closes_with(data: bytes) -> Callable[[Seen, socket.socket], None]:
    """The end of the connection comes in one segment with the data."""

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.send(data, socket.MSG_MORE)

    return answer


def resets(data: bytes) -> Callable[[Seen, socket.socket], None]:
    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(data)
        # Closing with unsent linger time is a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return answer


BROKEN = {
    "stops before its length": closes(HEAD + b"Content-Length: 100\r\n\r\nonly this"),
    "stops before the first byte": closes(HEAD + b"Content-Length: 100\r\n\r\n"),
    "resets in the body": resets(HEAD + b"Content-Length: 100\r\n\r\nonly this"),
    "stops between chunks": closes(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    "stops in a chunk": closes(HEAD + b"Transfer-Encoding: chunked\r\n\r\n50\r\nhello"),
    "stops before the last chunk ends": closes(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"),
    "garbles a chunk": closes(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_body_is_never_sent_as_a_whole_one_nor_stored(cached: Cached, how: str) -> None:
    path = cached.path()
    cached.origin.on(path, BROKEN[how])
    for _ in range(2):
        with contextlib.suppress(httpx.HTTPError):
            assert cached.get(path).status_code == 502
    assert cached.origin.count(path) == 2
    cached.origin.on(path, Reply(200, {"Cache-Control": "max-age=60"}, "whole"))
    for _ in range(2):
        assert cached.get(path).text == "whole"
    assert cached.origin.count(path) == 3


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_body_ends_without_an_end_on_the_wire(cached: Cached, how: str) -> None:
    path = cached.path()
    cached.origin.on(path, BROKEN[how])
    with connect(cached.edge.url) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 200"):
        assert not body.endswith(b"0\r\n\r\n")
        assert b"content-length: 100" in head.lower() or b"transfer-encoding: chunked" in head.lower()
        assert len(body) < 100
    else:
        assert not head or head.startswith(b"HTTP/1.1 502")


def test_a_short_body_that_breaks_off_is_a_bad_gateway(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, closes_with(HEAD + b"Content-Length: 100\r\n\r\nonly this"))
    for _ in range(3):
        response = cached.get(path)
        assert response.status_code == 502
        assert "detail=body-aborted" in status_of(response)


@pytest.mark.parametrize("policy", [CachePolicy(), cache.DISABLED], ids=["cached", "uncached"])
def test_a_short_body_that_breaks_off_makes_the_next_origin_answer(
    origin: Origin, second: Origin, serve: Serve, policy: CachePolicy
) -> None:
    origin.default = closes_with(HEAD + b"Content-Length: 100\r\n\r\nonly this")
    second.default = Reply(200, {"Cache-Control": "max-age=60"}, "whole")
    edge = Edge("test")
    group = edge.group("site", [edge.origin("first", origin.url), edge.origin("second", second.url)])
    edge.route("/*", to=group, cache=policy)
    response = httpx.get(f"{serve(edge).url}/page")
    assert (response.status_code, response.text) == (200, "whole")
    assert origin.count("/page") == 1


@pytest.mark.parametrize("length", [200_000, 20_000_000])
@pytest.mark.parametrize("fields", [b"", b'ETag: "a"\r\n'])
def test_a_long_body_that_breaks_off_leaves_the_client_its_head_and_what_came(
    cached: Cached, length: int, fields: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n" + fields
    path = cached.path()
    cached.origin.on(path, closes(head + f"Content-Length: {length}\r\n\r\n".encode() + b"only this"))
    with connect(cached.edge.url) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200")
    assert body.startswith(b"only this") and len(body) < length


def test_events_are_not_held_back(cached: Cached) -> None:
    go = Event()

    def events(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"9\r\ndata: 1\n\n\r\n")
        go.wait(60)

    path = cached.path()
    cached.origin.on(path, events)
    try:
        with cached.client.stream("GET", path) as response:
            assert next(response.iter_raw()) == b"data: 1\n\n"
    finally:
        go.set()


def test_a_broken_refresh_leaves_the_stored_response_alone(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=10, stale-while-revalidate=1000"}, "good")
    cached.get(path)
    cached.origin.on(path, BROKEN["stops before its length"])
    cached.at(20)
    assert cached.get(path).text == "good"
    cached.origin.wait_for(2, path)
    assert cached.get(path).text == "good"


def test_more_bytes_than_announced_are_not_part_of_the_message(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, closes(HEAD + b"Content-Length: 5\r\n\r\nhello and more\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
    for _ in range(2):
        assert cached.get(path).text == "hello"


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\nCache-Control: max-age=60\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\nCache-Control: max-age=60\r\n\r\nhello",
        b"",
    ],
)
def test_what_is_no_response_is_a_bad_gateway_and_not_stored(cached: Cached, raw: bytes) -> None:
    path = cached.path()
    cached.origin.on(path, Reply(raw=raw))
    for _ in range(2):
        assert cached.get(path).status_code == 502
    cached.origin.on(path, Reply(200, {"Cache-Control": "max-age=60"}, "whole"))
    assert cached.get(path).text == "whole"


def test_an_origin_that_trickles_is_cut_off_and_all_readers_learn_it(origin: Origin, serve: Serve) -> None:
    go = Event()

    def trickles(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n01234")
        go.wait(60)

    origin.on("/trickle", trickles)
    edge = Edge("test")
    to = edge.origin("first", origin.url, between_bytes_timeout=2)
    edge.route("/*", to=to, cache=CachePolicy())
    served = serve(edge)
    try:
        with (
            httpx.Client(base_url=served.url) as client,
            client.stream("GET", "/trickle") as first,
            client.stream("GET", "/trickle") as second,
        ):
            for response in (first, second):
                with pytest.raises(httpx.HTTPError):
                    response.read()
        assert origin.count("/trickle") == 1
    finally:
        go.set()
    origin.on("/trickle", Reply(200, {"Cache-Control": "max-age=60"}, "whole"))
    assert httpx.get(f"{served.url}/trickle").text == "whole"


def test_an_origin_that_is_slow_to_begin_times_out(origin: Origin, serve: Serve) -> None:
    go = Event()

    def silent(seen: Seen) -> None:
        go.wait(60)

    origin.on("/slow", silent)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url, first_byte_timeout=0.3), cache=CachePolicy())
    response = httpx.get(f"{serve(edge).url}/slow")
    go.set()
    assert response.status_code == 504
    assert "detail=first-byte-timeout" in status_of(response)
