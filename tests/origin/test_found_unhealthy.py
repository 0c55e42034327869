"""An origin that is found unhealthy while requests wait for it: nobody waits longer than somebody who comes later.

The time limits that could end a wait as well are longer than the clients wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from edgerouter import CacheLimits, CachePolicy, Edge, Health, Limits, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, wait_until

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]

#: Seconds, far more than a client of these tests waits.
NEVER = 600.0

HEALTH = Health("/healthz", interval=0.1, timeout=0.5, unhealthy_after=2)


class Freezing:
    """An origin that answers until it freezes: then requests and probes wait until the test is over."""

    def __init__(self, origin: Origin) -> None:
        self.frozen = False
        self.over = threading.Event()
        self.origin = origin
        origin.default = self

    def __call__(self, seen: Seen) -> Reply | None:
        if self.frozen:
            self.over.wait(NEVER)
            return None
        if seen.path == "/healthz":
            return Reply(200)
        return Reply(200, {"Cache-Control": "max-age=1, stale-if-error=600", "X-From": self.origin.name}, "page")


@pytest.fixture
def freezing(origin: Origin) -> Iterator[Freezing]:
    made = Freezing(origin)
    yield made
    made.over.set()


def test_the_next_member_is_asked_beside_one_that_is_found_unhealthy(
    freezing: Freezing, second: Origin, serve: Serve, client_for: ClientFor
) -> None:
    second.default = Reply(200, {"X-From": "second"}, "page")
    edge = Edge("test")
    members = [
        edge.origin(one.name, one.url, health=HEALTH, first_byte_timeout=NEVER) for one in (freezing.origin, second)
    ]
    edge.route("/*", to=edge.group("site", members, deadline=2 * NEVER), cache=cache.DISABLED)
    client = client_for(serve(edge))
    assert client.get("/").headers["x-from"] == "first"
    freezing.frozen = True
    assert client.get("/waits").headers["x-from"] == "second"
    assert freezing.origin.count("/waits") == 1


def test_clients_of_a_hot_page_get_the_stale_copy_soon_after_the_verdict(
    freezing: Freezing, serve: Serve, client_for: ClientFor
) -> None:
    """Leader and followers alike; the origin gets a request for the page once a second at most."""
    edge = Edge("test", limits=Limits(cache=CacheLimits(coalesce_timeout=NEVER)))
    first = edge.origin("first", freezing.origin.url, health=HEALTH, first_byte_timeout=NEVER)
    edge.route("/*", to=edge.group("site", [first], deadline=2 * NEVER))
    running = serve(edge)
    client = client_for(running)
    assert client.get("/hot").text == "page"
    running.set_clock(10)
    freezing.frozen = True
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.get("/hot"), range(20)))
    assert {answer.text for answer in answers} == {"page"}
    assert all("detail=stale-if-error" in answer.headers["cache-status"] for answer in answers)
    assert freezing.origin.count("/hot") == 2
    # The origin has been unhealthy for a while: nobody waits; a flight is under way and followed.
    assert all(client.get("/hot").text == "page" for _ in range(20))
    assert freezing.origin.count("/hot") <= 3


def test_an_origin_that_is_back_freshens_what_was_sent_stale(
    freezing: Freezing, serve: Serve, client_for: ClientFor
) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", freezing.origin.url, health=HEALTH), cache=CachePolicy())
    running = serve(edge)
    client = client_for(running)
    client.get("/hot")
    running.set_clock(10)
    freezing.frozen = True
    assert "stale-if-error" in client.get("/hot").headers["cache-status"]
    freezing.frozen = False
    freezing.over.set()
    wait_until(lambda: "stale-if-error" not in client.get("/hot").headers["cache-status"], what="a fresh copy")


def test_after_the_time_to_wait_one_request_a_second_asks_again(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    """A healthy origin of which one answer never comes: ten followers are not ten requests."""
    over = threading.Event()

    def first_hangs(seen: Seen) -> Reply | None:
        if origin.count("/page") == 1:
            over.wait(60)
            return None
        return Reply(200, {"Cache-Control": "max-age=60"}, "page")

    origin.on("/page", first_hangs)
    edge = Edge("test", limits=Limits(cache=CacheLimits(coalesce_timeout=1)))
    edge.route("/*", to=edge.origin("first", origin.url))
    client = client_for(serve(edge))
    with ThreadPoolExecutor(11) as pool:
        leader = pool.submit(client.get, "/page")
        origin.wait_for(1, "/page")
        answers = list(pool.map(lambda _: client.get("/page"), range(10)))
        assert {answer.text for answer in answers} == {"page"}
        assert origin.count("/page") == 2
        over.set()
        leader.result()


def test_at_an_origin_that_is_gone_a_page_without_a_copy_fails_soon(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    """Spared or not: nobody waits for the deadline of the group."""
    edge = Edge("test", limits=Limits(cache=CacheLimits(coalesce_timeout=NEVER)))
    edge.route("/*", to=edge.group("site", [edge.origin("first", origin.url)], deadline=NEVER))
    client = client_for(serve(edge))
    origin.kill()
    for at in range(3):
        assert client.get(f"/{at}").status_code == 502
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: client.get("/hot").status_code, range(30)))
    assert answers == [502] * 30


def test_an_origin_that_answers_with_errors_is_asked_for_what_only_a_disconnection_would_allow(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    client = client_for(running)
    origin.default = Reply(200, {"Cache-Control": "max-age=1"}, "page")
    client.get("/page")
    running.set_clock(10)
    origin.default = Reply(500, {}, "broken")
    for _ in range(6):
        assert client.get("/page").status_code == 500
    assert origin.count("/page") == 7
