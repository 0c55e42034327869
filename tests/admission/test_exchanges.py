"""Exchanges that take a while: streams of events, tunnels, large contents, back-pressure, slow heads."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import httpx

from edgerouter import Edge, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, until_steady, wait_until
from ..raw import connect, read_all, responses

Serve = Callable[[Edge], Running]
Site = Callable[..., httpx.Client]


def test_server_sent_events_flow_without_waiting_for_the_end(origin: Origin, site: Site) -> None:
    step = threading.Semaphore(0)

    def events() -> Iterator[bytes]:
        for number in range(3):
            yield f"data: {number}\n\n".encode()
            step.acquire(timeout=60)

    origin.on(
        "/events",
        lambda seen: Reply(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}, chunks=events()),
    )
    client = site()
    with client.stream("GET", "/events") as response:
        received = []
        for line in response.iter_lines():
            if line:
                received.append(line)
                step.release()
    assert received == ["data: 0", "data: 1", "data: 2"]


def test_an_upgrade_becomes_a_tunnel(origin: Origin, site: Site) -> None:
    def websocket(seen: Seen, sock: socket.socket) -> None:
        assert seen.get("upgrade") == "websocket" and (seen.get("connection") or "").lower() == "upgrade"
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello ")
        while data := sock.recv(100):
            sock.sendall(data.upper())

    origin.on("/ws", websocket)
    client = site()
    with connect(str(client.base_url)) as sock:
        sock.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        received = b""
        while b"hello " not in received:
            received += sock.recv(1000)
        assert received.startswith(b"HTTP/1.1 101")
        sock.sendall(b"\x00binary\r\n\r\nGET / nonsense")
        echoed = b""
        while len(echoed) < 25:
            echoed += sock.recv(100)
        assert echoed == b"\x00BINARY\r\n\r\nGET / NONSENSE"


def test_large_bodies_stream_both_ways(origin: Origin, site: Site) -> None:
    blob = os.urandom(1 << 20) * 24
    origin.on("/big", lambda seen: Reply(200, {}, seen.body))
    client = site(cache=cache.DISABLED)
    response = client.post("/big", content=blob, timeout=60)
    assert response.content == blob

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(blob), 1 << 16):
            yield blob[start : start + (1 << 16)]

    assert client.post("/big", content=pieces(), timeout=60).content == blob


def test_neither_side_sends_more_than_the_other_takes(origin: Origin, serve: Serve) -> None:
    """Back-pressure: what nobody reads stays where it is, apart from what the sockets hold."""
    most = 32 << 20
    sent = [0]

    def pieces() -> Iterator[bytes]:
        for _ in range(2 * most >> 16):
            sent[0] += 1 << 16
            yield bytes(1 << 16)

    def unread(seen: Seen) -> Reply:
        return Reply(200, {"Cache-Control": "no-store"}, chunks=pieces())

    origin.on("/down", unread)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        edge = Edge("test")
        edge.route("/down", to=edge.origin("first", origin.url))
        edge.route("/up", to=edge.origin("deaf", f"http://127.0.0.1:{deaf.getsockname()[1]}"), cache=cache.DISABLED)
        running = serve(edge)
        with connect(running.url) as down, connect(running.url) as up:
            down.sendall(b"GET /down HTTP/1.1\r\nHost: a\r\n\r\n")
            up.sendall(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (2 * most))
            up.settimeout(1)
            assert sent_before_it_blocks(up, most) < most
            wait_until(lambda: sent[0] > 0, 60, "the origin's first bytes")
            assert until_steady(lambda: sent[0], what="the origin's bytes") < most


def sent_before_it_blocks(sock: socket.socket, most: int) -> int:
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += sock.send(bytes(1 << 16))
    return sent


def test_a_slow_head_gets_408(origin: Origin, serve: Serve) -> None:
    from edgerouter import HttpLimits, Limits

    edge = Edge("test", limits=Limits(http=HttpLimits(head_timeout=0.5)))
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    with connect(running.url, 15) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert [answer.status for answer in responses(read_all(sock))] == [408]


def test_expect_continue_is_answered(origin: Origin, site: Site) -> None:
    origin.default = lambda seen: Reply(200, {}, seen.body)
    client = site(cache=cache.DISABLED)
    with connect(str(client.base_url)) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
        )
        first = sock.recv(1000)
        assert first.startswith(b"HTTP/1.1 100"), first
        sock.sendall(b"body")
        rest = first.split(b"\r\n\r\n", 1)[1] + read_all(sock)
        assert responses(rest)[0].body == b"body"
