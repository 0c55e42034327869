"""Cache-Status (RFC 9211), and the reasons it gives, which the metrics count."""

from __future__ import annotations

import httpx
import pytest

from .conftest import Cached, MakeCached, status_of

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
    assert set(said) == {"hit", "ttl"} and 35 <= int(said["ttl"]) <= 40


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


def test_the_key_is_shown_where_the_policy_says_so(make_cached: MakeCached, cached: Cached) -> None:
    path = cached.answer(FRESH)
    assert "key" not in parameters(cached.get(path))
    showing = make_cached(status_key=True)
    for _ in range(2):
        said = parameters(showing.get(path + "?q=1"))
        assert said["key"] == f'"{showing.edge.url}{path}?q=1"'
