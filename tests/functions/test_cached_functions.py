"""A cache in front of functions: their responses are stored, shared, revalidated and purged as those of an origin."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from edgerouter import (
    AsyncContext,
    CachePolicy,
    ConfigError,
    Context,
    Edge,
    Jwt,
    Request,
    Response,
    cache,
)
from edgerouter.testing import Running

from ..identity.tokens import SECRET, bearer, token
from ..origins import wait_until
from ..purges import completed

Serve = Callable[[Edge], Running]
FRESH = {"cache-control": "max-age=60"}


def made(text: str, **fields: str) -> Response:
    headers = {"cache-control": "max-age=60"} | {name.replace("_", "-"): value for name, value in fields.items()}
    return Response(text, headers=headers)


@pytest.fixture
def calls() -> Counter[str]:
    return Counter()


def counted(calls: Counter[str], name: str) -> int:
    calls[name] += 1
    return calls[name]


def more_than(calls: Counter[str], before: int) -> bool:
    return sum(calls.values()) > before


def status(response: httpx.Response) -> str:
    return response.headers["cache-status"]


def test_a_response_is_stored_and_given_to_the_next_request_without_a_call(serve: Serve, calls: Counter[str]) -> None:
    edge = Edge("test")

    @edge.function("/page/{name}", cache=cache.STANDARD)
    def page(request: Request, ctx: Context, name: str, n: int = 0) -> Response:
        return made(f"{name} {n} {counted(calls, name)}", etag=f'"{name}"')

    @edge.function("/uncached")
    def uncached(request: Request, ctx: Context) -> Response:
        return made(str(counted(calls, "uncached")))

    with httpx.Client(base_url=serve(edge)) as client:
        first, second = client.get("/page/a?n=1"), client.get("/page/a?n=1")
        assert (first.text, second.text) == ("a 1 1", "a 1 1")
        assert "fwd=uri-miss" in status(first) and "stored" in status(first) and "hit" in status(second)
        assert client.get("/page/a?n=2").text == "a 2 2"
        assert client.get("/page/a?n=1", headers={"if-none-match": '"a"'}).status_code == 304
        part = client.get("/page/a?n=1", headers={"range": "bytes=2-"})
        assert (part.status_code, part.text, part.headers["content-range"]) == (206, "1 1", "bytes 2-4/5")
        head = client.head("/page/a?n=1")
        assert (head.headers["content-length"], head.content) == ("5", b"")
        assert calls == {"a": 2}
        # The first request for a response may want a part of it, or no content: the function makes the whole.
        part = client.get("/page/b", headers={"range": "bytes=0-0"})
        assert (part.status_code, part.text) == (206, "b")
        assert "hit" in status(client.get("/page/b"))
        head = client.head("/page/c")
        assert (head.status_code, head.headers["content-length"]) == (200, "5")
        assert [client.get("/uncached").text for _ in range(2)] == ["1", "2"]


def test_requests_at_one_time_make_one_call(serve: Serve, calls: Counter[str]) -> None:
    edge = Edge("test")
    go = threading.Event()

    @edge.function("/slow", cache=cache.STANDARD)
    def slow(request: Request, ctx: Context) -> Response:
        counted(calls, "slow")
        go.wait(60)
        return made("slow")

    @edge.function("/fails", cache=cache.STANDARD)
    def fails(request: Request, ctx: Context) -> Response:
        counted(calls, "fails")
        go.wait(60)
        raise ValueError("no")

    served = serve(edge)
    with ThreadPoolExecutor(8) as threads, httpx.Client(base_url=served) as client:
        for path, code in (("/slow", 200), ("/fails", 502)):
            go.clear()
            before = sum(calls.values())
            pending = [threads.submit(client.get, path) for _ in range(8)]
            # A request that came after them has been answered: they wait for the call.
            wait_until(partial(more_than, calls, before))
            client.get("/nothing")
            go.set()
            assert {answer.result().status_code for answer in pending} == {code}
            assert calls[path[1:]] < 8, path
        assert calls["slow"] == 1


def test_what_a_function_reads_tells_its_responses_apart(serve: Serve, calls: Counter[str]) -> None:
    edge = Edge("test")

    @edge.function("/language", cache=cache.STANDARD)
    def language(request: Request, ctx: Context) -> Response:
        chosen = request.headers.get("accept-language", "?")
        return made(f"{chosen} {counted(calls, 'language')}")

    @edge.function("/cookie", cache=cache.STANDARD)
    def cookie(request: Request, ctx: Context) -> Response:
        return made(f"{request.cookies.get('theme', '?')} {counted(calls, 'cookie')}")

    @edge.function("/client", cache=cache.STANDARD)
    def client_of(request: Request, ctx: Context) -> Response:
        return made(f"{request.client} {counted(calls, 'client')}")

    @edge.function("/declared", cache=cache.STANDARD, varies=["x-tier"])
    def declared(request: Request, ctx: Context) -> Response:
        return made(f"{dict(request.headers).get('x-tier')} {counted(calls, 'declared')}")

    with httpx.Client(base_url=serve(edge)) as client:

        def texts(path: str, *fields: dict[str, str]) -> list[str]:
            return [client.get(path, headers=one).text for one in fields]

        german, french = {"accept-language": "de"}, {"accept-language": "fr"}
        assert texts("/language", german, french, german, french | {"x-other": "1"}) == ["de 1", "fr 2", "de 1", "fr 2"]
        dark, light = {"cookie": "theme=dark; a=1"}, {"cookie": "theme=light"}
        assert texts("/cookie", dark, light, dark | {"cookie": "a=2; theme=dark"}) == ["dark 1", "light 2", "dark 1"]
        assert texts("/client", {}, {}) == ["127.0.0.1 1", "127.0.0.1 2"]
        assert "detail=hook" in status(client.get("/client"))
        gold = {"x-tier": "gold"}
        assert texts("/declared", gold, {}, gold | {"x-other": "2"}) == ["gold 1", "None 2", "gold 1"]


def test_tags_and_urls_purge_what_functions_made(serve: Serve, calls: Counter[str]) -> None:
    edge = Edge("test")

    @edge.function("/users/{number}", cache=cache.STANDARD)
    async def user(request: Request, ctx: AsyncContext, number: int) -> Response:
        ctx.tag(f"user:{number}")
        ctx.tag("users")
        with pytest.raises(ValueError, match="no tag"):
            ctx.tag("a b")
        with pytest.raises(ValueError, match="1 to 1024 bytes") as too_long:
            ctx.tag("x" * 100_000)
        assert len(str(too_long.value)) < 400
        return made(f"{number} {counted(calls, str(number))}", cache_tag="field")

    served = serve(edge)
    with httpx.Client(base_url=served) as client:

        def texts() -> list[str]:
            return [client.get(f"/users/{number}").text for number in (7, 8)]

        assert texts() == texts() == ["7 1", "8 1"]
        completed(served, served.server.purge(tags=["user:7"]))
        assert texts() == ["7 2", "8 1"]
        completed(served, served.server.purge(tags=["field"]))
        assert texts() == ["7 3", "8 2"]
        completed(served, served.server.purge(urls=[f"{served}/users/8"]))
        assert texts() == ["7 3", "8 3"]
        assert "cache-tag" not in client.get("/users/7").headers


def test_a_stale_response_is_validated_refreshed_behind_and_stands_in_for_a_failure(
    serve: Serve, calls: Counter[str]
) -> None:
    edge = Edge("test")
    fails: list[bool] = []

    @edge.function("/validated", cache=cache.STANDARD)
    def validated(request: Request, ctx: Context) -> Response:
        call = counted(calls, "validated")
        if request.headers.get("if-none-match") == '"one"':
            return Response(None, 304, {"etag": '"one"', "cache-control": "max-age=60"})
        return made(f"{call}", etag='"one"')

    @edge.function("/error", cache=CachePolicy(stale_if_error=3600))
    def error(request: Request, ctx: Context) -> Response:
        counted(calls, "error")
        if fails:
            raise ValueError("no")
        return made("good")

    @edge.function("/gone", cache=CachePolicy(negative_ttl={404: 60}))
    def gone(request: Request, ctx: Context) -> Response:
        counted(calls, "gone")
        return Response("nothing there", 404)

    served = serve(edge)
    with httpx.Client(base_url=served) as client:
        assert [client.get("/validated").text, client.get("/error").text] == ["1", "good"]
        assert [client.get("/gone").status_code for _ in range(2)] == [404, 404] and calls["gone"] == 1
        fails.append(True)
        served.set_clock(100)
        again = client.get("/validated")
        assert (again.text, calls["validated"]) == ("1", 2) and "fwd-status=304" in status(again)
        assert "hit" in status(client.get("/validated")) and calls["validated"] == 2
        stale = client.get("/error")
        assert (stale.status_code, stale.text) == (200, "good") and "stale" in status(stale)
        served.set_clock(10_000)
        failed = client.get("/error")
        assert failed.status_code == 502 and failed.headers["x-error-id"] in failed.text
        assert "function-failed" in status(failed)


def test_a_streamed_response_is_stored_when_it_came_whole(serve: Serve, calls: Counter[str]) -> None:
    edge = Edge("test")

    @edge.function("/stream/{end}", cache=cache.STANDARD)
    async def stream(request: Request, ctx: AsyncContext, end: str) -> Response:
        call = counted(calls, end)

        async def pieces() -> Any:
            for n in range(3):
                yield f"{call}.{n} "
            if end == "breaks":
                raise ValueError("no")

        return Response(pieces(), headers=FRESH)

    with httpx.Client(base_url=serve(edge)) as client:
        assert [client.get("/stream/whole").text for _ in range(2)] == ["1.0 1.1 1.2 "] * 2
        part = client.get("/stream/whole", headers={"range": "bytes=4-6"})
        assert (part.status_code, part.text) == (206, "1.1")
        for call in (1, 2):
            with pytest.raises(httpx.RemoteProtocolError):
                client.get("/stream/breaks")
            assert calls["breaks"] == call


def test_a_function_that_waits_for_its_own_response_is_508_at_once(serve: Serve) -> None:
    edge = Edge("test")

    @edge.function("/own", cache=CachePolicy(query="none"))
    async def own(request: Request, ctx: AsyncContext) -> Response:
        found = await ctx.fetch("/own?again=1")
        return made(f"{found.status}")

    @edge.function("/one", cache=cache.STANDARD)
    async def one(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/other")

    @edge.function("/other", cache=cache.STANDARD)
    async def other(request: Request, ctx: AsyncContext) -> Response:
        return made((await ctx.fetch("/one")).body.decode())

    with httpx.Client(base_url=serve(edge)) as client:
        # Not the 504 of the time limit.
        assert client.get("/own").text == "508"
        assert "waits for this very" in client.get("/one").text


def test_other_methods_call_the_function_and_outdate_what_is_stored(serve: Serve, calls: Counter[str]) -> None:
    edge = Edge("test")

    @edge.function("/item", cache=cache.STANDARD)
    def item(request: Request, ctx: Context) -> Response:
        return made(f"{request.method} {request.body.decode()} {counted(calls, 'item')}")

    with httpx.Client(base_url=serve(edge)) as client:
        assert [client.get("/item").text for _ in range(2)] == ["GET  1", "GET  1"]
        assert client.post("/item", content=b"new").text == "POST new 2"
        assert client.get("/item").text == "GET  3"
        # A body would be a part of the question, but not of the key.
        assert client.request("GET", "/item", content=b"x").text == "GET x 4"


def test_a_token_and_the_claims_that_are_read_keep_responses_apart(serve: Serve, calls: Counter[str]) -> None:
    edge = Edge("test")
    auth = Jwt.hs256(SECRET)

    @edge.function("/all", auth=Jwt.hs256(SECRET, shared=True), cache=cache.STANDARD)
    def everybody(request: Request, ctx: Context) -> Response:
        return made(str(counted(calls, "all")))

    @edge.function("/mine", auth=auth, cache=CachePolicy(claims=["sub"]))
    def mine(request: Request, ctx: Context) -> Response:
        assert request.claims is not None
        return made(f"{request.claims['sub']} {counted(calls, 'mine')}", cache_control="public, max-age=60")

    @edge.function("/read", auth=auth, cache=cache.STANDARD)
    def read(request: Request, ctx: Context) -> Response:
        return made(f"{request.user} {counted(calls, 'read')}", cache_control="public, max-age=60")

    with httpx.Client(base_url=serve(edge)) as client:

        def texts(path: str) -> list[str]:
            tokens = (token({"sub": name, "exp": int(time.time()) + 600}) for name in ("ada", "bob", "ada"))
            return [client.get(path, headers=bearer(one)).text for one in tokens]

        assert client.get("/all").status_code == 401
        assert texts("/all") == ["1", "1", "1"]
        assert texts("/mine") == ["ada 1", "bob 2", "ada 1"]
        assert texts("/read") == ["ada 1", "bob 2", "ada 3"]


def test_a_reload_to_another_function_leaves_the_old_responses_behind(serve: Serve) -> None:
    def edge_with(name: str, *, cached: bool = True) -> Edge:
        edge = Edge("test")

        def function(request: Request, ctx: Context) -> Response:
            return made(name)

        function.__qualname__ = name
        edge.function("/page", cache=cache.STANDARD if cached else None)(function)
        return edge

    served = serve(edge_with("old"))
    with httpx.Client(base_url=served) as client:
        assert client.get("/page").text == client.get("/page").text == "old"
        served.reload(edge_with("new"))
        assert client.get("/page").text == "new"


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    seen = {name.decode(): value.decode() for name, value in scope["headers"]}
    mounted_calls[scope["path"]] += 1
    fields = [(b"cache-control", b"max-age=60"), (b"vary", b"x-tier")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": f"{seen.get('x-tier')} {mounted_calls[scope['path']]}".encode()})


mounted_calls: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def no_calls() -> Iterator[None]:
    yield
    mounted_calls.clear()


def test_a_mounted_application_is_behind_the_cache_as_an_origin_is(serve: Serve) -> None:
    edge = Edge("test")
    edge.mount("/app", mounted, cache=cache.STANDARD)
    with httpx.Client(base_url=serve(edge)) as client:

        def text(path: str, tier: str, **more: str) -> str:
            return client.get(path, headers={"x-tier": tier} | more).text

        assert [text("/app/a", "1"), text("/app/a", "1", accept="text/html"), text("/app/a", "2")] == [
            "1 1",
            "1 1",
            "2 2",
        ]


def test_varies_without_a_cache_is_refused() -> None:
    with pytest.raises(ConfigError, match="with cache="):
        Edge("test").function("/a", varies=["x"])(lambda request, ctx: Response("a"))


def test_content_that_is_larger_than_the_memory_of_requests_is_sent_whole(serve: Serve) -> None:
    edge = Edge("test")

    @edge.function("/large", cache=CachePolicy(ttl=60))
    def large(request: Request, ctx: Context) -> Response:
        return Response(b"x" * 30_000_000)

    response = httpx.get(f"{serve(edge).url}/large", timeout=20)
    assert (response.status_code, len(response.content)) == (200, 30_000_000)
