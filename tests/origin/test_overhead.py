"""Bytes of a response that bring no content: interim responses, and whatever stands around the sizes of chunks."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import httpx
import pytest

from edgerouter import Edge, cache

from ..conftest import Serve
from ..origins import Origin, Reply, Seen, raw_origin

Site = Callable[..., httpx.Client]
EXTENSION = b";signature=" + b"5" * 64


def test_interim_responses_without_an_end_are_a_bad_gateway(serve: Serve) -> None:
    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(1000):
                for _ in range(10_000):
                    connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1_000)

    with raw_origin(answer) as origin:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", origin, first_byte_timeout=600), cache=cache.DISABLED)
        assert httpx.get(serve(edge).url).status_code == 502


def test_many_interim_responses_may_come_before_the_final_one(origin: Origin, site: Site) -> None:
    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 1_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    origin.default = answer
    assert site().get("/").text == "done"


@pytest.mark.parametrize(
    "size",
    [b"1" + b" " * 1_000, b"0" * 1_000 + b"1", b"1;" + b"a" * 1_000, b"1" + b" " * 500 + b";" + b"a" * 500],
    ids=["spaces", "zeros", "an extension", "spaces and an extension"],
)
def test_much_around_the_sizes_of_small_chunks_is_a_bad_gateway(size: bytes, origin: Origin, site: Site) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    origin.default = Reply(raw=head + (size + b"\r\nx\r\n") * 1_000 + b"0\r\n\r\n")
    assert site().get("/").status_code == 502


def test_chunks_may_have_extensions_and_padding_in_proportion(origin: Origin, site: Site) -> None:
    def chunks(content: bytes, around: bytes) -> bytes:
        return (b"%x%s\r\n%s\r\n" % (len(content), around, content)) * 2_000 + b"0\r\n\r\n"

    origin.default = lambda seen: Reply(200, {}, seen.body)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    origin.on("/extensions", Reply(raw=head + chunks(b"x" * 100, EXTENSION)))
    origin.on("/padding", Reply(raw=head + chunks(b"x", b" " * 7)))
    client = site()
    assert client.get("/extensions").content == b"x" * 200_000
    assert client.get("/padding").content == b"x" * 2_000
    # A client's request may have them as well.
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port), timeout=10) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        sock.sendall(chunks(b"y" * 100, EXTENSION))
        received = b""
        while data := sock.recv(65_536):
            received += data
    assert received.startswith(b"HTTP/1.1 200 ") and received.endswith(b"y" * 200_000)
