"""The content of requests to functions and applications in worker processes, which take it piece by piece."""

from __future__ import annotations

import select
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edgerouter.testing import Running

from ..origins import wait_until
from ..raw import connect

PATIENCE = 20
MODULE = """
import asyncio
import os
import time
from edgerouter import Abort, BodyError, Edge, Isolation, Response

edge = Edge("isolated")
FOLDER = os.path.dirname(os.path.abspath(__file__))
ONE = Isolation(processes=1)


@edge.function("/async", isolation=ONE)
async def reads(request, ctx):
    sizes = [len(piece) async for piece in request]
    return [request.method, sum(sizes), len(sizes), max(sizes, default=0)]


@edge.function("/plain", isolation=ONE)
def reads_plain(request, ctx):
    sizes = [len(piece) for piece in request]
    return [sum(sizes), max(sizes, default=0)]


@edge.function("/ignores", isolation=ONE)
def ignores(request, ctx):
    return request.path


@edge.function("/whole", isolation=ONE)
async def whole(request, ctx):
    try:
        return str(len(request.body))
    except Abort as error:
        if "rest" not in request.query:
            raise
        return [error.status, sum([len(piece) async for piece in request])]


@edge.function("/twice", isolation=ONE)
async def twice(request, ctx):
    first = b"".join([piece async for piece in request])
    try:
        async for piece in request:
            pass
    except RuntimeError as error:
        return [first.decode(), "once" in str(error)]


@edge.function("/waits", isolation=ONE)
async def waits(request, ctx):
    total = 0
    async for piece in request:
        while not os.path.exists(FOLDER + "/go"):
            await asyncio.sleep(0.01)
        total += len(piece)
    return total


@edge.function("/form", isolation=ONE)
async def form(request, ctx):
    form = await request.form()
    return form["a"]


@edge.function("/echo", isolation=ONE)
async def echo(request, ctx):
    async for piece in request:
        yield piece


@edge.function("/leaves", isolation=ONE)
async def leaves(request, ctx):
    try:
        async for piece in request:
            open(FOLDER + "/begun", "w").close()
    except BodyError as error:
        with open(FOLDER + "/left.part", "w") as file:
            file.write(str(error.status))
        os.rename(FOLDER + "/left.part", FOLDER + "/left")
        raise


async def asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


def noted(name, text=""):
    with open(f"{FOLDER}/{name}.part", "w") as file:
        file.write(text)
    os.rename(f"{FOLDER}/{name}.part", f"{FOLDER}/{name}")


async def silent(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    assert (await receive())["type"] == "http.request"
    noted("asked")
    noted("silent", (await receive())["type"])
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"too late"})
    except OSError:
        noted("refused")
        raise


async def begin(receive, send):
    # The response begins while its application waits for the end of its client.
    while (await receive())["more_body"]:
        pass
    leaving = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    # There is room for the third when the first is on its way, behind the head.
    for _ in range(3):
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
    return leaving


async def slow(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    leaving = await begin(receive, send)
    assert not leaving.done()
    await send({"type": "http.response.body"})
    assert (await leaving)["type"] == "http.disconnect"


async def held(scope, receive, send):
    # Its response begins while nobody reads what it sends.
    if scope["type"] != "http":
        raise NotImplementedError
    noted("held")
    while not os.path.exists(FOLDER + "/reads-nothing"):
        await asyncio.sleep(0.01)
    leaving = await begin(receive, send)
    noted("sent")
    while not os.path.exists(FOLDER + "/reads-again"):
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body"})
    assert (await leaving)["type"] == "http.disconnect"


@edge.function("/holds")
async def holds(request, ctx):
    noted("reads-nothing")
    while not os.path.exists(FOLDER + "/sent"):
        time.sleep(0.01)
    return "held"


def wsgi(environ, start_response):
    start_response("200 OK", [])
    yield b"%d" % len(environ["wsgi.input"].read())


edge.mount("/asgi", asgi, isolation=ONE)
edge.mount("/silent", silent, isolation=ONE)
edge.mount("/slow", slow, isolation=ONE)
edge.mount("/held", held, isolation=ONE)
edge.mount("/wsgi", wsgi, isolation=ONE)
"""
#: More than a body that is handed over at once has.
LARGE = b"abcdefgh" * (3 << 17)


def writable(sock: socket.socket, seconds: float) -> bool:
    """True as soon as the socket takes bytes; false after so many seconds."""
    waiting = select.poll()
    waiting.register(sock, select.POLLOUT)
    return bool(waiting.poll(seconds * 1_000))


def some(sock: socket.socket) -> bytes:
    received = sock.recv(4096)
    assert received, "the connection ended"
    return received


def test_content_goes_to_a_process_in_pieces(client: httpx.Client) -> None:
    method, total, count, most = client.post("/async", content=LARGE).json()
    assert (method, total, count > 1, most < len(LARGE)) == ("POST", len(LARGE), True, True)
    assert client.get("/async").json() == ["GET", 0, 0, 0]
    assert client.post("/async", content=b"ab").json() == ["POST", 2, 1, 2]
    total, most = client.post("/plain", content=LARGE).json()
    assert total == len(LARGE)
    assert client.post("/plain", content=b"ab").json() == [2, 2]
    assert client.post("/wsgi", content=LARGE).text == str(len(LARGE))
    assert client.post("/asgi", content=LARGE).content == LARGE
    assert client.post("/twice", content="ä").json() == ["ä", True]
    assert client.post("/form", data={"a": "ä"}).text == "ä"


def test_a_body_that_is_too_large_to_be_handed_over_is_413_where_it_is_read_at_once(client: httpx.Client) -> None:
    assert client.post("/whole", content=b"ab").text == "2"
    found = client.post("/whole", content=LARGE)
    assert (found.status_code, "limits.functions.body_bytes" in found.text) == (413, True)
    # The rest of the body is unread behind this response, so its connection ends, and says so.
    assert found.headers["connection"] == "close"
    assert client.post("/whole?rest=1", content=LARGE).json() == [413, len(LARGE)]


@pytest.mark.parametrize("path", ["/echo", "/asgi"])
def test_a_piece_is_there_before_the_next_is_sent(served: Running, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(served.url, PATIENCE) as talks:
        talks.sendall(head.encode())
        received = b""
        for word in (b"first", b"other"):
            talks.sendall(b"5\r\n%s\r\n" % word)
            while word not in received:
                received += some(talks)
        talks.sendall(b"0\r\n\r\n")
        while not received.endswith(b"0\r\n\r\n"):
            received += some(talks)
        assert received.count(b"first") == received.count(b"other") == 1


def test_a_client_waits_for_a_process_that_takes_no_further_piece(
    served: Running, folder: Path, client: httpx.Client
) -> None:
    # Far more than the sockets and the edge hold, and less than a body may have.
    size, piece = 96 << 20, bytes(1 << 20)
    with connect(served.url, PATIENCE) as sends:
        sends.sendall(f"POST /waits HTTP/1.1\r\nHost: edge\r\nContent-Length: {size}\r\n\r\n".encode())
        sends.setblocking(False)
        sent = 0
        # A machine that is slow sends less before the first pause, never more.
        while sent < size and writable(sends, 1):
            sent += sends.send(piece[: size - sent])
        assert sent < size // 2
    (folder / "go").touch()
    # The process is there for the next.
    assert client.get("/ignores").text == "/ignores"


def test_a_function_that_does_not_read_needs_no_content(served: Running) -> None:
    with connect(served.url, PATIENCE) as asks:
        asks.sendall(b"POST /ignores HTTP/1.1\r\nHost: edge\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        assert asks.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_client_that_leaves_ends_the_read_of_a_process(served: Running, folder: Path, client: httpx.Client) -> None:
    with connect(served.url, PATIENCE) as leaves:
        leaves.sendall(b"POST /leaves HTTP/1.1\r\nHost: edge\r\nContent-Length: 100\r\n\r\nab")
        wait_until((folder / "begun").exists)
    wait_until((folder / "left").exists)
    assert (folder / "left").read_text() == "400"
    # The process is there for the next.
    assert client.get("/ignores").text == "/ignores"


def test_an_application_in_a_process_sees_that_its_client_left_before_its_response_began(
    served: Running, folder: Path, client: httpx.Client
) -> None:
    with connect(served.url, PATIENCE) as leaves:
        leaves.sendall(b"GET /silent HTTP/1.1\r\nHost: edge\r\n\r\n")
        wait_until((folder / "asked").exists, PATIENCE, "the call")
        # The connection is reset, as by a client that is ended.
        leaves.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until((folder / "refused").exists, PATIENCE, "the disconnection")
    assert (folder / "silent").read_text() == "http.disconnect"
    # The process is as good as before.
    assert client.post("/asgi", content=b"ab").content == b"ab"


def test_an_application_in_a_process_that_waits_for_the_end_of_its_client_is_answered(client: httpx.Client) -> None:
    assert [client.get("/slow").text for _ in range(3)] == ["piecepiecepiece"] * 3


def test_a_response_that_begins_while_its_edge_is_busy_is_not_taken_for_that_of_a_client_that_left(
    served: Running, folder: Path, client: httpx.Client
) -> None:
    with ThreadPoolExecutor(1) as pool:
        responding = pool.submit(httpx.get, f"{served.url}/held", timeout=PATIENCE)
        wait_until((folder / "held").exists, PATIENCE, "the call")
        # A further call comes behind the answers to all that was sent meanwhile.
        assert [client.get("/holds").text for _ in range(2)] == ["held"] * 2
        (folder / "reads-again").touch()
        assert responding.result().text == "piecepiecepiece"
