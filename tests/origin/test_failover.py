"""Origin groups: ordered failover, replay, stale as the last resort."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import Edge, Health, cache
from edgerouter.testing import Running

from ..origins import Answer, Origin, Reply, Seen, wait_until
from ..raw import connect, read_until

Pair = Callable[..., httpx.Client]


@pytest.fixture
def pair(
    origin: Origin, second: Origin, serve: Callable[[Edge], Running], client_for: Callable[[Running], httpx.Client]
) -> Pair:
    origin.default = Reply(200, {}, "from first")
    second.default = Reply(200, {}, "from second")

    def make(origin_settings: dict[str, Any] | None = None, **route: Any) -> httpx.Client:
        edge = Edge("test")
        members = [edge.origin(o.name, o.url, **(origin_settings or {})) for o in (origin, second)]
        group = edge.group("site", members, failover_on={403, 404, 500, 502, 503, 504})
        edge.route("/*", to=group, **({"cache": cache.DISABLED} | route))
        return client_for(serve(edge))

    return make


def test_the_second_origin_answers_when_the_first_is_killed(origin: Origin, pair: Pair) -> None:
    client = pair()
    assert client.get("/").headers["x-origin"] == "first"
    origin.kill()
    for _ in range(5):
        response = client.get("/")
        assert (response.status_code, response.headers["x-origin"]) == (200, "second")
    origin.start()


@pytest.mark.parametrize("status", [403, 404, 500, 502, 503, 504])
def test_the_configured_statuses_fail_over(origin: Origin, pair: Pair, status: int) -> None:
    origin.default = Reply(status, {}, "no")
    assert pair().get("/").text == "from second"


def test_statuses_that_are_not_configured_do_not_fail_over(origin: Origin, second: Origin, pair: Pair) -> None:
    origin.default = Reply(410, {}, "gone")
    assert pair().get("/").status_code == 410
    assert second.requests == []


def test_a_slow_first_origin_times_out_to_the_second(origin: Origin, pair: Pair) -> None:
    over = threading.Event()

    def never(seen: Seen, sock: socket.socket) -> None:
        over.wait(60)

    origin.default = never
    # The default would take longer.
    assert pair({"first_byte_timeout": 1}).get("/", timeout=20).text == "from second"
    over.set()


def test_a_post_is_not_sent_twice_once_an_origin_may_have_seen_it(origin: Origin, second: Origin, pair: Pair) -> None:
    def drop(seen: Seen, sock: socket.socket) -> None:
        sock.close()

    origin.default = drop
    response = pair().post("/", content=b"order")
    assert response.status_code == 502
    assert len(origin.requests) == 1
    assert second.requests == []


def test_a_post_goes_to_the_second_when_the_first_cannot_be_reached(origin: Origin, second: Origin, pair: Pair) -> None:
    origin.kill()
    response = pair().post("/", content=b"order")
    assert (response.status_code, response.text) == (200, "from second")
    assert second.requests[0].body == b"order"


def test_with_all_origins_down_the_last_good_copy_is_served(origin: Origin, second: Origin, pair: Pair) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=0, stale-if-error=600"}, "kept")
    client = pair(cache=cache.STANDARD)
    assert client.get("/").text == "kept"
    origin.kill()
    second.kill()
    response = client.get("/")
    assert (response.status_code, response.text) == (200, "kept")
    assert client.get("/never-seen").status_code == 502


def test_an_origin_that_is_down_at_start_is_no_reason_not_to_start(origin: Origin, pair: Pair) -> None:
    origin.kill()
    client = pair()
    assert client.get("/").text == "from second"


def test_a_stale_keep_alive_connection_is_not_an_error(origin: Origin, site: Callable[..., httpx.Client]) -> None:
    origin.default = Reply(200, {}, "x")
    client = site(cache=cache.DISABLED)
    for count in (1, 2, 3):
        assert client.get("/").text == "x"
        assert origin.count("/") == count
        for connection in list(origin.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def test_an_origin_that_says_it_is_sick_is_passed_over_though_it_answers(
    origin: Origin,
    second: Origin,
    serve: Callable[[Edge], Running],
    client_for: Callable[[Running], httpx.Client],
) -> None:
    """Answered requests between two probes do not hide that the probes fail."""
    for one in (origin, second):
        one.default = Reply(200, {"X-From": one.name}, "x")
    edge = Edge("test")
    health = Health("/healthz", interval=0.1, unhealthy_after=3)
    members = [edge.origin(one.name, one.url, health=health) for one in (origin, second)]
    edge.route("/*", to=edge.group("site", members), cache=cache.DISABLED)
    client = client_for(serve(edge))
    assert client.get("/").headers["x-from"] == "first"
    origin.on("/healthz", Reply(503))
    wait_until(lambda: client.get("/").headers["x-from"] == "second", what="the probes' verdict")
    origin.on("/healthz", Reply(200))
    wait_until(lambda: client.get("/").headers["x-from"] == "first", what="its return")


@pytest.mark.parametrize("first", ["killed", "refusing", "closing", "silent"])
def test_an_upgrade_goes_to_the_second_when_the_first_does_not_switch(
    origin: Origin, second: Origin, pair: Pair, first: str
) -> None:
    def echo(seen: Seen, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhello")
        while data := sock.recv(100):
            sock.sendall(data)

    def close(seen: Seen) -> None:
        return None

    def wait(seen: Seen, sock: socket.socket) -> None:
        sock.recv(1)

    if first == "killed":
        origin.kill()
    else:
        answers: dict[str, Answer] = {"refusing": Reply(503, {}, "no"), "closing": close, "silent": wait}
        origin.default = answers[first]
    second.default = echo
    with connect(str(pair({"first_byte_timeout": 1}).base_url), timeout=30) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert read_until(sock, b"hello").startswith(b"HTTP/1.1 101 ")
        sock.sendall(b"more")
        assert read_until(sock, b"more") == b"more"
    assert len(second.requests) == 1
