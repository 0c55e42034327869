"""The dimensions of a key besides the URL: absent matches absent (RFC 9111 §4.1), and each value itself only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from edgerouter import CachePolicy, Edge, Experiment, Jwt, When, all_except
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen, wait_until
from ..raw import exchange, responses
from .conftest import Cached, MakeCached, status_of, validating

Fields = list[tuple[str, str]]

KEYS: list[dict[str, Any]] = [
    {"cookies": ["plan"]},
    {"cookies": "all"},
    {"cookies": "none"},
    {"cookies": all_except("noise")},
    {"headers": ["X-Device"]},
    {"headers": ["X-Device", "X-Other"], "cookies": ["plan"]},
    {"accept_encoding": True},
    {"accept_encoding": True, "cookies": ["plan"], "headers": ["X-Device"]},
]


@pytest.fixture(params=KEYS, ids=str)
def keyed(request: pytest.FixtureRequest, make_cached: MakeCached) -> Cached:
    return make_cached(**request.param)


def test_absent_matches_absent(keyed: Cached) -> None:
    path = keyed.answer({"Cache-Control": "max-age=60"})
    assert "stored" in status_of(keyed.get(path))
    assert status_of(keyed.get(path)).startswith("edgerouter; hit")
    assert status_of(keyed.client.head(path)).startswith("edgerouter; hit")
    assert keyed.get(path, cache_control="only-if-cached").status_code == 200
    assert keyed.origin.count(path) == 1


def test_absent_matches_absent_without_collapsing(make_cached: MakeCached) -> None:
    cached = make_cached(cookies=["plan"], collapse=False)
    assert cached.reuses({"Cache-Control": "max-age=60"})


def test_what_has_no_dimensions_is_validated(keyed: Cached) -> None:
    path = keyed.path()
    keyed.origin.on(path, validating('"v1"', Cache_Control="max-age=10"))
    keyed.get(path)
    keyed.at(30)
    response = keyed.get(path)
    assert (response.status_code, response.text) == (200, "content")
    assert "fwd=stale" in status_of(response) and "fwd-status=304" in status_of(response)


def test_what_has_no_dimensions_stands_in_for_an_origin_that_fails(keyed: Cached) -> None:
    path = keyed.answer({"Cache-Control": "max-age=10, stale-if-error=60"})
    keyed.get(path)
    keyed.origin.on(path, Reply(503))
    keyed.at(30)
    assert keyed.get(path).text == "body"


def test_what_has_no_dimensions_is_refreshed_behind(keyed: Cached) -> None:
    path = keyed.answer({"Cache-Control": "max-age=10, stale-while-revalidate=60"}, "old")
    keyed.get(path)
    keyed.origin.on(path, Reply(200, {"Cache-Control": "max-age=10"}, "new"))
    keyed.at(30)
    assert keyed.get(path).text == "old"
    wait_until(lambda: keyed.get(path).text == "new", what="the refresh")


def test_neither_kind_displaces_the_other(make_cached: MakeCached) -> None:
    cached = make_cached(cookies=["plan"], headers=["X-Device"])
    path = cached.path()
    cached.origin.on(path, lambda seen: Reply(200, {"Cache-Control": "max-age=60"}, repr(seen.get("cookie"))))
    requests: list[dict[str, str]] = [
        {},
        {"cookie": "plan=a"},
        {"x_device": "m"},
        {"cookie": "plan="},
        {"x_device": ""},
    ]
    for _ in range(3):
        for headers in requests:
            cached.get(path, **headers)
    assert cached.origin.count(path) == len(requests)


def test_variants_by_vary_of_each_kind_live_side_by_side(make_cached: MakeCached) -> None:
    cached = make_cached(cookies=["plan"])
    path = cached.path()

    def answer(seen: Seen) -> Reply:
        fields = {"Cache-Control": "max-age=60", "Vary": "X-Who" if seen.get("cookie") else "X-Other"}
        return Reply(200, fields, f"{seen.get('cookie')} {seen.get('x-who')} {seen.get('x-other')}")

    cached.origin.on(path, answer)
    requests = [
        {"cookie": cookie, "x_who": who, "x_other": other}
        for cookie in ("", "plan=a", "plan=b")
        for who in ("1", "2")
        for other in ("1", "2")
    ]
    first = [cached.get(path, **headers).text for headers in requests]
    assert [cached.get(path, **headers).text for headers in requests] == first
    # Without the cookie X-Other selects, with it X-Who.
    assert cached.origin.count(path) == 6


def raw_get(edge: Running, path: str, fields: Fields) -> tuple[bytes, str]:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    data = f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n".encode("latin-1")
    answer = responses(exchange(edge.url, data))[0]
    return answer.body, answer.get("cache-status") or ""


@pytest.mark.parametrize(
    ("policy", "different"),
    [
        (
            {"headers": ["X-Device"]},
            [
                [],
                [("X-Device", "")],
                [("X-Device", "a")],
                [("X-Device", "a"), ("X-Device", "a")],
                [("X-Device", "a"), ("X-Device", "")],
                [("X-Device", ""), ("X-Device", "a")],
                [("X-Device", "\xe4")],
            ],
        ),
        (
            {"cookies": "all"},
            [
                [],
                [("Cookie", "a=")],
                [("Cookie", "a=1")],
                [("Cookie", "a=1; a=1")],
                [("Cookie", "a=1; b=2")],
                [("Cookie", "b=2; a=1")],
                [("Cookie", "a=\xe4")],
                [("Cookie", "a=\xf6")],
                [("Cookie", "a=1; b=\xe4")],
                [("Cookie", "\xe4=1")],
            ],
        ),
        (
            {"query": ["a"], "cookies": ["p"]},
            [[], [("Cookie", "p=1")], [("Cookie", "p=1; p=2")], [("Cookie", "p=\xff")]],
        ),
    ],
    ids=["header", "all cookies", "one cookie"],
)
def test_absent_empty_doubled_and_other_bytes_are_different_keys(
    make_cached: MakeCached, policy: dict[str, Any], different: list[Fields]
) -> None:
    cached = make_cached(**policy)
    path = cached.path()

    def echo(seen: Seen) -> Reply:
        lines = [f"{name}: {value}" for name, value in seen.headers if name.lower() in ("x-device", "cookie")]
        return Reply(200, {"Cache-Control": "max-age=60"}, json.dumps(lines))

    cached.origin.on(path, echo)
    bodies = [raw_get(cached.edge, path, fields)[0] for fields in different]
    assert len(set(bodies)) == len(different)
    for fields, body in zip(different, bodies, strict=True):
        again, status = raw_get(cached.edge, path, fields)
        assert again == body
        assert "; hit" in status


def test_an_absent_claim_matches_an_absent_claim(origin: Origin, site: Callable[..., httpx.Client]) -> None:
    auth = Jwt.hs256("k" * 32, optional=True, require=[], forward={})
    client = site(auth=auth, cache=CachePolicy(claims=["plan"]))
    origin.on("/", Reply(200, {"Cache-Control": "max-age=60"}, "page"))
    assert [status_of(client.get("/")).startswith("edgerouter; hit") for _ in range(3)] == [False, True, True]


def test_an_unsafe_request_ends_every_kind(make_cached: MakeCached) -> None:
    cached = make_cached(cookies=["plan"])
    path = cached.answer({"Cache-Control": "max-age=60"})
    kinds: list[Mapping[str, str]] = [{}, {"cookie": "plan=a"}]
    for headers in kinds:
        cached.get(path, **headers)
    cached.client.post(path)
    before = cached.origin.count(path)
    for headers in kinds:
        assert not status_of(cached.get(path, **headers)).startswith("edgerouter; hit")
    assert cached.origin.count(path) == before + 2


def test_routes_that_share_a_url_do_not_displace_one_another(origin: Origin) -> None:
    edge = Edge("test")
    site = edge.origin("first", origin.url)
    edge.route("/*", to=site, when=[When(header="X-Beta")], priority=1)
    edge.route("/*", to=site)
    origin.on("/p", lambda seen: Reply(200, {"Cache-Control": "max-age=60"}, str(seen.get("x-beta"))))
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        for _ in range(3):
            assert client.get("/p", headers={"X-Beta": "1"}).text == "1"
            assert client.get("/p").text == "None"
    assert origin.count("/p") == 2


def test_the_admin_side_finds_what_requests_find(origin: Origin) -> None:
    edge = Edge("test")
    site = edge.origin("first", origin.url)
    edge.route(
        "/*",
        to=site,
        cache=CachePolicy(cookies=["plan"], headers=["X-Device"]),
        experiment=Experiment("home", variants={"a": 1}, cookie="ab"),
    )
    edge.route("/plain", to=site, cache=CachePolicy(cookies=["plan"], headers=["X-Device"]))
    origin.on("/plain", Reply(200, {"Cache-Control": "max-age=60"}, "page"))
    origin.on("/home", Reply(200, {"Cache-Control": "max-age=60", "Vary": "Accept-Language"}, "page"))
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        for path, headers in (
            ("/plain", {}),
            ("/plain", {"Cookie": "plan=a"}),
            ("/home", {"Accept-Language": "de", "Cookie": "ab=a"}),
        ):
            client.get(path, headers=headers)
            lines = [f"{name}: {value}" for name, value in headers.items()]
            found = httpx.get(
                f"{served.admin_url}/v1/cache/entry", params={"url": f"{served.url}{path}", "header": lines}, timeout=10
            ).json()
            assert found["decision"] == "hit", found
            assert found["found"]["path"] == path
        listed = httpx.get(f"{served.admin_url}/v1/cache/entries", timeout=10).json()
        assert len(listed["entries"]) == 3, listed
