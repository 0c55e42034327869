"""Where a message ends and what a client may send: targets, uploads that are answered early, HTTP/1.0, silence."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import httpx
import pytest

from edgerouter import Context, Edge, HttpLimits, Limits, OriginLimits, Request, Response, cache

from ..conftest import Serve
from ..origins import Origin, Reply, Seen, raw_origin
from ..raw import RawResponse, connect, exchange, read_all, responses

Site = Callable[..., httpx.Client]
QUERY = "!$%&'()*+,-./:;=?@[\\]^_`{|}~"


def upload(url: str, path: str, size: int) -> RawResponse:
    with connect(url, timeout=60) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size >> 20):
            sock.sendall(b"x" * (1 << 20))
        (answer,) = responses(read_all(sock))
    return answer


def got(url: str, target: str, version: str = "HTTP/1.1", fields: str = "") -> bytes:
    return exchange(url, f"GET {target} {version}\r\nHost: a.example\r\nConnection: close\r\n{fields}\r\n".encode())


@pytest.mark.parametrize("stored", [False, True])
def test_a_query_passes_all_that_browsers_send_raw(stored: bool, origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {}, "x")
    url = str(site(cache=cache.STANDARD if stored else cache.DISABLED).base_url)
    for target in (f"/a?q={QUERY}", f"http://a.example/a?q={QUERY}"):
        assert responses(got(url, target))[0].status == 200
    assert {seen.target for seen in origin.requests} == {f"/a?q={QUERY}"}


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://a.example:80/x", "a.example", 200),
        ("http://A.example./x", "a.example", 200),
        ("http://a.example/x", "a.example:80", 200),
        ("http://a.example:/x", "a.example", 200),
        ("http://[::1]:80/x", "[::1]", 200),
        ("http://a.example:81/x", "a.example", 400),
        ("http://a.example:443/x", "a.example", 400),
        ("http://b.example/x", "a.example", 400),
    ],
)
def test_a_target_and_host_may_spell_one_authority_in_two_ways(
    origin: Origin, site: Site, target: str, host: str, status: int
) -> None:
    origin.default = Reply(200, {}, "x")
    url = str(site().base_url)
    answer = exchange(url, f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert responses(answer)[0].status == status


@pytest.mark.parametrize("byte", ["\\", "^", "`", '"', "<", ">"])
def test_a_path_refuses_bytes_that_no_uri_may_have(byte: str, origin: Origin, site: Site) -> None:
    url = str(site().base_url)
    assert responses(got(url, f"/a{byte}b"))[0].status == 400
    assert origin.requests == []


@pytest.mark.parametrize("byte", ['"', "<", ">", "#", "\x7f", "\x01"])
def test_a_query_refuses_what_browsers_encode(byte: str, origin: Origin, site: Site) -> None:
    url = str(site().base_url)
    assert responses(got(url, f"/a?{byte}"))[0].status == 400
    assert origin.requests == []


def test_an_https_url_is_not_served_in_plain_text(origin: Origin, site: Site) -> None:
    origin.default = Reply(200, {}, "x")
    url = str(site().base_url)
    proxied = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
    for target, fields, status in (
        ("http://a.example/a", "", 200),
        ("https://a.example/a", "", 421),
        ("HTTPS://a.example", "", 421),
        ("https://a.example/a", proxied, 421),
    ):
        (answer,) = responses(got(url, target, fields=fields))
        assert answer.status == status, target
    assert "plain-text" in answer.body.decode()
    assert len(origin.requests) == 1


def test_an_https_url_of_a_trusted_proxy_has_the_scheme_that_it_names(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(200, {}, "x")
    edge = Edge("test", trusted_proxies=["127.0.0.1"])
    edge.route("/*", to=edge.origin("first", origin.url), viewer="https-only")
    url = serve(edge).url
    (answer,) = responses(got(url, "https://a.example/a", fields="X-Forwarded-Proto: https\r\n"))
    assert (answer.status, answer.body) == (200, b"x")
    assert origin.requests[0].get("x-forwarded-proto") == "https"


def test_http_1_0_keeps_the_connection_only_with_a_length(origin: Origin, site: Site) -> None:
    origin.on("/length", Reply(200, {}, "content"))
    origin.on("/chunked", Reply(200, {}, chunks=[b"con", b"tent"]))
    url = str(site(cache=cache.DISABLED).base_url)
    keep = b"GET /%s HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n"
    with connect(url) as sock:
        sock.sendall(keep % b"length" + keep % b"chunked")
        data = read_all(sock)
    first, _, second = data.partition(b"\r\n\r\ncontent")
    assert b"connection: keep-alive" in first.lower() and b"content-length: 7" in first.lower()
    head, _, body = second.partition(b"\r\n\r\n")
    # RFC 9110 §2.5: the version is the edge's own; a client that reads HTTP/1.1 relies on `close`.
    assert first.startswith(b"HTTP/1.1 200 ") and head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head.lower()
    assert b"keep-alive" not in head.lower() and b"transfer-encoding" not in head.lower()
    assert body == b"content"


def test_a_response_that_ends_a_connection_reaches_a_client_that_sends_more_requests(serve: Serve) -> None:
    """They come where nobody reads them (RFC 9112 §9.6): a reset would destroy what the client has yet to read."""
    edge = Edge("test", limits=Limits(http=HttpLimits(connection_requests=1)))
    edge.route("/*", respond="x" * 300_000)
    url = httpx.URL(serve(edge).url)
    request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.settimeout(10)
        sock.connect((url.host, url.port))
        received, sent = b"", request
        while True:
            sock.sendall(sent)
            data = sock.recv(4_096)
            received += data
            if not data:
                break
            sent = request
    (answer,) = responses(received)
    assert (answer.status, answer.get("connection"), len(answer.body)) == (200, "close", 300_000)


def test_an_upload_that_an_origin_answers_early_ends_at_once(serve: Serve) -> None:
    """The origin answers after the head, keeps the connection and reads no more."""
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            if connection.recv(1000):
                connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
                over.wait(60)

    with raw_origin(answer) as origin:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", origin), cache=cache.DISABLED)
        began = time.monotonic()
        answered = upload(serve(edge).url, "/", 48 << 20)
        took = time.monotonic() - began
        over.set()
    assert (answered.status, answered.body) == (413, b"big")
    # In steps of a second, 48 MiB took longer than the minute after which the rest was given up.
    assert took < 45


@pytest.mark.parametrize("path", ["/fixed", "/nothing"])
def test_an_upload_that_nobody_reads_ends_at_once(path: str, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/fixed", respond="no")
    answer = upload(serve(edge).url, path, 32 << 20)
    assert answer.status == (200 if path == "/fixed" else 404)


def test_a_silent_tunnel_ends_and_a_busy_one_goes_on(origin: Origin, serve: Serve) -> None:
    def echo(seen: Seen, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
        while data := sock.recv(100):
            sock.sendall(data)

    origin.on("/", echo)
    edge = Edge("test", limits=Limits(http=HttpLimits(tunnel_idle_timeout=2.0, idle_timeout=1.0)))
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    with connect(serve(edge).url) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            received += sock.recv(1000)
        began = time.monotonic()
        while time.monotonic() - began < 3:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            time.sleep(0.1)
        assert sock.recv(1) == b""


def test_an_event_stream_may_be_silent_for_longer_than_other_bodies(origin: Origin, serve: Serve) -> None:
    other_is_over = threading.Event()

    def stream(seen: Seen, sock: socket.socket) -> None:
        kind = "text/event-stream; charset=utf-8" if seen.path == "/events" else "text/plain"
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\ndata: 1\n\n".encode())
        if seen.path == "/events":
            other_is_over.wait(60)
            sock.sendall(b"data: 2\n\n")
        else:
            sock.recv(1)

    origin.default = stream
    edge = Edge("test")
    first = edge.origin("first", origin.url, between_bytes_timeout=0.3)
    edge.route("/*", to=first, cache=cache.DISABLED)
    client = httpx.Client(base_url=serve(edge).url, timeout=60)
    with client.stream("GET", "/events") as events:
        # It is as long as the other's that the first one is silent, at least.
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/other")
        other_is_over.set()
        assert events.read() == b"data: 1\n\ndata: 2\n\n"


def test_a_silent_event_stream_has_a_bound(origin: Origin, serve: Serve) -> None:
    def stream(seen: Seen, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        sock.recv(1)

    origin.default = stream
    edge = Edge("test", limits=Limits(origins=OriginLimits(event_idle_timeout=0.3)))
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(serve(edge).url + "/")


def made(serve: Serve, declare: Callable[[Edge], None]) -> httpx.Client:
    edge = Edge("test")
    declare(edge)
    return httpx.Client(base_url=serve(edge).url)


def test_a_function_answers_304_only_to_a_condition(serve: Serve) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/f")
        def function(request: Request, ctx: Context) -> Response:
            return Response(status=304, headers={"ETag": '"a"'})

    client = made(serve, declare)
    bad = client.get("/f")
    assert bad.status_code == 502 and bad.headers["x-error-id"] in bad.text
    assert client.post("/f", headers={"If-None-Match": '"a"'}).status_code == 502
    good = client.get("/f", headers={"If-None-Match": '"a"'})
    assert (good.status_code, good.content, "content-length" in good.headers) == (304, b"", False)
    assert client.get("/f", headers={"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}).status_code == 304


@pytest.mark.parametrize("status", [100, 101, 103, 199])
def test_a_function_that_returns_an_interim_status_is_an_error(status: int, serve: Serve) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/f")
        def function(request: Request, ctx: Context) -> Response:
            return Response("x", status=status)

    bad = made(serve, declare).get("/f")
    assert bad.status_code == 502 and bad.headers["x-error-id"] in bad.text


@pytest.mark.parametrize(("status", "length"), [(204, None), (205, "0")])
def test_functions_and_hooks_send_no_content_where_none_may_be(
    status: int, length: str | None, origin: Origin, serve: Serve
) -> None:
    origin.default = Reply(200, {}, "content of the origin")

    def declare(edge: Edge) -> None:
        edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)

        @edge.function("/f")
        def function(request: Request, ctx: Context) -> Response:
            return Response(status=status)

        @edge.function("/lost")
        def lost(request: Request, ctx: Context) -> Response:
            response = Response("content that nobody would get")
            response.status = status
            return response

        @edge.on("viewer_response", "/viewer")
        def viewer(request: Request, response: Response, ctx: Context) -> None:
            response.status = status

        @edge.on("origin_response", "/origin")
        def late(request: Request, response: Response, ctx: Context) -> None:
            response.status = status

    client = made(serve, declare)
    for path in ("/f", "/viewer", "/origin"):
        for _ in range(2):
            response = client.get(path)
            assert (response.status_code, response.content) == (status, b""), path
            assert response.headers.get("content-length") == length, path
    assert client.get("/lost").status_code == 502


def test_a_status_that_gains_content_is_framed_anew(origin: Origin, serve: Serve) -> None:
    origin.default = Reply(204, {})

    def declare(edge: Edge) -> None:
        edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)

        @edge.on("viewer_response", "/*")
        def viewer(request: Request, response: Response, ctx: Context) -> None:
            response.status = 200

    response = made(serve, declare).get("/")
    assert (response.status_code, response.headers["content-length"]) == (200, "0")


def test_too_many_fields_of_a_function_are_an_error(serve: Serve) -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/given")
        def given(request: Request, ctx: Context) -> Response:
            return Response("x", headers={f"x-{number}": "1" for number in range(32_768)})

        @edge.function("/set")
        def put(request: Request, ctx: Context) -> Response:
            response = Response("x")
            for number in range(32_768):
                response.headers[f"x-{number}"] = "1"
            return response

        @edge.function("/added")
        def added(request: Request, ctx: Context) -> Response:
            response = Response("x")
            for _ in range(32_768):
                response.headers.add("x-one", "1")
            return response

        @edge.function("/fine")
        def fine(request: Request, ctx: Context) -> Response:
            return Response("fine")

    client = made(serve, declare)
    for path in ("/given", "/set", "/added"):
        bad = client.get(path)
        assert bad.status_code == 502 and bad.headers["x-error-id"] in bad.text, path
    assert client.get("/fine").text == "fine"
