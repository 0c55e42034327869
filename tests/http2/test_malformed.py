"""Requests that have more than one reading, or none: refused as in HTTP/1.1, and no further than their stream."""

from __future__ import annotations

import socket

import pytest
from hyperframe.frame import HeadersFrame

from edgerouter import Edge, HttpLimits, Limits

from ..origins import Origin, Reply
from ..tls.clients import address_of, sample, until
from ..tls.conftest import Start
from .clients import Field, head, http2

PROTOCOL_ERROR, FRAME_SIZE_ERROR, COMPRESSION_ERROR = 1, 6, 9


def site(**limits: object) -> Edge:
    edge = Edge("test", limits=Limits(http=HttpLimits(**limits)))  # type: ignore[arg-type]
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.route("/*", respond="hello")
    return edge


def passing(origin: Origin) -> Edge:
    """Passes all requests on to an origin that takes them."""
    origin.default = Reply(body="taken")
    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.route("/*", to=edge.origin("site", origin.url))
    return edge


def without(name: str) -> list[Field]:
    return [field for field in head() if field[0] != name]


def changed(name: str, value: str) -> list[Field]:
    return [(known, value if known == name else text) for known, text in head()]


REFUSED = [
    # Reset by the library, before a request is made of it (RFC 9113 §8.1.1).
    (without(":method"), None),
    (without(":scheme"), None),
    (without(":path"), None),
    (changed(":path", ""), None),
    ([*head(), (":path", "/")], None),
    ([("x", "1"), *head()], None),
    ([*head(), ("connection", "close")], None),
    ([*head(), ("keep-alive", "1")], None),
    ([*head(), ("proxy-connection", "keep-alive")], None),
    ([*head(), ("transfer-encoding", "chunked")], None),
    ([*head(), ("upgrade", "websocket")], None),
    ([*head(), ("te", "gzip")], None),
    ([*head(), ("content-length", "1")], None),
    ([*head(), ("content-length", "x")], None),
    (changed(":path", "no-slash"), None),
    # Refused by the guard.
    (without(":authority"), 400),
    (changed(":authority", "user@www.example.com"), 400),
    (changed(":scheme", "ftp"), 400),
    # An https URL is served over TLS only (RFC 9110 §7.4).
    (changed(":scheme", "HTTPS"), 421),
    (changed(":path", "*"), 400),
    (changed(":path", '/a"b'), 400),
    (changed(":method", "TRACE"), 501),
    ([(":method", "CONNECT"), (":authority", "www.example.com:443")], 501),
    ([*head(), ("host", "other.example.com")], 400),
    ([*head(), ("host", "www.example.com:443")], 400),
    ([*head(), ("host", "www.example.com"), ("host", "www.example.com")], 400),
    ([*head(), ("content-length", "0"), ("content-length", "0")], 400),
    ([*head(), ("http2-settings", "AAAA")], 400),
    ([*head(), ("x", " 1")], 400),
    ([*head(), ("x", "1\t")], 400),
    ([*head(), ("expect", "more")], 417),
    ([*head(), *((f"x-{at}", "1") for at in range(101))], 431),
    (changed(":path", "/" + "a" * 20_000), 414),
    ([*head("/", "POST"), ("content-length", str(1 << 40))], 413),
]


@pytest.mark.parametrize(("fields", "status"), REFUSED, ids=[str(at) for at in range(len(REFUSED))])
def test_a_malformed_request_ends_its_stream_and_not_its_connection(
    start: Start, fields: list[Field], status: int | None
) -> None:
    server = start(site())
    with http2(server.urls[0], None) as client:
        received = client.response(client.request(fields, end=("content-length", str(1 << 40)) not in fields))
        if status is None:
            assert (received.headers, received.reset) == ([], PROTOCOL_ERROR)
        else:
            assert received.status == status
            refused = sum(
                float(line.rpartition(" ")[2])
                for line in server.metrics().splitlines()
                if line.startswith("edgerouter_refused_total")
            )
            assert refused == 1
        assert client.get().body == b"hello"


@pytest.mark.parametrize("field", [(":other", "1"), ("X-Upper", "1")])
def test_a_field_that_has_no_name_of_http_2_ends_the_connection(start: Start, field: Field) -> None:
    server = start(site())
    with http2(server.urls[0], None) as client:
        client.request([*head(), field])
        assert client.until_closed() == PROTOCOL_ERROR


def test_a_field_list_past_its_bound_is_refused_and_one_far_past_it_ends_the_connection(start: Start) -> None:
    server = start(site(head_bytes=4_096))
    with http2(server.urls[0], None) as client:
        received = client.response(client.request([*head(), *((f"x-{at}", "1" * 100) for at in range(50))]))
        assert received.status == 431
        assert client.get().body == b"hello"


@pytest.mark.parametrize(("declared", "sent"), [("5", b"abc"), ("2", b"abc")])
def test_content_of_another_length_than_declared_reaches_no_origin_as_whole(
    start: Start, origin: Origin, declared: str, sent: bytes
) -> None:
    server = start(passing(origin))
    with http2(server.urls[0], None) as client:
        fields = head("/", "POST", "www.example.com", ("content-length", declared))
        received = client.response(client.request(fields, sent))
        assert (received.headers, received.reset) == ([], PROTOCOL_ERROR)
        assert client.response(client.request(head("/next"))).body == b"taken"
    assert origin.count("/") == 0


PSEUDO = [[(":path", "/")], [(":method", "GET"), ("x-sum", "1")], [(":authority", "www.example.com")], [(":x", "1")]]


@pytest.mark.parametrize("trailers", PSEUDO, ids=["path", "method", "known", "unknown"])
def test_pseudo_fields_in_trailers_make_a_request_malformed(
    start: Start, origin: Origin, trailers: list[Field]
) -> None:
    """RFC 9113 §8.1. The library drops them, so that the origin would get the request as if they were not there."""
    server = start(passing(origin))
    with http2(server.urls[0], None) as client:
        # The name of the host is in the dynamic table from here on.
        assert client.get().status == 200
        stream = client.request(head("/upload", "POST"), b"content", end=False)
        section = client.section(trailers)
        client.send(HeadersFrame(stream, section, flags=["END_HEADERS", "END_STREAM"]))
        if trailers[0][0] == ":x":
            assert client.until_closed() == PROTOCOL_ERROR
        else:
            received = client.response(stream)
            assert (received.headers, received.reset) == ([], PROTOCOL_ERROR)
            fine = client.request(head("/fine", "POST"), b"content", end=False)
            section = client.section([("x-sum", "1")])
            client.send(HeadersFrame(fine, section, flags=["END_HEADERS", "END_STREAM"]))
            assert client.response(fine).body == b"taken"
    assert origin.count("/upload") == 0


def test_the_authority_and_a_host_field_are_compared_in_every_spelling(start: Start) -> None:
    """RFC 9113 §8.3.1."""
    server = start(site())
    with http2(server.urls[0], None) as client:
        for host in ("WWW.example.com", "www.example.com.", "www.example.com:80"):
            assert client.get("/", "www.example.com", ("host", host)).body == b"hello", host


def test_content_past_the_bound_is_refused_when_it_comes(start: Start, origin: Origin) -> None:
    edge = Edge("test", limits=Limits(http=HttpLimits(body_bytes=1_000)))
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.route("/*", to=edge.origin("site", origin.url))
    server = start(edge)
    with http2(server.urls[0], None) as client:
        assert client.response(client.request(head("/", "POST"), b"x" * 1_001)).status == 413


@pytest.mark.parametrize(
    "preface", [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" + b"x" * 100_000, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
)
def test_a_bad_preface_closes_the_connection_in_stages(start: Start, preface: bytes) -> None:
    """The client gets the end of the edge's bytes, and no reset that would destroy what it has yet to read."""
    server = start(site())
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
        sock.sendall(preface)
        received = b""
        while data := sock.recv(65_536):
            received += data
        assert received[3] == 4, "SETTINGS, and the end"
        sock.sendall(b"more that is read and dropped")
    until(lambda: sample(server, "edgerouter_connections") == 0)


def test_frames_of_another_protocol_end_the_connection_with_the_reason(start: Start) -> None:
    server = start(site())
    with http2(server.urls[0], None) as client:
        client.send(b"\0\0\1\0\0\0\0\0\0x")  # DATA on stream 0
        assert client.until_closed() == PROTOCOL_ERROR


def frame(kind: int, payload: bytes, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(frame(2, b"1234", stream=3), id="PRIORITY"),
        pytest.param(frame(3, b"123", stream=1), id="RST_STREAM"),
        pytest.param(frame(4, b"12345"), id="SETTINGS"),
        pytest.param(frame(4, b"123456", flags=1), id="acknowledged SETTINGS"),
        pytest.param(frame(6, b"1234567"), id="PING"),
        pytest.param(frame(7, b"1234567"), id="GOAWAY"),
        pytest.param(frame(8, b"123"), id="WINDOW_UPDATE"),
    ],
)
def test_a_frame_of_a_size_that_its_type_has_not_ends_the_connection_with_that_reason(
    start: Start, wrong: bytes
) -> None:
    """RFC 9113 §4.2."""
    server = start(site())
    with http2(server.urls[0], None) as client:
        assert client.get().body == b"hello"
        client.send(wrong)
        assert client.until_closed() == FRAME_SIZE_ERROR


LITERAL = b"\x00\x01x\x011"


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(b"\x80", id="no entry"),
        pytest.param(b"\xff\x7f", id="an entry past the table"),
        pytest.param(b"\x7f\x7f\x011", id="a name past the table"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\x0f", id="a number without bounds"),
        pytest.param(b"\x00\x01x\x05abc", id="a value that ends early"),
        pytest.param(b"\x00\x05abc", id="a name that ends early"),
        pytest.param(b"\x3f\xff\x7f", id="a table that is too large"),
        pytest.param(LITERAL + b"\x20" + LITERAL, id="a size of the table behind a field"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_a_section_that_cannot_be_decoded_ends_the_connection_with_that_reason(
    start: Start, section: bytes, split: bool
) -> None:
    """RFC 9113 §4.3: both ends would go on with different tables."""
    server = start(site())
    with http2(server.urls[0], None) as client:
        assert client.get().body == b"hello"
        # CONTINUATION brings the last byte.
        frames = frame(1, section[:-1], 1, 3) + frame(9, section[-1:], 4, 3) if split else frame(1, section, 5, 3)
        client.send(frames)
        assert client.until_closed() == COMPRESSION_ERROR
