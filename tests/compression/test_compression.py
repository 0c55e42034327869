"""Responses that the edge compresses: which ones, with which fields, and what a client gets by its methods, conditions
and ranges."""

from __future__ import annotations

import itertools
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from edgerouter import BasicAuth, CompressionLimits, ConfigError, Edge, Jwt, Limits, Secret, SignedUrls, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, raw_origin, read_request, wait_until

Site = Callable[..., httpx.Client]

PAGE = "".join(f"<p>Line {number} of the page.</p>\n" for number in range(400)).encode()
USERS = "ann:$2b$04$KBCwKxOzLha2MUDcmMfM6.nlgvSZfcmmZkrYKQMtWsiIv1xlNzTYa"
HTML = {"content-type": "text/html; charset=utf-8", "etag": '"v1"', "cache-control": "max-age=60"}


def raw(
    client: httpx.Client, path: str = "/page", accepts: str = "gzip", **headers: str
) -> tuple[httpx.Response, bytes]:
    """A response and its content as it came, coded or not."""
    fields = {"accept-encoding": accepts, **{name.replace("_", "-"): value for name, value in headers.items()}}
    with client.stream("GET", path, headers=fields) as answer:
        return answer, b"".join(answer.iter_raw())


def unzipped(content: bytes) -> bytes:
    return zlib.decompress(content, wbits=31)


@pytest.fixture
def page(origin: Origin) -> Origin:
    origin.on("/page", Reply(200, HTML, PAGE))
    return origin


@pytest.mark.parametrize(
    "policy", [cache.STANDARD, cache.OPTIMIZED, cache.DISABLED], ids=["standard", "optimized", "off"]
)
def test_a_page_arrives_whole_in_the_coding_that_the_client_accepts(
    page: Origin, site: Site, policy: cache.CachePolicy
) -> None:
    client = site(compress=True, cache=policy)
    for _ in range(3):
        answer, content = raw(client)
        assert unzipped(content) == PAGE
        assert len(content) < len(PAGE) / 5
        fields = dict(answer.headers)
        assert (fields["content-encoding"], fields["vary"]) == ("gzip", "accept-encoding")
        assert fields["etag"] == 'W/"v1"'
        assert "accept-ranges" not in fields
        plain, content = raw(client, accepts="identity")
        assert content == PAGE
        assert (plain.headers["etag"], plain.headers["vary"]) == ('"v1"', "accept-encoding")
        assert "content-encoding" not in plain.headers


@pytest.mark.parametrize(
    ("accepts", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("zstd, gzip", "zstd"),
        ("br;q=0.5, gzip;q=0.8", "gzip"),
        ("identity;q=0, zstd;q=0.1", "zstd"),
        ("*", "br"),
        ("br;q=0, *;q=0.2", "zstd"),
        ("gzip;q=0", None),
        # Invalid weights say nothing (RFC 9110 §12.4.2).
        ("br;q=1.0000, gzip;q=0.1", "gzip"),
        ("br;q=, gzip", "gzip"),
        ("br;q=0.5;x=1", None),
        ("identity, gzip;q=0.5", None),
        ("deflate", None),
        ("", None),
    ],
)
def test_the_coding_follows_the_weights_of_the_request(
    page: Origin, site: Site, accepts: str, coding: str | None
) -> None:
    answer, content = raw(site(compress=True), accepts=accepts)
    assert answer.headers.get("content-encoding") == coding
    assert (content == PAGE) == (coding is None)
    assert len(content) < len(PAGE) / 5 or coding is None


@pytest.mark.parametrize(
    ("status", "fields", "body"),
    [
        pytest.param(200, {"cache-control": "no-transform"}, PAGE, id="no-transform"),
        pytest.param(200, {"content-encoding": "br"}, PAGE, id="coded"),
        pytest.param(200, {"content-type": "image/png"}, PAGE, id="image"),
        pytest.param(200, {"content-type": "application/octet-stream"}, PAGE, id="unknown"),
        pytest.param(200, {"set-cookie": "session=1"}, PAGE, id="cookie"),
        pytest.param(200, {}, PAGE[:999], id="short"),
        pytest.param(206, {"content-range": f"bytes 0-{len(PAGE) - 1}/90000"}, PAGE, id="part"),
    ],
)
def test_a_response_that_must_not_be_compressed_arrives_as_it_is(
    origin: Origin, site: Site, status: int, fields: dict[str, str], body: bytes
) -> None:
    origin.on("/page", Reply(status, {**HTML, **fields}, body))
    client = site(compress=True, cache=cache.DISABLED)
    answer, content = raw(client, accepts="gzip, br, zstd")
    assert (answer.status_code, content) == (status, body)
    assert answer.headers.get("content-encoding") == fields.get("content-encoding")
    assert answer.headers["etag"] == '"v1"'


def test_without_compress_nothing_is_compressed(page: Origin, site: Site) -> None:
    answer, content = raw(site(), accepts="gzip, br, zstd")
    assert content == PAGE
    assert "vary" not in answer.headers


def test_a_request_with_no_transform_gets_the_page_as_it_is(page: Origin, site: Site) -> None:
    answer, content = raw(site(compress=True), cache_control="no-transform")
    assert content == PAGE
    assert "content-encoding" not in answer.headers


METHODS = ("GET", "HEAD")
CONDITIONS: tuple[dict[str, str], ...] = (
    {},
    {"if-none-match": '"v1"'},
    {"if-none-match": 'W/"v1"'},
    {"if-none-match": '"v2"'},
    {"if-match": '"v2"'},
)
RANGES: tuple[dict[str, str], ...] = (
    {},
    {"range": "bytes=0-99"},
    {"range": "bytes=0-99", "if-range": 'W/"v1"'},
    {"range": "bytes=999999-"},
)


@pytest.mark.parametrize("policy", [cache.STANDARD], ids=["stored"])
def test_every_combination_of_method_condition_and_range_is_answered_by_the_rules(
    page: Origin, site: Site, policy: cache.CachePolicy
) -> None:
    client = site(compress=True, cache=policy)
    assert raw(client)[0].status_code == 200
    for method, condition, range_ in itertools.product(METHODS, CONDITIONS, RANGES):
        fields = {"accept-encoding": "gzip", **condition, **range_}
        with client.stream(method, "/page", headers=fields) as answer:
            content = b"".join(answer.iter_raw())
        said, coding = answer.headers, answer.headers.get("content-encoding")
        matches = condition.get("if-none-match", "").endswith('"v1"')
        ranged = method == "GET" and "range" in range_ and "if-range" not in range_
        if matches:
            want = 304
        elif "if-match" in condition:
            want = 412
        elif ranged:
            want = 206 if "0-99" in range_["range"] else 416
        else:
            want = 200
        place = (method, condition, range_)
        assert answer.status_code == want, place
        assert (coding == "gzip") == (want == 200), place
        if want in (200, 206, 304):
            assert said["vary"] == "accept-encoding", place
        if want == 200:
            assert said["etag"] == 'W/"v1"', place
            assert (unzipped(content) == PAGE) if method == "GET" else not content, place
        elif want == 304:
            # The client may hold the coded content: the tag of the plain bytes is not for it.
            assert (said["etag"], content) == ('W/"v1"', b""), place
        elif want == 206:
            assert (content, said["etag"]) == (PAGE[:100], '"v1"'), place


def test_a_response_that_another_client_gets_compressed_says_so(page: Origin, site: Site) -> None:
    client = site(compress=True)
    assert raw(client)[0].status_code == 200
    for fields in (
        {"accept-encoding": "identity"},
        {"accept-encoding": "gzip", "cache-control": "no-transform"},
        {"accept-encoding": "identity", "range": "bytes=0-9"},
        {"accept-encoding": "identity", "if-none-match": '"v1"'},
    ):
        answer = client.get("/page", headers=fields)
        assert (answer.headers.get("vary"), "content-encoding" in answer.headers) == ("accept-encoding", False), fields


def test_a_response_that_the_origin_coded_says_that_others_differ(origin: Origin, site: Site) -> None:
    origin.on(
        "/page", Reply(200, {"content-type": "text/html", "content-encoding": "gzip"}, zlib.compress(PAGE, wbits=31))
    )
    answer, content = raw(site(compress=True))
    assert (unzipped(content), answer.headers["content-encoding"]) == (PAGE, "gzip")
    assert answer.headers["vary"] == "accept-encoding"


def test_events_arrive_when_they_are_sent(origin: Origin, site: Site) -> None:
    seen: list[bytes] = []

    def events() -> Iterator[bytes]:
        for number in range(3):
            # The next one is sent when the client has read this one.
            wait_until(lambda: b"".join(seen).count(b"\n\n") == number, what=f"event {number}")  # noqa: B023
            yield b"data: %d\n\n" % number

    origin.on("/events", Reply(200, {"content-type": "text/event-stream"}, chunks=events()))
    client = site(compress=True, cache=cache.DISABLED)
    inflate = zlib.decompressobj(wbits=31)
    with client.stream("GET", "/events", headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        seen.extend(inflate.decompress(piece) for piece in answer.iter_raw())
    assert b"".join(seen) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert inflate.eof


def test_a_page_that_is_cut_off_by_the_origin_is_not_ended_as_if_it_were_whole(
    serve: Callable[[Edge], Running],
) -> None:
    received = threading.Event()

    def half(connection: socket.socket) -> None:
        read_request(connection, b"")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(PAGE) * 2}\r\n\r\n"
        connection.sendall(head.encode() + PAGE)
        received.wait(10)

    inflate = zlib.decompressobj(wbits=31)
    with raw_origin(half) as url:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", url), compress=True, cache=cache.DISABLED)
        with (
            httpx.Client(base_url=serve(edge).url) as client,
            client.stream("GET", "/page", headers={"accept-encoding": "gzip"}) as answer,
        ):
            pieces = answer.iter_raw()
            content = b""
            while len(content) < len(PAGE):
                content += inflate.decompress(next(pieces))
            received.set()
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
    assert content == PAGE


def test_figures_count_responses_and_bytes(page: Origin, serve: Callable[[Edge], Running]) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", page.url), compress=True)
    running = serve(edge)
    with httpx.Client(base_url=running.url) as client:
        content = raw(client)[1]
        raw(client, accepts="identity")
    metrics = running.server.metrics()
    assert 'edgerouter_compressed_responses_total{coding="gzip"} 1' in metrics
    assert f'edgerouter_compressed_bytes_total{{side="before"}} {len(PAGE)}' in metrics
    assert f'edgerouter_compressed_bytes_total{{side="after"}} {len(content)}' in metrics
    assert "edgerouter_compression_under_way 0" in metrics


def test_beyond_the_limit_responses_are_sent_as_they_are(origin: Origin, serve: Callable[[Edge], Running]) -> None:
    released: list[bool] = []

    def slow() -> Iterator[bytes]:
        yield PAGE
        wait_until(lambda: bool(released), what="the release")
        yield b"end"

    origin.on("/slow", Reply(200, {"content-type": "text/html"}, chunks=slow()))
    origin.on("/page", Reply(200, HTML, PAGE))
    edge = Edge("test", limits=Limits(compression=CompressionLimits(responses=1)))
    edge.route("/*", to=edge.origin("first", origin.url), compress=True, cache=cache.STANDARD)
    running = serve(edge)
    with httpx.Client(base_url=running.url) as client:
        with client.stream("GET", "/slow", headers={"accept-encoding": "gzip"}) as first:
            assert first.headers["content-encoding"] == "gzip"
            answer, content = raw(client)
            assert content == PAGE
            assert answer.headers["vary"] == "accept-encoding"
            released.append(True)
            assert unzipped(b"".join(first.iter_raw())) == PAGE + b"end"
        assert "edgerouter_compression_refused_total 1" in running.server.metrics()
        assert raw(client)[0].headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ({"auth": Jwt.hs256("0123456789abcdef0123456789abcdef")}, "depend on a token"),
        ({"basic": BasicAuth(Secret.literal(USERS))}, "behind a password"),
        ({"signed": SignedUrls(secrets={"own": "0123456789abcdef0123456789abcdef"})}, "behind a signature"),
        ({"redirect": "/there"}, "has no effect on a redirect"),
    ],
    ids=["token", "password", "signature", "redirect"],
)
def test_a_route_whose_responses_must_not_or_cannot_be_compressed_is_refused(
    route: dict[str, Any], problem: str
) -> None:
    edge = Edge("test")
    target: dict[str, Any] = {} if "redirect" in route else {"to": edge.origin("o", "http://127.0.0.1:9")}
    edge.route("/*", compress=True, **target, **route)
    with pytest.raises(ConfigError, match=rf"routes\[0\]\.compress: true: .*{problem}"):
        edge.compile()


def test_responses_that_a_token_does_not_change_may_be_compressed() -> None:
    edge = Edge("test")
    auth = Jwt.hs256("0123456789abcdef0123456789abcdef", shared=True)
    edge.route("/*", to=edge.origin("o", "http://127.0.0.1:9"), compress=True, auth=auth)
    assert [row["label"] for row in edge.compile().routes] == ["/*"]
