"""Paths that an origin reads otherwise than the edge: models of origins that share nothing with the edge's code."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter import Edge, Jwt, _core

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
