"""A function gets the content of its request when it reads it: one that never does gets none of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from edgerouter import AsyncContext, Context, Edge, FunctionLimits, Limits, Request, Response
from edgerouter.functions.content_use import waits_for_content
from edgerouter.functions.parameters import filled
from edgerouter.mounting import AsgiMount
from edgerouter.testing import running

from ..raw import connect

HEAD = b"POST /%s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 500000\r\n\r\n"
CHUNKED = b"POST /%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def received(sock: socket.socket) -> bytes:
    more = sock.recv(65536)
    assert more, "the edge closed the connection"
    return more


def ignores(request: Request, ctx: Any) -> str:
    return request.headers.get("x", "") + request.path + request.method


def unused(request: Request, ctx: Any) -> str:
    return "x"


def reads(request: Request, ctx: Any) -> str:
    return request.text()


def sometimes(request: Request, ctx: Any) -> str:
    return request.text() if "x" in request.headers else ""


def passes_on(request: Request, ctx: Any) -> str:
    return str(request)


def renames(request: Request, ctx: Any) -> str:
    other = request
    return other.text()


def iterates(request: Request, ctx: Any) -> Any:
    return sum(len(piece) for piece in request)


def in_lambda(request: Request, ctx: Any) -> Any:
    return (lambda: request.body)()


def headers_in_lambda(request: Request, ctx: Any) -> Any:
    return (lambda: request.path)()


def reaches(request: Request, ctx: Any) -> Any:
    return locals()["request"].body


def anything(*arguments: Any) -> Any:
    return arguments[0].body


def typed(request: Request, ctx: Any, page: int = 1) -> str:
    return request.path


def generates(request: Request, ctx: Any) -> Iterator[str]:
    yield request.path


async def async_ignores(request: Request, ctx: Any) -> str:
    return request.path


async def async_reads(request: Request, ctx: Any) -> Any:
    return request.json()


async def async_iterates(request: Request, ctx: Any) -> str:
    size = 0
    async for piece in request:
        size += len(piece)
    return str(size)


async def async_form(request: Request, ctx: Any) -> Any:
    return dict(await request.form())


async def async_within(request: Request, ctx: Any) -> Any:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in request:
            yield piece

    return Response(pieces())


async def async_within_plain(request: Request, ctx: Any) -> Any:
    def whole() -> bytes:
        return request.body

    return whole()


async def async_generates(request: Request, ctx: Any) -> AsyncIterator[bytes]:
    async for piece in request:
        yield piece


class Handler:
    def method(self, request: Request, ctx: Any) -> str:
        return request.path

    def __call__(self, request: Request, ctx: Any) -> bytes:
        return request.body


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (message := await receive())["more_body"]:
        await send({"type": "http.response.body", "body": message["body"], "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize(
    ("function", "waits"),
    [
        (ignores, False),
        (unused, False),
        (reads, True),
        (sometimes, True),
        (passes_on, True),
        (renames, True),
        (iterates, True),
        (in_lambda, True),
        (headers_in_lambda, False),
        (reaches, True),
        (anything, True),
        (filled(typed, "/x", "typed"), False),
        (generates, False),
        (async_ignores, False),
        (async_reads, True),
        (async_iterates, False),
        (async_form, False),
        (async_within, False),
        (async_within_plain, True),
        (filled(async_generates, "/x", "async_generates"), False),
        (Handler().method, False),
        (Handler(), True),
        (len, True),
    ],
)
def test_the_code_of_a_function_says_whether_it_waits_for_content(function: Callable[..., Any], waits: bool) -> None:
    is_async = "async" in getattr(function, "__name__", "")
    assert waits_for_content(function, is_async, inline=False) is waits


@pytest.mark.parametrize(("function", "waits"), [(async_ignores, False), (async_iterates, True), (async_form, True)])
def test_an_inline_function_that_iterates_has_all_before_its_call(function: Callable[..., Any], waits: bool) -> None:
    assert waits_for_content(function, True, inline=True) is waits


def test_a_mounted_application_awaits_its_content() -> None:
    assert not waits_for_content(AsgiMount(application, "/a"), True, inline=False)


def test_a_client_is_told_to_send_content_only_for_a_function_that_reads_it() -> None:
    edge = Edge("test")
    edge.function("/plain")(ignores)
    edge.function("/inline", inline=True)(unused)
    edge.function("/async")(async_ignores)
    edge.function("/typed")(typed)
    edge.function("/reads")(reads)
    edge.function("/iterates")(async_iterates)
    edge.mount("/app", application)
    with running(edge) as served:
        for path in (b"plain", b"inline", b"async", b"typed"):
            with connect(served.url) as sock:
                sock.sendall(HEAD % path)
                # The content never comes.
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 "), path
        for path in (b"reads", b"iterates", b"app"):
            with connect(served.url) as sock:
                sock.sendall(HEAD % path)
                # An application may begin its response before.
                given = b""
                while CONTINUE not in given:
                    given += received(sock)


def test_a_function_that_never_reads_is_called_before_its_content_is_there() -> None:
    edge = Edge("test")
    edge.function("/plain")(ignores)
    edge.function("/async")(async_ignores)
    with running(edge) as served:
        for path in (b"plain", b"async"):
            with connect(served.url) as sock:
                sock.sendall(b"POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" % path)
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
            with connect(served.url) as sock:
                # One that is there does not end the connection.
                request = b"POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % path
                for _ in range(2):
                    sock.sendall(request)
                    assert b"connection: close" not in sock.recv(65536).lower()


def test_content_that_comes_behind_the_response_is_dropped_and_the_next_request_served() -> None:
    edge = Edge("test")
    edge.function("/plain")(ignores)
    # Looks like a request, which it must never be taken for.
    content = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    head = b"POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    with running(edge) as served, connect(served.url) as sock:
        for path, status in ((b"plain", b"200"), (b"absent", b"404")):
            sock.sendall(head % (path, len(content)))
            first = sock.recv(65536)
            assert first.startswith(b"HTTP/1.1 %s " % status) and b"connection: close" not in first.lower()
            sock.sendall(content[:7])
            sock.sendall(content[7:] + b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            assert sock.recv(65536).endswith(b"/plainGET")
        # One that never comes whole is no request either.
        sock.sendall(head % (b"plain", 65_536) + content)
        assert sock.recv(65536).endswith(b"/plainPOST")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(65536) == b""


@pytest.mark.parametrize("length", [b"Content-Length: 65537", b"Transfer-Encoding: chunked"])
def test_content_of_more_or_of_unknown_length_ends_the_connection_that_it_comes_by(length: bytes) -> None:
    edge = Edge("test")
    edge.function("/plain")(ignores)
    with running(edge) as served, connect(served.url) as sock:
        sock.sendall(b"POST /plain HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n\r\n")
        assert b"connection: close" in sock.recv(65536).lower()


@pytest.mark.parametrize("path", [b"function", b"within", b"app"])
def test_each_piece_is_answered_while_the_request_still_comes(path: bytes) -> None:
    edge = Edge("test")
    edge.function("/function")(async_generates)
    edge.function("/within")(async_within)
    edge.mount("/app", application)
    with running(edge) as served, connect(served.url) as sock:
        sock.sendall(CHUNKED % path)
        given = b""
        for piece in (b"first", b"second", b"third"):
            sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            while piece not in given:
                given += received(sock)
        sock.sendall(b"0\r\n\r\n")
        while not given.endswith(b"0\r\n\r\n"):
            given += received(sock)
        assert given.startswith(b"HTTP/1.1 200 OK\r\n")


def test_waits_for_a_client_are_no_time_of_a_function() -> None:
    edge = Edge("test", limits=Limits(functions=FunctionLimits(timeout=1)))
    begun, passed = threading.Event(), threading.Event()

    @edge.function("/iterates")
    async def iterated(request: Request, ctx: AsyncContext) -> str:
        begun.set()
        size = 0
        async for piece in request:
            size += len(piece)
        return f"{size} {ctx.remaining() > 0}"

    edge.function("/generates")(async_generates)

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> str:
        return "x"

    with running(edge) as served, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(served.url)) for _ in range(2)]
        for sock, path in zip(socks, (b"iterates", b"generates"), strict=True):
            sock.sendall(CHUNKED % path)
        assert begun.wait(20)
        # Twice the limit.
        assert not passed.wait(2)
        for sock in socks:
            sock.sendall(b"3\r\nabc\r\n0\r\n\r\n")
        first, second = (sock.makefile("rb") for sock in socks)
        assert first.readline() == second.readline() == b"HTTP/1.1 200 OK\r\n"
        assert b"3 True" in first.read1()
