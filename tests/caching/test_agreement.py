"""The key and the origin agree: requests that differ upstream never get one another's body.

An origin echoes every byte that it got, and names in ``Vary`` each ordinary request field. A body from a URL that
requests of one example share must be the one that the same request gets from a URL that no other request uses.

``EDGEROUTER_PROPERTY_SECONDS=600`` makes the property run for ten minutes; without it, it is bounded by examples.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter import CachePolicy, Context, Edge, Experiment, ForwardPolicy, Jwt, Request, When, all_except
from edgerouter.errors import ConfigError
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen
from ..raw import exchange, responses
from .conftest import MakeCached, status_of

SECRET = "k" * 32
LIFE = {"Cache-Control": "public, max-age=600"}
Fields = list[tuple[str, str]]

ORDINARY = ["X-Plain", "Accept-Language", "Authorization", "X-Id", "Accept-Encoding"]
"""Fields that the origin selects by."""
HOP = {"via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "connection", "host"}
"""Fields that say nothing, or nothing that differs here."""


def by_cookie(**more: Any) -> Jwt:
    return Jwt.hs256(SECRET, optional=True, require=[], cookie="t", **more)


@dataclass
class Case:
    """A policy, and what it declares not to select."""

    cache: dict[str, Any] = field(default_factory=dict)
    forward: ForwardPolicy | None = None
    vary: tuple[str, ...] = ()
    fields: frozenset[str] = frozenset()
    query: str = "-"
    cookies: str = "-"
    more: dict[str, Any] = field(default_factory=dict)


CHOSEN: dict[str, Any] = {"cookies": ["c"], "query": ["q"], "headers": ["X-K"]}
CASES = {
    "standard": Case(vary=("Cookie", "X-K")),
    "all": Case({"cookies": "all", "headers": ["X-K"]}),
    "chosen": Case(CHOSEN),
    "except": Case({"cookies": all_except("s*"), "query": all_except("u_*")}, vary=("X-K",)),
    "strays": Case({"cookies": "none", "query": "none"}, ForwardPolicy(query="all", cookies="all"), ("X-K",)),
    "some-stray": Case(CHOSEN, ForwardPolicy(query=["q", "u_a"], cookies=["c", "s"])),
    "declared": Case(
        CHOSEN,
        ForwardPolicy(unkeyed=["X-Plain", "query:u_*", "cookie:s"]),
        fields=frozenset({"x-plain"}),
        query="u_",
        cookies="s",
    ),
    "normalised": Case({"accept_encoding": True, "normalise": ["accept-language"]}, vary=("Cookie", "X-K")),
    "identity": Case({"cookies": ["c"]}, vary=("X-K",), more={"auth": by_cookie()}),
    "claim": Case({"cookies": ["c"], "claims": ["role"]}, vary=("X-K",), more={"auth": by_cookie()}),
    "bearer": Case(
        {"claims": ["role"]},
        vary=("Cookie", "X-K"),
        more={"auth": Jwt.hs256(SECRET, optional=True, require=[], invalid_status=401)},
    ),
    "experiment": Case(
        {"cookies": ["c"]},
        vary=("X-K",),
        more={"experiment": Experiment("e", variants={"a": 1, "b": 1}, by="header:X-Id", cookie="ab")},
    ),
}


def significant(seen: Seen, case: Case) -> Any:
    """Everything that reached the origin, but for its place, the hop and what is declared not to matter."""
    lines: list[list[str]] = []
    for name, value in seen.headers:
        lower = name.lower()
        if lower in HOP or lower in case.fields:
            continue
        if lower == "cookie":
            value = "; ".join(part for part in value.split("; ") if part.partition("=")[0] != case.cookies)
            if not value:
                continue
        lines.append([lower, value])
    query = seen.target.partition("?")[1:]
    if case.query != "-":
        kept = [part for part in query[1].split("&") if part and not part.startswith(case.query)]
        query = ("", "&".join(kept))
    return [seen.method, query, sorted(lines)]


@dataclass
class World:
    edge: Running
    names: Iterator[int] = field(default_factory=count)

    def get(self, path: str, query: str, fields: Fields) -> tuple[bytes, str]:
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        data = f"GET {path}{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n".encode("latin-1")
        answer = responses(exchange(self.edge.url, data))[0]
        assert answer.status == 200, (answer, data)
        return answer.body, answer.get("cache-status") or ""


@contextmanager
def world() -> Iterator[World]:
    origin = Origin("echo")

    def echo(seen: Seen) -> Reply:
        case = CASES[seen.path.split("/")[1]]
        vary = ", ".join([*ORDINARY, *case.vary])
        return Reply(200, {**LIFE, "Vary": vary}, json.dumps(significant(seen, case)))

    origin.default = echo
    edge = Edge("test")
    site = edge.origin("first", origin.url)
    for name, case in CASES.items():
        edge.route(f"/{name}/*", to=site, cache=CachePolicy(**case.cache), forward=case.forward, **case.more)
    with running(edge) as served:
        yield World(served)
    origin.kill()


values = st.sampled_from(["", "a", "b", "a b", "\xe4", "\xff\xfe", "A"])
lines = st.lists(values, max_size=2)
cookie_pieces = st.sampled_from(
    ["c=1", "c=2", "c=", "c=\xe4", "s=1", "s=2", "s=\xff", "\xfc=1", "n", "=v", "", "c = 1", "session=1", "ab=a"]
)
cookie_lines = st.lists(st.lists(cookie_pieces, max_size=3).map("; ".join), max_size=2)
queries = st.one_of(
    st.just(""),
    st.lists(st.sampled_from(["q=1", "q=2", "q", "q=", "%71=3", "u_a=1", "u_b=2", "x=1", ""]), max_size=3).map(
        lambda parts: "?" + "&".join(parts)
    ),
)
claims = st.fixed_dictionaries(
    {},
    optional={"sub": st.sampled_from(["u1", "u2"]), "role": st.sampled_from(["a", "b", ""]), "userId": st.just("u1")},
)
tokens = st.one_of(st.none(), claims.map(lambda made: jwt.encode(made, SECRET, algorithm="HS256")))


@st.composite
def requests(draw: st.DrawFn, case: str) -> tuple[str, Fields]:
    # Without an id a variant is drawn, differently each time.
    ids = [["1"], ["2"], ["\xe9"]]
    fields: Fields = [("X-K", value) for value in draw(lines)]
    fields += [("X-Plain", value) for value in draw(lines)]
    fields += [("Cookie", value) for value in draw(cookie_lines)]
    fields += [("X-Id", value) for value in draw(st.sampled_from(ids if case == "experiment" else [[], *ids]))]
    language = draw(st.sampled_from([None, "", "de", "en, de", "de, en", "en;q=0.5, de", "DE ,en;q=0.50"]))
    if language is not None and (case == "normalised" or "," not in language):
        fields.append(("Accept-Language", language))
    coding = draw(st.sampled_from([None, "gzip", "br"]))
    if coding is not None:
        fields.append(("Accept-Encoding", coding))
    token = draw(tokens)
    if token is not None:
        fields.append(("Authorization", f"Bearer {token}") if case == "bearer" else ("Cookie", f"t={token}"))
    return draw(queries), fields


@st.composite
def examples(draw: st.DrawFn) -> tuple[str, list[tuple[str, Fields]]]:
    case = draw(st.sampled_from(sorted(CASES)))
    return case, draw(st.lists(requests(case), min_size=2, max_size=4))


def test_requests_that_differ_upstream_never_get_one_anothers_body() -> None:
    seconds = float(os.environ.get("EDGEROUTER_PROPERTY_SECONDS", "0"))
    with world() as shared:

        def holds(example: tuple[str, list[tuple[str, Fields]]]) -> None:
            case, asked = example
            place = f"/{case}/{next(shared.names)}"
            for query, fields in asked:
                own, _ = shared.get(f"{place}/{next(shared.names)}", query, fields)
                got, status = shared.get(place, query, fields)
                assert got == own, (case, query, fields, status)

        end = time.monotonic() + seconds
        while True:
            settings(max_examples=150, deadline=None, database=None)(given(examples())(holds))()
            if time.monotonic() >= end:
                break


def test_bytes_beyond_ascii_hide_no_cookie(make_cached: MakeCached) -> None:
    cached = make_cached(cookies="all")
    path = cached.path()
    cached.origin.on(path, lambda seen: Reply(200, LIFE, str(seen.get("cookie")).encode("latin-1")))

    def get(cookie: str) -> bytes:
        data = f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n".encode("latin-1")
        return responses(exchange(cached.edge.url, data))[0].body

    assert get("session=ann; name=J\xfcrgen") == b"session=ann; name=J\xfcrgen"
    assert get("session=bob; name=J\xfcrgen") == b"session=bob; name=J\xfcrgen"


def test_conditions_tokens_experiments_and_functions_read_cookies_beside_other_bytes(origin: Origin) -> None:
    edge = Edge("test")
    site = edge.origin("first", origin.url)
    origin.default = Reply(200)
    edge.route("/when", to=site, when=[When(cookie="group", equals="a")], priority=1)
    edge.route("/when", respond={"status": 404, "body": "none"})
    edge.route("/token", to=site, auth=Jwt.hs256(SECRET, require=[], cookie="t"))
    edge.route("/ab", to=site, experiment=Experiment("e", variants={"a": 1, "b": 1}, cookie="ab"))

    @edge.function("/cookies")
    def cookies(request: Request, ctx: Context) -> str:
        return json.dumps(dict(request.cookies))

    token = jwt.encode({"sub": "u1"}, SECRET, algorithm="HS256")
    headers = [(b"Cookie", f"x=\xff; group=a; t={token}; ab=b".encode("latin-1"))]
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        assert client.get("/when", headers=headers).status_code == 200
        assert client.get("/token", headers=headers).status_code == 200
        assert origin.requests[-1].get("x-user-id") == "u1"
        assert "set-cookie" not in client.get("/ab", headers=headers).headers
        assert origin.requests[-1].get("x-variant") == "b"
        assert client.get("/cookies", headers=headers).json() == {"x": "\xff", "group": "a", "t": token, "ab": "b"}


def page(origin: Origin, policy: CachePolicy, forward: ForwardPolicy | None = None, **route: Any) -> Edge:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=policy, forward=forward, **route)
    return edge


def bearer(**claims: str) -> dict[str, str]:
    return {"authorization": "Bearer " + jwt.encode(claims, SECRET, algorithm="HS256")}


def test_what_the_origin_is_told_of_a_visitor_is_in_the_key(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, LIFE, f"{seen.get('x-user-id')} {seen.get('x-user-role')}")
    auth = Jwt.hs256(SECRET, require=[], optional=True)
    with running(page(origin, CachePolicy(), auth=auth)) as served, httpx.Client(base_url=served.url) as client:
        for _ in range(2):
            assert client.get("/", headers=bearer(sub="ann")).text == "ann None"
            assert client.get("/", headers=bearer(sub="bob", role="admin")).text == "bob admin"
            assert client.get("/").text == "None None"
    assert origin.count("/") == 3


def test_of_chosen_claims_the_origin_is_told_no_more_than_the_key_has(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, LIFE, f"{seen.get('x-user-id')} {seen.get('x-user-role')}")
    edge = page(origin, CachePolicy(claims=["role"]), auth=Jwt.hs256(SECRET, require=[]))
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        assert client.get("/", headers=bearer(sub="ann", role="admin")).text == "None admin"
        again = client.get("/", headers=bearer(sub="bob", role="admin"))
        assert again.text == "None admin" and "; hit" in status_of(again)
        # Not stored, so the origin gets the claims.
        assert client.post("/", headers=bearer(sub="ann", role="admin")).text == "ann admin"


def test_what_is_declared_reaches_the_origin_and_selects_nothing(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, {**LIFE, "Vary": "User-Agent"}, f"{seen.target} {seen.get('cookie')}")
    policy = CachePolicy(cookies=["plan"], query=["page"])
    forward = ForwardPolicy(unkeyed=["User-Agent", "query:utm_*", "cookie:session"])
    with running(page(origin, policy, forward)) as served, httpx.Client(base_url=served.url) as client:
        first = client.get("/?utm_a=1&page=2", headers={"cookie": "session=1; plan=a; x=1", "user-agent": "one"})
        assert first.text == "/?page=2&utm_a=1 session=1; plan=a"
        again = client.get("/?page=2&utm_b=1", headers={"cookie": "session=2; plan=a", "user-agent": "two"})
        assert again.text == first.text and "; hit" in status_of(again)


def test_what_is_declared_and_left_out_of_the_key_by_its_own_name_reaches_the_origin(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, LIFE, f"{seen.target} {seen.get('cookie')}")
    for forward in (
        ForwardPolicy(unkeyed=["query:utm_*", "cookie:session"]),
        ForwardPolicy(query="all", cookies="all", unkeyed=["query:utm_source", "cookie:session"]),
    ):
        policy = CachePolicy(query=all_except("utm_source", "utm_*"), cookies=all_except("session"))
        with running(page(origin, policy, forward)) as served, httpx.Client(base_url=served.url) as client:
            for value in ("1", "2"):
                response = client.get("/?utm_source=" + value, headers={"cookie": f"session={value}"})
                assert response.text == "/?utm_source=1 session=1", forward


def test_what_goes_upstream_without_being_keyed_passes_the_cache(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, LIFE, f"{seen.target} {seen.get('cookie')}")
    policy = CachePolicy(cookies="none", query="none")
    edge = page(origin, policy, ForwardPolicy(query=["q"], cookies=["s"]))
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        assert client.get("/?x=1").text == "/ None"
        for query, headers, want in (("?q=1", {}, "/?q=1 None"), ("", {"cookie": "s=1; x=2"}, "/ s=1")):
            for _ in range(2):
                response = client.get(f"/{query}", headers=headers)
                assert response.text == want
                assert "fwd=bypass" in status_of(response) and "detail=unkeyed" in status_of(response)
        assert "; hit" in status_of(client.get("/", headers={"cookie": "x=3"}))


@pytest.mark.parametrize("unkeyed", ["query:*", "query:", "cookie:a*b", "claim:", "X-*", "field:x", "a b", "x y:z"])
def test_a_declaration_that_means_nothing_is_refused(unkeyed: str) -> None:
    with pytest.raises(ConfigError, match="unkeyed"):
        ForwardPolicy(unkeyed=[unkeyed])


@pytest.mark.parametrize(
    ("cache", "unkeyed"),
    [
        (CachePolicy(), "query:a"),
        (CachePolicy(), "cookie:a"),
        (CachePolicy(), "Cookie"),
        (CachePolicy(), "claim:role"),
        (CachePolicy(headers=["X-A"]), "X-A"),
        (CachePolicy(cookies="all"), "cookie:a"),
        (CachePolicy(enabled=False), "X-A"),
        (CachePolicy(query=all_except("utm_*")), "query:utm_source"),
        (CachePolicy(query=all_except("utm_*", "a")), "query:utm_s*"),
        (CachePolicy(cookies=all_except("s*")), "cookie:session"),
    ],
)
def test_a_declaration_that_does_nothing_or_contradicts_the_key_is_refused(
    origin: Origin, cache: CachePolicy, unkeyed: str
) -> None:
    with pytest.raises(ConfigError, match=r"routes\[0\]\.forward\.unkeyed\[0\]"):
        page(origin, cache, ForwardPolicy(unkeyed=[unkeyed])).compile()


def test_a_sorted_query_is_what_is_keyed_and_what_goes_upstream(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, LIFE, seen.target)
    with running(page(origin, CachePolicy(sort_query=True))) as served, httpx.Client(base_url=served.url) as client:
        assert client.get("/?b=2&a=2&a=1").text == "/?a=2&a=1&b=2"
        assert "; hit" in status_of(client.get("/?a=2&b=2&a=1"))
        assert client.get("/?a=1&b=2&a=2").text == "/?a=1&a=2&b=2"


@pytest.mark.parametrize(
    ("policy", "upstream"),
    [
        ({}, "/?b=1&utm_x=1&a=1"),
        ({"query": ["b", "a"]}, "/?a=1&b=1"),
        ({"query": all_except("utm_*")}, "/?a=1&b=1"),
        ({"query": ["utm_*", "b"], "sort_query": False}, "/?b=1&utm_x=1"),
    ],
)
def test_queries_are_sorted_by_default_where_names_are_chosen(
    origin: Origin, policy: dict[str, Any], upstream: str
) -> None:
    with running(page(origin, CachePolicy(**policy))) as served:
        httpx.get(f"{served.url}/?b=1&utm_x=1&a=1")
    assert origin.requests[0].target == upstream


def test_a_star_ends_names_of_cookies(origin: Origin) -> None:
    with running(page(origin, CachePolicy(cookies=all_except("_ga*", "utm*")))) as served:
        httpx.get(served.url, headers={"cookie": "_ga=1; _gat=2; plan=a; utm_source=x; ga=3"})
    assert origin.requests[0].get("cookie") == "plan=a; ga=3"


@pytest.mark.parametrize(
    "policy",
    [
        {"query": all_except("*")},
        {"query": ["a*b"]},
        {"cookies": ["**"]},
        {"headers": ["X-*"]},
        {"claims": ["role*"]},
        {"tags": ["Cache-*"]},
    ],
    ids=str,
)
def test_a_star_is_refused_elsewhere(policy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(policy))):
        CachePolicy(**policy)


def test_languages_are_normalised_for_the_key_and_the_origin(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, {**LIFE, "Vary": "Accept-Language"}, str(seen.get("accept-language")))
    policy = CachePolicy(normalise=["accept-language"])
    with running(page(origin, policy)) as served, httpx.Client(base_url=served.url) as client:
        assert client.get("/", headers={"accept-language": "en-GB, de ;q=0.80, fr"}).text == "en-gb,fr,de;q=0.8"
        again = client.get("/", headers={"accept-language": "FR,en-gb;q=1.0,de;q=0.8"})
        assert "; hit" in status_of(again)
        assert client.get("/", headers={"accept-language": "de"}).text == "de"


def test_set_cookie_is_stored_where_the_policy_says_so_but_not_the_edges_own(origin: Origin) -> None:
    origin.default = Reply(200, [("Cache-Control", "max-age=60"), ("Set-Cookie", "theirs=1"), ("Set-Cookie", "b=2")])
    edge = page(
        origin,
        CachePolicy(set_cookie="store"),
        experiment=Experiment("e", variants={"a": 1}, cookie="ab"),
    )
    with running(edge) as served:
        assert len(httpx.get(served.url).headers.get_list("set-cookie")) == 3
        hit = httpx.get(served.url, headers={"cookie": "ab=a"})
    assert "; hit" in status_of(hit)
    assert hit.headers.get_list("set-cookie") == ["theirs=1", "b=2"]
