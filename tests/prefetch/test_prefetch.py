"""Prefetching of listed URLs, through the engine."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, ConfigError, Context, Edge, Limits, PrefetchLimits, Request, cache
from edgerouter.testing import Running

from ..metrics import metric
from ..origins import Origin, Reply, Seen, until_steady, wait_until
from ..responses import status_of

Serve = Callable[[Edge], Running]
FRESH = {"Cache-Control": "max-age=600"}
HOST = "site.example"


def prefetched(edge: Running, result: str) -> float:
    return metric(edge, "edgerouter_prefetches_total", f'{{source="list",result="{result}"}}')


def to(origin: Origin, **route: object) -> Edge:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), **route)  # type: ignore[arg-type]
    return edge


def test_listed_urls_are_hits_for_the_first_visitor(origin: Origin, serve: Serve) -> None:
    origin.default = lambda seen: Reply(200, FRESH, seen.target)
    edge = to(origin)
    edge.prefetch(["/api/popular", "/api/config?v=1", f"http://{HOST}:80/whole"], host=HOST, scheme="http")
    served = serve(edge)
    wait_until(lambda: prefetched(served, "stored") == 3, what="three prefetches")
    for path in ["/api/popular", "/api/config?v=1", "/whole"]:
        visited = httpx.get(f"{served.url}{path}", headers={"host": HOST})
        assert visited.text == path and status_of(visited).startswith("edgerouter; hit"), path
    assert origin.count() == 3
    seen = origin.requests[0]
    assert seen.get("sec-purpose") == "prefetch" and seen.get("user-agent") == "edgerouter-prefetch"
    assert seen.get("x-forwarded-proto") == "http"
    assert metric(served, "edgerouter_cache_entries") == 3


def test_a_schedule_fetches_what_would_not_stay_fresh_until_the_next_round(origin: Origin, serve: Serve) -> None:
    versions = map(str, itertools.count(1))
    origin.on("/short", lambda _: Reply(200, {"Cache-Control": "max-age=1"}, next(versions)))
    origin.on("/long", Reply(200, FRESH, "long"))
    edge = to(origin)
    edge.prefetch(["/short", "/long"], every=0.2, host=HOST, scheme="http")
    served = serve(edge)
    origin.wait_for(4, "/short")
    assert origin.count("/long") == 1
    wait_until(lambda: prefetched(served, "fresh") >= 3, what="rounds that leave it alone")
    assert int(httpx.get(f"{served.url}/short", headers={"host": HOST}).text) >= 4


def test_what_has_a_validator_is_validated(origin: Origin, serve: Serve) -> None:
    def answer(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=1", "ETag": '"1"'}
        return Reply(304, fields) if seen.get("if-none-match") == '"1"' else Reply(200, fields, "tagged")

    origin.on("/tagged", answer)
    edge = to(origin)
    edge.prefetch(["/tagged"], every=0.2, host=HOST, scheme="http")
    served = serve(edge)
    wait_until(lambda: prefetched(served, "revalidated") >= 2, what="two validations")
    assert prefetched(served, "stored") == 1


def test_without_on_start_the_first_round_is_the_schedules(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, FRESH, "x")
    edge = to(origin)
    edge.prefetch(["/later"], every=3600, on_start=False, host=HOST, scheme="http")
    edge.prefetch(["/now"], host=HOST, scheme="http")
    served = serve(edge)
    wait_until(lambda: prefetched(served, "stored") == 1, what="the list that starts at once")
    assert (origin.count("/now"), origin.count("/later")) == (1, 0)


def test_a_prefetch_takes_routes_rewrites_and_hooks_like_a_visitor(origin: Origin, serve: Serve) -> None:
    origin.default = lambda seen: Reply(200, FRESH, f"{seen.path} {seen.get('x-hook')}")
    edge = Edge("test")
    edge.route("www.example.com/shop/*", to=edge.origin("first", origin.url), strip_prefix="/shop", add_prefix="/v2")

    @edge.on("origin_request")
    def tag(request: Request, ctx: Context) -> None:
        request.headers["x-hook"] = "tagged"

    edge.prefetch(["/shop/popular"], scheme="http")  # the routes name one host
    served = serve(edge)
    wait_until(lambda: prefetched(served, "stored") == 1, what="the prefetch")
    visited = httpx.get(f"{served.url}/shop/popular", headers={"host": "www.example.com"})
    assert visited.text == "/v2/popular tagged"
    assert status_of(visited).startswith("edgerouter; hit")


def test_fields_of_the_list_choose_the_variant(origin: Origin, serve: Serve) -> None:
    origin.default = lambda seen: Reply(
        200, {**FRESH, "Vary": "Accept-Language"}, seen.get("accept-language") or "none"
    )
    edge = to(origin)
    edge.prefetch(["/page"], host=HOST, scheme="http", headers={"Accept-Language": "de"})
    served = serve(edge)
    wait_until(lambda: prefetched(served, "stored") == 1, what="the prefetch")
    german = httpx.get(f"{served.url}/page", headers={"host": HOST, "accept-language": "de"})
    assert german.text == "de" and "hit" in status_of(german)
    assert httpx.get(f"{served.url}/page", headers={"host": HOST, "accept-language": "fr"}).text == "fr"


def test_redirects_to_https_do_not_stop_a_prefetch(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, FRESH, "x")
    edge = to(origin, viewer="https-only")
    edge.prefetch(["/page"], host=HOST)
    served = serve(edge)
    wait_until(lambda: prefetched(served, "stored") == 1, what="the prefetch")
    assert [seen.path for seen in origin.requests] == ["/page"], "the origin was asked for it, and no client"


def test_failures_are_counted_each_time_and_logged_once(
    origin: Origin, serve: Serve, standard_error: Callable[[], str]
) -> None:
    origin.on("/broken", Reply(500, {}, "broken"))
    origin.on("/mine", Reply(200, {"Cache-Control": "private"}, "mine"))
    edge = to(origin)
    edge.prefetch(["/broken", "/mine"], every=0.1, host=HOST, scheme="http")
    served = serve(edge)
    wait_until(lambda: prefetched(served, "failed") >= 4, what="four failures")
    assert prefetched(served, "not-stored") >= 3
    origin.on("/broken", Reply(200, FRESH, "mended"))
    wait_until(lambda: prefetched(served, "stored") == 1, what="the mended page")
    assert httpx.get(f"{served.url}/broken", headers={"host": HOST}).text == "mended"
    wait_until(lambda: "prefetching works again" in standard_error(), what="the log")
    log = standard_error()
    assert log.count("prefetching failed") == 1 and log.count("prefetching works again") == 1


def test_no_more_are_fetched_at_a_time_than_the_limit(origin: Origin, serve: Serve) -> None:
    released = threading.Event()

    def answer(_seen: Seen) -> Reply:
        assert released.wait(60)
        return Reply(200, FRESH, "x")

    origin.default = answer
    edge = Edge("test", limits=Limits(prefetch=PrefetchLimits(concurrency=2)))
    edge.route("/*", to=edge.origin("first", origin.url))
    edge.prefetch([f"/{number}" for number in range(10)], host=HOST, scheme="http")
    served = serve(edge)
    origin.wait_for(2)
    # A visitor is not held up, and when it is answered, a third prefetch would long have come.
    visitor = threading.Thread(target=httpx.get, args=(f"{served.url}/visitor",), kwargs={"timeout": 20})
    visitor.start()
    origin.wait_for(1, "/visitor")
    assert origin.count() == 3
    released.set()
    visitor.join()
    wait_until(lambda: prefetched(served, "stored") == 10, what="all of the list")


def test_after_a_reload_the_new_list_holds(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, FRESH, "x")
    edge = to(origin)
    edge.prefetch(["/old"], every=0.1, host=HOST, scheme="http")
    served = serve(edge)
    wait_until(lambda: prefetched(served, "fresh") >= 2, what="rounds of the old list")
    other = to(origin)
    other.prefetch(["/new"], host=HOST, scheme="http")
    served.reload(other)
    wait_until(lambda: prefetched(served, "stored") == 2, what="the new list")
    # A round of the old list that is on its way is counted when it ends.
    rounds = until_steady(lambda: prefetched(served, "fresh"), what="the rounds of the old list")
    assert origin.count("/new") == 1
    httpx.get(f"{served.url}/new", headers={"host": HOST}).raise_for_status()
    assert prefetched(served, "fresh") == rounds, "the old list has stopped"


def test_a_time_out_gives_a_prefetch_up(origin: Origin, serve: Serve) -> None:
    released = threading.Event()

    def silent(_seen: Seen) -> None:
        released.wait(60)

    origin.on("/slow", silent)
    edge = Edge("test", limits=Limits(prefetch=PrefetchLimits(timeout=0.1)))
    edge.route("/*", to=edge.origin("first", origin.url))
    edge.prefetch(["/slow"], host=HOST, scheme="http")
    served = serve(edge)
    try:
        wait_until(lambda: prefetched(served, "failed") == 1, what="the failure")
        assert prefetched(served, "stored") == 0
    finally:
        released.set()


@pytest.mark.parametrize(
    ("urls", "fields", "path", "words"),
    [
        (["/page"], {}, "prefetch[0].urls[0]", "needs host"),
        (["/page"], {"host": "*.example.com"}, "prefetch[0].host", "without wildcards"),
        (["/api/x"], {"host": "a.example"}, "prefetch[0].urls[0]", "stores nothing"),
        (["/fixed"], {"host": "a.example"}, "prefetch[0].urls[0]", "stores nothing"),
        (["https://elsewhere.example/only"], {}, "prefetch[0].urls[0]", "no route"),
        (["https://me@a.example/"], {}, "prefetch[0].urls[0]", "user name"),
        (["/page"], {"host": "a.example", "on_start": False}, "prefetch[0].every", "never be fetched"),
        (["/page"], {"host": "a.example", "every": 0.01}, "prefetch[0].every", "≥ 0.1"),
    ],
)
def test_a_list_that_cannot_work_is_refused(urls: list[str], fields: dict[str, object], path: str, words: str) -> None:
    edge = Edge("test")
    edge.origin("first", "http://127.0.0.1:9")
    edge.route("/page", to="first", cache=CachePolicy(default_ttl=60))
    edge.route("/", to="first")
    edge.route("/api/*", to="first", cache=cache.DISABLED)
    edge.route("/fixed", respond="words")
    edge.prefetch(urls, **fields)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        edge.compile()
    assert any(found.path == path and words in found.message for found in caught.value.problems), caught.value.problems


def test_a_wrong_value_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        Edge("t").prefetch(["popular"], every=-1, scheme="ftp")  # type: ignore[arg-type]
    assert [found.path for found in caught.value.problems] == [
        "Prefetch.urls[0]",
        "Prefetch.every",
        "Prefetch.scheme",
    ]
    with pytest.raises(ConfigError, match=r"Prefetch\.urls: \(\): must name at least one path or URL"):
        Edge("t").prefetch([])
