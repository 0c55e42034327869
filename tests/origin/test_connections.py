"""Connections to origins: both messages are followed to their ends, and a connection is used again only after both."""

from __future__ import annotations

import socket
import threading

import pytest

from edgerouter import Edge, cache

from ..conftest import Serve
from ..origins import Origin, Reply, Seen, raw_origin, received_until, requests_on
from ..raw import connect, exchange, read_until, responses

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ncontent"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n"
TRAILED = (
    b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n0\r\nX-Sum: 7\r\n\r\n"
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a.example\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"


def passing(origin: Origin, serve: Serve) -> str:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    return serve(edge).url


@pytest.mark.parametrize("message", [LENGTH, CHUNKED, TRAILED], ids=["length", "chunked", "trailers"])
@pytest.mark.parametrize("step", [1, 11, 1000])
def test_a_response_is_read_whole_in_whatever_pieces_it_comes(
    message: bytes, step: int, origin: Origin, serve: Serve
) -> None:
    connections = []

    def answer(seen: Seen, sock: socket.socket) -> None:
        connections.append(sock)
        for _ in requests_on(sock, seen):
            data = INTERIM + message
            for at in range(0, len(data), step):
                sock.sendall(data[at : at + step])

    origin.on("/", answer)
    url = passing(origin, serve)
    for _ in range(3):
        data = exchange(url, GET)
        assert data.startswith(b"HTTP/1.1 103 ")
        final = data.partition(b"\r\n\r\n")[2]
        assert responses(final)[0].body == b"content"
        assert (b"x-sum: 7" in final) == (message == TRAILED)
    assert len(connections) == 1


def test_a_reload_that_changes_the_bounds_of_a_pool_takes_effect(origin: Origin, serve: Serve) -> None:
    connections = []

    def answer(seen: Seen, sock: socket.socket) -> None:
        connections.append(sock)
        for _ in requests_on(sock, seen):
            sock.sendall(LENGTH)

    def site(idle_connections: int) -> Edge:
        edge = Edge("test")
        first = edge.origin("first", origin.url, idle_connections=idle_connections)
        edge.route("/*", to=first, cache=cache.DISABLED)
        return edge

    origin.on("/", answer)
    running = serve(site(1))
    for idle, count in ((1, 1), (0, 3), (1, 3)):
        running.reload(site(idle))
        for _ in range(2):
            assert responses(exchange(running.url, GET))[0].body == b"content"
        assert len(connections) == count, idle


@pytest.mark.parametrize("size", [100, 5_000, 70_000, 3_000_000])
def test_bodies_of_every_size_leave_a_connection_that_is_used_again(size: int, origin: Origin, serve: Serve) -> None:
    body = bytes(at % 251 for at in range(size))
    connections = []

    def answer(seen: Seen, sock: socket.socket) -> None:
        connections.append(sock)
        for again in requests_on(sock, seen):
            assert again.body == body
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + again.body)

    origin.on("/", answer)
    url = passing(origin, serve)
    head = b"PUT / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n"
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(body[at:][:9999]), body[at:][:9999]) for at in range(0, size, 9999))
    for framed in (
        b"Content-Length: %d\r\n\r\n%s" % (size, body),
        b"Transfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % chunked,
    ):
        assert responses(exchange(url, head + framed))[0].body == body
    assert len(connections) == 1


def test_a_response_to_half_a_request_is_passed_on_and_ends_its_connection(serve: Serve) -> None:
    closed = threading.Semaphore(0)

    def answer(connection: socket.socket) -> None:
        with connection:
            received = received_until(connection, lambda it: it.endswith(b"\r\n\r\n"))
            if received is None:
                return
            assert b"content-length: 10000000" in received
            connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
            # The rest of the request never comes, and no other one.
            if connection.recv(1000) == b"":
                closed.release()

    with raw_origin(answer) as origin:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", origin), cache=cache.DISABLED)
        url = serve(edge).url
        for _ in range(2):
            with connect(url) as sock:
                sock.sendall(b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10000000\r\n\r\n")
                assert responses(read_until(sock, b"big"))[0].status == 413
            assert closed.acquire(timeout=60)


def test_bytes_behind_a_101_belong_to_the_tunnel(origin: Origin, serve: Serve) -> None:
    def echo(seen: Seen, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nearly")
        while data := sock.recv(100):
            sock.sendall(data)

    origin.on("/", echo)
    with connect(passing(origin, serve)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert read_until(sock, b"early").startswith(b"HTTP/1.1 101 ")
        sock.sendall(b"more")
        assert read_until(sock, b"more") == b"more"


def test_a_response_without_a_switch_to_a_request_for_one_is_passed_on(origin: Origin, serve: Serve) -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: echo\r\n\r\n"
    origin.on("/", Reply(body="no"))
    url = passing(origin, serve)
    for _ in range(2):
        assert responses(exchange(url, upgrade))[0].status == 200
    assert origin.count("/") == 2


@pytest.mark.parametrize("policy", [cache.DISABLED, cache.OPTIMIZED], ids=["passed", "stored"])
def test_fields_keep_their_order_and_the_case_of_their_names(
    policy: cache.CachePolicy, origin: Origin, serve: Serve
) -> None:
    fields = [("X-One", "1"), ("cache-CONTROL", "max-age=60"), ("x-two", "2"), ("X-ONE", "3"), ("ETag", '"a"')]
    origin.default = Reply(200, fields, "content")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=policy)
    url = serve(edge).url
    sent = b"GET / HTTP/1.1\r\nHost: a.example\r\nX-B: 1\r\nx-a: 2\r\nX-b: 3\r\nConnection: close\r\n\r\n"
    for _ in range(2):
        head = exchange(url, sent).partition(b"\r\n\r\n")[0]
        lines = [line.partition(b": ")[0].decode() for line in head.split(b"\r\n")[1:]]
        assert [name for name in lines if name.lower() in {name.lower() for name, _ in fields}] == [
            name for name, _ in fields
        ]
    seen = [name for name, _ in origin.requests[0].headers if name.lower() in ("x-a", "x-b")]
    assert seen == ["X-B", "x-a", "X-b"]
