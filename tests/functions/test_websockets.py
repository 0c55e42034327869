"""WebSockets of mounted ASGI applications, over upgrades of HTTP/1.1 and streams of HTTP/2."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode

from edgerouter import CachePolicy, Edge, Jwt
from edgerouter import websocket as edge_websocket
from edgerouter.testing import Running

from ..http2.clients import head, http2
from ..identity.tokens import SECRET, bearer, token
from ..origins import until_steady, wait_until
from ..raw import connect
from .sockets import closed, to

Serve = Callable[[Edge], Running]


class Echo(WebSocketEndpoint):
    """The endpoint of Starlette's documentation."""

    encoding = "text"

    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept(subprotocol=(websocket.scope["subprotocols"] or [None])[0], headers=[(b"x-a", b"b")])

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_text(f"Message text was: {data}")

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        seen.append(close_code)


seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


async def about(websocket: WebSocket) -> None:
    await websocket.accept()
    path = websocket.path_params["name"]
    await websocket.send_json({"url": str(websocket.url), "name": path, "root": websocket.scope["root_path"]})
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(message[::-1])
    seen.append("over")


async def closes(websocket: WebSocket) -> None:
    await websocket.accept()
    assert await websocket.receive_json() == {"a": 1}
    await websocket.close(4001, "enough")


async def returns(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("last")


async def fails(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    raise ValueError("the reason")


async def empties(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send({"type": "websocket.send"})


async def refuses(websocket: WebSocket) -> None:
    await websocket.close()


async def denies(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("not you", 401, {"www-authenticate": "Bearer"}))


async def breaks(websocket: WebSocket) -> None:
    raise ValueError("before the handshake")


async def floods(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_bytes(b"x" * 10_000)
            seen.append(None)
    except WebSocketDisconnect:
        seen.append("gone")


released = threading.Event()


async def counts(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("open")
    while not released.is_set():
        await asyncio.sleep(0.01)
    while await websocket.receive_text() == "":
        seen.append("")
    await websocket.send_text(str(len(seen)))


async def page(request: HTTPConnection) -> PlainTextResponse:
    return PlainTextResponse("page", headers={"cache-control": "max-age=60"})


APP = Starlette(
    routes=[
        WebSocketRoute("/echo", Echo),
        Mount("/below", routes=[WebSocketRoute("/{name}", about)]),
        *(
            WebSocketRoute(f"/{it.__name__}", it)
            for it in (closes, returns, fails, empties, refuses, denies, breaks, floods, counts)
        ),
        Route("/page", page),
    ]
)


@pytest.fixture
def served(serve: Serve) -> Running:
    edge = Edge("test")
    edge.mount("/app", APP, message_bytes=100_000, cache=CachePolicy())
    edge.mount("/private", APP, auth=Jwt.hs256(SECRET))
    return serve(edge)


def test_starlettes_endpoint_echoes(served: Running) -> None:
    with to(served, "/app/echo", subprotocols=["chat", "other"]) as socket:
        assert socket.subprotocol == "chat" and socket.response is not None
        assert socket.response.headers["x-a"] == "b"
        for text in ("hello", "ä€😀" * 1000, ""):
            socket.send(text)
            assert socket.recv(10) == f"Message text was: {text}"
        # In fragments, with a ping between them.
        socket.send(iter(["a", "b", "c"]))
        assert socket.recv(10) == "Message text was: abc"
        assert socket.ping().wait(10)
        socket.close(4000)
    wait_until(lambda: seen == [4000])
    assert httpx.get(f"{served}/app/page").text == "page"


def test_the_scope_has_the_path_below_the_mount(served: Running) -> None:
    with to(served, "/app/below/ab?q=1") as socket:
        url = f"ws{served.url.removeprefix('http')}/app/below/ab?q=1"
        assert socket.recv(10) == f'{{"url":"{url}","name":"ab","root":"/app/below"}}'
        piece = bytes(range(256)) * 300
        for _ in range(5):
            socket.send(piece)
            assert socket.recv(10) == piece[::-1]
    wait_until(lambda: seen == ["over"])


@pytest.mark.parametrize(
    ("path", "first", "code"),
    [
        ("closes", '{"a":1}', (4001, "enough")),
        ("returns", "", (1000, "")),
        ("fails", "x", (1011, "")),
        ("empties", "", (1011, "")),
    ],
)
def test_the_application_closes(
    served: Running, caplog: pytest.LogCaptureFixture, path: str, first: str, code: tuple[int, str]
) -> None:
    with caplog.at_level(logging.ERROR, "edgerouter.functions"), to(served, f"/app/{path}") as socket:
        if first:
            socket.send(first)
        assert closed(socket) == code
        reason = {"fails": "the reason", "empties": "neither text nor bytes"}.get(path, "")
        wait_until(lambda: reason in caplog.text)
    assert bool(reason) == bool(caplog.text)


@pytest.mark.parametrize(
    ("path", "status"), [("/app/refuses", 403), ("/app/denies", 401), ("/app/breaks", 502), ("/private/echo", 401)]
)
def test_a_handshake_that_is_refused_has_a_response(served: Running, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        to(served, path)
    response = refused.value.response
    assert response.status_code == status
    if path == "/app/denies":
        assert (response.body, response.headers["www-authenticate"]) == (b"not you", "Bearer")


def test_policies_of_the_mount_hold_for_its_websockets(served: Running) -> None:
    with to(served, "/private/echo", additional_headers=bearer(token())) as socket:
        socket.send("a")
        assert socket.recv(10) == "Message text was: a"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.TEXT, b"x" * 100_001), 1009),
        (Frame(Opcode.TEXT, b"\xff"), 1007),
        (Frame(Opcode.CONT, b"x"), 1002),
    ],
    ids=["too large", "no text", "no beginning"],
)
def test_a_client_that_breaks_the_rules_is_closed(served: Running, frame: Frame, code: int) -> None:
    with to(served, "/app/echo") as socket:
        with socket.protocol_mutex:
            socket.socket.sendall(frame.serialize(mask=True))
        assert closed(socket)[0] == code
    wait_until(lambda: seen == [code])


def test_a_client_that_vanishes_is_a_disconnect(served: Running) -> None:
    with to(served, "/app/echo") as socket:
        socket.socket.close()
        wait_until(lambda: bool(seen))
    assert seen == [1006]


def test_an_application_waits_for_a_client_that_does_not_read(served: Running) -> None:
    with to(served, "/app/floods", max_queue=1) as socket:
        socket.recv(10)
        # As much as the sockets and the pipe hold.
        assert until_steady(lambda: len(seen), what="the number of messages") < 2_000
        socket.socket.close()
    wait_until(lambda: seen[-1] == "gone")


def test_a_client_that_pings_and_does_not_read_waits(served: Running) -> None:
    ping, pings = b"\x89\xfd\0\0\0\0" + b"p" * 125, 200_000
    with connect(served.url) as socket:
        socket.sendall(
            b"GET /app/counts HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        come = b""
        while b"\x04open" not in come:
            come += socket.recv(1_000)
        sending = threading.Thread(target=socket.sendall, args=(ping * pings,))
        sending.start()
        (call,) = edge_websocket._open
        assert until_steady(lambda: call.codec.waiting, what="the bytes that wait for the client") < 1_000_000
        left = pings * 127
        while left > 0:
            left -= len(socket.recv(1 << 16))
        sending.join()


def test_a_client_waits_for_an_application_that_takes_none_of_its_empty_messages(served: Running) -> None:
    released.clear()
    frame = b"\x81\x80\0\0\0\0"
    with to(served, "/app/counts") as socket:
        assert socket.recv(10) == "open"
        sending = threading.Thread(target=socket.socket.sendall, args=(frame * 200_000,))
        sending.start()
        (call,) = edge_websocket._open
        # Those of one piece of the pipe come beside those that may wait.
        assert 1_000 < until_steady(lambda: len(call.inbox), what="the number of messages that wait") < 50_000
        released.set()
        sending.join()
        socket.send("end")
        assert socket.recv(30) == "200000"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", 426),
        ("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n", 400),
    ],
)
def test_an_opening_handshake_must_be_one(served: Running, fields: str, status: int) -> None:
    with connect(served.url) as sock:
        sock.sendall(
            f"GET /app/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}\r\n".encode()
        )
        assert sock.recv(65_536).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_version_ends_after_its_last_websocket(serve: Serve) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        seen.append("stopped")

    edge = Edge("test")
    edge.mount("/app", Starlette(routes=APP.routes, lifespan=lifespan))
    served = serve(edge)
    other = Edge("test")
    other.mount("/app", Starlette())
    with to(served, "/app/echo") as socket:
        served.server.reload(other)
        assert httpx.get(f"{served}/app/page").status_code == 404
        socket.send("a")
        assert socket.recv(10) == "Message text was: a"
        assert seen == []
    wait_until(lambda: sorted(map(str, seen)) == ["1000", "stopped"])


def test_a_stop_closes_websockets_and_does_not_wait_for_them(serve: Serve) -> None:
    """RFC 6455 §7.4.1. Clients got no code, and only when the time to drain was over."""
    edge, other = Edge("test"), Edge("other")
    for each in (edge, other):
        each.mount("/app", APP)
    served, beside = serve(edge), serve(other)
    with to(served, "/app/echo") as socket, to(served, "/app/floods") as flood, to(beside, "/app/echo") as kept:
        for one in (socket, kept):
            one.send("a")
            assert one.recv(10) == "Message text was: a"
        stopping = threading.Thread(target=served.server.stop, args=(600.0,))
        stopping.start()
        assert closed(socket) == (1001, "the server is stopping")
        while closed(flood)[0] is None:
            continue
        assert flood.close_code == 1001
        # Long before the time to drain is over.
        stopping.join(60)
        assert not stopping.is_alive()
        wait_until(lambda: {1001, "gone"} <= set(seen))
        kept.send("b")
        assert kept.recv(10) == "Message text was: b"


def test_fastapis_example_runs_on_a_stream_of_http2(serve: Serve) -> None:
    app = fastapi.FastAPI()

    @app.websocket("/items/{item_id}/ws")
    async def items(websocket: fastapi.WebSocket, item_id: str, q: int | None = None) -> None:
        await websocket.accept()
        assert websocket.scope["http_version"] == "2"
        data = await websocket.receive_text()
        await websocket.send_text(f"q is {q}, message is {data}, for item ID: {item_id}")
        await websocket.close(4002)

    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.mount("/app", app)
    served = serve(edge)
    with http2(served.server.urls[-1], None) as client:
        client.until_settled()
        fields = head("/app/items/a/ws?q=7", "CONNECT", "www.example.com")
        fields += [(":protocol", "websocket"), ("sec-websocket-version", "13")]
        stream = client.request(fields, end=False)
        client.http.send_data(stream, Frame(Opcode.TEXT, b"hello").serialize(mask=True))
        client.flush()
        received = client.responses[stream]
        said = Frame(Opcode.TEXT, b"q is 7, message is hello, for item ID: a").serialize(mask=False)
        said += Frame(Opcode.CLOSE, (4002).to_bytes(2, "big")).serialize(mask=False)
        while len(received.body) < len(said):
            assert client.step()
        assert (received.status, bytes(received.body)) == (200, said)
        client.http.send_data(stream, Frame(Opcode.CLOSE, (4002).to_bytes(2, "big")).serialize(mask=True))
        client.flush()
        client.response(stream)
