"""Cache-Status (RFC 9211), and the reasons it gives, which the metrics count."""

from __future__ import annotations

import httpx
import pytest

from edgerouter import Context, Edge, Jwt, Request, Response
from edgerouter.testing import running

from ..origins import Origin, Reply
from .conftest import Cached, MakeCached, status_of, validating

FRESH = {"Cache-Control": "max-age=60"}


def parameters(response: httpx.Response) -> dict[str, str]:
    name, *rest = status_of(response).split("; ")
    assert name == "edgerouter"
    return {key: value for key, _, value in (part.partition("=") for part in rest)}


def counted(cached: Cached, reason: str) -> int:
    text = httpx.get(f"{cached.edge.admin_url}/metrics").text
    line = f'edgerouter_cache_forwarded_total{{reason="{reason}"}} '
    return sum(int(found.removeprefix(line)) for found in text.splitlines() if found.startswith(line))


def test_a_hit_has_its_time_to_live_and_no_reason(cached: Cached) -> None:
    path = cached.answer(FRESH)
    cached.get(path)
    cached.at(20)
    said = parameters(cached.get(path))
    assert set(said) == {"hit", "ttl"} and 20 <= int(said["ttl"]) <= 40


@pytest.mark.parametrize(
    ("fields", "asked", "forward", "detail"),
    [
        (FRESH, {}, "uri-miss", "absent"),
        ({"Cache-Control": "no-store"}, {}, "uri-miss", "no-store"),
        ({"Cache-Control": "private"}, {}, "uri-miss", "private"),
        ({"Cache-Control": "max-age=60", "Set-Cookie": "a=b"}, {}, "uri-miss", "set-cookie"),
        ({"Cache-Control": "max-age=60", "Vary": "*"}, {}, "uri-miss", "vary-star"),
        ({}, {}, "uri-miss", "not-reusable"),
        (FRESH, {"authorization": "Basic eDp5"}, "uri-miss", "authorization"),
        (FRESH, {"cache-control": "no-store"}, "uri-miss", "request-no-store"),
    ],
)
def test_what_is_forwarded_says_why_and_is_counted(
    cached: Cached, fields: dict[str, str], asked: dict[str, str], forward: str, detail: str
) -> None:
    path = cached.answer(fields)
    said = parameters(cached.client.get(path, headers=asked))
    assert (said["fwd"], said["fwd-status"], said["detail"]) == (forward, "200", detail)
    assert ("stored" in said) == (detail == "absent")
    assert counted(cached, detail) == 1


def test_what_is_asked_for_anew_says_why_and_is_counted(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=60", "ETag": '"a"'})
    for after, asked, forward, detail in (
        (0, "no-cache", "request", "request-no-cache"),
        (30, "max-age=10", "request", "request-max-age"),
        (30, "min-fresh=50", "request", "request-min-fresh"),
        (61, "", "stale", "expired"),
    ):
        cached.at(0)
        cached.get(path, cache_control="no-cache")
        before = counted(cached, detail)
        cached.at(after)
        said = parameters(cached.get(path, cache_control=asked) if asked else cached.get(path))
        assert (said["fwd"], said["detail"]) == (forward, detail)
        assert counted(cached, detail) == before + 1
    path = cached.answer({"Cache-Control": "no-cache", "ETag": '"a"'})
    cached.get(path)
    said = parameters(cached.get(path))
    assert (said["fwd"], said["detail"]) == ("stale", "no-cache")


def test_methods_and_policies_that_pass_the_cache_say_so(cached: Cached, make_cached: MakeCached) -> None:
    path = cached.answer(FRESH)
    said = parameters(cached.client.post(path))
    assert (said["fwd"], said["detail"]) == ("method", "method")
    disabled = make_cached(enabled=False)
    said = parameters(disabled.get(path))
    assert (said["fwd"], said["detail"]) == ("bypass", "disabled")
    assert counted(disabled, "disabled") == 1


def test_an_origin_that_is_gone_is_a_reason(cached: Cached) -> None:
    cached.origin.kill()
    said = parameters(cached.get("/x"))
    assert said["detail"] in ("connect", "reset")


def test_our_member_comes_after_those_of_caches_before_us(cached: Cached) -> None:
    path = cached.answer({**FRESH, "Cache-Status": "upstream; hit; ttl=5"})
    first, second = cached.get(path), cached.get(path)
    assert first.headers["cache-status"].startswith("upstream; hit; ttl=5, edgerouter; fwd=uri-miss")
    assert second.headers["cache-status"].startswith("upstream; hit; ttl=5, edgerouter; hit")


@pytest.mark.parametrize(
    "malformed", ["HIT from cache", "upstream; hit,", "upstream; Hit", 'upstream; key="open', "5; hit", "(a b); hit"]
)
@pytest.mark.parametrize("control", ["max-age=60", "no-store"])
def test_members_that_are_no_list_are_not_joined_with_ours(cached: Cached, malformed: str, control: str) -> None:
    path = cached.answer({"Cache-Control": control, "Cache-Status": malformed})
    for _ in range(2):
        (said,) = cached.get(path).headers.get_list("cache-status")
        assert said.startswith("edgerouter; ")


def test_the_key_is_shown_where_the_policy_says_so(make_cached: MakeCached, cached: Cached) -> None:
    path = cached.answer(FRESH)
    assert "key" not in parameters(cached.get(path))
    showing = make_cached(status_key=True)
    for _ in range(2):
        said = parameters(showing.get(path + "?q=1"))
        assert said["key"] == f'"{showing.edge.url}{path}?q=1"'


def test_a_validation_that_is_not_kept_does_not_say_that_it_is(cached: Cached) -> None:
    path = cached.path()
    cached.origin.on(path, validating('"a"', Cache_Control="max-age=60"))
    cached.get(path)
    cached.at(100)
    for control, stored in (("no-store", False), ("", True)):
        response = cached.get(path, cache_control=control) if control else cached.get(path)
        said = status_of(response).split("; ")
        assert "fwd=stale" in said and "fwd-status=304" in said
        assert ("stored" in said) == stored


def test_a_stale_answer_on_an_error_says_which_status_and_which_rule(make_cached: MakeCached) -> None:
    for policy, own, detail in (
        ({"sick_grace": 600}, "max-age=10", "sick-grace"),
        ({"grace": 5, "sick_grace": 600}, "max-age=10", "sick-grace"),
        ({"sick_grace": 600}, "max-age=10, stale-if-error=100", "stale-if-error"),
    ):
        cached = make_cached(**policy)
        path = cached.answer({"Cache-Control": own}, "good")
        cached.get(path)
        cached.origin.on(path, Reply(503, {}, "bad"))
        cached.at(30)
        said = parameters(cached.get(path))
        assert (said["fwd"], said["fwd-status"], said["detail"]) == ("stale", "503", detail)


def test_an_answer_that_is_just_stale_says_by_which_rule(cached: Cached) -> None:
    path = cached.answer({"Cache-Control": "max-age=0, stale-while-revalidate=600", "ETag": '"a"'})
    cached.get(path)
    cached.at(0)
    said = parameters(cached.get(path))
    assert "hit" in said and said["detail"] == "stale-while-revalidate"


def test_what_the_edge_made_says_so_and_is_counted(origin: Origin) -> None:
    edge = Edge("edgerouter")
    site = edge.origin("first", origin.url)
    edge.route("/old", redirect="/new")
    edge.route("/fixed", respond="hi")
    edge.route("/secure", to=site, viewer="https-only")
    edge.route("/upgrade", to=site, viewer="redirect-to-https")
    edge.route("/token", to=site, auth=Jwt.hs256("x" * 40))
    edge.route("/get", to=site, methods=["GET"])
    edge.route("/hook", to=site)
    edge.route("/late", to=site)
    edge.service_worker("/sw.js")

    @edge.function("/function")
    def function(request: Request, ctx: Context) -> str:
        return "made"

    @edge.function("/broken")
    def broken(request: Request, ctx: Context) -> str:
        raise ValueError("no")

    @edge.on("viewer_request", "/hook")
    def hook(request: Request, ctx: Context) -> Response:
        return Response("hooked")

    @edge.on("viewer_response", "/late")
    def late(request: Request, response: Response, ctx: Context) -> Response:
        return Response("other")

    with running(edge) as served:
        for method, path, status, detail in (
            ("GET", "/old", 302, "redirect"),
            ("GET", "/fixed", 200, "fixed"),
            ("GET", "/sw.js", 200, "fixed"),
            ("GET", "/secure", 403, "https-only"),
            ("GET", "/upgrade", 301, "redirect"),
            ("GET", "/token", 401, "unauthorized"),
            ("GET", "/nowhere", 404, "no-route"),
            ("POST", "/get", 405, "method-not-allowed"),
            ("GET", "/function", 200, "function"),
            ("GET", "/broken", 502, "function-failed"),
            ("GET", "/hook", 200, "hook"),
        ):
            response = httpx.request(method, served.url + path, follow_redirects=False)
            assert response.status_code == status, path
            assert response.headers["cache-status"] == f"edgerouter; detail={detail}", path
        late_answer = httpx.get(served.url + "/late")
        assert late_answer.text == "other" and "detail=hook" in late_answer.headers["cache-status"]
        metrics = httpx.get(served.admin_url + "/metrics").text
        assert 'edgerouter_cache_forwarded_total{reason="function"} 1' in metrics
        assert 'edgerouter_cache_forwarded_total{reason="no-route"} 1' in metrics
