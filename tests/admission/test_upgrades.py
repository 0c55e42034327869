"""The protocol to which an origin switches is one that the client has offered (RFC 9110 §7.8)."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx
import pytest

from ..origins import Origin, Seen
from ..raw import connect, read_all, responses

Site = Callable[..., httpx.Client]


def switching(upgrade: list[str]) -> Callable[[Seen, socket.socket], None]:
    """Switches to a protocol whose first bytes are ``hello``."""

    def switch(seen: Seen, sock: socket.socket) -> None:
        lines = "".join(f"Upgrade: {line}\r\n" for line in upgrade)
        sock.sendall(f"HTTP/1.1 101 Switching Protocols\r\n{lines}Connection: Upgrade\r\n\r\nhello".encode())
        sock.recv(1)

    return switch


def switched(url: str, offered: str) -> bytes:
    with connect(url) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {offered}\r\n\r\n".encode())
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


@pytest.mark.parametrize(
    ("offered", "upgrade"),
    [
        ("websocket", ["WebSocket"]),
        ("chat/2, echo", ["echo"]),
        ("chat/2, echo", ["chat/2, echo"]),
        ("chat", ["chat/2"]),
    ],
)
def test_an_origin_may_switch_to_what_was_offered(offered: str, upgrade: list[str], origin: Origin, site: Site) -> None:
    origin.default = switching(upgrade)
    received = switched(str(site().base_url), offered)
    assert received.startswith(b"HTTP/1.1 101 ") and received.endswith(b"\r\n\r\nhello")
    assert f"Upgrade: {upgrade[0]}\r\n".encode() in received


@pytest.mark.parametrize(
    ("offered", "upgrade"),
    [
        ("websocket", ["other"]),
        ("websocket", ["websocket, other"]),
        ("websocket", ["websocket", "other"]),
        ("chat/2, echo", ["chat/3"]),
        ("websocket", [""]),
        ("websocket", []),
    ],
)
def test_a_switch_to_another_protocol_is_a_bad_gateway(
    offered: str, upgrade: list[str], origin: Origin, site: Site
) -> None:
    origin.default = switching(upgrade)
    (answer,) = responses(switched(str(site().base_url), offered))
    assert answer.status == 502 and b"hello" not in answer.body
