"""The next-page model: learnt from navigations, fetched before the visitor requests them, through the socket."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, ConfigError, Edge, Jwt, Predict, cache
from edgerouter.testing import Running

from ..metrics import metric
from ..origins import Origin, Reply, Seen, wait_until
from ..responses import status_of

Serve = Callable[[Edge], Running]
HTML = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "max-age=600"}
NAVIGATES = {"accept": "text/html,*/*;q=0.8"}


def page(seen: Seen) -> Reply:
    """Any page; a POST is an unsafe method that makes what is stored of it unusable."""
    return Reply(200, HTML, f"<body>{seen.path}</body>")


def site(origin: Origin, policy: Predict | None, **route: object) -> Edge:
    origin.default = page
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), predict=policy, **route)  # type: ignore[arg-type]
    return edge


def visit(edge: Running, visitor: str, *paths: str, **fields: str) -> httpx.Response:
    for path in paths:
        response = httpx.get(f"{edge.url}{path}", headers={**NAVIGATES, "user-agent": visitor, **fields})
        assert response.status_code == 200
    return response


def guesses(edge: Running, result: str) -> float:
    return metric(edge, "edgerouter_prefetches_total", f'{{source="predict",result="{result}"}}')


def judged(edge: Running, result: str) -> float:
    return metric(edge, "edgerouter_predict_pages_total", f'{{result="{result}"}}')


def learnt(edge: Running) -> float:
    return metric(edge, "edgerouter_predict_navigations_total", '{result="learnt"}')


def teach(edge: Running, first: str, then: str, prefix: str = "teacher") -> None:
    """Visitors go from one page to another until the model guesses it, for the last two; what it guesses is stored.

    All of the guesses are over: one that began while a test makes a page invalid would be lost, and the page forgotten.
    """
    before = guesses(edge, "fresh")
    for number in range(5):
        visit(edge, f"{prefix} {number}", first, then)
    wait_until(lambda: guesses(edge, "fresh") >= before + 2, what="the guesses")


def test_the_likely_next_page_is_a_hit_for_a_visitor_who_comes_to_it(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict(support=3)))
    teach(edge, "/list", "/product")
    assert httpx.post(edge.url + "/product").status_code == 200
    asked = origin.count("/product")
    visit(edge, "somebody", "/list", cookie="session=secret", authorization="Bearer secret")
    origin.wait_for(asked + 1, "/product")
    seen = [one for one in origin.requests if one.path == "/product"][-1]
    assert seen.get("sec-purpose") == "prefetch"
    assert seen.get("cookie") is None and seen.get("authorization") is None
    wait_until(lambda: judged(edge, "fetched") == 1, what="the guess")
    next_page = visit(edge, "somebody", "/product")
    assert status_of(next_page).startswith("edgerouter; hit")
    assert origin.count("/product") == asked + 1
    wait_until(lambda: judged(edge, "used") == 1, what="the account of the guess")
    wait_until(lambda: metric(edge, "edgerouter_predict_precision") == 1, what="the precision")
    assert metric(edge, "edgerouter_predict_wasted_bytes_total") == 0


def test_nothing_is_fetched_below_the_confidence(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict(support=1, confidence=0.7)))
    for number in range(8):
        visit(edge, f"undecided {number}", "/fork", "/left" if number % 2 else "/right")
    teach(edge, "/list", "/product")
    for path in ["/left", "/right", "/product"]:
        assert httpx.post(edge.url + path).status_code == 200
    counts = origin.count("/left"), origin.count("/right")
    visit(edge, "somebody", "/fork")
    # One after another: when the sure guess of the second has come, the first has been judged.
    visit(edge, "another", "/list")
    wait_until(lambda: judged(edge, "fetched") == 1, what="the sure guess")
    assert (origin.count("/left"), origin.count("/right")) == counts


def test_guessing_costs_no_more_than_its_budget(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict(support=1, requests_per_minute=0)))
    for number in range(5):
        visit(edge, f"visitor {number}", "/list", "/product")
    wait_until(lambda: guesses(edge, "over-budget") >= 3, what="guesses that the budget forbids")
    assert guesses(edge, "fresh") == 0
    small = serve(site(origin, Predict(support=1, bytes_per_minute=5)))
    for number in range(5):
        visit(small, f"visitor {number}", "/list", "/product")
    wait_until(lambda: guesses(small, "over-budget") >= 3, what="guesses larger than the budget")
    assert guesses(small, "fresh") == 0


def test_only_navigations_to_what_anybody_may_see_are_learnt_from(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict()))
    origin.on("/mine", Reply(200, {"Content-Type": "text/html", "Cache-Control": "private"}, "mine"))
    origin.on("/cookie", Reply(200, {**HTML, "Set-Cookie": "a=1"}, "mine"))
    origin.on("/data", Reply(200, {"Content-Type": "application/json", "Cache-Control": "max-age=600"}, "{}"))
    for path in ["/mine", "/cookie", "/data", "/search?q=my+name"]:
        visit(edge, "v", path)
    visit(edge, "v", "/page", **{"sec-fetch-mode": "cors"})
    visit(edge, "v", "/page", **{"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"})
    visit(edge, "v", "/page", **{"sec-purpose": "prefetch"})
    visit(edge, "v", "/page", accept="*/*")
    httpx.head(f"{edge.url}/page", headers=NAVIGATES)
    httpx.post(f"{edge.url}/page", headers=NAVIGATES)
    assert learnt(edge) == 0
    visit(edge, "v", "/page", accept="*/*", **{"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"})
    wait_until(lambda: learnt(edge) > 0, what="the navigation")
    assert learnt(edge) == 1


def test_a_query_that_is_no_part_of_the_key_is_left_out(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict(support=3), cache=CachePolicy(query="none")))
    for number in range(5):
        visit(edge, f"visitor {number}", f"/list?utm={number}", f"/product?utm={number}")
    wait_until(lambda: learnt(edge) >= 10, what="the navigations")
    wait_until(lambda: guesses(edge, "fresh") >= 1, what="the guess")
    assert learnt(edge) == 10


def test_nothing_is_learnt_unless_the_route_predicts(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, None))
    for number in range(5):
        visit(edge, f"visitor {number}", "/list", "/product")
    assert learnt(edge) == 0
    assert "edgerouter_predict_precision NaN" in httpx.get(f"{edge.admin_url}/metrics").text


def test_visitors_outside_the_sample_are_not_learnt_from(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict(sample=1e-12)))
    for number in range(5):
        visit(edge, f"visitor {number}", "/list", "/product")
    assert learnt(edge) == 0


def test_a_guess_that_could_not_be_stored_is_a_waste_and_not_repeated(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict(support=3)))
    teach(edge, "/list", "/product")
    assert httpx.post(edge.url + "/product").status_code == 200
    origin.on("/product", Reply(200, {"Content-Type": "text/html", "Cache-Control": "private"}, "0123456789"))
    visit(edge, "first", "/list")
    wait_until(lambda: judged(edge, "wasted") == 1, what="the waste")
    wait_until(lambda: metric(edge, "edgerouter_predict_wasted_bytes_total") == 10, what="its bytes")
    wait_until(lambda: metric(edge, "edgerouter_predict_precision") == 0, what="the precision")
    asked = origin.count("/product")
    teach(edge, "/other", "/next", prefix="later teacher")
    visit(edge, "second", "/list")
    assert httpx.post(edge.url + "/next").status_code == 200
    visit(edge, "third", "/other")
    wait_until(lambda: judged(edge, "fetched") == 2, what="the guess of the third")
    assert origin.count("/product") == asked


def test_after_a_reload_only_routes_that_still_predict_are_fetched(origin: Origin, serve: Serve) -> None:
    edge = serve(site(origin, Predict(support=3)))
    teach(edge, "/list", "/product")
    teach(edge, "/list2", "/other/product", prefix="other teacher")
    changed = Edge("test")
    first = changed.origin("first", origin.url)
    changed.route("/*", to=first, predict=Predict(support=3))
    changed.route("/product", to=first)
    edge.reload(changed)
    assert httpx.post(edge.url + "/product").status_code == 200
    assert httpx.post(edge.url + "/other/product").status_code == 200
    asked = origin.count("/product")
    visit(edge, "somebody", "/list", "/list2")
    wait_until(lambda: judged(edge, "fetched") == 1, what="the guess that is still allowed")
    assert origin.count("/product") == asked


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ({"auth": Jwt.hs256("0123456789abcdef0123456789abcdef")}, "anybody may see"),
        ({"cache": cache.DISABLED}, "cache is off"),
    ],
)
def test_a_route_whose_pages_are_not_for_anybody_cannot_predict(route: dict[str, object], words: str) -> None:
    edge = Edge("t")
    edge.route("/*", to=edge.origin("o", "http://127.0.0.1:9"), predict=Predict(), **route)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        edge.compile()
    [problem] = caught.value.problems
    assert problem.path == "routes[0].predict" and words in problem.message


def test_a_wrong_value_is_refused_by_name() -> None:
    with pytest.raises(ConfigError) as caught:
        Predict(confidence=1.5, support=0, pages=11, sample=0)
    assert [found.path for found in caught.value.problems] == [
        "Predict.confidence",
        "Predict.sample",
        "Predict.support",
        "Predict.pages",
    ]
