"""Hooks that transform content while it streams past: async iterators, and edits of HTML."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from edgerouter import (
    AsyncContext,
    CachePolicy,
    ConfigError,
    Context,
    Edge,
    FunctionLimits,
    HtmlEdit,
    Limits,
    Request,
    Response,
    cache,
)
from edgerouter.functions.transforms import of_text
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, wait_until
from ..raw import connect

Serve = Callable[[Edge], Running]
Pieces = AsyncIterator[bytes]
Transform = Callable[[Pieces], Pieces]
PATIENCE = 60.0
HTML = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "max-age=60",
    "etag": '"a"',
    "last-modified": "Thu, 26 Nov 2026 08:00:00 GMT",
    "content-md5": "Q2hlY2sgSW50ZWdyaXR5IQ==",
    "digest": "sha-256=abc",
    "repr-digest": "sha-256=:abc=:",
    "accept-ranges": "bytes",
}
OF_OLD_CONTENT = ("etag", "last-modified", "content-md5", "digest", "repr-digest", "accept-ranges", "content-length")
PAGE = "<html><head><title>t</title></head><body><p class=a>ä</p><a href=/x>x</a></body></html>"


async def upper(pieces: Pieces) -> Pieces:
    async for piece in pieces:
        yield piece.upper()


async def framed(pieces: Pieces) -> Pieces:
    yield b"["
    async for piece in pieces:
        yield piece
    yield b"]"


def site(origin: Origin, phase: str, *functions: Transform, limits: Limits | None = None, **options: object) -> Edge:
    edge = Edge("test", limits=limits or Limits())
    edge.route("/*", to=edge.origin("o", origin.url), **options)  # type: ignore[arg-type]

    @edge.on(phase, "/*", transforms=True)  # type: ignore[call-overload,untyped-decorator]
    async def hook(request: Request, response: Response, ctx: AsyncContext) -> None:
        for function in functions:
            response.transform(function)

    return edge


def transforms(edge: Running, result: str) -> int:
    scrape = edge.server.metrics()
    (line,) = re.findall(
        rf'^edgerouter_transforms_total{{callable="[^"]*hook",result="{result}"}} (\d+)$', scrape, re.MULTILINE
    ) or ["0"]
    return int(line)


@pytest.mark.parametrize("phase", ["origin_response", "viewer_response"])
def test_content_is_transformed_while_it_streams(origin: Origin, serve: Serve, phase: str) -> None:
    pieces = [b"ab" * 50_000, b"cd"]
    origin.on("/chunks", Reply(200, {"cache-control": "max-age=60"}, chunks=pieces))
    origin.on("/", lambda seen: Reply(200, HTML, f"page of {seen.get('accept-encoding')}"))
    edge = serve(site(origin, phase, upper, framed))
    with httpx.Client(base_url=edge.url) as client:
        for hit in (False, True):
            response = client.get("/chunks")
            assert response.content == b"[" + b"".join(pieces).upper() + b"]"
            assert ("hit" in response.headers["cache-status"].split("detail")[0]) == hit
            # Content without a coding is requested, and the fields that describe the other content are gone.
            response = client.get("/")
            assert response.text == "[PAGE OF IDENTITY]" and response.headers["content-type"] == HTML["content-type"]
            length = response.headers.pop("content-length", "18")
            assert length == "18" and not set(OF_OLD_CONTENT) & set(response.headers)
        head = client.head("/")
        assert head.status_code == 200 and head.headers.get("content-length", "18") == "18"
        assert not set(OF_OLD_CONTENT[:-1]) & set(head.headers)
        # A part and a 304 are of the content that is sent: no client gets what is behind the transform.
        part = client.get("/", headers={"range": "bytes=0-3"})
        stored = phase == "origin_response"
        assert (part.status_code, part.text) == ((206, "[PAG") if stored else (200, "[PAGE OF IDENTITY]"))
        for condition in ({"if-none-match": '"a"'}, {"if-modified-since": HTML["last-modified"]}):
            assert client.get("/", headers=condition).text == "[PAGE OF IDENTITY]"
        condition = {"range": "bytes=0-3", "if-range": '"a"'}
        assert client.get("/", headers=condition).text == "[PAGE OF IDENTITY]"
    assert len(origin.requests) == 2
    assert transforms(edge, "begun") == (2 if stored else 8) and transforms(edge, "head") == (0 if stored else 1)


@pytest.mark.parametrize("phase", ["origin_response", "viewer_response"])
def test_a_request_past_the_cache_is_for_the_whole_without_conditions(origin: Origin, serve: Serve, phase: str) -> None:
    def answer(seen: Seen) -> Reply:
        if seen.get("range") or seen.get("if-none-match") or seen.get("if-modified-since"):
            return Reply(206, {"content-range": "bytes 0-3/11"}, "secr")
        return Reply(200, HTML, "secret page")

    origin.default = answer
    edge = serve(site(origin, phase, upper, cache=cache.DISABLED))
    asked = {
        "range": "bytes=0-3",
        "if-range": '"a"',
        "if-none-match": '"b"',
        "if-modified-since": HTML["last-modified"],
    }
    with httpx.Client(base_url=edge.url) as client:
        assert client.get("/", headers=asked).text == "SECRET PAGE"
        assert client.post("/", headers={"range": "bytes=0-3", "if-match": '"a"'}).text == "SECRET PAGE"
        assert origin.requests[-1].get("if-match") == '"a"'
        head = client.head("/")
        assert head.status_code == 200 and not set(OF_OLD_CONTENT) & set(head.headers)
        assert "transfer-encoding" in client.get("/").headers


def test_content_that_may_not_be_transformed_passes_as_it_is(
    origin: Origin, serve: Serve, standard_error: Callable[[], str]
) -> None:
    coded = gzip.compress(b"coded")
    origin.on("/fixed", Reply(200, {"cache-control": "no-transform, max-age=60", "etag": '"a"'}, "fixed"))
    origin.on("/coded", Reply(200, {"content-encoding": "gzip", "etag": '"a"'}, coded))
    origin.on("/part", Reply(206, {"content-range": "bytes 0-3/8"}, "part"))
    origin.on("/empty", Reply(204))
    origin.on("/", Reply(200, {"cache-control": "max-age=60"}, "page"))
    edge = serve(site(origin, "viewer_response", upper))
    with httpx.Client(base_url=edge.url) as client:
        for path, text in (("/fixed", "fixed"), ("/coded", "coded"), ("/part", "part"), ("/empty", "")):
            response = client.get(path)
            assert response.text == text and response.headers.get("etag") == (
                '"a"' if path in ("/fixed", "/coded") else None
            )
        # A client has no say in what a site sends, and least of all in what is stored for others.
        assert client.get("/", headers={"cache-control": "no-transform"}).text == "PAGE"
        assert client.get("/").text == "PAGE"
    found = {name: transforms(edge, name) for name in ("begun", "no-transform", "coded", "part", "no-content")}
    assert found == {"begun": 2, "no-transform": 1, "coded": 1, "part": 1, "no-content": 1}
    line = "content passes a transform as it is"
    wait_until(lambda: standard_error().count(line) == 2, PATIENCE, "both warnings")


def test_a_transform_that_fails_breaks_the_content_off_and_stores_nothing(
    origin: Origin, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def raises(pieces: Pieces) -> Pieces:
        async for piece in pieces:
            yield piece
            raise ValueError("no")

    async def number(pieces: Pieces) -> AsyncIterator[int]:
        yield 1

    async def hides(pieces: Pieces) -> Pieces:
        with contextlib.suppress(Exception):
            async for piece in pieces:
                yield piece
        yield b"end"

    origin.default = Reply(200, HTML, "page")
    origin.on("/hides", Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + bytes(400_000)))
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url))
    chosen: dict[str, object] = {"raises": raises, "number": number, "plain": lambda pieces: [b"a"], "hides": hides}

    @edge.on("origin_response", "/*", transforms=True)
    def hook(request: Request, response: Response, ctx: Context) -> None:
        response.transform(chosen[request.path[1:]])  # type: ignore[call-overload]

    with httpx.Client(base_url=serve(edge).url) as client:
        for name, why in (
            ("raises", "ValueError: no"),
            ("number", "not int"),
            ("plain", "gave list: a transform is an async generator"),
            ("hides", "the content that came broke off"),
        ):
            for count in (1, 2):
                with caplog.at_level(logging.ERROR), pytest.raises(httpx.RemoteProtocolError):
                    client.get(f"/{name}")
                origin.wait_for(count, f"/{name}")
            wait_until(lambda: caplog.text.count("hook broke its content off") == 2, PATIENCE, "both in the log")
            assert why in caplog.text, name
            caplog.clear()


def test_a_transform_that_does_not_take_its_content_ends_at_the_time_out_of_its_hook(
    origin: Origin, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    closed = []

    async def sleeps(pieces: Pieces) -> Pieces:
        try:
            yield b"a"
            await asyncio.sleep(2 * PATIENCE)
        finally:
            closed.append("sleeps")

    async def trickles(pieces: Pieces) -> Pieces:
        async for piece in pieces:
            yield piece
        while True:
            await asyncio.sleep(0.01)
            yield b"a"

    async def floods(pieces: Pieces) -> Pieces:
        while True:
            yield bytes(4 << 20)

    origin.default = Reply(200, {"cache-control": "max-age=60"}, "page")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url), cache=cache.DISABLED)
    chosen: dict[str, Transform] = {"sleeps": sleeps, "trickles": trickles, "floods": floods}

    @edge.on("viewer_response", "/*", transforms=True, timeout=1)
    async def hook(request: Request, response: Response, ctx: AsyncContext) -> None:
        response.transform(chosen[request.path[1:]])

    with httpx.Client(base_url=serve(edge).url, timeout=PATIENCE) as client:
        for name, why in (("sleeps", "without taking"), ("trickles", "without taking"), ("floods", "64 MiB")):
            with caplog.at_level(logging.ERROR), pytest.raises(httpx.RemoteProtocolError):
                client.get(f"/{name}")
            wait_until(lambda why=why: why in caplog.text, PATIENCE, why)  # type: ignore[misc]
            caplog.clear()
    wait_until(lambda: bool(closed), PATIENCE, "the end of the iterator")
    assert closed == ["sleeps"]


def test_a_slow_origin_and_a_slow_client_cost_a_transform_none_of_its_time(origin: Origin, serve: Serve) -> None:
    go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"a"
        assert go_on.wait(PATIENCE)
        yield b"b"

    origin.default = lambda seen: Reply(200, chunks=slowly())
    taken = []

    async def counts(pieces: Pieces) -> Pieces:
        async for piece in pieces:
            taken.append(piece)
            yield piece

    edge = Edge("test", limits=Limits(functions=FunctionLimits(timeout=1)))
    edge.route("/*", to=edge.origin("o", origin.url), cache=cache.DISABLED)

    @edge.on("viewer_response", "/*", transforms=True)
    async def hook(request: Request, response: Response, ctx: AsyncContext) -> None:
        response.transform(counts)
        asyncio.get_running_loop().call_later(1.5, go_on.set)

    with httpx.Client(base_url=serve(edge).url, timeout=PATIENCE) as client:
        assert client.get("/").text == "ab"


def test_a_client_that_leaves_ends_the_iterators_and_the_request_to_the_origin(origin: Origin, serve: Serve) -> None:
    ended: list[str] = []
    given = 0

    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(16 << 10)
        finally:
            ended.append("origin")

    async def counts(pieces: Pieces) -> Pieces:
        nonlocal given
        try:
            async for piece in pieces:
                given += len(piece)
                yield piece
        finally:
            ended.append("inner")

    async def outer(pieces: Pieces) -> Pieces:
        try:
            async for piece in pieces:
                yield piece
        finally:
            ended.append("outer")

    origin.default = lambda seen: Reply(200, chunks=endless())
    edge = serve(site(origin, "viewer_response", counts, outer, cache=cache.DISABLED))
    with connect(edge.url) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(100)
        before = -1
        # The client reads no more: all stand still once the buffers between them are full.
        while before != given:
            before = given
            threading.Event().wait(0.2)
        assert ended == [] and given < 32 << 20
    wait_until(lambda: sorted(ended) == ["inner", "origin", "outer"], PATIENCE, "the end of all")
    assert ended.index("outer") < ended.index("inner")


def test_text_is_cut_between_characters_and_other_bytes_pass(origin: Origin, serve: Serve) -> None:
    texts: list[str] = []

    async def words(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        async for piece in pieces:
            texts.append(piece)
            yield piece.replace("ä", "€")

    body = "aäö€😀ä".encode() + b"\xff\xc3"
    origin.default = Reply(200, {"content-type": "text/plain"}, chunks=[bytes([byte]) for byte in body])
    origin.on("/latin", Reply(200, {"content-type": 'text/plain; charset="iso-8859-15"'}, "aä".encode("latin-1")))
    origin.on("/unknown", Reply(200, {"content-type": "text/plain; charset=klingon"}, "ä"))
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url), cache=cache.DISABLED)

    @edge.on("viewer_response", "/*", transforms=True, inline=True)
    def hook(request: Request, response: Response, ctx: Context) -> None:
        response.transform(words, text=True)

    with httpx.Client(base_url=serve(edge).url) as client:
        assert client.get("/").content == body.replace("ä".encode(), "€".encode())
        assert client.get("/latin").content == "a€".encode("iso-8859-15")
        assert client.get("/unknown").text == "€"
    texts.clear()

    async def cut() -> list[bytes]:
        async def bytes_of() -> Pieces:
            for byte in body:
                yield bytes([byte])

        page = Response("", headers={"content-type": "text/plain; charset=utf-8"})
        return [piece async for piece in of_text(page, words)(bytes_of())]

    assert b"".join(asyncio.run(cut())) == body.replace("ä".encode(), "€".encode())
    assert texts[:6] == list("aäö€😀ä")


def test_html_is_edited(origin: Origin, serve: Serve) -> None:
    def page(seen: Seen) -> Reply:
        text = PAGE.replace("<title>", "<meta charset=iso-8859-1><title>") if seen.path == "/meta" else PAGE
        body = text.encode("utf-8" if seen.path in ("/", "/text") else "latin-1")
        kind = {
            "/latin": "Text/HTML;charset=iso-8859-1",
            "/meta": "text/html",
            "/text": "text/plain",
            "/utf-16": "text/html; charset=utf-16",
        }
        found = kind.get(seen.path, HTML["content-type"])
        return Reply(200, {"content-type": found}, chunks=[body[at : at + 7] for at in range(0, len(body), 7)])

    origin.default = page
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url), cache=cache.DISABLED)
    edits = (
        HtmlEdit("head", append="<meta name=a>", html=True),
        HtmlEdit("title", inner="a<b&amp;"),
        HtmlEdit("p.a", before="<hr>", after="<br>", html=True, attributes={"class": None, "id": 'ü"&lt;'}),
        HtmlEdit("p", prepend="<", append=">"),
        HtmlEdit("a[href]", attributes={"href": lambda value: f"//host{value}?a=1&b=2", "title": lambda value: value}),
    )

    @edge.on("viewer_response", "/*", transforms=True)
    def hook(request: Request, response: Response, ctx: Context) -> None:
        response.edit_html(*edits)

    want = (
        "<html><head><title>a&lt;b&amp;amp;</title><meta name=a></head>"
        '<body><hr><p id="ü&quot;&amp;lt;">&lt;ä&gt;</p><br><a href="//host/x?a=1&amp;b=2">x</a></body></html>'
    )
    with httpx.Client(base_url=serve(edge).url) as client:
        assert client.get("/").text == want
        assert client.get("/latin").content == want.encode("latin-1")
        assert client.get("/meta").content == want.replace("<title>", "<meta charset=iso-8859-1><title>").encode(
            "latin-1"
        )
        assert client.get("/text").text == PAGE
        assert client.get("/utf-16").content == PAGE.encode("latin-1")


@pytest.mark.parametrize(
    ("edit", "want"),
    [
        (HtmlEdit("b", replace="<i>"), "<p>a&lt;i&gt;<!--c--></p>"),
        (HtmlEdit("b", replace="<i>", html=True), "<p>a<i><!--c--></p>"),
        (HtmlEdit("b", remove=True), "<p>a<!--c--></p>"),
        (HtmlEdit("b", unwrap=True), "<p>ax<!--c--></p>"),
        (HtmlEdit("b", remove=True, before="1", after="2"), "<p>a12<!--c--></p>"),
        (HtmlEdit("p > b:first-of-type", inner=""), "<p>a<b></b><!--c--></p>"),
    ],
)
def test_an_edit_does_what_it_says_wherever_the_page_is_cut(edit: HtmlEdit, want: str) -> None:
    from edgerouter._core import HtmlRewriter

    page = b"<p>a<b>x</b><!--c--></p>"
    for size in range(1, len(page) + 1):
        rewriter = HtmlRewriter([edit.parts()], None)
        found = b"".join(rewriter.feed(page[at : at + size]) for at in range(0, len(page), size)) + rewriter.end()
        assert found.decode() == want


def test_a_page_that_asks_for_much_memory_breaks_off() -> None:
    from edgerouter._core import HtmlRewriter

    deep = HtmlRewriter([HtmlEdit("b", remove=True).parts()], None)
    with pytest.raises(ValueError, match="memory"):
        all(deep.feed(b"<i>" * 4000) is not None for _ in range(1000))
    wide = HtmlRewriter([HtmlEdit("i", before="x" * 64_000).parts()], None)
    with pytest.raises(OverflowError, match="8388608"):
        wide.feed(b"<i>" * 4000)
    failing = HtmlRewriter([HtmlEdit("i", attributes={"a": lambda value: 1}).parts()], None)  # type: ignore[dict-item,return-value]
    with pytest.raises(TypeError):
        failing.feed(b"<i>")
    assert failing.feed(b"<i>") == b"" and failing.end() == b""


def test_coded_variants_do_not_hide_content_from_a_transform(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, HTML, "page " * 1000)
    edge = site(origin, "viewer_response", upper, cache=CachePolicy(compress=True))
    with httpx.Client(base_url=serve(edge).url) as client:
        for _ in range(3):
            response = client.get("/")
            assert response.text == "PAGE " * 1000 and "content-encoding" in response.headers


@pytest.mark.parametrize(
    ("place", "options"),
    [
        ('the selector "a:hover("', {"selector": "a:hover(", "remove": True}),
        ("HtmlEdit", {"selector": "", "remove": True}),
        ("does nothing", {"selector": "a"}),
        ("HtmlEdit.inner", {"selector": "a", "inner": 1}),
        ("HtmlEdit.inner", {"selector": "a", "inner": "x" * 65_537}),
        ("HtmlEdit.unwrap", {"selector": "a", "remove": True, "unwrap": True}),
        ("HtmlEdit.append", {"selector": "a", "remove": True, "append": "x"}),
        ("HtmlEdit.attributes", {"selector": "a", "remove": True, "attributes": {"x": "y"}}),
        ("no name of an attribute", {"selector": "a", "attributes": {"x y": "y"}}),
        ("no name of an attribute", {"selector": "a", "attributes": {"": "y"}}),
        ("must be text, None or a function", {"selector": "a", "attributes": {"x": 1}}),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(place: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as raised:
        HtmlEdit(**options)  # type: ignore[arg-type]
    assert place in str(raised.value)


def test_a_transform_that_would_not_run_is_refused(
    origin: Origin, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RuntimeError, match="that you made"):
        Response("a").transform(upper)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url))
    edge.on("viewer_request", "/*", transforms=True)(lambda request, ctx: None)
    with pytest.raises(ConfigError, match="which see the content"):
        edge.compile()

    origin.default = Reply(200, HTML, "page")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("o", origin.url))

    @edge.on("viewer_response", "/undeclared")
    def undeclared(request: Request, response: Response, ctx: Context) -> None:
        response.edit_html(HtmlEdit("a", remove=True))

    @edge.on("viewer_response", "/both", transforms=True)
    def both(request: Request, response: Response, ctx: Context) -> None:
        response.transform(upper)
        response.body = "b"

    with httpx.Client(base_url=serve(edge).url) as client:
        assert client.get("/undeclared").status_code == client.get("/both").status_code == 502
    assert "transforms=True" in caplog.text and "a body and a transform" in caplog.text
