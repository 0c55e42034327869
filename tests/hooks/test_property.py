"""Two requests that differ in what a hook read never get each other's body: against the same hooks without a cache.

``EDGEROUTER_PROPERTY_SECONDS=600`` searches for that long.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter import CachePolicy, Context, Edge, ForwardPolicy, Request, Response, cache
from edgerouter.testing import running

from ..origins import Origin, Reply, Seen

COOKIES = ("variant", "theme")
FIELDS = ("x-plan", "accept-language", "x-key", "x-mine", "cookie")
NAMES = {
    "cookie": COOKIES,
    "query": ("page", "q"),
    "field": FIELDS,
    "pop": FIELDS,
    "add": ("x-mine",),
    "copy": ("x-mine",),
}
#: Operations of a hook: read something, or (``add``, ``copy``) make a field of a cookie that a later hook may read.
OPERATIONS = st.one_of(
    *(st.tuples(st.just(kind), st.sampled_from(names)) for kind, names in NAMES.items()),
    st.tuples(st.sampled_from(["length", "names", "client", "query_string", "params"]), st.just("")),
)
VALUES = st.sampled_from([b"", b"a", b"b", b"\xff", b"a,b", b"a, b"])
LINES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"x-plan", b"accept-language", b"x-key", b"x-mine"]), VALUES),
        st.lists(st.tuples(st.sampled_from([b"variant", b"theme"]), VALUES), min_size=1, max_size=3).map(
            lambda pairs: (b"cookie", b"; ".join(name + b"=" + value.strip() for name, value in pairs))
        ),
    ),
    max_size=4,
)


def one_cookie_line(lines: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """As a route whose key has cookies sends them upstream, and hooks there see them."""
    cookies = [value for name, value in lines if name == b"cookie"]
    others = [line for line in lines if line[0] != b"cookie"]
    return [*others, (b"cookie", b"; ".join(cookies))] if cookies else others


REQUESTS = st.tuples(LINES.map(one_cookie_line), st.sampled_from(["", "?page=1", "?page=2", "?q=1", "?page=1&q=2"]))
PROGRAM = st.lists(OPERATIONS, max_size=3)


def do(program: list[tuple[str, str]], request: Request) -> str:
    """Runs the operations of one hook and gives all that it read."""
    found: list[object] = []
    for kind, name in program:
        match kind:
            case "cookie":
                found.append(request.cookies.get(name))
            case "query":
                found.append(request.query.get(name))
            case "field":
                # The edge may write several lines of `Cookie` as one.
                found.append((name in request.headers, "; ".join(request.headers.get_all(name))))
            case "pop":
                found.append("; ".join(request.headers.get_all(name)))
                request.headers.pop(name, None)
            case "add":
                request.headers.add(name, "more")
            case "copy":
                request.headers[name] = repr(request.cookies.get("variant"))
            case "length":
                found.append(len(request.headers))
            case "names":
                found.append(sorted(name for name in request.headers if name != "x-forwarded-for"))
            case "client":
                found.append(request.client)
            case "query_string":
                found.append(request.query_string)
            case "params":
                found.append(request.params["page"])
    return ascii(found)


class Site:
    """One origin that echoes the hooks' field, behind the same hooks with a cache and without."""

    def __init__(self, stack: ExitStack) -> None:
        self.origin = Origin()
        stack.callback(self.origin.kill)
        self.origin.default = self.answer
        self.programs: dict[str, dict[str, list[tuple[str, str]]]] = {}
        self.numbers = itertools.count(1)
        edge = Edge("property")
        for phase in ("viewer_request", "origin_request"):
            edge.on(phase, "/*")(self.asks(phase))

        @edge.on("origin_response", "/*")
        def answers(request: Request, response: Response, ctx: Context) -> None:
            response.headers["x-answers"] = do(self.program(request, "origin_response"), request)

        to = edge.origin("origin", self.origin.url)
        forward = ForwardPolicy(cookies="all")
        edge.route("/c/{page}", to=to, cache=CachePolicy(headers=["x-key"]), forward=forward)
        edge.route("/k/{page}", to=to, cache=CachePolicy(headers=["x-key"], cookies=["theme"]), forward=forward)
        edge.route("/u/{page}", to=to, cache=cache.DISABLED, forward=forward)
        self.client = stack.enter_context(httpx.Client(base_url=stack.enter_context(running(edge)), timeout=30.0))

    def answer(self, seen: Seen) -> Reply:
        told = [seen.get("x-viewer-request"), seen.get("x-origin-request")]
        return Reply(200, {"Cache-Control": "max-age=600"}, repr(told))

    def program(self, request: Request, phase: str) -> list[tuple[str, str]]:
        return self.programs.get(request.path.rsplit("/", 1)[-1], {}).get(phase, [])

    def asks(self, phase: str) -> Callable[[Request, Context], None]:
        def hook(request: Request, ctx: Context) -> None:
            request.headers[f"x-{phase}".replace("_", "-")] = do(self.program(request, phase), request)

        hook.__name__ = hook.__qualname__ = phase
        return hook

    def ask(self, prefix: str, page: str, lines: list[tuple[bytes, bytes]], query: str) -> tuple[str, str | None]:
        response = self.client.get(f"/{prefix}/{page}{query}", headers=httpx.Headers(lines))
        return response.text, response.headers.get("x-answers")

    def check(self, programs: dict[str, list[tuple[str, str]]], requests: list[Any]) -> None:
        page = str(next(self.numbers))
        self.programs[page] = programs
        for lines, query in [*requests, *requests]:
            truth = self.ask("u", page, lines, query)
            for cached in ("c", "k"):
                assert self.ask(cached, page, lines, query) == truth, (cached, programs, lines, query)
        del self.programs[page]


def test_requests_that_differ_in_what_a_hook_read_never_get_each_others_body() -> None:
    seconds = float(os.environ.get("EDGEROUTER_PROPERTY_SECONDS", "0"))
    ends = time.monotonic() + seconds
    with ExitStack() as stack:
        site = Site(stack)
        programs = st.fixed_dictionaries(
            {"viewer_request": PROGRAM, "origin_request": PROGRAM, "origin_response": PROGRAM}
        )

        @settings(max_examples=60, deadline=None)
        @given(programs, st.lists(REQUESTS, min_size=2, max_size=4))
        def search(programs: dict[str, list[tuple[str, str]]], requests: list[Any]) -> None:
            site.check(programs, requests)

        search()
        while time.monotonic() < ends:
            search()
        assert not site.programs, "each example was checked to its end"
