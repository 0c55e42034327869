"""One URL does not decide the health of its origin, and an origin that is busy is spared."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from edgerouter import Edge, Health, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, wait_until

Site = Callable[..., httpx.Client]
Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


def resets(seen: Seen, sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


def healthy(edge: Running) -> bool:
    return 'edgerouter_origin_healthy{origin="first"} 1' in httpx.get(f"{edge.admin_url}/metrics").text


@pytest.fixture
def probed(origin: Origin, serve: Serve) -> Running:
    """An edge that has probed its origin, which answers everything but ``/broken``."""
    origin.default = Reply(200, {}, "fine")
    origin.on("/broken", resets)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url, health=Health("/healthz", interval=60)))
    running = serve(edge)
    origin.wait_for(1, "/healthz")
    return running


def test_one_url_that_is_reset_does_not_put_a_probed_origin_out(probed: Running, client_for: ClientFor) -> None:
    client = client_for(probed)
    for _ in range(10):
        assert client.get("/broken").status_code == 502
    assert healthy(probed)


def test_many_requests_of_which_half_fail_put_an_origin_out(probed: Running, client_for: ClientFor) -> None:
    client = client_for(probed)
    for at in range(15):
        assert client.get(f"/{at}").status_code == 200
    for _ in range(14):
        client.get("/broken")
    assert healthy(probed)
    for _ in range(2):
        client.get("/broken")
    wait_until(lambda: not healthy(probed), what="the origin being found unhealthy")


def breaks_off(seen: Seen, sock: socket.socket) -> None:
    kind = "text/event-stream" if seen.path == "/events" else "text/plain"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    sock.sendall(head.encode() + b"186a0\r\n" + bytes(50_000))
    sock.shutdown(socket.SHUT_RDWR)


def test_an_origin_whose_responses_break_off_is_put_out_though_its_heads_and_probes_are_good(
    origin: Origin, second: Origin, serve: Serve, client_for: ClientFor
) -> None:
    origin.default = Reply(200, {}, "fine")
    second.default = Reply(200, {}, "whole")
    edge = Edge("test")
    health = Health("/healthz", interval=60)
    members = [edge.origin(one.name, one.url, health=health) for one in (origin, second)]
    edge.route("/*", to=edge.group("site", members), cache=cache.DISABLED)
    running = serve(edge)
    client = client_for(running)
    origin.wait_for(1, "/healthz")
    for path in ("/events", "/page"):
        origin.on(path, breaks_off)
    for _ in range(30):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/events")
    assert healthy(running), "streams of events end with their origin's process"
    # The streams counted as answered.
    for _ in range(60):
        with contextlib.suppress(httpx.RemoteProtocolError):
            if client.get("/page").text == "whole":
                break
    assert not healthy(running)
    assert client.get("/page").text == "whole"


def test_a_busy_origin_is_spared_for_the_key_that_it_named(origin: Origin, site: Site) -> None:
    origin.on("/busy", Reply(503, {"Retry-After": "120", "X-Secret": "inner"}, "down for maintenance"))
    origin.on("/fine", Reply(200, {}, "fine"))
    client = site()
    first = client.get("/busy")
    assert (first.status_code, first.text) == (503, "down for maintenance")
    second = client.get("/busy")
    assert (second.status_code, second.headers["retry-after"]) == (503, "120")
    assert "detail=origin-busy" in second.headers["cache-status"]
    assert "x-secret" not in second.headers and "maintenance" not in second.text
    assert client.get("/fine").status_code == 200
    assert origin.count("/busy") == 1
    origin.on("/busy", Reply(200, {}, "back"))
    wait_until(lambda: client.get("/busy").text == "back", what="the end of the second")


@pytest.mark.parametrize("answer", [Reply(503), Reply(503, {"Retry-After": "0"}), Reply(429, {"Retry-After": "9"})])
def test_an_error_without_a_time_is_asked_for_again(origin: Origin, site: Site, answer: Reply) -> None:
    origin.on("/", answer)
    client = site()
    for times in (1, 2, 3):
        assert client.get("/").status_code == answer.status
        assert origin.count("/") == times


def test_followers_of_a_busy_answer_do_not_all_go_for_themselves(origin: Origin, site: Site) -> None:
    origin.on("/busy", Reply(503, {"Retry-After": "5"}, "no"))
    client = site()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.get("/busy").status_code, range(20)))
    assert answers == [503] * 20
    assert origin.count("/busy") <= 3


def test_a_stale_copy_that_an_error_allows_comes_before_the_edge_s_503(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    client = client_for(running)
    origin.on("/", Reply(200, {"Cache-Control": "max-age=1, stale-if-error=600"}, "page"))
    client.get("/")
    running.set_clock(10)
    origin.on("/", Reply(503, {"Retry-After": "5"}, "no"))
    for _ in range(3):
        assert client.get("/").text == "page"
    assert origin.count("/") == 2
