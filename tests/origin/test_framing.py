"""Heads of origins' responses: what frames them is read one way, and no byte is taken for another response's."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

import httpx
import pytest

from edgerouter import CachePolicy, ConfigError, Edge, Limits, OriginLimits, cache

from ..conftest import Serve
from ..origins import Origin, Reply, Seen, more_of, raw_origin, requests_on
from ..raw import RawResponse, exchange, responses

STORED = CachePolicy(default_ttl=60)


def asked(url: str, path: str, method: str = "GET", version: str = "HTTP/1.1") -> RawResponse:
    data = exchange(url, f"{method} {path} {version}\r\nHost: a.example\r\nConnection: close\r\n\r\n".encode())
    head, _, body = data.partition(b"\r\n\r\n")
    if method == "HEAD":
        assert body == b""
        data = head.replace(b"ontent-", b"ontent_") + b"\r\n\r\n"
        found = responses(data)[0]
        found.headers = [(name.replace("_", "-"), value) for name, value in found.headers]
        return found
    return responses(data)[0]


def lengths(response: RawResponse) -> list[str]:
    return [value for name, value in response.headers if name.lower() == "content-length"]


class Scripted:
    """An origin that answers every request of a connection with the same bytes and counts the connections."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.connections = 0

    def on(self, path: str, head: str, body: bytes = b"", *, close: bool = False) -> None:
        data = head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body

        def answer(seen: Seen, connection: socket.socket) -> None:
            self.connections += 1
            for again in requests_on(connection, seen):
                if again is not seen:
                    self.origin.requests.append(again)
                connection.sendall(data)
                if close:
                    return

        self.origin.on(path, answer)


@pytest.fixture
def scripted(origin: Origin) -> Scripted:
    return Scripted(origin)


@pytest.fixture(params=[STORED, cache.DISABLED], ids=["stored", "passed"])
def edge_url(request: pytest.FixtureRequest, origin: Origin, serve: Serve) -> str:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=request.param)
    return serve(edge).url


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 2, 2",
        "Content-Length: 2\nContent-Length: 2",
        "Content-Length: 002",
        "Content-Length : 2",
        "Content-Length:\t2 \nContent-Length: 02,2",
    ],
)
def test_equal_lengths_become_one(fields: str, scripted: Scripted, edge_url: str) -> None:
    scripted.on("/", f"HTTP/1.1 200 OK\n{fields}", b"ok")
    for _ in range(2):
        response = asked(edge_url, "/")
        assert (response.status, response.body, lengths(response)) == (200, b"ok", ["2"])


@pytest.mark.parametrize("fields", ["Content-Length: 2, 2", "Content-Length: 2\nContent-Length: 2"])
def test_equal_lengths_become_one_for_head_as_well(fields: str, scripted: Scripted, edge_url: str) -> None:
    scripted.on("/", f"HTTP/1.1 200 OK\n{fields}")
    response = asked(edge_url, "/", "HEAD")
    assert (response.status, lengths(response)) == (200, ["2"])


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 2, 3",
        "Content-Length: 2\nContent-Length: 3",
        "Content-Length: two",
        "Content-Length: -2",
        "Content-Length: 2,",
        "Content-Length:",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity\nContent-Length: 2",
        "Transfer-Encoding: gzip",
        "A B: 1\nContent-Length: 2",
        "no colon\nContent-Length: 2",
        " leading: 1\nContent-Length: 2",
        ": 1\nContent-Length: 2",
    ],
)
def test_what_cannot_be_read_one_way_is_502_and_not_stored(fields: str, scripted: Scripted, edge_url: str) -> None:
    scripted.on("/", f"HTTP/1.1 200 OK\n{fields}", b"2\r\nok\r\n0\r\n\r\n")
    for count in (1, 2):
        assert asked(edge_url, "/").status == 502
        assert scripted.origin.count("/") == count


def test_a_bad_length_is_502_for_head(scripted: Scripted, edge_url: str) -> None:
    scripted.on("/", "HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3")
    assert asked(edge_url, "/", "HEAD").status == 502


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\nContent-Length: 100\nTransfer-Encoding: chunked",
        "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\nConnection: keep-alive",
        "HTTP/1.0 200 OK\nContent-Length: 100\nTransfer-Encoding: Chunked\nConnection: keep-alive",
    ],
)
def test_a_suspect_coding_drops_the_length_and_the_connection(head: str, scripted: Scripted, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", scripted.origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    scripted.on("/", head, b"2\r\nok\r\n0\r\n\r\n")
    for count in (1, 2):
        response = asked(url, "/")
        assert (response.status, response.body, lengths(response)) == (200, b"ok", [])
        assert scripted.connections == count


def test_white_space_before_a_colon_is_removed_and_folds_are_unfolded(scripted: Scripted, edge_url: str) -> None:
    scripted.on("/", "HTTP/1.1 200 OK\nX-One : 1\nX-Two\t:2\nX-Three: a\n  b\n\tc\nContent-Length : 2", b"ok")
    for _ in range(2):
        response = asked(edge_url, "/")
        assert [response.get(name) for name in ("x-one", "x-two", "x-three")] == ["1", "2", "a b c"]
        assert response.body == b"ok"


def test_a_head_of_many_fields_passes_and_is_stored(scripted: Scripted, edge_url: str) -> None:
    fields = "\n".join(f"X-Field-{number}: {number}" for number in range(900))
    scripted.on("/", f"HTTP/1.1 200 OK\nContent-Length: 2\n{fields}", b"ok")
    for _ in range(2):
        response = asked(edge_url, "/")
        assert (response.status, response.get("x-field-899"), response.body) == (200, "899", b"ok")


def test_heads_of_origins_are_bounded_by_the_limits(scripted: Scripted, serve: Serve) -> None:
    edge = Edge("test", limits=Limits(origins=OriginLimits(head_bytes=2_000, head_fields=10)))
    edge.route("/*", to=edge.origin("first", scripted.origin.url))
    url = serve(edge).url
    for path, fields, status in (
        ("/ten", "\n".join(f"X-{number}: 1" for number in range(9)), 200),
        ("/eleven", "\n".join(f"X-{number}: 1" for number in range(10)), 502),
        ("/short", "X: " + "x" * 1_800, 200),
        ("/long", "X: " + "x" * 2_000, 502),
        ("/endless", "X: " + "x" * 1_000_000, 502),
    ):
        scripted.on(path, f"HTTP/1.1 200 OK\nContent-Length: 2\n{fields}", b"ok", close=True)
        assert asked(url, path).status == status, path
    with pytest.raises(ConfigError, match=r"OriginLimits\.head_bytes: 5: must be"):
        OriginLimits(head_bytes=5)
    with pytest.raises(ConfigError, match=r"OriginLimits\.head_fields: 0: must be"):
        OriginLimits(head_fields=0)


@pytest.mark.parametrize("start", ["HTTP/2.0 200 OK", "ICY 200 OK", "HTTP/1.1 20 OK", "SSH-2.0-x", "\x15\x03\x01"])
def test_no_response_of_http_1_is_502(start: str, scripted: Scripted, edge_url: str) -> None:
    scripted.on("/", f"{start}\nContent-Length: 2", b"ok")
    assert asked(edge_url, "/").status == 502


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("HTTP/1.1 204 No Content\nContent-Length: 2", 204),
        ("HTTP/1.1 204 No Content\nTransfer-Encoding: chunked", 204),
        ("HTTP/1.1 304 Not Modified\nContent-Length: 2", 304),
    ],
)
def test_statuses_without_content_have_none_and_what_follows_closes(
    head: str, status: int, method: str, scripted: Scripted, serve: Serve
) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", scripted.origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    forged = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
    scripted.on("/", head, forged)
    for count in (1, 2, 3):
        response = asked(url, "/", method)
        assert (response.status, response.body, lengths(response)) == (status, b"", [])
        assert scripted.connections == count


def test_bytes_after_an_answer_to_head_close_the_connection(scripted: Scripted, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", scripted.origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    scripted.on("/", "HTTP/1.1 200 OK\nContent-Length: 43", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    for count in (1, 2, 3):
        response = asked(url, "/", "HEAD")
        assert (response.status, lengths(response)) == (200, ["43"])
        assert scripted.connections == count


def test_a_205_is_framed_as_any_response_and_its_content_is_dropped(scripted: Scripted, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", scripted.origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    scripted.on("/", "HTTP/1.1 205 Reset Content\nContent-Length: 4", b"oops")
    for _ in range(3):
        response = asked(url, "/")
        assert (response.status, response.body, lengths(response)) == (205, b"", ["0"])
    assert scripted.connections == 1


def test_a_response_until_close_ends_with_the_connection(scripted: Scripted, edge_url: str) -> None:
    scripted.on("/", "HTTP/1.1 200 OK", b"until the end", close=True)
    assert asked(edge_url, "/").body == b"until the end"


def test_kept_connections_are_used_again(scripted: Scripted, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", scripted.origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    scripted.on("/", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"2 \r\nok\r\n0\r\n\r\n")
    for _ in range(5):
        assert asked(url, "/").body == b"ok"
    assert scripted.connections == 1


def test_an_unknown_status_gets_no_made_up_reason(scripted: Scripted, serve: Serve) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", scripted.origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    scripted.on("/", "HTTP/1.1 299 Whatever\nContent-Length: 2", b"ok")
    data = exchange(url, b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 299 \r\n")


def test_large_bodies_arrive_whole_however_they_are_framed(origin: Origin, site: Callable[..., httpx.Client]) -> None:
    body = bytes(range(256)) * 20_000
    origin.on("/length", Reply(200, {}, body))
    origin.on("/chunked", Reply(200, {}, chunks=[body[at : at + 70_001] for at in range(0, len(body), 70_001)]))
    client = site(cache=cache.DISABLED)
    for path in ("/length", "/chunked"):
        for _ in range(2):
            assert client.get(path).content == body


LARGE = bytes(range(256)) * 400
SEQUENCE: dict[str, tuple[bytes, bytes]] = {
    "/short": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshort", b"short"),
    "/empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "/none": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "/chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nchu\r\n4\r\nnked\r\n0\r\n\r\n",
        b"chunked",
    ),
    "/large": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE), LARGE),
    "/interim": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
    ),
}
ORDER = [
    "/short",
    "/short",
    "/chunked",
    "/chunked",
    "/large",
    "/short",
    "/large",
    "/empty",
    "/interim",
    "/none",
    "/short",
]


@pytest.mark.parametrize("piece", [1 << 20, 1_000, 7], ids=["at once", "by the thousand", "by sevens"])
def test_responses_of_every_framing_follow_each_other_on_one_connection(
    piece: int, origin: Origin, serve: Serve
) -> None:
    connections = 0

    def answer(seen: Seen, connection: socket.socket) -> None:
        nonlocal connections
        connections += 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for again in requests_on(connection, seen):
            data = SEQUENCE[again.path][0]
            # The last of a large response in one piece: sevens of it would take all day.
            small = data[:700]
            for at in range(0, len(small), piece):
                connection.sendall(small[at : at + piece])
            connection.sendall(data[700:])

    for path in SEQUENCE:
        origin.on(path, answer)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    with httpx.Client(base_url=url) as client:
        for path in ORDER:
            assert client.get(path).content == SEQUENCE[path][1], path
    assert connections == 1


def test_bytes_that_come_before_a_request_answer_nobody(origin: Origin, serve: Serve) -> None:
    stale = threading.Event()
    sent = threading.Event()

    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if stale.is_set():
            return
        stale.set()
        # For a request that nobody has sent yet.
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        sent.set()
        more_of(connection)

    origin.on("/", answer)
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    url = serve(edge).url
    for _ in range(3):
        assert asked(url, "/").body == b"ok"
        assert sent.wait(60)


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 200), ("POST", 502)])
def test_content_of_an_answer_to_head_that_comes_late_answers_nobody(method: str, status: int, serve: Serve) -> None:
    methods = []

    def answer(connection: socket.socket) -> None:
        is_late = False
        with connection, contextlib.suppress(ConnectionError):
            for seen in requests_on(connection):
                methods.append(seen.method)
                if seen.method == "HEAD":
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
                    is_late = True
                else:
                    connection.sendall(b"content" if is_late else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with raw_origin(answer) as url:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", url), cache=cache.DISABLED)
        running = serve(edge)
        assert asked(running.url, "/", "HEAD").status == 200
        assert asked(running.url, "/", method).status == status
    # A request that may have been acted upon is not sent twice (RFC 9110 §9.2.2).
    assert methods == ["HEAD", method, method][: 3 if status == 200 else 2]
