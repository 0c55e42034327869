"""Early hints (103) and trailers of functions and mounted applications, in both kinds of processes, as clients of
HTTP/1.1 and HTTP/2 see them.
"""

from __future__ import annotations

import re

import httpx
import pytest

from edgerouter.testing import Running

from ..http2.clients import Received, head, http2
from ..origins import wait_until
from ..raw import connect, read_all, read_until

PATIENCE = 20
MODULE = """
import asyncio
from edgerouter import CachePolicy, Edge, HeaderEdits, HeaderPolicy, HttpLimits, Limits, Response
from edgerouter.testing import validated

edge = Edge("early", limits=Limits(http=HttpLimits(half_close_timeout=0.2)))
edge.listen("127.0.0.1:0", http=("h2",))
LINKS = ["</a.css>; rel=preload; as=style", "</b.js>; rel=preload; as=script"]
LATE = asyncio.Event()


async def raw(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    assert {"http.response.trailers", "http.response.early_hint"} <= set(scope["extensions"])
    case = scope["query_string"].decode()
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
    if case.startswith("hints"):
        await send({"type": "http.response.early_hint", "links": iter([LINKS[0].encode(), LINKS[1].encode()])})
        if case == "hints-twice":
            await send({"type": "http.response.early_hint", "links": [b"</c.css>"]})
        if case == "hints-many":
            for number in range(100):
                await send({"type": "http.response.early_hint", "links": [b"</%d>" % number]})
        if case == "hints-late":
            await LATE.wait()
        if case == "hints-raise":
            raise ValueError("after the hints")
        await send(start)
        if case == "hints-after":
            await send({"type": "http.response.early_hint", "links": [b"</c.css>"]})
        await send({"type": "http.response.body", "body": b"hinted"})
        return
    if case == "hint-wrong":
        await send({"type": "http.response.early_hint", "links": [b"</a>\\r\\nx: 1"]})
    start["trailers"] = case != "unannounced"
    if case == "stated":
        start["headers"].append((b"content-length", b"7"))
    if case == "named":
        start["headers"].append((b"trailer", b"x-sum, content-length"))
    await send(start)
    if case == "early":
        await send({"type": "http.response.trailers", "headers": []})
    if case != "one":
        await send({"type": "http.response.body", "body": b"con", "more_body": True})
    await send({"type": "http.response.body", "body": b"content" if case == "one" else b"tent"})
    trailers = [(b"X-Sum", b"7"), (b"content-length", b"1"), (b"connection", b"x-sum"), (b"transfer-encoding", b"x")]
    if case == "injected":
        trailers = [(b"x-sum", b"7\\r\\nx: 1")]
    if case == "large":
        trailers = [(b"x-sum", b"7" * 9000)]
    if case == "none":
        trailers = []
    if case == "never":
        return
    if case == "parts":
        await send({"type": "http.response.trailers", "headers": trailers, "more_trailers": True})
        trailers = [(b"x-more", b"8")]
    await send({"type": "http.response.trailers", "headers": trailers})


edge.mount("/here", raw)
edge.mount("/there", raw, isolation="process")
policy = HeaderPolicy(response=HeaderEdits(remove=["Link"]))
edge.mount("/unlinked", raw, headers=policy)
edge.mount("/cached", raw, cache=CachePolicy(default_ttl=60))
checked = validated(raw)
edge.mount("/checked", checked)
edge.mount("/checkedthere", checked, isolation="process")


@edge.function("/late")
async def late(request, ctx):
    LATE.set()
    return "late"


async def waits(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    waiting = asyncio.create_task(gone(receive))
    await asyncio.sleep(0)
    await send({"type": "http.response.early_hint", "links": [b"</a.css>"]})
    await waiting
    LEFT.append(True)


async def gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


LEFT = []
edge.mount("/waits", waits)


@edge.function("/left")
async def left(request, ctx):
    return Response.json(bool(LEFT))


async def hinted(request, ctx):
    assert ctx.early_hints(*LINKS)
    await asyncio.sleep(0)
    return Response.html("hinted")


def plainly(request, ctx):
    assert ctx.early_hints(*LINKS)
    return Response.html("hinted")


def inline(request, ctx):
    return str(ctx.early_hints(*LINKS))


edge.function("/plain")(plainly)
edge.function("/plainserial", serial=True)(plainly)
edge.function("/plainthere", isolation="process")(plainly)
edge.function("/plaincached", cache=CachePolicy(default_ttl=60))(plainly)
edge.function("/plaininline", inline=True)(inline)
edge.function("/function")(hinted)
edge.function("/functionthere", isolation="process")(hinted)
edge.function("/functioncached", cache=CachePolicy(default_ttl=60))(hinted)


@edge.function("/wrong")
async def wrong(request, ctx):
    found = []
    for links in ((), ("</a>\\n",), ("x" * 20_000,), (1,)):
        try:
            ctx.early_hints(*links)
        except (TypeError, ValueError) as error:
            found.append(type(error).__name__)
    return found


@edge.function("/streamed")
async def streamed(request, ctx):
    async def pieces():
        sent.append(ctx.early_hints(*LINKS))
        yield "a"
        sent.append(ctx.early_hints(*LINKS))

    sent = []
    return Response(pieces(), headers={"x-sent": str(len(sent))})


@edge.on("viewer_request", "/hooked")
async def hook(request, ctx):
    ctx.early_hints(*LINKS)


@edge.function("/hooked")
async def hooked(request, ctx):
    return "hooked"


@edge.function("/fetches")
async def fetches(request, ctx):
    found = await ctx.fetch("/function")
    return found.text()
"""
LINKS = ["</a.css>; rel=preload; as=style", "</b.js>; rel=preload; as=script"]
HINTS = b"HTTP/1.1 103 Early Hints\r\n" + b"".join(f"link: {link}\r\n".encode() for link in LINKS) + b"\r\n"
BOTH = pytest.mark.parametrize("place", ["here", "there"])
TE = "TE: trailers\r\n"


def answered(served: Running, path: str, more: str = "", method: str = "GET", version: str = "1.1") -> bytes:
    """All bytes of the response to a request of HTTP/1."""
    with connect(served.url, PATIENCE) as sock:
        sock.sendall(f"{method} {path} HTTP/{version}\r\nHost: edge\r\nConnection: close, TE\r\n{more}\r\n".encode())
        return read_all(sock)


def over_http2(served: Running, path: str, *more: tuple[str, str]) -> Received:
    with http2(served.server.urls[-1], None) as client:
        client.until_settled()
        return client.response(client.request(head(path, "GET", "www.example.com", *more)))


def links_of(received: Received) -> list[list[str]]:
    assert all((":status", "103") in fields for fields in received.interims)
    return [[value for name, value in fields if name == "link"] for fields in received.interims]


PLAIN = ["/plain", "/plainserial", "/plainthere"]


@pytest.mark.parametrize("path", ["/here?hints", "/there?hints", "/function", "/functionthere", *PLAIN])
def test_early_hints_come_ahead_of_the_response(served: Running, path: str) -> None:
    got = answered(served, path)
    assert got.startswith(HINTS + b"HTTP/1.1 200 OK\r\n"), got
    assert got.endswith(b"hinted")
    assert b"link:" not in got.removeprefix(HINTS), "they are no fields of the response"
    received = over_http2(served, path)
    assert (received.status, received.body, links_of(received)) == (200, b"hinted", [LINKS])
    assert received.get("link") is None


def test_early_hints_reach_the_client_while_the_application_works(served: Running, client: httpx.Client) -> None:
    with connect(served.url, PATIENCE) as sock:
        sock.sendall(b"GET /here?hints-late HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n") == HINTS
        assert client.get("/late").text == "late"
        assert read_all(sock).endswith(b"hinted")


@BOTH
def test_an_application_may_send_several_early_hints_up_to_a_bound(served: Running, place: str) -> None:
    got = answered(served, f"/{place}?hints-twice")
    assert got.startswith(HINTS + b"HTTP/1.1 103 Early Hints\r\nlink: </c.css>\r\n\r\nHTTP/1.1 200 OK\r\n"), got
    got = answered(served, f"/{place}?hints-many")
    assert got.count(b"HTTP/1.1 103 ") == 16
    assert got.endswith(b"hinted")


@BOTH
def test_a_client_of_http_1_0_gets_no_early_hints(served: Running, place: str) -> None:
    got = answered(served, f"/{place}?hints", version="1.0")
    assert (b" 103 " in got, got.endswith(b"hinted")) == (False, True)


@BOTH
def test_an_application_that_fails_after_its_early_hints_is_answered_for(served: Running, place: str) -> None:
    got = answered(served, f"/{place}?hints-raise")
    assert got.startswith(HINTS + b"HTTP/1.1 502 "), got
    after = answered(served, f"/{place}?hints-after")
    assert b"</c.css>" not in after
    assert answered(served, f"/{place}?hint-wrong").startswith(b"HTTP/1.1 502 ")


def test_a_client_that_leaves_after_early_hints_is_seen(served: Running, client: httpx.Client) -> None:
    with connect(served.url, PATIENCE) as sock:
        sock.sendall(b"GET /waits HTTP/1.1\r\nHost: edge\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 103 ")
        assert client.get("/left").json() is False
    wait_until(lambda: client.get("/left").json() is True, PATIENCE, what="the end of its client")


def test_fields_that_a_route_removes_are_no_early_hints(served: Running) -> None:
    assert answered(served, "/unlinked?hints").startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("path", ["/functioncached", "/plaincached", "/cached?hints"])
def test_early_hints_are_not_stored(served: Running, path: str) -> None:
    assert answered(served, path).startswith(HINTS)
    again = answered(served, path)
    assert again.startswith(b"HTTP/1.1 200 OK\r\n"), again
    assert b"link:" not in again


def test_early_hints_are_for_functions_with_values_that_a_field_holds(client: httpx.Client) -> None:
    assert client.get("/wrong").json() == ["ValueError", "ValueError", "ValueError", "TypeError"]
    assert client.get("/hooked").status_code == 502
    assert client.get("/plaininline").text == "False"
    assert client.get("/fetches").text == "hinted"


def test_early_hints_come_before_the_head_only(served: Running) -> None:
    got = answered(served, "/streamed")
    assert b" 103 " not in got
    assert b"x-sent: 0\r\n" in got


def trailers_of(got: bytes) -> list[tuple[str, str]]:
    """The trailers behind chunked content."""
    head, _, content = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    found = re.search(rb"(?:^|\r\n)0\r\n(.*)\r\n$", content, re.DOTALL)
    assert found, got
    lines = [line.decode().partition(": ") for line in found[1].split(b"\r\n") if line]
    return [(name, value) for name, _, value in lines]


CASES: dict[str, list[tuple[str, str]]] = {
    "several": [("x-sum", "7")],
    "one": [("x-sum", "7")],
    "parts": [("x-sum", "7"), ("x-more", "8")],
    "named": [("x-sum", "7")],
    "none": [],
}


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_trailers_of_an_application_go_to_clients_that_take_them(served: Running, place: str, case: str) -> None:
    path, expected = f"/{place}?{case}", CASES[case]
    got = answered(served, path, TE)
    assert b"con" in got
    assert [(name.lower(), value) for name, value in trailers_of(got)] == expected
    announced = re.search(rb"(?m)^trailer: (.*)\r$", got)
    assert (announced and announced[1]) == (b"x-sum" if case == "named" else None)
    received = over_http2(served, path, ("te", "trailers"))
    assert (received.body, received.trailers) == (b"content", expected)
    assert received.get("x-sum") is None
    # Others have the content without.
    without = answered(served, path)
    assert (trailers_of(without), b"x-sum" in without.lower()) == ([], False)
    plain = over_http2(served, path)
    assert (plain.body, plain.trailers, plain.ended) == (b"content", [], True)


@BOTH
def test_content_of_a_stated_length_and_that_of_a_head_has_no_trailers(served: Running, place: str) -> None:
    stated = answered(served, f"/{place}?stated", TE)
    assert b"\r\ncontent-length: 7\r\n" in stated.lower()
    got = answered(served, f"/{place}?several", TE, "HEAD")
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"\r\n\r\n")
    assert b"x-sum" not in got.lower()
    old = answered(served, f"/{place}?several", TE, version="1.0")
    assert (old.endswith(b"\r\n\r\ncontent"), b"x-sum" in old.lower()) == (True, False)


@BOTH
@pytest.mark.parametrize("case", ["injected", "large", "never"])
def test_trailers_that_are_none_or_do_not_come_break_the_content_off(served: Running, place: str, case: str) -> None:
    got = answered(served, f"/{place}?{case}", TE)
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not got.endswith(b"0\r\n\r\n")
    assert b"x: 1" not in got
    assert over_http2(served, f"/{place}?{case}", ("te", "trailers")).reset is not None


@BOTH
def test_trailers_out_of_their_order_are_refused(served: Running, place: str) -> None:
    assert answered(served, f"/{place}?early", TE).startswith(b"HTTP/1.1 502 ")
    # The content is complete by then, and its client has it.
    assert trailers_of(answered(served, f"/{place}?unannounced", TE)) == []


def test_trailers_are_not_stored(served: Running) -> None:
    for _ in range(2):
        got = answered(served, "/cached?several", TE)
        assert b"x-sum" not in got.lower()
        assert b"con" in got


@pytest.mark.parametrize("place", ["checked", "checkedthere"])
def test_the_server_keeps_to_the_specification(served: Running, place: str) -> None:
    assert answered(served, f"/{place}?hints-twice").endswith(b"hinted")
    assert trailers_of(answered(served, f"/{place}?parts", TE))
