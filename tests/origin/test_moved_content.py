"""Content that the kernel moves from an origin's socket into a client's: each client gets its bytes, and no others."""

from __future__ import annotations

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edgerouter import ConfigError, Edge, HttpLimits, Limits, cache

from ..conftest import Serve
from ..origins import Origin, Seen, requests_on, wait_until
from ..raw import connect, exchange, read_all, responses

GET = b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n"


def content(number: int, length: int = 3 << 20) -> bytes:
    return random.Random(number).randbytes(length)


def head(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


def passing(origin: Origin, serve: Serve, pipes: int = 16) -> str:
    edge = Edge("test", limits=Limits(http=HttpLimits(pipes=pipes)))
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    return serve(edge).url


def pipes() -> set[str]:
    """The pipes of this process, which the edge is a part of."""
    links = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.add(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return {link for link in links if link.startswith("pipe:")}


@pytest.fixture
def numbered(origin: Origin) -> Origin:
    """Its content is that of the number in the path."""

    def answer(seen: Seen, sock: socket.socket) -> None:
        for again in requests_on(sock, seen):
            body = content(int(again.path[1:]))
            sock.sendall(head(len(body)) + body)

    origin.default = answer
    return origin


@pytest.mark.parametrize("most", [0, 1, 16])
def test_many_responses_at_a_time_come_whole(most: int, numbered: Origin, serve: Serve) -> None:
    url = passing(numbered, serve, most)
    with httpx.Client(base_url=url) as client, ThreadPoolExecutor(12) as threads:

        def get(number: int) -> bool:
            return client.get(f"/{number}").content == content(number)

        assert all(threads.map(get, range(36)))


def test_a_connection_of_each_side_serves_one_response_after_the_other(origin: Origin, serve: Serve) -> None:
    connections = set()

    def answer(seen: Seen, sock: socket.socket) -> None:
        for again in requests_on(sock, seen):
            connections.add(sock.getpeername())
            body = content(int(again.path[1:]), 100_000 + 30_000 * int(again.path[1:]))
            sock.sendall(head(len(body)))
            for at in range(0, len(body), 50_001):
                sock.sendall(body[at : at + 50_001])

    origin.default = answer
    with connect(passing(origin, serve)) as client:
        client.sendall(b"".join(GET % number for number in range(20)))
        client.shutdown(socket.SHUT_WR)
        found = responses(read_all(client))
    assert [one.body for one in found] == [content(number, 100_000 + 30_000 * number) for number in range(20)]
    assert len(connections) == 1


@pytest.mark.parametrize("sent", [70_000, 1_000_000, (3 << 20) - 1])
def test_content_that_breaks_off_ends_the_connection_behind_what_came(sent: int, origin: Origin, serve: Serve) -> None:
    def answer(_seen: Seen, sock: socket.socket) -> None:
        sock.sendall(head(3 << 20) + content(1)[:sent])

    origin.default = answer
    answered = exchange(passing(origin, serve), GET % 1)
    body = answered.partition(b"\r\n\r\n")[2]
    assert content(1).startswith(body)
    assert len(body) <= sent


def test_surplus_behind_the_content_is_nobodys_response(origin: Origin, serve: Serve) -> None:
    connections = []

    def answer(seen: Seen, sock: socket.socket) -> None:
        connections.append(sock)
        for again in requests_on(sock, seen):
            body = content(int(again.path[1:]))
            sock.sendall(head(len(body)) + body + head(7) + b"surplus")

    origin.default = answer
    url = passing(origin, serve)
    for number in range(3):
        assert httpx.get(f"{url}/{number}").content == content(number)
    assert len(connections) == 3


def test_clients_that_take_nothing_leave_pipes_to_others(numbered: Origin, serve: Serve) -> None:
    large = content(0, 12 << 20)

    def answer(_seen: Seen, sock: socket.socket) -> None:
        sock.sendall(head(len(large)) + large)

    numbered.on("/0", answer)
    url = passing(numbered, serve)
    before = pipes()
    stuck = [connect(url) for _ in range(12)]
    for client in stuck:
        client.sendall(GET % 0)
    numbered.wait_for(12)
    wait_until(lambda: len(pipes() - before) > 0, what="a pipe")
    assert httpx.get(f"{url}/99").content == content(99)
    assert len(pipes() - before) <= 16
    for client in stuck[6:]:
        client.close()
    for client in stuck[:6]:
        with client:
            client.shutdown(socket.SHUT_WR)
            assert responses(read_all(client))[0].body == large


def test_pipes_must_be_a_number_of_them() -> None:
    with pytest.raises(ConfigError, match=r"pipes.*1024"):
        HttpLimits(pipes=1025)
