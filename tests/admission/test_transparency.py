"""An intermediary passes on any valid message as it is (RFC 9110 §7.6), in each protocol of a client."""

from __future__ import annotations

import itertools
import socket
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerouter import Edge, cache
from edgerouter.server import Server

from ..http2.clients import Client, http2
from ..origins import Origin, Seen
from ..raw import connect, read_all
from ..tls.conftest import Start, start

__all__ = ["start"]

Line = tuple[str, bytes]
PUNCTUATION = "!#$%&'*+-.^_`|~"
PCHARS = string.ascii_letters + string.digits + "-_~!$&'()*+,;=:@"
#: Bytes outside ASCII are those of UTF-8, which the client of HTTP/2 reads.
VISIBLE = [chr(code) for code in range(0x21, 0x7F)] + ["é", "ß", "漢"]

methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "get"]) | st.text(
    string.ascii_letters + PUNCTUATION, min_size=1, max_size=9
).filter(lambda method: method not in ("CONNECT", "TRACE"))
pieces = st.text(PCHARS, min_size=1, max_size=4) | st.sampled_from(["%20", "%C3%A9", "%FF", "%5B"])
paths = st.lists(st.lists(pieces, min_size=1, max_size=3).map("".join), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
queries = st.none() | st.text(PCHARS + "/?[]{}|\\^`", max_size=12)
targets = st.builds(lambda path, query: path if query is None else f"{path}?{query}", paths, queries)
values = (
    st.text([*VISIBLE, " ", "\t"], max_size=24).map(lambda text: text.strip(" \t").encode())
    | st.sampled_from([b"", b'"a, \\" b"', b",, a ,\t,", b'a;b="c;d", e', b'W/"x,y"', b"(comment \\) x)"])
    | st.lists(st.text(string.ascii_letters, min_size=1, max_size=9), max_size=99).map(
        lambda all_: ", ".join(all_).encode()
    )
)
names = st.text(string.ascii_lowercase + string.digits + PUNCTUATION, max_size=9).map("x-z.".__add__)
lines = st.lists(st.tuples(names, values), max_size=6).flatmap(
    lambda found: st.permutations(found * 2) if len(found) < 3 else st.just(found)
)
contents = st.binary(max_size=40) | st.integers(41, 30_000).map(lambda size: bytes(range(256)) * (size // 256 + 1))
cuts = st.lists(st.integers(1, 400), max_size=6)


@dataclass
class Message:
    fields: list[Line]
    content: bytes
    framing: str
    trailers: list[Line] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def head(self) -> list[Line]:
        more: list[Line] = {
            "length": [("Content-Length", b"%d" % len(self.content))],
            "chunked": [("Transfer-Encoding", b"chunked")],
        }.get(self.framing, [])
        if self.framing == "chunked" and self.trailers:
            more.append(("Trailer", ", ".join(name for name, _ in self.trailers).encode()))
        return [*self.fields, *more]

    def body(self) -> bytes:
        if self.framing != "chunked":
            return self.content
        text, left = b"", self.content
        for size in itertools.chain(self.sizes, itertools.repeat(9_000)):
            if not left:
                break
            text += b'%X;a="b;\\"c"\r\n%s\r\n' % (len(left[:size]), left[:size])
            left = left[size:]
        return text + b"0\r\n" + section(self.trailers) + b"\r\n"


def messages(framings: Sequence[str]) -> st.SearchStrategy[Message]:
    trailers = st.lists(st.tuples(st.sampled_from(["x-t.1", "x-t.2"]), values), max_size=2)
    return st.builds(Message, lines, contents, st.sampled_from(framings), trailers, cuts)


def section(fields: Sequence[Line]) -> bytes:
    return b"".join(b"%s: %s\r\n" % (name.encode(), value) for name, value in fields)


def send(sock: socket.socket, text: bytes, sizes: Sequence[int]) -> None:
    for size in sizes:
        sock.sendall(text[:size])
        text = text[size:]
    sock.sendall(text)


def grouped(fields: Sequence[tuple[str, str | bytes]], prefix: str = "x-z.") -> dict[str, list[bytes]]:
    """The values of each name in their order: that of different names says nothing (RFC 9110 §5.3)."""
    found: dict[str, list[bytes]] = {}
    for name, value in fields:
        if name.lower().startswith(prefix):
            found.setdefault(name.lower(), []).append(value if isinstance(value, bytes) else value.encode())
    return found


@dataclass
class Answer:
    status: int
    fields: list[Line]
    content: bytes
    trailers: list[Line] = field(default_factory=list)


def lines_of(text: bytes) -> list[Line]:
    parted = (line.partition(b":") for line in text.split(b"\r\n") if line)
    return [(name.decode().lower(), value.strip(b" \t")) for name, _, value in parted]


def read(data: bytes) -> Answer:
    head, _, rest = data.partition(b"\r\n\r\n")
    start_line, _, fields = head.partition(b"\r\n")
    answer = Answer(int(start_line.split(b" ")[1]), lines_of(fields), rest)
    if ("transfer-encoding", b"chunked") in answer.fields:
        answer.content = b""
        while size := int(rest.partition(b"\r\n")[0], 16):
            _, _, rest = rest.partition(b"\r\n")
            answer.content += rest[:size]
            rest = rest[size + 2 :]
        answer.trailers = lines_of(rest.partition(b"\r\n")[2])
    return answer


def asked(url: str, version: str, method: str, target: str, request: Message) -> Answer:
    if version == "1.0" and request.framing == "chunked":
        request = Message(request.fields, request.content, "length", sizes=request.sizes)
    hop = [("Connection", b"close, TE, x-hop"), ("TE", b"trailers"), ("X-Hop", b"1")]
    fields = section([("Host", b"a.example"), *hop, *request.head()])
    with connect(url, timeout=30) as sock:
        start_line = f"{method} {target} HTTP/{version}\r\n".encode()
        send(sock, start_line + fields + b"\r\n" + request.body(), request.sizes)
        return read(read_all(sock))


def asked_by_http2(client: Client, method: str, target: str, request: Message) -> Answer:
    pseudo = [(":method", method), (":scheme", "https"), (":authority", "a.example"), (":path", target)]
    fields = [(name, value.decode()) for name, value in request.fields]
    # The client sends no empty content.
    content = request.content or None
    received = client.response(client.request([*pseudo, ("te", "trailers"), *fields], content))
    assert received.reset is None
    encoded, trailers = ([(name, value.encode()) for name, value in f] for f in (received.headers, received.trailers))
    return Answer(received.status, encoded, received.body, trailers)


@pytest.fixture
def server(start: Start, origin: Origin) -> Server:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2", "http/1.1"))
    edge.route("/*", to=edge.origin("first", origin.url), cache=cache.DISABLED)
    return start(edge)


@settings(max_examples=200)
@given(
    method=methods,
    target=targets,
    request_=messages(["none", "length", "chunked"]),
    status=st.sampled_from([200, 201, 203, 204, 226, 299, 300, 302, 304, 400, 404, 418, 451, 500, 503, 511, 599]),
    reply=messages(["length", "chunked", "close"]),
)
def test_a_message_reaches_the_other_side_as_it_was(
    method: str, target: str, request_: Message, status: int, reply: Message, origin: Origin, server: Server
) -> None:
    if request_.framing == "none" or method in ("GET", "HEAD", "get"):
        # The content of a GET needs a length to go on.
        request_ = Message(request_.fields, b"", "none", sizes=request_.sizes)
    if status in (204, 304):
        reply = Message(reply.fields, b"", "close", sizes=reply.sizes)
    has_content = method != "HEAD"

    def answer(seen: Seen, sock: socket.socket) -> None:
        text = f"HTTP/1.1 {status} Any reason\r\nConnection: close\r\n".encode() + section(reply.head()) + b"\r\n"
        send(sock, text + (reply.body() if has_content else b""), reply.sizes)

    origin.default = answer
    with http2(server.urls[0], None) as client:
        for version in ("1.0", "1.1", "2"):
            origin.requests.clear()
            if version == "2":
                got = asked_by_http2(client, method, target, request_)
            else:
                got = asked(server.urls[0], version, method, target, request_)
            (seen,) = origin.requests
            assert (seen.method, seen.target, seen.body) == (method, target, request_.content)
            raw = lines_of(seen.raw.partition(b"\r\n\r\n")[0].partition(b"\r\n")[2])
            assert grouped(raw) == grouped(request_.fields)
            assert seen.get("x-hop") is None and seen.get("te") is None
            if version == "1.1" and request_.framing == "chunked":
                assert [name for name, _ in seen.trailers] == [name for name, _ in request_.trailers]
            assert (got.status, got.content) == (status, reply.content if has_content else b"")
            assert grouped(got.fields) == grouped(reply.fields)
            if version != "1.0" and has_content and reply.framing == "chunked":
                assert grouped(got.trailers, "x-t.") == grouped(reply.trailers, "x-t.")
