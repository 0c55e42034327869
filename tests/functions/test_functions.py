"""Hooks and functions: what they can do, and what they cost when they misbehave."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, Context, Edge, FunctionLimits, Jwt, Limits, Plugin, Request, Response, cache
from edgerouter.errors import ConfigError
from edgerouter.testing import Running

from ..identity.tokens import SECRET, bearer, token
from ..origins import Origin, Reply, wait_until

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


@pytest.fixture
def made(origin: Origin, serve: Serve, client_for: ClientFor) -> Callable[..., httpx.Client]:
    """``made(declare)`` calls ``declare(edge)`` on an edge with ``/*`` to the origin, and serves it."""
    origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "from origin")

    def make(declare: Callable[[Edge], Any], **settings: Any) -> httpx.Client:
        edge = Edge("test", **settings)
        edge.route("/*", to=edge.origin("first", origin.url))
        declare(edge)
        return client_for(serve(edge))

    return make


@pytest.mark.parametrize("inline", [False, True])
def test_plain_and_async_functions_answer_with_what_they_return(
    made: Callable[..., httpx.Client], inline: bool
) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/sync/{name}", inline=inline)
        def sync(request: Request, ctx: Context) -> Response:
            return Response.json(
                {"hello": request.params["name"], "q": request.query.get("q")}, headers={"x-made": "1"}
            )

        @edge.function("/async/{name}", inline=inline)
        async def coroutine(request: Request, ctx: AsyncContext) -> Response:
            await asyncio.sleep(0 if inline else 0.01)
            return Response(f"hi {request.params['name']}", status=201)

    client = made(declare)
    response = client.get("/sync/ann%20b?q=1")
    assert (response.status_code, response.json(), response.headers["x-made"]) == (
        200,
        {"hello": "ann b", "q": "1"},
        "1",
    )
    assert response.headers["content-type"].startswith("application/json")
    response = client.get("/async/bob")
    assert (response.status_code, response.text) == (201, "hi bob")
    assert client.get("/else").text == "from origin"


@pytest.mark.parametrize("serial", [False, True])
def test_threads_that_run_callables_let_those_that_serve_go_first(
    made: Callable[..., httpx.Client], serial: bool
) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/nice", serial=serial)
        def nice(request: Request, ctx: Context) -> Response:
            threads = {
                int(thread.name): os.getpriority(os.PRIO_PROCESS, int(thread.name))
                for thread in Path("/proc/self/task").iterdir()
            }
            return Response.json({"here": threads[threading.get_native_id()], "least": min(threads.values())})

    answer = made(declare).get("/nice").json()
    assert answer["here"] == min(answer["least"] + 10, 19)


def test_a_function_reads_the_body_and_who_asks(made: Callable[..., httpx.Client]) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/echo", auth=Jwt.hs256(SECRET))
        def echo(request: Request, ctx: Context) -> Response:
            assert request.claims is not None
            return Response.json(
                {"body": request.json(), "sub": request.claims["sub"], "method": request.method, "host": request.host}
            )

    client = made(declare)
    response = client.post("/echo", json={"a": [1]}, headers=bearer(token()))
    assert response.json() == {"body": {"a": [1]}, "sub": "u1", "method": "POST", "host": "127.0.0.1"}
    assert client.post("/echo", json={}).status_code == 401
    assert client.post("/echo", content=b"x" * (2 << 20), headers=bearer(token())).status_code == 413


def test_hooks_change_requests_and_responses_in_their_phases(origin: Origin, made: Callable[..., httpx.Client]) -> None:
    phases: list[str] = []

    def declare(edge: Edge) -> None:
        @edge.on("viewer_request", "/h/*")
        def viewer_request(request: Request, ctx: Context) -> None:
            phases.append("viewer_request")
            request.headers["x-from-viewer"] = "1"

        @edge.on("origin_request", "/h/*")
        async def origin_request(request: Request, ctx: AsyncContext) -> None:
            phases.append("origin_request")
            request.headers["x-edge-function"] = "processed"

        @edge.on("origin_response", "/h/*")
        def origin_response(request: Request, response: Response, ctx: Context) -> None:
            phases.append("origin_response")
            response.headers["x-from-origin"] = "2"

        @edge.on("viewer_response", "/h/*")
        def viewer_response(request: Request, response: Response, ctx: Context) -> None:
            phases.append("viewer_response")
            response.headers["x-seen"] = "3"

    client = made(declare)
    first, second = client.get("/h/a"), client.get("/h/a")
    assert phases == [
        "viewer_request",
        "origin_request",
        "origin_response",
        "viewer_response",
        "viewer_request",
        "viewer_response",
    ]
    seen = origin.requests[0]
    assert (seen.get("x-edge-function"), seen.get("x-from-viewer")) == ("processed", "1")
    for response in (first, second):
        assert (response.text, response.headers["x-from-origin"], response.headers["x-seen"]) == (
            "from origin",
            "2",
            "3",
        )
    assert len(origin.requests) == 1
    phases.clear()
    client.get("/other")
    assert phases == []


def test_a_hook_may_answer_in_place_of_the_origin(origin: Origin, made: Callable[..., httpx.Client]) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("viewer_request", "/deny/*")
        def deny(request: Request, ctx: Context) -> Response | None:
            return Response("no", status=403) if "x-ok" not in request.headers else None

        @edge.on("origin_request", "/made/*")
        def instead(request: Request, ctx: Context) -> Response:
            return Response("made here", headers={"cache-control": "max-age=60"})

    client = made(declare)
    assert client.get("/deny/a").status_code == 403
    assert client.get("/deny/a", headers={"x-ok": "1"}).text == "from origin"
    for _ in range(2):
        assert client.get("/made/a").text == "made here"
    assert origin.count("/made/a") == 0


def test_failures_cost_their_own_request_only(
    origin: Origin, made: Callable[..., httpx.Client], caplog: pytest.LogCaptureFixture
) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/raises")
        def raises(request: Request, ctx: Context) -> Response:
            raise ValueError("secret detail")

        @edge.function("/wrong")
        def wrong(request: Request, ctx: Context) -> Any:
            return 42

        @edge.function("/sleeps", timeout=0.3)
        async def sleeps(request: Request, ctx: AsyncContext) -> Response:
            await asyncio.sleep(60)
            return Response("never")

        @edge.on("viewer_request", "/open/*", fail="open")
        def fails_open(request: Request, ctx: Context) -> None:
            raise RuntimeError("ignored")

        @edge.on("viewer_request", "/closed/*", fail="closed")
        def fails_closed(request: Request, ctx: Context) -> None:
            raise RuntimeError("fatal")

    client = made(declare)
    response = client.get("/raises")
    assert response.status_code == 502
    assert "secret detail" not in response.text
    identifier = re.search(r"error id ([0-9a-f]+)", response.text)
    assert identifier and identifier[1] in caplog.text and "secret detail" in caplog.text
    assert client.get("/wrong").status_code == 502
    assert client.get("/sleeps").status_code == 504
    assert client.get("/open/a").text == "from origin"
    assert client.get("/closed/a").status_code == 502


def test_a_looping_function_stalls_neither_hits_nor_other_functions(made: Callable[..., httpx.Client]) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/spin", timeout=1.0)
        def spin(request: Request, ctx: Context) -> Response:
            while True:
                pass

        @edge.function("/quick")
        def quick(request: Request, ctx: Context) -> Response:
            return Response("quick")

    client = made(declare)
    client.get("/page")
    with ThreadPoolExecutor(1) as pool:
        spinning = pool.submit(httpx.get, f"{client.base_url}/spin", timeout=20)
        hits = 0
        while not spinning.done():
            assert client.get("/page").headers["cache-status"].startswith("edgerouter; hit")
            hits += not spinning.done()
        assert hits > 1
        assert spinning.result().status_code == 504
    assert client.get("/quick", timeout=10).text == "quick"


def test_a_function_blocked_in_c_is_abandoned_and_others_go_on(made: Callable[..., httpx.Client]) -> None:
    release = threading.Event()

    def declare(edge: Edge) -> None:
        @edge.function("/blocks", timeout=0.3)
        def blocks(request: Request, ctx: Context) -> Response:
            release.wait(60)
            return Response("late")

        @edge.function("/quick")
        def quick(request: Request, ctx: Context) -> Response:
            return Response("quick")

    client = made(declare)
    try:
        assert client.get("/blocks").status_code == 504
        assert client.get("/quick", timeout=10).text == "quick"
    finally:
        release.set()


def test_functions_that_wait_run_beside_one_another(made: Callable[..., httpx.Client]) -> None:
    meeting = threading.Barrier(3, timeout=10)

    def declare(edge: Edge) -> None:
        @edge.function("/meet")
        def meet(request: Request, ctx: Context) -> Response:
            meeting.wait()
            return Response("met")

    client = made(declare)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(httpx.get, f"{client.base_url}/meet", timeout=20) for _ in range(3)]
        assert [future.result().text for future in futures] == ["met"] * 3


def test_a_full_queue_says_503_with_retry_after(made: Callable[..., httpx.Client]) -> None:
    release = threading.Event()

    def declare(edge: Edge) -> None:
        @edge.function("/wait", timeout=60)
        def wait(request: Request, ctx: Context) -> Response:
            release.wait(60)
            return Response("done")

    client = made(declare, limits=Limits(functions=FunctionLimits(queue=2)))
    with ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(httpx.get, f"{client.base_url}/wait", timeout=60) for _ in range(12)]
        # Those that wait are answered after this: the first answer is a refusal.
        wait_until(lambda: any(future.done() for future in futures), what="a refusal")
        release.set()
        answers = [future.result() for future in futures]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert refused and all("retry-after" in answer.headers for answer in refused)
    assert any(answer.status_code == 200 for answer in answers)


def test_a_plugin_bundles_hooks_and_settings(origin: Origin, made: Callable[..., httpx.Client]) -> None:
    class Stamp(Plugin):
        def __init__(self, value: str) -> None:
            self.value = value

        def viewer_response(self, request: Request, response: Response, ctx: Context) -> None:
            response.headers["x-stamp"] = self.value

    client = made(lambda edge: edge.use(Stamp("ok")))
    assert client.get("/a").headers["x-stamp"] == "ok"


PACKAGE = """from edgerouter import Context, Plugin, Request, Response


class Badge(Plugin):
    pattern = "/shop/*"

    def __init__(self, colour: str = "grey") -> None:
        self.colour = colour

    def viewer_response(self, request: Request, response: Response, ctx: Context) -> None:
        response.headers["x-badge"] = self.colour
"""


def test_an_installed_plugin_is_used_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[..., httpx.Client]
) -> None:
    information = tmp_path / "badges-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: badges\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[edgerouter.plugins]\nbadge = badges:Badge\nbroken = badges:PACKAGE\n"
    )
    (tmp_path / "badges.py").write_text(PACKAGE + "\n\nPACKAGE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    client = made(lambda edge: edge.use("badge", {"colour": "blue"}))
    assert client.get("/shop/a").headers["x-badge"] == "blue"
    assert "x-badge" not in client.get("/other").headers
    with pytest.raises(ConfigError, match="no such plugin; known: badge, broken"):
        Edge("test").use("bagde")
    with pytest.raises(ConfigError, match="not a subclass of"):
        Edge("test").use("broken")


def test_a_callable_that_cannot_take_what_it_is_given_is_refused_at_once() -> None:
    edge = Edge("test")
    with pytest.raises(ConfigError, match=r"must take \(request, ctx\)"):
        edge.function("/f")(lambda: "no arguments")  # type: ignore[type-var]
    with pytest.raises(ConfigError, match=r"must take \(request, response, ctx\)"):
        edge.on("viewer_response", "/*")(lambda request, ctx: None)  # type: ignore[type-var]
    edge.function("/f")(lambda *arguments: "any")


def test_a_hook_cannot_change_where_a_message_ends(origin: Origin, made: Callable[..., httpx.Client]) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("viewer_response", "/*")
        def respond(request: Request, response: Response, ctx: Context) -> None:
            response.headers["content-length"] = "1"
            response.headers["transfer-encoding"] = "chunked"
            response.headers["connection"] = "upgrade"

        @edge.on("origin_request", "/*")
        def ask(request: Request, ctx: Context) -> None:
            request.headers["transfer-encoding"] = "chunked"
            request.headers["content-length"] = "7"

    client = made(declare)
    for _ in range(2):
        assert client.get("/a").text == "from origin"
    assert origin.requests[0].get("transfer-encoding") is None and origin.requests[0].get("content-length") is None


@pytest.mark.parametrize("wrong", [42, object(), "text", {"a": 1}, ("a",)])
def test_a_hook_that_returns_another_type_costs_502(made: Callable[..., httpx.Client], wrong: Any) -> None:
    def declare(edge: Edge) -> None:
        @edge.on("viewer_request", "/wrong")
        def hook(request: Request, ctx: Context) -> Any:
            return wrong

    client = made(declare)
    response = client.get("/wrong")
    assert response.status_code == 502 and "error id" in response.text
    assert client.get("/right").status_code == 200


def test_hooks_change_at_reload(origin: Origin, serve: Serve, client_for: ClientFor) -> None:
    def plan(answer: str) -> Edge:
        edge = Edge("test")

        @edge.function("/f")
        def function(request: Request, ctx: Context) -> Response:
            return Response(answer)

        edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
        return edge

    running = serve(plan("one"))
    client = client_for(running)
    assert client.get("/f").text == "one"
    running.reload(plan("two"))
    assert client.get("/f").text == "two"
