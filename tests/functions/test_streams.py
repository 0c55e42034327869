"""Functions stream: requests of any size in pieces, and responses from iterators, with back-pressure."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from edgerouter import (
    Abort,
    AsyncContext,
    CachePolicy,
    Context,
    Edge,
    Event,
    FunctionLimits,
    HttpLimits,
    Limits,
    Request,
    Response,
)
from edgerouter.testing import Running, running

from ..origins import until_steady, wait_until
from ..raw import connect, read_all

PATIENCE = 60.0
LARGE = 3 << 20


def streams_open(edge: Running) -> int:
    (_, rest) = edge.server.metrics().split("\nedgerouter_function_streams_open ")
    return int(rest.split()[0])


def test_an_iterator_of_each_kind_is_sent_in_pieces() -> None:
    edge = Edge("test")

    @edge.function("/async")
    async def awaited(request: Request, ctx: AsyncContext) -> Response:
        async def pieces() -> AsyncIterator[str]:
            for number in range(3):
                await asyncio.sleep(0)
                yield f"{number} ä\n"

        return Response(pieces(), 201, {"content-type": "text/plain; charset=utf-8", "content-length": "3"})

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> Iterator[bytes]:
        for number in range(3):
            yield f"{request.params.get('x', number)}\n".encode()

    @edge.function("/generator")
    async def generator(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        yield b""
        yield request.path.encode()

    @edge.function("/none")
    def nothing(request: Request, ctx: Context) -> Iterator[str]:
        return iter(())

    @edge.function("/inline", inline=True)
    def inline(request: Request, ctx: Context) -> Iterator[str]:
        return iter(["a", "b"])

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        found = client.get("/async")
        assert (found.status_code, found.text) == (201, "0 ä\n1 ä\n2 ä\n")
        assert found.headers["transfer-encoding"] == "chunked" and "content-length" not in found.headers
        assert client.get("/plain").text == "0\n1\n2\n"
        assert client.get("/generator").text == "/generator"
        types = [client.get(path).headers["content-type"] for path in ("/generator", "/plain", "/inline", "/none")]
        unknown = "application/octet-stream"
        assert types == [unknown, unknown, "text/plain; charset=utf-8", unknown]
        assert client.get("/none").content == b""
        assert client.get("/inline").text == "ab"
        assert client.head("/async").status_code == 201
        wait_until(lambda: streams_open(served) == 0, PATIENCE, "the end of all streams")


def test_pieces_are_on_their_way_before_an_iterator_waits() -> None:
    edge = Edge("test")
    seen = asyncio.Event()

    @edge.function("/pieces")
    async def pieces(request: Request, ctx: AsyncContext) -> AsyncIterator[str]:
        for turn in range(3):
            yield f"{turn}a"
            yield f"{turn}b"
            await seen.wait()
            seen.clear()

    @edge.function("/seen")
    async def tell(request: Request, ctx: AsyncContext) -> str:
        seen.set()
        return "told"

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        received = ""
        with client.stream("GET", "/pieces") as response:
            for piece in response.iter_text():
                received += piece
                if received.endswith("b"):
                    assert client.get("/seen").text == "told"
    assert received == "0a0b1a1b2a2b"


def endless(size: int) -> tuple[Edge, Callable[[], int]]:
    """An edge whose ``/`` streams pieces of that size without an end, and the number of those that were made."""
    edge = Edge("test")
    made = 0

    @edge.function("/")
    async def pieces(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(size)

    return edge, lambda: made


def test_a_slow_client_holds_an_iterator_back_and_its_memory_is_bounded() -> None:
    edge, made = endless(16_384)

    with running(edge) as served:
        with connect(served.url, PATIENCE) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n")
            wait_until(lambda: made() > 0, PATIENCE, "the first piece")
            # The pipe, the queue of the connection and the buffers of both sockets.
            assert until_steady(made, what="the number of pieces") < 1_000
        wait_until(lambda: streams_open(served) == 0, PATIENCE, "the end of the stream")


def test_a_quick_client_that_stops_amid_a_stream_holds_its_iterator_back() -> None:
    edge, made = endless(65_536)

    with running(edge) as served:
        with connect(served.url, PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: edge\r\n\r\n")
            taken = 0
            while taken < 64 << 20:
                taken += len(client.recv(1 << 20))
            # The wide pipe, the queue of the connection and the buffers of both sockets, which the kernel may have
            # enlarged.
            waiting = until_steady(made, what="the number of pieces") - taken // 65_536
            assert waiting * 65_536 < 32 << 20
        wait_until(lambda: streams_open(served) == 0, PATIENCE, "the end of the stream")


def test_a_client_that_leaves_closes_the_iterator_which_cleans_up() -> None:
    edge = Edge("test")
    closed = {"/async": threading.Event(), "/plain": threading.Event()}

    @edge.function("/async")
    async def waiting(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.sleep(3_600)
        finally:
            closed["/async"].set()

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(16_384)
        finally:
            closed["/plain"].set()

    with running(edge) as served:
        for path, event in closed.items():
            with connect(served.url, PATIENCE) as client:
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
                assert client.recv(4_096).startswith(b"HTTP/1.1 200")
            assert event.wait(PATIENCE), path
        wait_until(lambda: streams_open(served) == 0, PATIENCE, "the end of all streams")


def test_a_silent_stream_finds_out_whether_a_client_that_closed_its_side_still_reads() -> None:
    # Nothing but the reset of a client that is gone ends a stream here.
    edge = Edge("test", limits=Limits(http=HttpLimits(half_close_timeout=3_600)))
    goes_on, closed = threading.Event(), threading.Event()

    @edge.function("/stream")
    async def stream(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            while not goes_on.is_set():
                await asyncio.sleep(0.01)
            yield b"other"
        finally:
            closed.set()

    with running(edge) as served:
        with connect(served.url, PATIENCE) as client:
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: edge\r\n\r\n")
            received = client.recv(4_096)
            while not received.endswith(b"first\r\n"):
                received += client.recv(4_096)
        assert closed.wait(PATIENCE)
        closed.clear()
        with connect(served.url, PATIENCE) as client:
            client.sendall(b"GET /stream HTTP/1.1\r\nHost: edge\r\n\r\n")
            received = client.recv(4_096)
            while not received.endswith(b"first\r\n"):
                received += client.recv(4_096)
            client.shutdown(socket.SHUT_WR)
            # Two zeros: the first one has ended nothing.
            zeros = client.recv(1) + client.recv(1)
            assert zeros == b"00" and not closed.is_set()
            goes_on.set()
            rest = (zeros + read_all(client)).lstrip(b"0")
        assert rest == b"5\r\nother\r\n0\r\n\r\n"
        wait_until(lambda: streams_open(served) == 0, PATIENCE, "the end of all streams")


@pytest.mark.parametrize("path", ["/async", "/plain", "/type"])
def test_an_iterator_that_fails_breaks_the_content_off_and_is_logged(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    edge = Edge("test")

    @edge.function("/async")
    async def awaited(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        yield b"begun"
        raise ValueError("half way")

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> Iterator[bytes]:
        yield b"begun"
        raise ValueError("half way")

    @edge.function("/type")
    def wrong(request: Request, ctx: Context) -> Response:
        return Response(iter([b"begun", 7]))  # type: ignore[arg-type]

    with running(edge) as served, connect(served.url, PATIENCE) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: edge\r\n\r\n".encode())
        received = read_all(client)
    assert b"begun" in received and not received.endswith(b"0\r\n\r\n")
    wait_until(lambda: "broke its content off" in caplog.text, PATIENCE, "the log")
    (record,) = [record for record in caplog.records if "broke its content off" in record.getMessage()]
    assert record.exc_info is not None and record.getMessage().startswith("error id ")


def test_an_iterator_that_fails_before_its_first_piece_is_a_function_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    edge = Edge("test")

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> Iterator[str]:
        raise Abort(404, "no such thing", headers={"x-a": "b"})
        yield ""

    async def conflict() -> AsyncIterator[bytes]:
        yield b""
        raise Abort(409)

    @edge.function("/made")
    async def made(request: Request, ctx: AsyncContext) -> Response:
        return Response(conflict(), 201, {"content-type": "text/csv"})

    @edge.function("/raises")
    async def raises(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        raise ValueError("the reason")
        yield b""

    closed = threading.Event()

    @edge.function("/slow", timeout=0.2)
    async def slow(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        try:
            await asyncio.sleep(3_600)
            yield b""
        finally:
            closed.set()

    @edge.function("/stored", cache=CachePolicy(default_ttl=60))
    def stored(request: Request, ctx: Context) -> Iterator[str]:
        raise Abort(404)
        yield ""

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        found = client.get("/plain", headers={"accept": "application/json"})
        assert (found.status_code, found.json()["detail"], found.headers["x-a"]) == (404, "no such thing", "b")
        assert client.get("/made").status_code == 409
        assert client.get("/stored").status_code == 404
        assert not caplog.records or all("error id" not in record.getMessage() for record in caplog.records)
        failed = client.get("/raises")
        assert failed.status_code == 502
        wait_until(lambda: "before it gave anything" in caplog.text, PATIENCE, "the log")
        (record,) = [record for record in caplog.records if "before it gave anything" in record.getMessage()]
        assert failed.headers["x-error-id"] in record.getMessage() and record.exc_info is not None
        assert client.get("/slow").status_code == 504 and closed.wait(PATIENCE)
        wait_until(lambda: streams_open(served) == 0, PATIENCE, "the end of all streams")


def test_a_response_with_an_iterator_is_sent_once_and_never_stored() -> None:
    edge = Edge("test")
    kept: list[Response] = []

    @edge.function("/again")
    def again(request: Request, ctx: Context) -> Response:
        if not kept:
            kept.append(Response(iter(["once"])))
        return kept[0]

    @edge.function("/stored")
    def stored(request: Request, ctx: Context) -> str:
        ctx.cache.put(request, Response(iter(["x"])))
        return "stored"

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        assert client.get("/again").text == "once"
        assert client.get("/again").status_code == 502
        assert client.get("/stored").status_code == 502


def test_beyond_the_bound_on_streams_further_ones_are_refused_and_calls_go_on() -> None:
    edge = Edge("test", limits=Limits(functions=FunctionLimits(streams=2)))
    release = threading.Event()

    @edge.function("/stream")
    async def waiting(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        yield b"first"
        while not release.is_set():
            await asyncio.sleep(0.01)

    @edge.function("/call")
    async def call(request: Request, ctx: AsyncContext) -> str:
        return "answered"

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        with client.stream("GET", "/stream") as one, client.stream("GET", "/stream") as two:
            refused = client.get("/stream")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert client.get("/call").text == "answered"
            release.set()
            assert one.read() == two.read() == b"first"
        wait_until(lambda: streams_open(served) == 0, PATIENCE, "the end of all streams")
        assert client.get("/stream").text == "first"


def test_events_are_what_browsers_read() -> None:
    edge = Edge("test")
    beaten = threading.Event()

    @edge.function("/events")
    async def events(request: Request, ctx: AsyncContext) -> Response:
        async def source() -> AsyncIterator[object]:
            yield "one\ntwo"
            yield {"price": 3}
            yield Event("x", event="tick", id="7", retry=500)
            while not beaten.is_set():
                await asyncio.sleep(0.005)

        return Response.events(source(), heartbeat=0.05)

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> Response:
        return Response.events(["a"], headers={"x-a": "b"})

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        text = ""
        with client.stream("GET", "/events") as found:
            for piece in found.iter_text():
                text += piece
                # A heartbeat: the rest of the stream is its end.
                if ":\n\n" in text:
                    beaten.set()
        assert found.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert found.headers["cache-control"] == "no-cache"
        first, rest = text[: text.index(":\n")], text[text.index(":\n") :]
        assert first == 'data: one\ndata: two\n\ndata: {"price":3}\n\nevent: tick\nid: 7\nretry: 500\ndata: x\n\n'
        assert set(rest.split("\n\n")) == {":", ""}
        assert client.get("/plain").text == "data: a\n\n" and client.get("/plain").headers["x-a"] == "b"
    for wrong in ({"event": "a\nb"}, {"id": "a\0"}, {"retry": -1}, {"retry": True}):
        with pytest.raises(ValueError, match=f"Event.{next(iter(wrong))}"):
            Event("x", **wrong)


def counting(edge: Edge) -> None:
    @edge.function("/async")
    async def awaited(request: Request, ctx: AsyncContext) -> dict[str, int]:
        sizes = [len(piece) async for piece in request]
        return {"bytes": sum(sizes), "pieces": len(sizes)}

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> dict[str, int]:
        sizes = [len(piece) for piece in request]
        return {"bytes": sum(sizes), "pieces": len(sizes)}

    @edge.function("/whole")
    def whole(request: Request, ctx: Context) -> str:
        return str(len(request.body))

    @edge.function("/json")
    async def parsed(request: Request, ctx: AsyncContext) -> str:
        return str(request.json())

    @edge.function("/unread")
    async def unread(request: Request, ctx: AsyncContext) -> str:
        return "not read"

    @edge.function("/twice")
    async def twice(request: Request, ctx: AsyncContext) -> str:
        _ = [piece async for piece in request]
        _ = [piece async for piece in request]
        return "twice"

    @edge.function("/echo")
    async def echo(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        async for piece in request:
            yield piece


def test_a_request_of_any_size_is_read_in_pieces_and_a_whole_one_within_the_bound() -> None:
    edge = Edge("test")
    counting(edge)
    large = bytes(LARGE)

    def chunks() -> Iterator[bytes]:
        for at in range(0, LARGE, 65_536):
            yield large[at : at + 65_536]

    with running(edge) as served, httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
        for path in ("/async", "/plain"):
            for content in (large, chunks()):
                found = client.post(path, content=content).json()
                assert found["bytes"] == LARGE and found["pieces"] > 3
            assert client.post(path, content=b"small").json() == {"bytes": 5, "pieces": 1}
            assert client.post(path, content=b"").json() == {"bytes": 0, "pieces": 0}
            assert client.get(path).json() == {"bytes": 0, "pieces": 0}
        for path in ("/whole", "/json"):
            for content in (large, chunks()):
                refused = client.post(path, content=content)
                assert refused.status_code == 413 and "limits.functions.body_bytes" in refused.text
        assert client.post("/whole", content=bytes(1 << 20)).text == str(1 << 20)
        assert client.post("/unread", content=large).text == "not read"
        assert client.post("/twice", content=b"small").status_code == 502
        assert client.post("/twice", content=large).status_code == 502
        assert client.post("/echo", content=large).content == large


def test_a_request_that_breaks_off_is_an_error_in_the_function() -> None:
    edge = Edge("test")
    seen: list[str] = []

    @edge.function("/")
    async def reads(request: Request, ctx: AsyncContext) -> str:
        try:
            async for _ in request:
                pass
        except ValueError as error:
            seen.append(str(error))
            raise
        return "whole"

    with running(edge) as served:
        with connect(served.url, PATIENCE) as client:
            client.sendall(f"POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: {LARGE}\r\n\r\n".encode() + bytes(9_000))
        wait_until(lambda: len(seen) == 1, PATIENCE, "the error")
    assert "broke off" in seen[0]


def test_json_lines_come_one_by_one_while_the_request_still_comes() -> None:
    edge = Edge("test", limits=Limits(functions=FunctionLimits(body_bytes=0)))

    @edge.function("/")
    async def upper(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
        async for piece in request:
            yield piece.upper()

    with running(edge) as served, connect(served.url, PATIENCE) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        received = b""
        while b"1\r\nA\r\n" not in received:
            received += client.recv(4_096)
        client.sendall(b"1\r\nb\r\n0\r\n\r\n")
        while not received.endswith(b"1\r\nB\r\n0\r\n\r\n"):
            received += client.recv(4_096)
    assert received.startswith(b"HTTP/1.1 200")
