"""The cache of functions: what it stores, for how long, whom it answers, and what it is kept apart from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, CacheError, CacheLimits, Context, Edge, FunctionLimits, Limits, Request, Response
from edgerouter.application import FileApplication
from edgerouter.functions import AsyncCache, Cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, wait_until

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]
Ask = Callable[[Callable[[Request, Context], Any]], Any]

URL = "https://www.example.com/thing"
FOR_A_MINUTE = {"Cache-Control": "max-age=60"}


@pytest.fixture
def ask(serve: Serve, client_for: ClientFor) -> Ask:
    """``ask(question)`` calls ``question(request, ctx)`` in a function of one edge, and gives its answer as JSON."""
    questions: list[Callable[[Request, Context], Any]] = []
    edge = Edge(
        "test",
        limits=Limits(
            cache=CacheLimits(memory_bytes=8 << 20, largest_object_bytes=1 << 20),
            functions=FunctionLimits(named_caches=3),
        ),
    )

    @edge.function("/ask")
    def answering(request: Request, ctx: Context) -> Response:
        return Response.json({"is": questions[-1](request, ctx)})

    client = client_for(serve(edge))

    def asked(question: Callable[[Request, Context], Any], **sent: Any) -> Any:
        questions.append(question)
        response = client.get("/ask", **sent)
        assert response.status_code == 200, response.text
        return response.json()["is"]

    return asked


def seen(response: Response | None) -> tuple[int, str] | None:
    return None if response is None else (response.status, response.body.decode())


@pytest.mark.parametrize("inline", [False, True])
def test_an_async_function_awaits_the_cache_and_a_plain_one_calls_it(
    serve: Serve, client_for: ClientFor, inline: bool
) -> None:
    edge = Edge("test")

    @edge.function("/async", inline=inline)
    async def asynchronous(request: Request, ctx: AsyncContext) -> Response:
        assert isinstance(ctx.cache, AsyncCache)
        found = await ctx.cache.match(request)
        if found is not None:
            found.headers["x-found"] = "yes"
            return found
        response = Response("made", headers=FOR_A_MINUTE)
        assert await ctx.cache.put(request, response) is True
        return response

    @edge.function("/plain", inline=inline)
    def plain(request: Request, ctx: Context) -> Response:
        assert isinstance(ctx.cache, Cache)
        found = ctx.cache.match(request)
        if found is not None:
            found.headers["x-found"] = "yes"
            return found
        response = Response("made", headers=FOR_A_MINUTE)
        assert ctx.cache.put(request, response) is True
        return response

    client = client_for(serve(edge))
    for path in ("/async", "/plain"):
        first, second = client.get(path), client.get(path)
        assert (first.text, "x-found" in first.headers) == ("made", False)
        assert (second.text, second.headers["x-found"], int(second.headers["age"]) < 60) == ("made", "yes", True)


def test_a_matched_response_has_its_age_and_is_a_copy(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        ctx.cache.put(URL, Response("a", headers={**FOR_A_MINUTE, "X-Own": "1"}))
        found = ctx.cache.match(URL)
        assert found is not None
        found.headers["x-own"] = "2"
        found.body = b"changed"
        again = ctx.cache.match(URL)
        assert again is not None
        return [seen(again), again.headers["x-own"], again.headers["age"], again.headers["content-length"]]

    assert ask(question) == [[200, "a"], "1", "0", "1"]


@pytest.mark.parametrize(
    ("headers", "stored"),
    [
        ({"Cache-Control": "max-age=60"}, True),
        ({"Cache-Control": "s-maxage=60"}, True),
        ({"Expires": "Fri, 01 Jan 2100 00:00:00 GMT"}, True),
        ({}, True),
        ({"Cache-Control": "no-store"}, False),
        ({"Cache-Control": "private"}, False),
        ({"Cache-Control": "max-age=0"}, False),
        ({"Cache-Control": "no-cache", "ETag": '"a"'}, False),
        ({"Expires": "0"}, False),
        ({"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"}, False),
        ({"Cache-Control": "max-age=60", "Age": "60"}, False),
        ({"Cache-Control": "max-age=60", "Set-Cookie": "a=b"}, False),
        ({"Cache-Control": 'max-age=60, private="Set-Cookie"', "Set-Cookie": "a=b"}, True),
    ],
)
def test_put_honours_what_the_response_says(ask: Ask, headers: dict[str, str], stored: bool) -> None:
    def question(request: Request, ctx: Context) -> Any:
        put = ctx.cache.put(URL, Response("a", headers=headers))
        found = ctx.cache.match(URL)
        return [put, found is not None, found is not None and "set-cookie" in found.headers]

    assert ask(question) == [stored, stored, False]


@pytest.mark.parametrize(("status", "stored"), [(404, True), (301, True), (500, False), (304, False)])
def test_put_stores_a_status_without_a_lifetime_as_workers_do(ask: Ask, status: int, stored: bool) -> None:
    assert ask(lambda request, ctx: ctx.cache.put(URL, Response(None if status == 304 else "a", status))) is stored


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (lambda request, ctx: ctx.cache.put(URL, Response("a", status=206)), "206"),
        (lambda request, ctx: ctx.cache.put(URL, Response("a", headers={"Vary": "Accept, *"})), r"Vary: \*"),
        (lambda request, ctx: ctx.cache.put(Request(URL, method="POST"), Response("a")), "POST.*GET"),
        (lambda request, ctx: ctx.cache.match("/relative"), "absolute"),
        (lambda request, ctx: ctx.cache.match("ftp://example.com/"), "http or https"),
        (lambda request, ctx: ctx.cache.match("https://me:secret@example.com/"), "user name"),
        (lambda request, ctx: ctx.cache.match("https://example.com/" + "a" * 20_000), "bytes long"),
        (lambda request, ctx: ctx.caches.open(""), "empty"),
        (lambda request, ctx: ctx.caches.open("x" * 65), "the limit is 64"),
    ],
    ids=["206", "Vary: *", "POST", "no host", "ftp", "user name", "too long", "no name", "a long name"],
)
def test_a_mistake_is_a_cache_error_that_says_why(
    ask: Ask, question: Callable[[Request, Context], Any], reason: str
) -> None:
    def failing(request: Request, ctx: Context) -> Any:
        with pytest.raises(CacheError) as raised:
            question(request, ctx)
        return str(raised.value)

    said = ask(failing)
    assert re.search(reason, said)
    assert "secret" not in said and len(said) < 400


def test_a_wrong_type_is_a_type_error(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        told = []
        for wrong in (
            lambda: ctx.cache.match(7),  # type: ignore[arg-type]
            lambda: ctx.cache.put(URL, "text"),  # type: ignore[arg-type]
            lambda: ctx.wait_until(7),  # type: ignore[arg-type]
        ):
            with pytest.raises(TypeError) as raised:
                wrong()
            told.append(str(raised.value))
        return told

    assert ask(question) == [
        "a cache needs a Request or a URL, not int",
        "a cache stores a Response, not str",
        "wait_until takes an awaitable or a callable without arguments, not int",
    ]


def test_only_get_is_matched_unless_the_method_is_ignored(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        ctx.cache.put(URL, Response("a", headers=FOR_A_MINUTE))
        head = Request(URL, method="HEAD")
        return [
            seen(ctx.cache.match(head)),
            seen(ctx.cache.match(head, ignore_method=True)),
            ctx.cache.delete(head),
            ctx.cache.delete(head, ignore_method=True),
            ctx.cache.delete(URL),
            seen(ctx.cache.match(URL)),
        ]

    assert ask(question) == [None, [200, "a"], False, True, False, None]


def test_conditions_and_ranges_are_answered_from_what_is_stored(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        modified = "Sun, 06 Nov 1994 08:49:37 GMT"
        ctx.cache.put(URL, Response("0123456789", headers={**FOR_A_MINUTE, "ETag": '"a"', "Last-Modified": modified}))

        def match(**headers: str) -> Any:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            found = ctx.cache.match(Request(URL, headers=fields))
            return [*(seen(found) or ()), found.headers.get("content-range") if found else None]

        return [
            match(if_none_match='W/"a"'),
            match(if_none_match='"b"', if_modified_since=modified),
            match(if_modified_since=modified),
            match(range="bytes=2-4"),
            match(range="bytes=-2"),
            match(range="bytes=99-"),
            match(range="bytes=0-1", if_range='"b"'),
            match(if_none_match='"a"', range="bytes=2-4"),
        ]

    assert ask(question) == [
        [304, "", None],
        [200, "0123456789", None],
        [304, "", None],
        [206, "234", "bytes 2-4/10"],
        [206, "89", "bytes 8-9/10"],
        [416, "", "bytes */10"],
        [200, "0123456789", None],
        [304, "", None],
    ]


def test_several_ranges_are_a_multipart_body(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        ctx.cache.put(URL, Response("0123456789", headers=FOR_A_MINUTE))
        found = ctx.cache.match(Request(URL, headers={"Range": "bytes=0-1, 8-9"}))
        assert found is not None
        return [found.status, found.headers["content-type"], found.body.decode()]

    status, kind, body = ask(question)
    boundary = kind.partition("boundary=")[2]
    parts = [part.partition("\r\n\r\n")[2].rstrip("\r\n") for part in body.split(f"--{boundary}")[1:-1]]
    assert (status, parts) == (206, ["01", "89"])


def test_vary_tells_stored_responses_apart(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        def by(language: str) -> Request:
            return Request(URL, headers={"Accept-Language": language})

        for language in ("de", "fr"):
            ctx.cache.put(by(language), Response(language, headers={**FOR_A_MINUTE, "Vary": "Accept-Language"}))
        found = [seen(ctx.cache.match(by(language))) for language in ("de", "fr", "it")]
        return [*found, seen(ctx.cache.match(URL)), ctx.cache.delete(URL), seen(ctx.cache.match(by("de")))]

    assert ask(question) == [[200, "de"], [200, "fr"], None, None, True, None]


def test_a_response_is_forgotten_when_its_time_is_over(ask: Ask) -> None:
    ask(lambda request, ctx: ctx.cache.put(URL, Response("a", headers={"Cache-Control": "max-age=1"})))
    assert ask(lambda request, ctx: seen(ctx.cache.match(URL))) in ([200, "a"], None)
    wait_until(lambda: ask(lambda request, ctx: seen(ctx.cache.match(URL))) is None)


def test_the_whole_url_is_the_key_and_has_one_spelling(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        ctx.cache.put("https://WWW.Example.com:443/a/../thing?x=1#part", Response("a", headers=FOR_A_MINUTE))
        same = "https://www.example.com/thing?x=1"
        others = ["http://www.example.com/thing?x=1", "https://www.example.com:8443/thing?x=1", f"{same}0"]
        return [seen(ctx.cache.match(same)), *(seen(ctx.cache.match(url)) for url in others)]

    assert ask(question) == [[200, "a"], None, None, None]


def test_named_caches_are_apart_and_bounded(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        first, second = ctx.caches.open("first"), ctx.caches.open("second")
        first.put(URL, Response("1", headers=FOR_A_MINUTE))
        ctx.cache.put(URL, Response("0", headers=FOR_A_MINUTE))
        found = [seen(cache.match(URL)) for cache in (first, second, ctx.cache, ctx.caches.default)]
        assert ctx.caches.open("default").match(URL) is not None
        ctx.caches.open("third")
        with pytest.raises(CacheError, match=r"3 named caches.*limits\.functions\.named_caches"):
            ctx.caches.open("fourth")
        return [*found, seen(ctx.caches.open("first").match(URL)), first.name, ctx.cache.name]

    assert ask(question) == [[200, "1"], None, [200, "0"], [200, "0"], [200, "1"], "first", "default"]


def test_what_a_function_stores_never_reaches_a_route_and_the_other_way_round(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    origin.default = Reply(200, FOR_A_MINUTE, "from origin")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    found: list[Any] = []

    @edge.on("viewer_request", "/*")
    def poison(request: Request, ctx: Context) -> None:
        found.append(seen(ctx.cache.match(request)))
        ctx.cache.put(request, Response("from the function", headers=FOR_A_MINUTE))
        ctx.cache.delete(f"{request.url}?other")

    client = client_for(serve(edge))
    assert [client.get("/page").text for _ in range(3)] == ["from origin"] * 3
    assert found == [None, (200, "from the function"), (200, "from the function")]
    assert origin.count("/page") == 1


def test_a_response_that_streams_past_is_not_stored_but_one_that_replaces_it_is(
    origin: Origin, serve: Serve, client_for: ClientFor
) -> None:
    origin.default = Reply(200, FOR_A_MINUTE, "from origin")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))

    @edge.on("viewer_response", "/*")
    async def store(request: Request, response: Response, ctx: AsyncContext) -> None:
        try:
            await ctx.cache.put(request, response)
        except CacheError as error:
            response.headers["x-refused"] = str(error)
        response.body = b"replaced"
        response.headers["x-stored"] = str(await ctx.cache.put(request, response))

    response = client_for(serve(edge)).get("/page")
    assert "streams past" in response.headers["x-refused"]
    assert (response.text, response.headers["x-stored"]) == ("replaced", "True")


def test_an_object_that_is_too_large_is_not_stored_and_bytes_are_bounded(ask: Ask) -> None:
    def question(request: Request, ctx: Context) -> Any:
        large = ctx.cache.put(URL, Response(b"x" * ((1 << 20) + 1), headers=FOR_A_MINUTE))
        for number in range(40):
            ctx.cache.put(f"{URL}/{number}", Response(b"x" * (512 << 10), headers=FOR_A_MINUTE))
        kept = sum(ctx.cache.match(f"{URL}/{number}") is not None for number in range(40))
        return [large, 0 < kept <= 16]

    assert ask(question) == [False, True]


def test_the_example_keeps_its_reports_and_counts_after_the_response(serve: Serve, client_for: ClientFor) -> None:
    application = Path(__file__).parents[2] / "examples" / "reports" / "app.py"
    client = client_for(serve(FileApplication(str(application)).load()))
    first, second = client.get("/reports/monday"), client.get("/reports/monday")
    assert (first.json(), "age" in first.headers) == (second.json(), False)
    assert "age" in second.headers
    assert client.get("/reports/monday", headers={"If-None-Match": '"monday"'}).status_code == 304
    wait_until(lambda: client.get("/popular").json() == {"monday": 3})
    assert [client.delete("/reports/monday").status_code for _ in range(2)] == [204, 404]
    assert "age" not in client.get("/reports/monday").headers


def test_operations_are_counted_by_result(serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")

    @edge.function("/")
    def function(request: Request, ctx: Context) -> str:
        ctx.cache.match(URL)
        ctx.cache.put(URL, Response("a", headers=FOR_A_MINUTE))
        ctx.cache.put(URL, Response("a", headers={"Cache-Control": "no-store"}))
        ctx.cache.match(URL)
        ctx.cache.delete(URL)
        ctx.cache.delete(URL)
        with pytest.raises(CacheError):
            ctx.cache.put(URL, Response("a", status=206))
        return "done"

    running = serve(edge)
    assert client_for(running).get("/").text == "done"
    metrics = httpx.get(f"{running.admin_url}/metrics").text
    counted = dict(
        re.findall(
            r'^edgerouter_function_cache_total\{operation="(\w+",result="[\w-]+)"\} (\d+)$', metrics, re.MULTILINE
        )
    )
    assert counted == {
        'match",result="hit': "1",
        'match",result="miss': "1",
        'put",result="stored': "1",
        'put",result="not-stored': "1",
        'put",result="refused': "1",
        'delete",result="deleted': "1",
        'delete",result="absent': "1",
    }
