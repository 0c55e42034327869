"""Framing stays the edge's own, however a hook changes the fields: two lengths would be two readings of one message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgerouter import CachePolicy, Context, Edge, Request, Response, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply
from ..raw import connect

BODY = b"twelve bytes"


def adds(headers: Any) -> None:
    headers.add("content-length", "5")


def updates(headers: Any) -> None:
    headers.update([("content-length", str(len(BODY))), ("content-length", "5")])


def encodes(headers: Any) -> None:
    headers.add("transfer-encoding", "chunked")


CHANGES = [
    pytest.param(adds, id="a length beside the one that is there"),
    pytest.param(updates, id="two lengths, the right one first"),
    pytest.param(encodes, id="a transfer coding"),
]


@pytest.mark.parametrize("policy", [cache.STANDARD, cache.DISABLED])
@pytest.mark.parametrize("phase", ["origin_response", "viewer_response"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_line_of_framing_that_a_hook_adds_to_a_response_is_taken_away(
    origin: Origin, serve: Callable[[Edge], Running], change: Callable[[Any], None], phase: Any, policy: CachePolicy
) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, BODY.decode())
    edge = Edge("test")

    def hook(request: Request, response: Response, ctx: Context) -> None:
        change(response.headers)
        response.headers["x-hooked"] = "yes"

    edge.on(phase, "/*")(hook)
    edge.route("/*", to=edge.origin("first", origin.url), cache=policy)
    with connect(serve(edge).url) as client:
        # Behind a second length the rest of the content would be read as the next response.
        for _ in range(2):
            client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
            got = b""
            while not got.endswith(BODY):
                more = client.recv(65_536)
                assert more, got
                got += more
            head = got.partition(b"\r\n\r\n")[0].lower()
            assert head.startswith(b"http/1.1 200") and b"x-hooked: yes" in head
            lines = [line for line in head.split(b"\r\n") if line.startswith((b"content-length:", b"transfer-"))]
            assert lines == [b"content-length: 12"]


@pytest.mark.parametrize("phase", ["viewer_request", "origin_request"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_line_of_framing_that_a_hook_adds_to_a_request_is_taken_away(
    origin: Origin, serve: Callable[[Edge], Running], change: Callable[[Any], None], phase: Any
) -> None:
    origin.default = Reply(200, {}, "taken")
    edge = Edge("test")

    def hook(request: Request, ctx: Context) -> None:
        change(request.headers)

    edge.on(phase, "/*")(hook)
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED, methods=("GET", "POST"))
    with connect(serve(edge).url) as client:
        client.sendall(b"POST /page HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nConnection: close\r\n\r\n" + BODY)
        got = b""
        while more := client.recv(65_536):
            got += more
    assert got.startswith(b"HTTP/1.1 200")
    (seen,) = origin.requests
    assert seen.body == BODY
    assert (seen.all("content-length"), seen.all("transfer-encoding")) == (["12"], [])
