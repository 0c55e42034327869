"""Paths that an origin reads otherwise than the edge: models of origins that share nothing with the edge's code."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter import Edge, Jwt, _core, cache
from edgerouter.testing import Running

from ..raw import exchange, responses
from ..webservers import nginx_with, web_server

Reading = Callable[[str], str]

PIECES = [
    *("/", "//", "%2F", "%2f", "%5C", "%252F", "%25252F", "%255C"),
    *("..", ".", "%2e%2e", "%252e%252e", "..;", ".%2e"),
    *(";", ";a=b", "%3B", "%253B", "%25", "%25zz", "%2525"),
    *("x", "admin", "%61dmin", "%2561dmin", "me"),
]


def without_dots(path: str, merges: bool) -> str:
    """RFC 3986 §5.2.4, or with empty segments dropped before, as nginx does."""
    kept: list[str] = []
    *segments, last = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != "." and (segment or not merges):
            kept.append(segment)
    if last == "..":
        del kept[-1:]
    return "/".join(["", *kept, "" if last in (".", "..") else last])


def without_parameters(path: str) -> str:
    return re.sub(r";[^/]*", "", path)


def nginx(path: str) -> str:
    return without_dots(unquote(path), merges=True)


def tomcat(path: str) -> str:
    return without_dots(unquote(without_parameters(path)), merges=True)


def tomcat_with_backslashes(path: str) -> str:
    return without_dots(unquote(without_parameters(path)).replace("\\", "/"), merges=True)


def late_parameters(path: str) -> str:
    return without_dots(without_parameters(without_dots(unquote(path), merges=False)), merges=True)


def iis(path: str) -> str:
    return without_dots(unquote(path).replace("\\", "/"), merges=False)


def wsgi(path: str) -> str:
    return unquote(path)


def twice(path: str) -> str:
    return without_dots(unquote(nginx(path)), merges=True)


ORIGINS: list[Reading] = [nginx, tomcat, tomcat_with_backslashes, late_parameters, iis, wsgi, twice]


def site() -> bytes:
    edge = Edge("test")
    first = edge.origin("first", "http://127.0.0.1:9")
    edge.route("/*", to=first)
    edge.route("/admin/*", to=first, auth=Jwt.hs256("0123456789abcdef0123456789abcdef"))
    return edge.encode()


PLAN = site()


@settings(max_examples=2_000)
@given(st.lists(st.sampled_from(PIECES), min_size=2, max_size=9).map("".join))
def test_no_origin_reads_the_path_of_an_open_route_as_a_guarded_one(rest: str) -> None:
    path = f"/{rest}"
    steps = _core.explain(PLAN, "GET", f"http://a{path}", [])
    # The path that goes to the origin, in the edge's own normal form.
    sent = _core.normalise_path(path)
    is_open = all(step["decision"] not in ("400", "401") for step in steps)
    guarded = [read.__name__ for read in ORIGINS if read(sent).startswith("/admin/")]
    assert not (is_open and guarded), (sent, guarded)


NGINX = nginx_with(
    """
        location / {{ return 200 "open"; }}
        location /admin/ {{ return 200 "guarded"; }}
"""
)


@pytest.fixture
def nginx_server(tmp_path: Path) -> Iterator[str]:
    with web_server("nginx", NGINX, tmp_path) as server:
        yield server.url


def test_nginx_serves_nothing_guarded_to_a_client_without_a_token(
    nginx_server: str, serve: Callable[[Edge], Running]
) -> None:
    edge = Edge("test")
    first = edge.origin("first", nginx_server)
    edge.route("/*", to=first, cache=cache.DISABLED)
    edge.route("/admin/*", to=first, auth=Jwt.hs256("0123456789abcdef0123456789abcdef"))
    base = serve(edge).url
    choose = random.Random(1)
    paths = ["/admin/me", "//admin/me", "/%25zz%2F..%2Fadmin/me", "/x%2F%2F..%2Fadmin/me", "/x%2F..%2Fadmin/..;/me"]
    paths += ["/" + "".join(choose.choices(PIECES, k=choose.randint(2, 9))) for _ in range(400)]
    read = {path: text_of(nginx_server, path) for path in paths}
    assert {path for path in paths[:5] if read[path] == "guarded"} == set(paths[:5])
    assert sum(text == "guarded" for text in read.values()) > 5
    assert {path for path in paths if text_of(base, path) == "guarded"} == set()


def text_of(base: str, path: str) -> str:
    data = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    (answer,) = responses(exchange(base, data))
    return answer.body.decode()
