"""Stale responses served at once, and hot ones refreshed before they expire, through the socket."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, ConfigError, Edge, Health
from edgerouter.testing import Running

from ..metrics import metric
from ..origins import Origin, Reply, wait_until
from ..responses import status_of

Site = Callable[..., httpx.Client]
Serve = Callable[[Edge], Running]


def aged(age: int, **fields: str) -> dict[str, str]:
    """Fields of a response that is fresh for ten seconds and comes with an age."""
    return {"Cache-Control": "max-age=10", "Age": str(age), **fields}


def test_within_grace_a_stale_response_is_served_at_once_and_refreshed_behind(origin: Origin, site: Site) -> None:
    versions = map(str, itertools.count(1))
    released = threading.Event()

    def answer(_seen: object) -> Reply:
        version = next(versions)
        if version != "1":
            assert released.wait(60)
        return Reply(200, aged(12), version)

    origin.on("/page", answer)
    client = site(cache=CachePolicy(grace=30))
    assert client.get("/page").text == "1"
    stale = client.get("/page")
    assert stale.text == "1", "nobody waits for the origin"
    assert "hit" in status_of(stale) and "detail=grace" in status_of(stale)
    assert int(stale.headers["age"]) >= 12
    origin.wait_for(2, "/page")
    assert client.get("/page").text == "1"
    released.set()
    wait_until(lambda: client.get("/page").text != "1", what="the refreshed response")


def test_past_grace_the_origin_is_asked_first(origin: Origin, site: Site) -> None:
    versions = map(str, itertools.count(1))
    origin.on("/page", lambda _: Reply(200, aged(50), next(versions)))
    client = site(cache=CachePolicy(grace=30))
    assert [client.get("/page").text for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "directives",
    ["max-age=10, must-revalidate", "max-age=10, proxy-revalidate", "s-maxage=10", "max-age=10, no-cache"],
)
def test_grace_never_holds_against_revalidation(origin: Origin, site: Site, directives: str) -> None:
    versions = map(str, itertools.count(1))
    fields = {"Cache-Control": directives, "Age": "12", "ETag": '"1"'}
    origin.on("/strict", lambda _: Reply(200, fields, next(versions)))
    client = site(cache=CachePolicy(grace=3600, sick_grace=86_400))
    assert [client.get("/strict").text for _ in range(2)] == ["1", "2"]
    origin.kill()
    assert client.get("/strict").status_code in (502, 504)


def test_private_responses_have_no_grace(origin: Origin, site: Site) -> None:
    versions = map(str, itertools.count(1))
    fields = {"Cache-Control": "private, max-age=10", "Age": "12"}
    origin.on("/mine", lambda _: Reply(200, fields, next(versions)))
    client = site(cache=CachePolicy(grace=3600, sick_grace=86_400))
    assert [client.get("/mine").text for _ in range(2)] == ["1", "2"]


def sick_site(origin: Origin, health: Health | None = None) -> Edge:
    edge = Edge("test")
    made = edge.origin("first", origin.url, health=health)
    edge.route("/*", to=made, cache=CachePolicy(grace=5, sick_grace=3600))
    return edge


def test_a_long_grace_holds_only_while_probes_find_the_origin_sick(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    versions = map(str, itertools.count(1))
    origin.on("/page", lambda _: Reply(200, aged(100), next(versions)))
    origin.on("/healthz", Reply(200))
    edge = serve(sick_site(origin, Health("/healthz", interval=0.05, unhealthy_after=2, healthy_after=1)))
    client = client_for(edge)
    assert [client.get("/page").text for _ in range(2)] == ["1", "2"], "90 seconds stale: past the short grace"
    origin.on("/healthz", Reply(503))
    wait_until(lambda: "detail=sick-grace" in status_of(client.get("/page")), what="the long grace")
    asked = origin.count("/page")
    stale = client.get("/page")
    assert status_of(stale).startswith("edgerouter; hit") and stale.text == str(asked)
    assert origin.count("/page") == asked, "a sick origin is left alone"
    origin.on("/healthz", Reply(200))
    wait_until(lambda: client.get("/page").text == str(asked + 1), what="the origin's answer")


def test_a_killed_origin_is_found_sick_by_the_requests_that_fail(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.on("/page", Reply(200, aged(100), "good"))
    client = client_for(serve(sick_site(origin)))
    assert client.get("/page").text == "good"
    origin.kill()
    first = client.get("/page")
    assert first.text == "good" and "hit" not in status_of(first), "asked first, and failed"
    wait_until(lambda: "detail=sick-grace" in status_of(client.get("/page")), what="the long grace")
    assert client.get("/page").text == "good"
    origin.start()
    origin.on("/page", Reply(200, aged(0), "back"))
    wait_until(lambda: client.get("/page").text == "back", what="the trial that finds the origin healthy")


def test_an_origin_that_answers_errors_is_found_sick_and_nobody_waits_for_more_of_them(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.on("/page", Reply(200, aged(100), "good"))
    client = client_for(serve(sick_site(origin)))
    assert client.get("/page").text == "good"
    origin.on("/page", Reply(503, {}, "down"))
    for _ in range(3):
        asked_first = client.get("/page")
        assert asked_first.text == "good" and "fwd=stale; fwd-status=503" in status_of(asked_first)
    for _ in range(5):
        at_once = client.get("/page")
        assert at_once.text == "good" and status_of(at_once).startswith("edgerouter; hit")
    assert origin.count("/page") <= 5, "but for the trial, two seconds later"
    origin.on("/page", Reply(200, aged(0), "back"))
    wait_until(lambda: client.get("/page").text == "back", what="the trial that finds the origin healthy")


def test_one_bad_url_does_not_make_an_origin_sick(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.on("/page", Reply(200, aged(100), "good"))
    origin.on("/bad", Reply(500, {}, "bug"))
    origin.on("/other", Reply(404, {"Cache-Control": "no-store"}, "none"))
    client = client_for(serve(sick_site(origin)))
    client.get("/page")
    for _ in range(3):
        for path in ("/bad", "/bad", "/other"):
            client.get(path)
    assert "fwd=stale; fwd-status=200" in status_of(client.get("/page")), "it is asked first, as a healthy one"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_origin_is_covered_by_the_long_grace(origin: Origin, site: Site, status: int) -> None:
    origin.on("/page", Reply(200, aged(100), "good"))
    client = site(cache=CachePolicy(sick_grace=3600))
    assert client.get("/page").text == "good"
    origin.on("/page", Reply(status, {}, "broken"))
    covered = client.get("/page")
    assert (covered.status_code, covered.text) == (200, "good")


def test_a_time_out_of_the_origin_is_covered_by_the_long_grace(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    released = threading.Event()
    edge = Edge("test")
    made = edge.origin("first", origin.url, first_byte_timeout=1, retries=0)
    edge.route("/*", to=made, cache=CachePolicy(sick_grace=3600))
    client = client_for(serve(edge))
    origin.on("/page", Reply(200, aged(100), "good"))
    assert client.get("/page").text == "good"

    def silent(_seen: object) -> None:
        released.wait(60)

    origin.on("/page", silent)
    try:
        assert client.get("/page").text == "good"
    finally:
        released.set()


def test_a_hit_refreshes_a_hot_response_before_it_expires(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    versions = map(str, itertools.count(1))
    released = threading.Event()

    def answer(_seen: object) -> Reply:
        version = next(versions)
        # The first takes long enough for chance to have something to work with; the second until the test has looked.
        threading.Event().wait(0.3) if version == "1" else released.wait(60)
        return Reply(200, {"Cache-Control": "max-age=600", "Age": "0", "ETag": f'"{version}"'}, version)

    origin.on("/hot", answer)
    edge = Edge("test")
    # 0.3 s · 1000 · -ln(rand) reaches ten minutes for one roll in seven.
    edge.route("/*", to=edge.origin("first", origin.url), cache=CachePolicy(refresh_ahead=True, refresh_beta=1000))
    served = serve(edge)
    client = client_for(served)
    client.get("/hot")

    def rolled() -> bool:
        response = client.get("/hot")
        assert response.text == "1" and status_of(response).startswith("edgerouter; hit; ttl=")
        return origin.count("/hot") == 2

    wait_until(rolled, what="a refresh ahead of expiry")
    for _ in range(50):
        assert rolled(), "one refresh of a key at a time"
    seen = origin.requests[-1]
    assert seen.get("if-none-match") == '"1"'
    assert metric(served, "edgerouter_refreshes_total", '{reason="ahead"}') == 1
    released.set()
    wait_until(lambda: client.get("/hot").text == "2", what="the refreshed response")


def test_far_from_its_expiry_no_hit_refreshes(origin: Origin, site: Site) -> None:
    origin.on("/calm", Reply(200, {"Cache-Control": "max-age=86400"}, "calm"))
    client = site(cache=CachePolicy(refresh_ahead=True))
    for _ in range(200):
        assert client.get("/calm").text == "calm"
    assert origin.count("/calm") == 1


def test_head_requests_never_refresh_ahead(origin: Origin, site: Site) -> None:
    def answer(_seen: object) -> Reply:
        threading.Event().wait(0.3)
        return Reply(200, {"Cache-Control": "max-age=60"}, "x")

    origin.on("/hot", answer)
    client = site(cache=CachePolicy(refresh_ahead=True, refresh_beta=1000))
    client.get("/hot")
    for _ in range(100):
        assert client.head("/hot").status_code == 200
    assert origin.count("/hot") == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"grace": -1}, "CachePolicy.grace"),
        ({"sick_grace": "long"}, "CachePolicy.sick_grace"),
        ({"grace": 60, "sick_grace": 10}, "CachePolicy.sick_grace"),
        ({"refresh_beta": 0}, "CachePolicy.refresh_beta"),
        ({"refresh_beta": 2}, "CachePolicy.refresh_beta"),
        ({"refresh_beta": 2000}, "CachePolicy.refresh_beta"),
        ({"refresh_ahead": 1}, "CachePolicy.refresh_ahead"),
    ],
)
def test_a_wrong_value_is_refused_by_name(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CachePolicy(**fields)  # type: ignore[arg-type]
    assert [problem.path for problem in caught.value.problems] == [named]


def test_a_plan_file_with_a_shorter_sick_grace_is_refused(origin: Origin) -> None:
    plan = {
        "name": "t",
        "origins": [{"name": "o", "url": origin.url}],
        "routes": [{"pattern": "/*", "to": "o", "cache": {"grace": 60, "sick_grace": 10, "refresh_beta": 0}}],
    }
    with pytest.raises(ConfigError) as caught:
        Edge.from_dict(plan).compile()
    assert {problem.path for problem in caught.value.problems} == {
        "routes[0].cache.sick_grace",
        "routes[0].cache.refresh_beta",
    }
