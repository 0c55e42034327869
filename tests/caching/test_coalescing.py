"""Concurrent requests for one response: one goes to the origin, and the others get what they may (RFC 9111 §4)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import httpx
import pytest

from ..origins import Reply, Seen, wait_until
from ..raw import connect
from .conftest import Cached, MakeCached, status_of

FRESH = {"Cache-Control": "max-age=60"}


class Gate:
    """An origin's answer that waits until it is let go; further requests than the first do not wait."""

    def __init__(self, answer: Callable[[Seen], Reply], hold: int = 1) -> None:
        self.open = Event()
        self.answer = answer
        self.hold = hold
        self.seen = 0

    def __call__(self, seen: Seen) -> Reply:
        self.seen += 1
        if self.seen <= self.hold:
            assert self.open.wait(60)
        return self.answer(seen)


@contextmanager
def waiting(cached: Cached, path: str, each: list[dict[str, str]]) -> Iterator[list[Future[httpx.Response]]]:
    """Requests that are all at the edge: the first has reached the origin, the others came after it."""
    before = cached.origin.count(path)
    with ThreadPoolExecutor(len(each)) as pool, httpx.Client(base_url=cached.edge.url, timeout=30) as client:
        futures = [pool.submit(client.get, path, headers=each[0])]
        cached.origin.wait_for(before + 1, path)
        sent: list[str] = []
        trace = {"trace": lambda event, _: sent.append(event)}
        futures += [pool.submit(client.get, path, headers=headers, extensions=trace) for headers in each[1:]]
        written = "http11.send_request_body.complete"
        wait_until(lambda: sent.count(written) == len(each) - 1, what="all requests on their way")
        # The one worker answers this request behind those that were there before.
        cached.get("/behind")
        yield futures


async def ask_all(url: str, count: int) -> list[tuple[int, bytes]]:
    """``count`` requests, each on a connection of its own, as bytes: no client library keeps up with a thousand."""
    host, port = url.removeprefix("http://").split(":")

    async def one() -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /one HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
        writer.close()
        return int(head.split(b" ")[1]), body

    return await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_concurrent_misses_make_one_origin_request(make_cached: MakeCached, workers: int) -> None:
    cached = make_cached(workers=workers)
    gate = Gate(lambda seen: Reply(200, FRESH, "shared" * 1000))
    cached.origin.on("/one", gate)
    metrics = f"{cached.edge.admin_url}/metrics"
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(asyncio.run, ask_all(cached.edge.url, 1000))
        wait_until(
            lambda: "edgerouter_connections 1000" in httpx.get(metrics).text.splitlines(), 30, "a thousand connections"
        )
        gate.open.set()
        assert set(answers.result(30)) == {(200, b"shared" * 1000)}
    assert cached.origin.count("/one") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"Cache-Control": "private, max-age=60"},
        {"Cache-Control": "no-store"},
        {"Cache-Control": "no-cache", "ETag": '"a"'},
        {"Cache-Control": "max-age=0", "ETag": '"a"'},
        {"Cache-Control": "max-age=60", "Set-Cookie": "who=me"},
        {"Cache-Control": "max-age=60", "Vary": "*"},
        {"Cache-Control": "max-age=60", "Vary": "X-Who"},
    ],
)
def test_nobody_gets_an_answer_that_is_for_another(cached: Cached, fields: dict[str, str]) -> None:
    path = cached.path()
    gate = Gate(lambda seen: Reply(200, fields, seen.get("x-who") or ""))
    cached.origin.on(path, gate)
    with waiting(cached, path, [{"x-who": str(who)} for who in range(12)]) as futures:
        gate.open.set()
        for who, future in enumerate(futures):
            response = future.result(60)
            assert response.text == str(who)
            assert "collapsed" not in status_of(response)
    assert cached.origin.count(path) == 12


@pytest.mark.parametrize("field", [("Cache-Control", "private, max-age=60"), ("Vary", "X-Who")])
def test_a_304_that_takes_a_response_from_the_others_is_for_the_client_that_asked(
    cached: Cached, field: tuple[str, str]
) -> None:
    path = cached.answer({"Cache-Control": "max-age=1", "ETag": '"a"'}, "old")
    httpx.get(cached.edge.url + path)
    now = [("Cache-Control", "max-age=60"), field]

    def answer(seen: Seen) -> Reply:
        if seen.get("if-none-match") == '"a"':
            return Reply(304, [*now, ("ETag", '"a"')])
        return Reply(200, now, seen.get("x-who") or "")

    gate = Gate(answer)
    cached.origin.on(path, gate)
    cached.at(10)
    with waiting(cached, path, [{"x-who": "1"}, {"x-who": "2"}, {"x-who": "3"}]) as futures:
        gate.open.set()
        for future in futures:
            assert "collapsed" not in status_of(future.result(60))
        assert futures[0].result().text == "old"
    assert cached.get(path, x_who="4").text == "4"


def test_vary_that_comes_late_splits_the_followers_into_those_that_agree(cached: Cached) -> None:
    path = cached.path()
    gate = Gate(lambda seen: Reply(200, {**FRESH, "Vary": "X-Who"}, seen.get("x-who") or ""))
    cached.origin.on(path, gate)
    who = ["a", *"abcabcabc"]
    with waiting(cached, path, [{"x-who": name} for name in who]) as futures:
        gate.open.set()
        assert [future.result(60).text for future in futures] == who
    assert cached.origin.count(path) <= 3 + 2  # one each, and no more than those that came while theirs was stored
    for name in "abc":
        assert "hit" in status_of(cached.get(path, x_who=name))


def test_a_leader_that_goes_away_leaves_its_answer_to_the_others(cached: Cached) -> None:
    path = cached.path()
    gate = Gate(lambda seen: Reply(200, FRESH, "shared"))
    cached.origin.on(path, gate)
    with connect(cached.edge.url) as leader:
        leader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        cached.origin.wait_for(1, path)
        with ThreadPoolExecutor(4) as pool:
            futures = [
                pool.submit(httpx.get, cached.edge.url + path, headers={"host": "x"}, timeout=30) for _ in range(4)
            ]
            metrics = f"{cached.edge.admin_url}/metrics"
            wait_until(lambda: "edgerouter_connections 5" in httpx.get(metrics).text.splitlines(), what="all are here")
            # With no time to linger a close is a reset.
            leader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leader.close()
            gate.open.set()
            assert {future.result(60).text for future in futures} == {"shared"}
    assert cached.origin.count(path) == 1


def test_a_failing_origin_is_asked_once_for_all_who_wait(cached: Cached) -> None:
    path = cached.path()
    go = Event()

    def dies(seen: Seen, connection: socket.socket) -> None:
        assert go.wait(60)
        connection.sendall(b"nonsense\r\n\r\n")

    cached.origin.on(path, dies)
    with waiting(cached, path, [{}] * 10) as futures:
        go.set()
        assert {future.result(60).status_code for future in futures} == {502}
    assert cached.origin.count(path) == 1


def test_what_a_request_demands_for_itself_keeps_it_apart(cached: Cached) -> None:
    path = cached.path()
    gate = Gate(lambda seen: Reply(200, FRESH, "new" if seen.get("cache-control") else "first"))
    cached.origin.on(path, gate)
    with waiting(cached, path, [{}, {}]) as futures:
        assert cached.get(path, authorization="Basic eDp5").text == "first"
        assert cached.get(path, cache_control="no-cache").text == "new"
        gate.open.set()
        assert futures[1].result(60).status_code == 200
    assert cached.origin.count(path) == 3


def test_those_who_come_while_the_body_arrives_read_along(cached: Cached) -> None:
    go = Event()

    def slow(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n01234")
        assert go.wait(60)
        connection.sendall(b"56789")

    path = cached.path()
    cached.origin.on(path, slow)
    with cached.client.stream("GET", path) as first, httpx.Client(base_url=cached.edge.url) as other:
        early = first.iter_raw()
        assert next(early) == b"01234"
        with other.stream("GET", path) as second:
            late = second.iter_raw()
            assert next(late) == b"01234"
            assert "collapsed" in second.headers["cache-status"]
            go.set()
            assert b"".join(late) == b"56789"
        assert b"".join(early) == b"56789"
    assert cached.origin.count(path) == 1


def test_a_switched_off_collapse_asks_for_each(make_cached: MakeCached) -> None:
    cached = make_cached(collapse=False)
    path = cached.path()
    gate = Gate(lambda seen: Reply(200, FRESH, "x"), hold=3)
    cached.origin.on(path, gate)
    with waiting(cached, path, [{}] * 3) as futures:
        cached.origin.wait_for(3, path)
        gate.open.set()
        assert {future.result(60).text for future in futures} == {"x"}
