"""Applications of other frameworks behind the edge: ASGI and WSGI, plain and those of real frameworks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastapi
import flask
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.responses import Response as StarletteResponse
from starlette.routing import Route

from edgerouter import ConfigError, Cors, Edge, EdgeError, FunctionLimits, Limits
from edgerouter.application import FileApplication
from edgerouter.testing import running

from ..origins import wait_until
from ..raw import connect, read_all
from .applications import LARGE, PATIENCE, client_of


def starlette(events: list[str]) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        events.append("opens")
        yield {"greeting": "hello"}
        events.append("closes")

    async def home(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse(f"{request.state.greeting} {request.url} {request.url_for('item', id=7)}")

    async def item(request: StarletteRequest) -> StarletteResponse:
        found = {
            "id": request.path_params["id"],
            "q": request.query_params.getlist("q"),
            "root": request.scope["root_path"],
        }
        return JSONResponse(found, 201, {"x-a": "b"})

    async def echo(request: StarletteRequest) -> StarletteResponse:
        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece

        return StreamingResponse(pieces(), media_type="application/x-echo")

    async def background(request: StarletteRequest) -> StarletteResponse:
        response = PlainTextResponse("later", background=BackgroundTask(events.append, "background"))
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async def fails(request: StarletteRequest) -> StarletteResponse:
        raise ValueError("a fault of the application")

    routes = [
        Route("/", home),
        Route("/items/{id:int}", item, name="item"),
        Route("/echo", echo, methods=["POST"]),
        Route("/background", background),
        Route("/fails", fails),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def test_a_starlette_application_serves_below_its_path() -> None:
    events: list[str] = []
    edge = Edge("test")
    edge.mount("/app", starlette(events), cors=Cors(origins=["https://a.example"]))
    edge.route("/*", respond="outside")
    with running(edge) as served, client_of(served) as client:
        assert events == ["opens"]
        assert client.get("/app/").text == f"hello {served}/app/ {served}/app/items/7"
        found = client.get("/app/items/7?q=a&q=b%20c", headers={"origin": "https://a.example"})
        assert (found.status_code, found.json()) == (201, {"id": 7, "q": ["a", "b c"], "root": "/app"})
        assert found.headers["x-a"] == "b" and found.headers["access-control-allow-origin"] == "https://a.example"
        assert client.get("/app/items/x").status_code == 404
        assert client.post("/app/items/7").status_code == 405
        assert client.get("/app").status_code == 307 or client.get("/app").status_code == 404
        assert client.get("/application").text == "outside"
        echoed = client.post("/app/echo", content=bytes(LARGE))
        assert echoed.content == bytes(LARGE) and echoed.headers["content-type"] == "application/x-echo"
        late = client.get("/app/background")
        assert late.text == "later" and [c.split(";")[0] for c in late.headers.get_list("set-cookie")] == ["a=1", "b=2"]
        wait_until(lambda: "background" in events, PATIENCE, "the background task")
        assert client.get("/app/fails").status_code == 500
        assert client.head("/app/").status_code == 200
        assert '="edge.mount(/app)"' in served.server.metrics()
    assert events[-1] == "closes"


def test_a_fastapi_application_is_the_whole_site() -> None:
    app = fastapi.FastAPI()

    @app.get("/books/{id}")
    async def book(id: int, page: int = 1) -> dict[str, int]:  # noqa: A002
        return {"id": id, "page": page}

    @app.post("/upload")
    async def upload(file: fastapi.UploadFile) -> dict[str, Any]:
        return {"name": file.filename, "size": len(await file.read())}

    edge = Edge("test")
    edge.mount("/", app)
    with running(edge) as served, client_of(served) as client:
        assert client.get("/books/7?page=2").json() == {"id": 7, "page": 2}
        assert client.get("/books/x").status_code == 422
        assert client.get("/openapi.json").json()["paths"].keys() == {"/books/{id}", "/upload"}
        uploaded = client.post("/upload", files={"file": ("a.bin", bytes(LARGE))})
        assert uploaded.json() == {"name": "a.bin", "size": LARGE}


def test_a_flask_application_serves_below_its_path() -> None:
    app = flask.Flask("test")

    @app.get("/hello/<name>")
    def hello(name: str) -> flask.Response:
        answer = flask.make_response(f"{name} {flask.request.url} {flask.request.cookies.get('c')}", 202)
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    @app.post("/echo")
    def echo() -> flask.Response:
        data = flask.request.get_data()
        return flask.Response(
            (data[at : at + 65_536] for at in range(0, len(data), 65_536)), mimetype="application/x-echo"
        )

    @app.post("/form")
    def form() -> dict[str, Any]:
        return {"a": flask.request.form.getlist("a"), "file": len(flask.request.files["f"].read())}

    edge = Edge("test")
    edge.mount("/app", app)
    with running(edge) as served, client_of(served) as client:
        found = client.get("/app/hello/%C3%A4?x=1", headers={"cookie": "c=3"})
        assert (found.status_code, found.text) == (202, f"ä {served}/app/hello/ä?x=1 3")
        assert [cookie.split(";")[0] for cookie in found.headers.get_list("set-cookie")] == ["a=1", "b=2"]
        assert client.get("/app/none").status_code == 404
        assert client.post("/app/echo", content=bytes(LARGE)).content == bytes(LARGE)
        sent = client.post("/app/form", data={"a": ["1", "2"]}, files={"f": bytes(LARGE)})
        assert sent.json() == {"a": ["1", "2"], "file": LARGE}


def plain_asgi(before: Callable[[Any], Any] | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        path = scope["path"]
        if path == "/nothing":
            return
        if path == "/early":
            await send({"type": "http.response.body", "body": b"x"})
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"x-scope", repr(scope["client"]).encode())]}
        )
        if path == "/head":
            return
        if path == "/breaks":
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            raise ValueError("half way")
        if path == "/waits":
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            while (message := await receive())["type"] != "http.disconnect":
                pass
            assert before is not None
            before(message)
            return
        await send({"type": "http.response.body"})

    return app


def test_an_application_that_breaks_the_interface_costs_its_own_request() -> None:
    left = threading.Event()
    edge = Edge("test")
    edge.mount("/", plain_asgi(lambda _: left.set()))
    with running(edge) as served, client_of(served) as client:
        fine = client.get("/fine", headers={"x-forwarded-for": "1.2.3.4"})
        assert (fine.status_code, fine.content, fine.headers["x-scope"]) == (200, b"", "('127.0.0.1', 0)")
        for path in ("/nothing", "/early", "/head"):
            assert client.get(path).status_code == 502, path
        with connect(served.url, PATIENCE) as raw:
            raw.sendall(b"GET /breaks HTTP/1.1\r\nHost: edge\r\n\r\n")
            received = read_all(raw)
        assert b"begun" in received and not received.endswith(b"0\r\n\r\n")
        with connect(served.url, PATIENCE) as raw:
            raw.sendall(b"GET /waits HTTP/1.1\r\nHost: edge\r\n\r\n")
            received = b""
            while b"begun" not in received:
                received += raw.recv(4_096)
        assert left.wait(PATIENCE)


def test_a_scope_has_what_was_sent_and_a_response_the_bytes_that_were_given() -> None:
    given: dict[str, list[Any]] = {
        "/pairs": [(b"x-a", b"1"), [b"X-A", b"\xe4"], (bytearray(b"x-b"), bytearray(b"2"))],
        "/name": [(b"x a", b"1")],
        "/value": [(b"x-a", b"1\r\nx-b: 2")],
        "/text": [("x-a", "1")],
        "/three": [(b"x-a", b"1", b"2")],
    }
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        seen.append(scope)
        headers = iter(given.get(scope["path"], []))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytearray(b"all")})

    edge = Edge("test")
    edge.mount("/", app)
    with running(edge) as served, client_of(served) as client:
        answer = client.get("/%C3%A4%20%FF/b+c?q=%C3%A4&q", headers=[(b"x-c", "ä".encode()), (b"x-c", b"2")])
        pairs = client.get("/pairs")
        refused = [client.get(path).status_code for path in ("/name", "/value", "/text", "/three")]
        host, port = served.url.removeprefix("http://").split(":")
    assert (answer.status_code, answer.content) == (200, b"all")
    scope = seen[0]
    assert (scope["path"], scope["raw_path"]) == ("/ä \ufffd/b+c", b"/%C3%A4%20%FF/b+c")
    assert (scope["query_string"], scope["root_path"], scope["method"]) == (b"q=%C3%A4&q", "", "GET")
    assert [value for name, value in scope["headers"] if name == b"x-c"] == ["ä".encode(), b"2"]
    assert (scope["client"], scope["server"]) == (("127.0.0.1", 0), (host, int(port)))
    assert (scope["type"], scope["http_version"], scope["scheme"]) == ("http", "1.1", "http")
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"} and scope["state"] == {}
    # Each request has a scope of its own, whatever an application does to one.
    assert all(scope[part] is not seen[1][part] for part in ("asgi", "headers", "state"))
    assert [value for name, value in pairs.headers.raw if name.lower() == b"x-a"] == [b"1", b"\xe4"]
    assert pairs.headers["x-b"] == "2"
    assert refused == [502] * 4


def test_a_lifespan_that_fails_keeps_the_version_from_serving() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    edge = Edge("test")
    edge.mount("/ready", Starlette())
    edge.mount("/broken", Starlette(lifespan=lifespan))
    with pytest.raises(EdgeError, match=r"at /broken could not start(.|\n)*no database"), running(edge):
        pass


def test_a_wsgi_application_is_closed_and_told_the_truth() -> None:
    closed = threading.Event()

    class Content:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            yield b"b"

        def close(self) -> None:
            closed.set()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/silent":
            return [b"x"]
        write = start_response("200 OK", [("X-Path", environ["SCRIPT_NAME"] + "|" + environ["PATH_INFO"])])
        write(b"written ")
        if "HTTP_X_USER" in environ:
            write(environ["HTTP_X_USER"].encode())
        return Content()

    edge = Edge("test")
    edge.mount("/w", app)
    with running(edge) as served, client_of(served) as client:
        found = client.get("/w/x%20y", headers={"X_User": "forged", "X-User": "sent"})
        assert found.text == "written sentab" and found.headers["x-path"] == "/w|/x y"
        assert closed.wait(PATIENCE)
        assert client.get("/w").headers["x-path"] == "/w|"
        assert client.get("/w/silent").status_code == 502


@pytest.mark.parametrize(
    ("path", "app", "options", "message"),
    [
        ("app", plain_asgi(), {}, "must be a path"),
        ("/a/*", plain_asgi(), {}, "must be a path"),
        ("/a", 7, {}, "no ASGI or WSGI application"),
        ("/a", threading.Event, {}, "no ASGI or WSGI application"),
        ("/a", plain_asgi(), {"interface": "cgi"}, "no ASGI or WSGI application"),
        ("/a", plain_asgi(), {"to": "origin"}, "no such argument"),
    ],
)
def test_what_cannot_be_mounted_is_refused(path: str, app: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Edge("test").mount(path, app, **options)


@pytest.mark.parametrize(("name", "text"), [("app.py:web", "asgi"), ("app:web", "asgi"), ("app.py:old", "wsgi")])
def test_run_serves_an_application_of_another_framework(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "async def web(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'asgi'})\n\n\n"
        "def old(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'wsgi']\n"
    )
    with running(FileApplication(name, folder=tmp_path).load()) as served:
        assert httpx.get(served, timeout=PATIENCE).text == text


def test_an_application_answers_from_any_of_its_tasks_and_goes_on_after_its_response() -> None:
    events: list[str] = []
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        path, own = scope["path"], asyncio.current_task()

        async def answer() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if path in ("/pieces", "/broken"):
                await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await send({"type": "http.response.body", "body": b"b", "more_body": path == "/broken"})

        if path == "/go":
            await answer()
            go_on.set()
            return
        # The task of the call waits meanwhile.
        await asyncio.gather(answer(), asyncio.sleep(0))
        try:
            if path != "/broken":
                await go_on.wait()
        finally:
            events.append(f"{path} {own is asyncio.current_task()}")
        if path == "/fails":
            raise ValueError("after the response")

    edge = Edge("test", limits=Limits(functions=FunctionLimits(background_timeout=30.0)))
    edge.mount("/", app)
    with running(edge) as served, client_of(served) as client:
        assert client.get("/whole").content == client.get("/fails").content == b"b"
        # Its last chunk does not wait for the rest of the application.
        assert client.get("/pieces").content == b"ab"
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/broken")
        assert events == ["/broken True"]
        assert client.get("/go").content == b"b"
        wait_until(lambda: len(events) == 4, PATIENCE, "the rest of the application")
        assert set(events) == {f"/{path} True" for path in ("broken", "whole", "pieces", "fails")}
        failed = 'edgerouter_background_tasks_total{result="failed"} 1'
        wait_until(lambda: failed in served.server.metrics(), PATIENCE, "the failure after a response")


def test_what_an_application_does_after_its_response_is_bounded_in_time_and_number() -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        assert (await receive())["type"] == "http.disconnect"
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append(scope["path"])
            raise

    limits = Limits(functions=FunctionLimits(background_tasks=1, background_timeout=3.0, timeout=1.0))
    edge = Edge("test", limits=limits)
    edge.mount("/", app)
    with running(edge) as served, client_of(served) as client:
        assert [client.get(path).status_code for path in ("/first", "/second")] == [200, 200]
        wait_until(lambda: sorted(ended) == ["/first", "/second"], PATIENCE, "the end of both")
        assert ended == ["/second", "/first"]
