"""Requests as bytes, for what no HTTP client would send."""

from __future__ import annotations

import select
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class RawResponse:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    rest: bytes

    def get(self, name: str) -> str | None:
        for known, value in self.headers:
            if known.lower() == name.lower():
                return value
        return None


def connect(base_url: str, timeout: float = 10.0) -> socket.socket:
    parts = urlsplit(base_url)
    assert parts.hostname and parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=timeout)


def readable(file: socket.socket | int, seconds: float) -> bool:
    """True as soon as there is something to read; false after so many seconds. Unlike ``select`` for any descriptor."""
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(seconds * 1_000))


def exchange(base_url: str, data: bytes, timeout: float = 10.0) -> bytes:
    """Sends bytes and reads until the edge closes.

    A request that keeps the connection must say ``connection: close``.
    """
    with connect(base_url, timeout) as sock:
        sock.sendall(data)
        return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = bytearray()
    while True:
        try:
            more = sock.recv(65536)
        except ConnectionResetError:
            return bytes(received)
        if not more:
            return bytes(received)
        received += more


def read_until(sock: socket.socket, text: bytes) -> bytes:
    """The bytes up to the read that ended them with ``text``."""
    received = b""
    while not received.endswith(text):
        more = sock.recv(65536)
        assert more, received
        received += more
    return received


def responses(data: bytes) -> list[RawResponse]:
    """Splits a connection's bytes into responses (Content-Length and chunked framing)."""
    found = []
    while data:
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            break
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        lower = {name.lower(): value for name, value in headers}
        if "transfer-encoding" in lower:
            body = b""
            while True:
                size, _, rest = rest.partition(b"\r\n")
                length = int(size, 16)
                body += rest[:length]
                rest = rest[length + 2 :]
                if length == 0:
                    break
        else:
            length = int(lower.get("content-length", "0")) if status not in (204, 304) and status >= 200 else 0
            body, rest = rest[:length], rest[length:]
        found.append(RawResponse(status, headers, body, rest))
        data = rest
    return found
