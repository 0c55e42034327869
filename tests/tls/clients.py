"""Clients that speak TLS, by the standard library."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from edgerouter.server import Server

from ..raw import RawResponse, responses


def address_of(url: str) -> tuple[str, int]:
    host, _, port = url.partition("://")[2].rpartition(":")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def connected(
    url: str, context: ssl.SSLContext, name: str | None = "www.example.com", session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    """A connection to the edge after its handshake. ``name``: the one in SNI, and in its certificate."""
    if name is None:
        context.check_hostname = False
    with (
        socket.create_connection(address_of(url), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name, session=session) as secured,
    ):
        yield secured


def get(sock: socket.socket, host: str = "www.example.com", path: str = "/", fields: str = "") -> RawResponse:
    """Sends a request on an open connection and reads its response."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n".encode())
    return read(sock)


def read(sock: socket.socket) -> RawResponse:
    """Reads a response that has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = sock.recv(65536)
        assert more, received
        received += more
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", received)
    whole = received.index(b"\r\n\r\n") + 4 + int(length[1] if length else 0)
    while len(received) < whole:
        more = sock.recv(65536)
        assert more, received[:200]
        received += more
    return responses(received)[0]


def sample(server: Server, name: str) -> float:
    """The value of a sample of a scrape."""
    lines = (line.rpartition(" ") for line in server.metrics().splitlines())
    return next(float(value) for found, _, value in lines if found == name)


def until(holds: Callable[[], bool]) -> None:
    """Waits for something to become true, 30 seconds at most."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
