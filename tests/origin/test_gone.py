"""A client that is gone keeps no connection to an origin; one that has only sent its last byte keeps its own."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from edgerouter import Edge, HttpLimits, Limits, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, wait_until
from ..raw import connect, read_all, read_until, responses

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


@pytest.fixture
def slow(origin: Origin) -> Iterator[threading.Event]:
    """``/slow`` is answered once the event is set."""
    answer = threading.Event()

    def wait(seen: Seen) -> Reply:
        answer.wait(60)
        return Reply(200, {}, "at last")

    origin.default = Reply(200, {}, "quick")
    origin.on("/slow", wait)
    yield answer
    answer.set()


@pytest.fixture
def edge(origin: Origin, serve: Serve) -> Callable[..., Running]:
    def make(limits: Limits | None = None, connections: int = 2, **route: object) -> Running:
        edge = Edge("test", limits=limits) if limits else Edge("test")
        # A request that waits for a connection waits longer than its client does.
        to = edge.origin("first", origin.url, max_connections=connections, connect_timeout=60)
        edge.route("/*", to=to, **({"cache": cache.DISABLED} | route))  # type: ignore[arg-type]
        return serve(edge)

    return make


SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT = b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n"


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("behind", [b"", NEXT * 3])
def test_a_reset_ends_what_was_being_fetched_for_nobody_else(
    origin: Origin, slow: threading.Event, edge: Callable[..., Running], behind: bytes
) -> None:
    asked = threading.Event()
    ended = threading.Event()

    def wait(seen: Seen, connection: socket.socket) -> None:
        connection.settimeout(60)
        asked.set()
        if connection.recv(1) == b"":
            ended.set()

    origin.on("/slow", wait)
    sock = connect(edge().url)
    sock.sendall(SLOW)
    assert asked.wait(60)
    sock.sendall(behind)
    reset(sock)
    assert ended.wait(30), "the connection to the origin ends while it is still busy"


def test_a_client_that_has_sent_all_it_has_gets_its_whole_answer(
    origin: Origin, slow: threading.Event, edge: Callable[..., Running]
) -> None:
    with connect(edge().url) as sock:
        sock.sendall(SLOW + NEXT)
        sock.shutdown(socket.SHUT_WR)
        origin.wait_for(1, "/slow")
        slow.set()
        assert [answer.body for answer in responses(read_all(sock))] == [b"at last", b"quick"]


@pytest.mark.parametrize("route", [{"cache": cache.DISABLED}, {"cache": cache.STANDARD}])
def test_a_new_request_does_not_wait_behind_abandoned_ones(
    origin: Origin, slow: threading.Event, edge: Callable[..., Running], client_for: ClientFor, route: dict[str, object]
) -> None:
    running = edge(connections=4, **route)
    for at in range(20):
        origin.on(f"/slow/{at}", origin.answers["/slow"])
        sock = connect(running.url)
        sock.sendall(b"GET /slow/%d HTTP/1.1\r\nHost: a\r\n\r\n" % at)
        sock.close()
    wait_until(lambda: len(origin.requests) >= 4, what="every connection being in use")
    assert client_for(running).get("/quick").text == "quick"
    assert not slow.is_set(), "no earlier request was answered to make room"


def test_requests_that_are_waited_for_keep_their_connections(
    origin: Origin, slow: threading.Event, edge: Callable[..., Running]
) -> None:
    running = edge(connections=2)
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(running.url)) for _ in range(2)]
        for sock in waiting:
            sock.sendall(SLOW)
        origin.wait_for(2, "/slow")
        other = stack.enter_context(connect(running.url))
        other.sendall(NEXT)
        slow.set()
        for sock, text in [*((sock, b"at last") for sock in waiting), (other, b"quick")]:
            assert responses(read_until(sock, text))[0].body == text


def test_a_half_closed_request_ends_after_its_time(
    origin: Origin, slow: threading.Event, edge: Callable[..., Running]
) -> None:
    with connect(edge(Limits(http=HttpLimits(half_close_timeout=1))).url) as sock:
        sock.sendall(SLOW)
        origin.wait_for(1, "/slow")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
