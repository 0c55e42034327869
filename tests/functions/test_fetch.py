"""``ctx.fetch``: functions make requests through the edge's own routes, cache and origins."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from edgerouter import (
    AddressPolicy,
    AsyncContext,
    CachePolicy,
    ConfigError,
    Context,
    Edge,
    FetchError,
    FunctionLimits,
    Jwt,
    Limits,
    RateLimit,
    Request,
    Response,
)
from edgerouter.testing import running

from ..identity.tokens import SECRET, bearer, token
from ..origins import Origin, Reply, Seen, wait_until
from .applications import PATIENCE, client_of


def test_a_function_fetches_through_routes_cache_and_origins(origin: Origin) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60", "x-a": "b"}, "the page")
    edge = Edge("test")
    edge.route("/pages/*", to=edge.origin("o", origin.url), cache=CachePolicy())

    @edge.function("/async")
    async def awaited(request: Request, ctx: AsyncContext) -> Response:
        found = await ctx.fetch("/pages/a?x=1")
        return Response(found.body.upper(), found.status, {"x-status": found.headers["cache-status"]})

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> Response:
        return ctx.fetch(f"http://{request.headers['host']}/pages/a?x=1")

    @edge.function("/together")
    async def together(request: Request, ctx: AsyncContext) -> list[str]:
        found = await asyncio.gather(*(ctx.fetch("/pages/together") for _ in range(20)))
        return [response.body.decode() for response in found]

    with running(edge) as served, client_of(served) as client:
        first = client.get("/async")
        assert (first.status_code, first.text) == (200, "THE PAGE") and "fwd=" in first.headers["x-status"]
        second = client.get("/plain")
        assert second.text == "the page" and second.headers["x-a"] == "b"
        assert client.get("/async").headers["x-status"].find("; hit") > 0
        assert client.get("/together").json() == ["the page"] * 20
    assert [seen.target for seen in origin.requests] == ["/pages/a?x=1", "/pages/together"]


def test_method_fields_and_content_are_the_functions_own(origin: Origin) -> None:
    origin.on("/echo", lambda seen: Reply(201, {"x-method": seen.method}, seen.body.decode()))
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url))

    @edge.function("/call/{kind}")
    async def call(request: Request, ctx: AsyncContext, kind: str) -> Response:
        if kind == "json":
            return await ctx.fetch("/echo", method="put", json={"a": [1]})
        if kind == "text":
            return await ctx.fetch(
                "/echo", method="POST", body="ä", headers={"x-own": "1", "transfer-encoding": "chunked"}
            )
        if kind == "again":
            return await ctx.fetch(request, method="POST") if "x-loop" in request.headers else Response("none")
        made = Request(f"http://{request.headers['host']}/echo", "DELETE", {"x-made": "2"})
        return await ctx.fetch(made)

    with running(edge) as served, client_of(served) as client:
        secret = {"authorization": "Bearer secret", "cookie": "session=secret"}
        put = client.get("/call/json", headers=secret)
        assert (put.status_code, put.text, put.headers["x-method"]) == (201, '{"a":[1]}', "PUT")
        assert client.get("/call/text", headers=secret).text == "ä"
        assert client.get("/call/made", headers=secret).headers["x-method"] == "DELETE"
    first, second, third = origin.requests
    for seen in origin.requests:
        assert seen.get("authorization") is None and seen.get("cookie") is None
        assert "secret" not in str(seen.headers)
    assert first.get("content-type") == "application/json" and first.get("x-forwarded-for") == "127.0.0.1"
    assert second.get("x-own") == "1" and third.get("x-made") == "2"


def test_rules_of_the_inner_route_apply_and_its_limits_have_counted() -> None:
    edge = Edge("test")
    edge.route("/token", respond="inside", auth=Jwt.hs256(SECRET))
    edge.route("/nobody", respond="inside", addresses=AddressPolicy(allow=["203.0.113.0/24"]))
    edge.route("/limited", respond="inside", rate_limit=RateLimit("inner", 1, per=3_600))

    @edge.function("/get/*")
    async def get(request: Request, ctx: AsyncContext) -> list[int]:
        path = request.path.removeprefix("/get")
        given = {"authorization": request.headers["authorization"]} if "authorization" in request.headers else {}
        return [(await ctx.fetch(path, headers=given)).status for _ in range(3)]

    with running(edge) as served, client_of(served) as client:
        assert client.get("/get/token").json() == [401] * 3
        assert client.get("/get/token", headers=bearer(token())).json() == [200] * 3
        assert client.get("/get/nobody").json() == [403] * 3
        assert client.get("/get/limited").json() == [200] * 3
        assert client.get("/get/none").json() == [404] * 3


def test_the_outer_claims_are_those_of_an_inner_route_with_the_very_same_policy(origin: Origin) -> None:
    origin.default = lambda seen: Reply(200, {"cache-control": "max-age=60"}, f"{seen.get('x-user-id')}")
    edge = Edge("test")
    back = edge.origin("o", origin.url)
    same, other = Jwt.hs256(SECRET), Jwt.hs256(SECRET, issuer="https://other.example.com")
    edge.route("/same", to=back, auth=same)
    edge.route("/other", to=back, auth=other)
    edge.route("/optional", to=back, auth=Jwt.hs256(SECRET, optional=True))

    @edge.function("/as/{name}", auth=same)
    async def known(request: Request, ctx: AsyncContext, name: str) -> dict[str, Any]:
        given = {"authorization": "Bearer none"} if "token" in request.query else {}
        found = await ctx.fetch(f"/{name}", headers=given)
        return {"status": found.status, "text": found.body.decode()}

    @edge.function("/unknown/{name}")
    async def unknown(request: Request, ctx: AsyncContext, name: str) -> str:
        return str((await ctx.fetch(f"/{name}")).status)

    with running(edge) as served, client_of(served) as client:
        for user in ("ann", "bob", "ann"):
            sent = bearer(token({"userId": user, "exp": int(time.time()) + 600}))
            assert client.get("/as/same", headers=sent).json() == {"status": 200, "text": user}
            assert client.get("/as/other", headers=sent).json()["status"] == 401
            # Its own Authorization counts.
            assert client.get("/as/same?token", headers=sent).json()["status"] == 403
        assert client.get("/unknown/same").text == "401"
        assert client.get("/unknown/optional").text == "200"


def test_a_request_that_is_waited_for_already_is_a_loop_and_so_is_a_deep_one() -> None:
    # A call that waits for itself would wait for longer than its client does.
    edge = Edge("test", limits=Limits(functions=FunctionLimits(timeout=10 * PATIENCE)))

    @edge.function("/own")
    async def own(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/own")

    @edge.function("/ping")
    async def ping(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/pong")

    @edge.function("/pong")
    def pong(request: Request, ctx: Context) -> Response:
        return ctx.fetch("/ping")

    @edge.function("/deep/{level}")
    async def deep(request: Request, ctx: AsyncContext, level: int) -> Response:
        return await ctx.fetch(f"/deep/{level + 1}")

    @edge.function("/level/{level}")
    async def level(request: Request, ctx: AsyncContext, level: int) -> Response:
        return Response("bottom") if level == 4 else await ctx.fetch(f"/level/{level + 1}")

    with running(edge) as served, client_of(served) as client:
        assert client.get("/own").status_code == 508
        assert client.get("/ping").status_code == 508
        assert client.get("/deep/0").status_code == 508
        assert client.get("/level/0").text == "bottom"


def test_plain_functions_that_wait_for_plain_functions_do_not_wait_for_one_another() -> None:
    edge = Edge("test", limits=Limits(functions=FunctionLimits(threads=2)))
    together = threading.Barrier(2)

    @edge.function("/outer")
    def outer(request: Request, ctx: Context) -> Response:
        together.wait(PATIENCE)
        return ctx.fetch("/inner")

    @edge.function("/inner")
    def inner(request: Request, ctx: Context) -> str:
        return "inner"

    @edge.function("/deep")
    def deep(request: Request, ctx: Context) -> Response:
        together.wait(PATIENCE)
        return ctx.fetch(f"/middle?{request.id}")

    @edge.function("/middle")
    def middle(request: Request, ctx: Context) -> Response:
        together.wait(PATIENCE)
        found = ctx.fetch("/inner")
        together.wait(PATIENCE)
        return found

    @edge.function("/serial", serial=True)
    def serial(request: Request, ctx: Context) -> Response:
        return ctx.fetch("/serial-too")

    @edge.function("/serial-too", serial=True)
    def serial_too(request: Request, ctx: Context) -> str:
        return "serial"

    with running(edge) as served, client_of(served) as client:

        def two(path: str) -> list[int]:
            with ThreadPoolExecutor(2) as threads:
                asking = [threads.submit(httpx.get, f"{served}{path}", timeout=PATIENCE) for _ in range(2)]
            return [answer.result().status_code for answer in asking]

        # The inner calls have threads of their own, as many again.
        assert two("/outer") == [200, 200]
        # Those are taken by two in the middle.
        assert two("/deep") == [503, 503]
        assert client.get("/inner").text == "inner"
        full = client.get("/serial")
        assert (full.status_code, "retry-after" in full.headers) == (503, True)
        assert full.text == "No place is free for a call that another function waits for.\n"


def test_a_function_that_is_waited_for_has_no_more_time_than_the_function_that_waits() -> None:
    edge = Edge("test")
    left: dict[str, float] = {}
    ended = threading.Event()

    @edge.function("/outer/{path}", timeout=5)
    async def outer(request: Request, ctx: AsyncContext, path: str) -> str:
        found = await ctx.fetch(f"/{path}")
        left["outer"] = ctx.remaining()
        return found.text()

    @edge.function("/brief", timeout=0.3)
    async def brief(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/forever")

    @edge.function("/forever", timeout=PATIENCE * 10)
    async def forever(request: Request, ctx: AsyncContext) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return "never"

    @edge.function("/awaited", timeout=PATIENCE * 10)
    async def awaited(request: Request, ctx: AsyncContext) -> str:
        left["inner"] = ctx.remaining()
        return "awaited"

    @edge.function("/plain", timeout=PATIENCE * 10)
    def plain(request: Request, ctx: Context) -> str:
        left["inner"] = ctx.remaining()
        return "plain"

    @edge.function("/cached", timeout=PATIENCE * 10, cache=CachePolicy(default_ttl=60), varies=[])
    async def cached(request: Request, ctx: AsyncContext) -> str:
        left["inner"] = ctx.remaining()
        return "cached"

    with running(edge) as served, client_of(served) as client:
        for path in ("awaited", "plain"):
            assert client.get(f"/outer/{path}").text == path
            assert 0 < left["outer"] <= left["inner"] <= 5, (path, left)
        # Others may wait for a response that is stored, so it has its own time.
        assert client.get("/outer/cached").text == "cached"
        assert left["inner"] > PATIENCE
        # The end of its own time, or the error of the fetch, which has the same.
        assert client.get("/brief").status_code in (502, 504)
        assert ended.wait(PATIENCE)


def test_the_trace_of_the_client_goes_along_where_the_edge_does_not_trace(origin: Origin) -> None:
    edge = Edge("test")
    edge.route("/page", to=edge.origin("o", origin.url))
    own = f"00-{'2' * 32}-{'3' * 16}-00"

    @edge.function("/outer")
    async def outer(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/inner")

    @edge.function("/inner")
    def inner(request: Request, ctx: Context) -> Response:
        return ctx.fetch("/page")

    @edge.function("/own")
    async def sets(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/page", headers={"traceparent": own})

    parent = f"00-{'4' * 32}-{'5' * 16}-01"
    with running(edge) as served, client_of(served) as client:
        for path in ("/outer", "/inner", "/own"):
            client.get(path, headers={"traceparent": parent, "tracestate": "a=1", "cookie": "session=1"})
        client.get("/inner")
    seen = [(it.get("traceparent"), it.get("tracestate"), it.get("cookie")) for it in origin.requests]
    assert seen == [(parent, "a=1", None), (parent, "a=1", None), (own, None, None), (None, None, None)]


def test_the_words_of_the_cache_are_those_of_the_fetch_standard(origin: Origin) -> None:
    def page(seen: Seen) -> Reply:
        return Reply(200, {"cache-control": "max-age=60"}, str(len(origin.requests)))

    origin.on("/page", page)
    edge = Edge("test")
    edge.route("/page", to=edge.origin("o", origin.url), cache=CachePolicy())

    @edge.function("/{word}")
    async def get(request: Request, ctx: AsyncContext, word: Any) -> Response:
        return await ctx.fetch("/page", cache=word)

    with running(edge) as served, client_of(served) as client:
        assert client.get("/only-if-cached").status_code == 504 and not origin.requests
        unstored = client.get("/no-store")
        assert unstored.text == "1" and "fwd=bypass" in unstored.headers["cache-status"]
        assert "detail=request-no-store" in unstored.headers["cache-status"]
        assert client.get("/only-if-cached").status_code == 504
        assert client.get("/default").text == "2"
        assert (
            client.get("/default").text == client.get("/only-if-cached").text == client.get("/force-cache").text == "2"
        )
        assert client.get("/no-store").text == "3"
        assert client.get("/default").text == "2"
        reloaded = client.get("/reload")
        assert reloaded.text == "4" and "fwd=request" in reloaded.headers["cache-status"]
        assert "detail=request-no-cache" in reloaded.headers["cache-status"]
        assert client.get("/default").text == "4"
        validated = client.get("/no-cache")
        assert validated.text == "5" and "detail=request-no-cache" in validated.headers["cache-status"]
        served.set_clock(120)
        assert client.get("/force-cache").text == client.get("/only-if-cached").text == "5"
        assert client.get("/default").text == "6"


def test_what_gets_no_whole_response_is_an_error_of_its_own(origin: Origin) -> None:
    released = threading.Event()

    def slow(_: Seen) -> Reply:
        released.wait(PATIENCE)
        return Reply(200, {}, "late")

    origin.on("/slow", slow)
    origin.on("/large", lambda _: Reply(200, {}, "x" * 2_000))
    errors: list[str] = []
    edge = Edge("test", limits=Limits(functions=FunctionLimits(fetch_bytes=1_000)))
    edge.route("/*", to=edge.origin("o", origin.url))

    @edge.function("/call/{path}")
    async def call(request: Request, ctx: AsyncContext, path: str) -> str:
        try:
            await ctx.fetch(f"/{path}", timeout=0.2)
        except FetchError as error:
            errors.append(str(error))
        return "caught"

    with running(edge) as served, client_of(served) as client:
        assert client.get("/call/slow").text == client.get("/call/large").text == "caught"
        released.set()
    assert "timeout=" in errors[0] and "limits.functions.fetch_bytes" in errors[1]


@pytest.mark.parametrize("timeout", [10**400, math.inf], ids=["no float", "infinite"])
def test_a_fetch_with_a_long_timeout_has_the_time_of_its_call(timeout: float, origin: Origin) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url))

    @edge.function("/call")
    async def call(request: Request, ctx: AsyncContext) -> str:
        return (await ctx.fetch("/a", timeout=timeout)).text()

    with running(edge) as served, client_of(served) as client:
        assert client.get("/call").text == "x"


def test_a_callable_that_cannot_fetch_and_does_is_refused_where_it_is_declared() -> None:
    edge = Edge("test")

    def fetches(request: Request, ctx: Context) -> Response:
        return ctx.fetch("/page")

    def within(request: Request, ctx: Context) -> Response:
        def page() -> Response:
            return ctx.fetch("/page")

        return page()

    def changes(request: Request, response: Response, ctx: Context) -> None:
        response.body = ctx.fetch("/page").body

    class Called:
        def __call__(self, request: Request, ctx: Context) -> Response:
            return ctx.fetch("/page")

    async def awaits(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/page")

    def named(request: Request, ctx: Context, fetch: str) -> str:
        return fetch

    for function in (fetches, within, Called()):
        with pytest.raises(ConfigError, match=r"function.inline: .*ctx\.fetch, which waits: leave inline=True out"):
            edge.function("/page", inline=True)(function)
    edge.function("/{fetch}", inline=True)(named)
    edge.function("/awaits", inline=True)(awaits)
    edge.function("/fetches")(fetches)
    for phase, hook in (("viewer_request", fetches), ("origin_request", awaits), ("viewer_response", changes)):
        with pytest.raises(ConfigError, match="which functions have and hooks have not"):
            edge.on(phase, "/*")(hook)  # type: ignore[call-overload]


def test_neither_an_inline_callable_that_would_wait_nor_a_hook_fetches() -> None:
    edge = Edge("test")
    for path in ("/page", "/hooked"):
        edge.route(path, respond="page")

    def of_page(ctx: Context) -> Response:
        return ctx.fetch("/page")

    @edge.function("/inline", inline=True)
    def inline(request: Request, ctx: Context) -> Response:
        return of_page(ctx)

    @edge.function("/inline-async", inline=True)
    async def inline_async(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/page")

    calls: list[str] = []

    @edge.function("/careful", inline=True)
    async def careful(request: Request, ctx: AsyncContext) -> Response:
        calls.append(request.path)
        try:
            return await ctx.fetch("/page")
        except Exception:  # noqa: BLE001  # as code does that has another answer
            return Response("another")

    @edge.on("viewer_request", "/hooked")
    def hooked(request: Request, ctx: Context) -> Response:
        return of_page(ctx)

    with running(edge) as served, client_of(served) as client:
        assert client.get("/inline").status_code == 502
        assert client.get("/inline-async").text == "page"
        # It goes on where it was.
        assert (client.get("/careful").text, calls) == ("page", ["/careful"])
        assert client.get("/hooked").status_code == 502
        assert client.get("/page").text == "page"
        wait_until(lambda: client.get("/inline-async").text == "page", PATIENCE, "the answer through the queue")


def test_an_origin_or_group_answers_by_its_name_with_keys_of_its_own(origin: Origin, second: Origin) -> None:
    edge = Edge("test")
    routed, named = origin, second
    for one, text in ((routed, "routed"), (named, "named")):
        one.default = Reply(200, {"cache-control": "max-age=60"}, text)
    other = edge.origin("other", named.url)
    edge.group("both", [edge.origin("broken", "http://127.0.0.1:9", retries=0), other], failover_on={503})
    edge.route("/pages/*", to=edge.origin("o", routed.url))

    @edge.function("/by")
    async def by(request: Request, ctx: AsyncContext) -> dict[str, Any]:
        given = request.query.get("origin")
        found = await ctx.fetch(request.query["path"], origin=other if given == "object" else given)
        return {"text": found.body.decode(), "cache": found.headers["cache-status"]}

    @edge.function("/pages/own")
    def own(request: Request, ctx: Context) -> Response:
        # Its own URL: no loop.
        found = ctx.fetch(request, origin="o")
        return Response(found.body, found.status)

    @edge.function("/wrong/{kind}")
    async def wrong(request: Request, ctx: AsyncContext, kind: str) -> str:
        origin, url = {
            "name": ("nobody", "/"),
            "empty": ("", "/"),
            "type": (7, "/"),
            "url": ("o", "http://www.example.com/"),
        }[kind]
        try:
            await ctx.fetch(url, origin=origin)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            return f"{type(error).__name__} {error}"
        return "fetched"

    with running(edge) as served, client_of(served) as client:

        def found(path: str, origin: str | None = None) -> tuple[str, bool]:
            given = {"origin": origin} if origin else {}
            answer = client.get("/by", params={"path": path, **given}).json()
            return answer["text"], "; hit" in answer["cache"]

        for _ in range(2):
            hit = _ == 1
            assert found("/pages/a") == ("routed", hit)
            assert found("/pages/a", "other") == ("named", hit)
            assert found("/pages/a", "both") == ("named", hit)
            assert found("/pages/a", "object") == ("named", True)
        # No route leads there.
        assert found("/elsewhere?a=1", "o") == ("routed", False)
        assert client.get("/pages/own").text == "routed"
        served.server.purge([f"{served.url}/pages/a"])
        assert found("/pages/a", "other") == ("named", False)
        assert client.get("/wrong/name").text.startswith('ValueError fetch: origin "nobody" is no origin')
        assert "which has both, broken, o, other" in client.get("/wrong/empty").text
        assert client.get("/wrong/type").text.startswith("TypeError fetch: origin is the name")
        assert "give a path" in client.get("/wrong/url").text


def test_fields_of_the_edge_are_kept_in_requests_of_functions_and_are_in_the_key(origin: Origin) -> None:
    def user(seen: Seen) -> Reply:
        return Reply(200, {"cache-control": "max-age=60"}, f"{seen.get('x-user-id')}")

    origin.default = user
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url))

    @edge.function("/as/{name}")
    async def named(request: Request, ctx: AsyncContext, name: str) -> Response:
        found = await ctx.fetch("/page", headers={"x-user-id": name, "x-forwarded-for": "192.0.2.1"})
        return Response(found.body)

    with running(edge) as served, client_of(served) as client:
        # A client's own copy is removed.
        assert client.get("/page", headers={"x-user-id": "forged"}).text == "None"
        for _ in range(2):
            assert [client.get(f"/as/{name}").text for name in ("ann", "bob", "ann")] == ["ann", "bob", "ann"]
        assert client.get("/page").text == "None"
    assert len(origin.requests) == 3


def test_only_if_cached_requests_nothing_where_nothing_is_stored(origin: Origin) -> None:
    edge = Edge("test")
    edge.route("/page", to=edge.origin("o", origin.url), cache=CachePolicy(enabled=False))
    called: list[str] = []

    @edge.function("/function")
    def function(request: Request, ctx: Context) -> str:
        called.append(request.method)
        return "called"

    @edge.function("/{path}/{method}")
    async def call(request: Request, ctx: AsyncContext, path: str, method: str) -> Response:
        return await ctx.fetch(f"/{path}", method=method, cache="only-if-cached")

    with running(edge) as served, client_of(served) as client:
        for path in ("/page/GET", "/page/POST", "/function/GET", "/function/POST"):
            found = client.get(path)
            assert (found.status_code, "detail=only-if-cached" in found.headers["cache-status"]) == (504, True)
    assert not called and not origin.requests
