"""Responses of mounted applications, and the ends of their clients, by the rules of ASGI and PEP 3333."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route

from edgerouter import CachePolicy, ConfigError, Edge
from edgerouter.application import FileApplication
from edgerouter.mounting import AsgiMount
from edgerouter.testing import Running, running

from ..http2.clients import head, http2
from ..origins import wait_until
from ..raw import connect, read_all, read_until
from .applications import LARGE, PATIENCE, client_of


def answers_of(served: Running, path: str, method: str = "GET", body: bytes = b"") -> bytes:
    with connect(served.url, PATIENCE) as raw:
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        raw.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n".encode() + length + b"\r\n" + body
        )
        return read_all(raw)


def sends(*messages: tuple[bytes, bool], fields: Iterable[tuple[bytes, bytes]] = ()) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": iter(fields)})
        for body, more in messages:
            await send({"type": "http.response.body", "body": body, "more_body": more})

    return app


LENGTH = (b"Content-Length", b"3")
#: An application, and how its response to GET and to HEAD ends.
LENGTHS: dict[str, tuple[Any, bytes]] = {
    "/pieces": (sends((b"a", True), (b"bc", False), fields=[LENGTH]), b"\r\n\r\nabc"),
    "/whole": (sends((b"abc", True), (b"", True), (b"", False), fields=[LENGTH]), b"\r\n\r\nabc"),
    "/all": (sends((b"abc", False), fields=[LENGTH]), b"\r\n\r\nabc"),
    "/none": (sends((b"", False), fields=[LENGTH]), b"\r\n\r\n"),
    "/short": (sends((b"a", True), (b"", False), fields=[LENGTH]), b"\r\n\r\na"),
    "/long": (sends((b"a", True), (b"bcd", True), (b"", False), fields=[LENGTH]), b"\r\n\r\na"),
    "/twice": (sends((b"a", True), (b"bc", False), fields=[LENGTH, LENGTH]), b"0\r\n\r\n"),
    "/no": (sends((b"a", True), (b"bc", False), fields=[(b"content-length", b"x")]), b"0\r\n\r\n"),
}


@pytest.mark.parametrize("cache", [CachePolicy(enabled=False), CachePolicy()], ids=["alone", "cached"])
def test_a_length_that_an_application_states_is_that_of_its_response(cache: CachePolicy) -> None:
    edge = Edge("test")
    for path, (app, _) in LENGTHS.items():
        edge.mount(path, app, cache=cache)
    with running(edge) as served:
        for path, (_, end) in LENGTHS.items():
            stated = path not in ("/twice", "/no")
            # The cache knows the length of content that a call has given as a whole.
            if path == "/none":
                stated = False
            head, got = answers_of(served, path, "HEAD"), answers_of(served, path)
            assert (b"content-length: 3\r\n" in head) == (path not in ("/twice", "/no")), path
            assert head.endswith(b"\r\n\r\n"), path
            assert got.endswith(end), path
            assert (b"content-length: 3\r\n" in got) == stated, path


def test_content_of_another_length_is_a_failure_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    def old(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "3")])
        yield from (b"a", b"b") if environ["PATH_INFO"] == "/short" else (b"a", b"bcd")

    edge = Edge("test")
    paths = ["/short", "/long", "/old/short", "/old/long"]
    for path in paths[:2]:
        edge.mount(path, LENGTHS[path][0])
    edge.mount("/old", old)
    with caplog.at_level(logging.ERROR, "edgerouter.functions"), running(edge) as served:
        for number, path in enumerate(paths, 1):
            assert answers_of(served, path).endswith((b"\r\n\r\na", b"\r\n\r\nab")), path
            wait_until(partial(lambda lines: len(caplog.records) >= lines, number), PATIENCE, "the line of the log")
        assert caplog.text.count("another length") >= 4
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 4


def test_content_that_comes_at_once_has_the_length_that_is_stated(caplog: pytest.LogCaptureFixture) -> None:
    def old(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "3")])
        return {"/short": [b"a"], "/long": [b"a", b"bcd"], "/none": [], "/right": [b"a", b"bc"]}[environ["PATH_INFO"]]

    edge = Edge("test")
    edge.mount("/old", old)
    edge.mount("/short", sends((b"a", False), fields=[LENGTH]), cache=CachePolicy(default_ttl=60))
    with caplog.at_level(logging.ERROR, "edgerouter.functions"), running(edge) as served:
        for path in ("/short", "/old/short", "/old/long", "/old/none"):
            caplog.clear()
            assert answers_of(served, path).startswith(b"HTTP/1.1 502 "), path
            wait_until(lambda: "another length" in caplog.text, PATIENCE, "the line of the log")
        assert answers_of(served, "/old/right").endswith(b"\r\n\r\nabc")
        with client_of(served) as client:
            # Of content that is not sent the application states the length, whatever it gives.
            assert client.head("/old/none").headers["content-length"] == "3"


def test_an_application_runs_to_its_end_for_head() -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        await sends((b"a", True), (b"b", True), (b"", False))(scope, receive, send)
        ended.append(scope["method"])

    edge = Edge("test")
    edge.mount("/", app)
    with running(edge) as served, client_of(served) as client:
        assert (client.head("/").content, client.get("/").content) == (b"", b"ab")
        # The response to HEAD is complete before its call ends, so the second call may end first.
        wait_until(lambda: sorted(ended) == ["GET", "HEAD"], PATIENCE, "both ends")


def test_fields_of_a_connection_stay_on_it() -> None:
    fields = [(b"connection", b"x-a"), (b"x-a", b"1"), (b"keep-alive", b"3"), (b"upgrade", b"x"), (b"x-b", b"2")]
    edge = Edge("test")
    edge.mount("/", sends((b"x", False), fields=fields))
    with running(edge) as served, client_of(served) as client:
        found = client.get("/").headers
    assert found["x-b"] == "2" and not {"connection", "x-a", "keep-alive", "upgrade"} & set(found)


def test_a_first_message_without_content_sends_the_head() -> None:
    go_on = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        loops.append(asyncio.get_running_loop())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "more_body": True})
        await go_on.wait()
        # Several tasks may send, also when there is no room.
        pieces = ({"type": "http.response.body", "body": bytes(LARGE), "more_body": True} for _ in range(3))
        await asyncio.gather(*map(send, pieces))
        await send({"type": "http.response.body"})

    edge = Edge("test")
    edge.mount("/", app)
    with running(edge) as served, client_of(served) as client, client.stream("GET", "/") as response:
        assert response.status_code == 200
        loops[0].call_soon_threadsafe(go_on.set)
        assert sum(len(piece) for piece in response.iter_bytes()) == 3 * LARGE


def test_a_client_that_leaves_and_content_that_breaks_off_are_a_disconnection() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        message = await receive()
        while message["type"] == "http.request" and (message["more_body"] or scope["method"] == "GET"):
            seen.append("waits")
            message = await receive()
        assert message["type"] == (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body"})
        except OSError:
            seen.append("gone")
            raise

    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.mount("/", app)
    with running(edge) as served:
        with connect(served.url, PATIENCE) as raw:
            raw.sendall(b"POST / HTTP/1.1\r\nHost: edge\r\nContent-Length: 9\r\n\r\nabc")
            raw.shutdown(1)
            assert read_all(raw).startswith(b"HTTP/1.1 400 ")
        assert seen == ["waits", "gone"]
        seen.clear()
        with http2(served.server.urls[-1], None) as client:
            client.until_settled()
            stream = client.request(head("/", "GET", "www.example.com"))
            wait_until(lambda: seen == ["waits"], PATIENCE, "the call")
            client.http.reset_stream(stream)
            client.flush()
            wait_until(lambda: seen == ["waits", "gone"], PATIENCE, "the disconnection")


STEPS = """
import asyncio
from edgerouter import Edge

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    for _ in range(3):
        waits = asyncio.ensure_future(receive())
        for _ in range(3):
            await asyncio.sleep(0)
        waits.cancel()
        await asyncio.wait({waits})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"go ", "more_body": True})
    content, more = b"", True
    while more:
        message = await receive()
        content, more = content + message["body"], message["more_body"]
    await send({"type": "http.response.body", "body": content})

edge = Edge("steps")
edge.mount("/here", app)
edge.mount("/there", app, isolation="process")
"""


def test_a_receive_that_is_cancelled_loses_no_content(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(STEPS)
    with running(FileApplication("app.py", folder=tmp_path).load()) as served:
        for path in ("here", "there"):
            with connect(served.url, PATIENCE) as raw:
                length = 400_000
                raw.sendall(f"POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode())
                read_until(raw, b"go \r\n")
                raw.sendall(b"x" * length)
                raw.shutdown(1)
                assert read_all(raw).count(b"x") == length, path


def test_a_lifespan_whose_time_is_over_is_cancelled() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
            seen.append("begins")
            await asyncio.Event().wait()
        finally:
            seen.append("ends")

    async def starts() -> None:
        mount = AsgiMount(app, "")
        starting = asyncio.ensure_future(mount.start())
        while not seen:
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(starts(), PATIENCE))
    assert seen == ["begins", "ends"]


def test_an_async_function_that_is_no_application_is_refused(tmp_path: Path) -> None:
    async def page(request: Any, ctx: Any) -> str:
        return ""

    with pytest.raises(ConfigError, match="no ASGI or WSGI application"):
        Edge("test").mount("/", page)
    (tmp_path / "app.py").write_text("async def make():\n    return None\n")
    with pytest.raises(ConfigError, match="must be an Edge, or an ASGI or WSGI application"):
        FileApplication("app.py:make", folder=tmp_path).load()


def test_a_body_that_is_a_number_is_none_of_as_many_bytes() -> None:
    edge = Edge("test")
    edge.mount("/", sends((5, False)))  # type: ignore[arg-type]  # the mistake
    with running(edge) as served, client_of(served) as client:
        assert client.get("/").status_code == 502


def test_a_path_with_escapes_is_decoded_in_the_root_path() -> None:
    async def page(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse(str(request.url_for("page")))

    def old(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]

    edge = Edge("test")
    edge.mount("/caf%C3%A9/new", Starlette(routes=[Route("/page", page, name="page")]))
    edge.mount("/caf%C3%A9/old", old)
    with running(edge) as served, client_of(served) as client:
        assert client.get("/caf%C3%A9/new/page").text == f"{served}/café/new/page"
        assert client.get("/café/old/x").text == "/café/old|/x"


def test_a_wsgi_response_in_pieces_keeps_its_context_and_its_length() -> None:
    app = flask.Flask("test")
    threads: set[str] = set()

    @app.get("/stream")
    def stream() -> flask.Response:
        def pieces() -> Iterator[str]:
            for number in range(3):
                threads.add(threading.current_thread().name)
                yield f"{flask.request.args['n']}{number} "

        return flask.Response(flask.stream_with_context(pieces()))

    @app.get("/json")
    def data() -> dict[str, int]:
        return {"a": 1}

    def raises(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        try:
            raise ValueError("too late for another head")
        except ValueError:
            start_response("500 Oh", [], sys.exc_info())
        yield b"never"

    def text(environ: dict[str, Any], start_response: Any) -> Iterator[Any]:
        start_response("200 OK", [])
        yield b"begun"
        yield "text"

    edge = Edge("test")
    for path, one in (("/flask", app), ("/raises", raises), ("/text", text)):
        edge.mount(path, one)
    with running(edge) as served, client_of(served) as client:
        assert client.get("/flask/stream?n=7").text == "70 71 72 "
        assert len(threads) == 2
        found = client.get("/flask/json")
        assert found.json() == {"a": 1} and found.headers["content-length"] == str(len(found.content))
        assert client.head("/flask/json").headers["content-length"] == found.headers["content-length"]
        for path in ("/raises", "/text"):
            received = answers_of(served, path)
            assert b"begun" in received and not received.endswith(b"0\r\n\r\n"), path


def test_content_that_breaks_off_is_an_error_of_reading_in_wsgi() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError:
            if environ["PATH_INFO"] == "/raises":
                raise
            start_response("499 Gone", [])
        return []

    edge = Edge("test")
    edge.mount("/", app)
    with running(edge) as served:
        for path, status in (("/raises", 400), ("/answers", 499)):
            with connect(served.url, PATIENCE) as raw:
                # More than is taken in before the call.
                raw.sendall(f"POST {path} HTTP/1.1\r\nHost: edge\r\nContent-Length: {LARGE}\r\n\r\n".encode())
                raw.sendall(bytes(LARGE - 1))
                raw.shutdown(1)
                assert read_all(raw).startswith(b"HTTP/1.1 %d " % status), path


@pytest.mark.parametrize("spec", ["shop:create_app", "shop.made:create_app"])
def test_run_makes_an_application_by_its_factory_in_a_package(spec: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "words.py").write_text("WORD = b'made'\n")
    factory = (
        "from .words import WORD\n\n\n"
        "def create_app(config=None):\n"
        "    async def app(scope, receive, send):\n"
        "        assert scope['type'] == 'http'\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        await send({'type': 'http.response.body', 'body': WORD})\n"
        "    return app\n"
    )
    (folder / "__init__.py").write_text(factory)
    (folder / "made.py").write_text(factory)
    with running(FileApplication(spec, folder=tmp_path).load()) as served:
        assert httpx.get(served, timeout=PATIENCE).text == "made"


@pytest.mark.parametrize(
    ("files", "spec"),
    [
        ({"elsewhere_alone.py": ""}, "elsewhere_alone:app"),
        ({"elsewhere_whole/__init__.py": ""}, "elsewhere_whole:app"),
        ({"elsewhere_part/__init__.py": "", "elsewhere_part/web.py": ""}, "elsewhere_part.web:app"),
        ({"elsewhere_deep/sub/web.py": ""}, "elsewhere_deep.sub.web:app"),
    ],
)
def test_run_serves_a_module_that_python_imports_from_elsewhere(
    files: dict[str, str], spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = "async def app(scope, receive, send):\n    raise NotImplementedError\n"
    for name, text in files.items():
        file = tmp_path / "site-packages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + application)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    (tmp_path / "here").mkdir()
    loaded = FileApplication(spec, folder=tmp_path / "here")
    known = sys.modules["httpx"]
    for _ in range(2):
        assert loaded.load().count("routes") > 0
    assert sys.modules["httpx"] is known
    assert all(tmp_path in file.parents for file in loaded.files())
    with pytest.raises(ConfigError, match="no such file or module"):
        FileApplication("elsewhere_nowhere:app", folder=tmp_path / "here")
