"""Answers to mistakes: those of clients, those that a function chose, and what developers are shown of their own."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from edgerouter import Abort, AsyncContext, BodyError, Context, Edge, MissingError, Request, Response
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import Running

from ..origins import Origin, Reply

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]

MARKUP = "<script>alert('\"&')</script>"


@pytest.mark.parametrize("mode", [{}, {"inline": True}])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"[" * 100_000, b'{"a": 1} x', b"\xff", b'"\xed\xa0\x80"', b'{"a": ' + b"[" * 5_000],
    ids=["empty", "cut", "words", "deep", "more", "byte", "surrogate", "nested"],
)
def test_a_body_that_is_not_json_is_400(
    serve: Serve, client_for: ClientFor, caplog: pytest.LogCaptureFixture, mode: dict[str, Any], body: bytes
) -> None:
    edge = Edge("test")

    @edge.function("/plain", **mode)
    def plain(request: Request, ctx: Context) -> Any:
        return {"got": request.json()}

    @edge.function("/async", **mode)
    async def coroutine(request: Request, ctx: AsyncContext) -> Any:
        return {"got": request.json()}

    client = client_for(serve(edge))
    for path in ("/plain", "/async"):
        response = client.post(path, content=body)
        assert response.status_code == 400, response.text
        assert response.text.startswith("The body is not valid JSON: ")
        assert response.headers["cache-control"] == "no-store"
    assert client.post("/plain", content=b'{"a": 1}').json() == {"got": {"a": 1}}
    assert not [record for record in caplog.records if "error id" in record.getMessage()]


@pytest.mark.parametrize("mode", [{}, {"inline": True}])
@pytest.mark.parametrize(
    ("part", "message"),
    [("query", 'missing query parameter "q"'), ("cookies", 'missing cookie "q"'), ("headers", 'missing field "q"')],
)
def test_what_a_function_misses_in_a_request_is_400(
    serve: Serve,
    client_for: ClientFor,
    caplog: pytest.LogCaptureFixture,
    mode: dict[str, Any],
    part: str,
    message: str,
) -> None:
    edge = Edge("test")

    @edge.function("/plain", **mode)
    def plain(request: Request, ctx: Context) -> str:
        return str(getattr(request, part)["q"])

    @edge.function("/async", **mode)
    async def coroutine(request: Request, ctx: AsyncContext) -> str:
        return str(getattr(request, part)["q"])

    @edge.function("/caught", **mode)
    def caught(request: Request, ctx: Context) -> Any:
        found = getattr(request, part)
        try:
            found["q"]
        except KeyError as error:
            return {"args": error.args, "missing": isinstance(error, MissingError), "get": found.get("q", "none")}
        return found["q"]

    client = client_for(serve(edge))
    for path in ("/plain", "/async"):
        response = client.get(path)
        assert (response.status_code, response.text) == (400, f"{message}\n")
    assert client.get("/caught").json() == {"args": ["q"], "missing": True, "get": "none"}
    given = client.get("/plain?q=5", headers={"q": "5", "cookie": "q=5"})
    assert (given.status_code, given.text) == (200, "5")
    assert not [record for record in caplog.records if "error id" in record.getMessage()]


def test_other_missing_keys_are_mistakes_of_the_function(serve: Serve, client_for: ClientFor, origin: Origin) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "x")
    edge = Edge("test")

    @edge.function("/own")
    def own(request: Request, ctx: Context) -> str:
        return {"p": "5"}["q"]

    @edge.function("/response")
    def response(request: Request, ctx: Context) -> str:
        return Response("x").headers["q"]

    # A visitor need not send what a hook reads.
    @edge.on("viewer_request", "/hooked/*")
    def read(request: Request, ctx: Context) -> None:
        request.headers["q"]

    @edge.on("viewer_request", "/open/*", fail="open")
    def read_open(request: Request, ctx: Context) -> None:
        request.headers["q"]

    edge.route("/*", to=edge.origin("first", origin.url))
    client = client_for(serve(edge))
    for path in ("/own", "/response", "/hooked/x"):
        assert client.get(path).status_code == 502, path
    assert client.get("/open/x").text == "x"


def test_a_function_may_catch_what_its_body_is_not(serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")

    @edge.function("/json")
    def as_json(request: Request, ctx: Context) -> str:
        try:
            request.json()
        except ValueError as error:
            return f"caught {error.detail}" if isinstance(error, BodyError) else repr(error)
        return "fine"

    @edge.function("/text")
    def as_text(request: Request, ctx: Context) -> str:
        return request.text()

    client = client_for(serve(edge))
    assert client.post("/json", content=b"{").text.startswith("caught The body is not valid JSON")
    response = client.post("/text", content=b"\xff\xfe")
    assert (response.status_code, response.text) == (400, "The body is not UTF-8 text.\n")


@pytest.mark.parametrize("mode", [{}, {"inline": True}, {"serial": True}])
def test_abort_answers_with_its_status_and_detail(serve: Serve, client_for: ClientFor, mode: dict[str, Any]) -> None:
    edge = Edge("test")

    @edge.function("/plain", **mode)
    def plain(request: Request, ctx: Context) -> Response:
        raise Abort(404, f"no {MARKUP}", headers={"x-why": "gone", "cache-control": "max-age=5"})

    @edge.function("/async", inline=mode.get("inline", False))
    async def coroutine(request: Request, ctx: AsyncContext) -> Response:
        raise Abort(429)

    client = client_for(serve(edge))
    for accept, media_type, body in [
        ("*/*", "text/plain; charset=utf-8", f"no {MARKUP}\n"),
        ("text/html,*/*;q=0.8", "text/html; charset=utf-8", None),
        ("application/json", "application/problem+json", None),
    ]:
        response = client.get("/plain", headers={"accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (404, media_type)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert (response.headers["x-why"], response.headers["cache-control"]) == ("gone", "max-age=5")
        if body is not None:
            assert response.text == body
        elif "json" in media_type:
            assert response.json() == {"status": 404, "title": "Not Found", "detail": f"no {MARKUP}"}
        else:
            assert "<script" not in response.text and MARKUP in html.unescape(response.text)
    response = client.get("/async")
    assert (response.status_code, response.text) == (429, "Too Many Requests\n")
    assert response.headers["cache-control"] == "no-store"
    assert client.head("/plain").status_code == 404


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_abort_in_a_hook_answers_in_its_phase(serve: Serve, client_for: ClientFor, origin: Origin, fail: Any) -> None:
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "page")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    for phase in ("viewer_request", "origin_request"):

        @edge.on(phase, f"/{phase}/*", fail=fail)
        def request_hook(request: Request, ctx: Context) -> None:
            raise Abort(403, ctx.phase)

    response_phases: tuple[Literal["origin_response", "viewer_response"], ...] = ("origin_response", "viewer_response")
    for phase in response_phases:

        @edge.on(phase, f"/{phase}/*", fail=fail)
        def response_hook(request: Request, response: Response, ctx: Context) -> None:
            raise Abort(403, ctx.phase)

    client = client_for(serve(edge))
    for phase in ("viewer_request", "origin_request", "origin_response", "viewer_response"):
        for _ in range(2):
            response = client.get(f"/{phase}/a")
            assert (response.status_code, response.text) == (403, f"{phase}\n"), phase
    # An answer that says "no-store" is not kept.
    assert origin.count("/viewer_request/a") == origin.count("/origin_request/a") == 0
    assert origin.count("/origin_response/a") == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((200,), ValueError), ((302, "x"), ValueError), ((600,), ValueError), ((404, 7), TypeError)],
)
def test_abort_takes_error_statuses_and_text_only(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error, match="Abort"):
        Abort(*arguments)


@contextmanager
def started(**settings: Any) -> Iterator[str]:
    edge = Edge("test")

    @edge.function("/raises")
    def raises(request: Request, ctx: Context) -> Response:
        raise RuntimeError(f"the detail {MARKUP}")

    @edge.function("/wrong")
    def wrong(request: Request, ctx: Context) -> Any:
        return 42

    watched = settings.pop("watched", False)
    server = Server.start(edge, Settings(**settings), watched=watched)
    try:
        yield f"http://127.0.0.1:{server.addresses[0].rpartition(':')[2]}"
    finally:
        server.stop(1)


LOCAL = {"listen": "127.0.0.1:0"}


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (LOCAL, False),
        (LOCAL | {"watched": True}, True),
        ({"listen": "0.0.0.0:0", "watched": True}, False),
        ({"listen": ["127.0.0.1:0", "0.0.0.0:0"], "watched": True}, False),
        (LOCAL | {"watched": True, "admin": "0.0.0.0:0", "admin_token": "t" * 20}, False),
        ({"listen": "0.0.0.0:0", "watched": True, "debug_errors": True}, True),
        (LOCAL | {"debug_errors": True}, True),
    ],
)
def test_the_error_page_shows_the_traceback_where_only_developers_see_it(settings: dict[str, Any], shown: bool) -> None:
    with started(**settings) as url:
        text = httpx.get(f"{url}/raises")
        assert text.status_code == 502 and text.headers["cache-control"] == "no-store"
        assert re.match(r"The function failed \(error id [0-9a-f]+\)\.\n", text.text)
        assert ("Traceback" in text.text and "the detail" in text.text and "test_errors.py" in text.text) is shown
        page = httpx.get(f"{url}/raises", headers={"accept": "text/html"})
        assert ("Traceback" in page.text) is shown and "<script" not in page.text
        data = httpx.get(f"{url}/raises", headers={"accept": "application/json"})
        assert "trace" in data.json() if shown else "Traceback" not in data.text
        assert ("returned int, expected" in httpx.get(f"{url}/wrong").text) is shown


def test_a_visitor_who_is_not_on_this_machine_never_sees_a_traceback(serve: Serve) -> None:
    edge = Edge("test", trusted_proxies=["127.0.0.0/8"])

    @edge.function("/raises")
    def raises(request: Request, ctx: Context) -> Response:
        raise RuntimeError("the detail")

    server = Server.start(edge, Settings(listen="127.0.0.1:0"), watched=True)
    try:
        url = f"{server.urls[0]}/raises"
        assert "Traceback" in httpx.get(url).text
        assert "Traceback" not in httpx.get(url, headers={"x-forwarded-for": "203.0.113.7"}).text
    finally:
        server.stop(1)


def test_run_reload_shows_tracebacks_and_plain_run_does_not(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from edgerouter import Edge\nedge = Edge('a')\n\n"
        "@edge.function('/')\ndef page(request, ctx):\n    return 1 / 0\n"
    )
    for options, shown in [([], False), (["--reload"], True)]:
        command = [sys.executable, "-m", "edgerouter", "run", "app.py", "--listen", "127.0.0.1:0", *options]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
        )
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            url = next(line.strip() for line in process.stdout if line.strip().startswith("http"))
            text = httpx.get(url, headers={"accept": "application/json"}).text
            assert ("ZeroDivisionError" in text) is shown
            if shown:
                assert 'app.py", line 6' in json.loads(text)["trace"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            watchdog.cancel()
            if process.stdout is not None:
                process.stdout.close()
