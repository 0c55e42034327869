"""The PROXY protocol: the client that a proxy names, and connections that are closed."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest

from edgerouter import ConfigError, Edge, HttpLimits, Limits, Listener, Tls

from ..certificates import Authority
from ..origins import Origin, Reply
from .clients import address_of, get, sample
from .conftest import Start

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
REFUSED = 'edgerouter_refused_total{reason="proxy-protocol"}'


def version_2(client: str, port: int, command: int = 1) -> bytes:
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    packed = socket.inet_pton(family, client)
    rest = packed + packed + struct.pack("!HH", port, 443)
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    return SIGNATURE + bytes([0x20 | command, kind]) + struct.pack("!H", len(rest)) + rest


def summed(checksum: str) -> bytes:
    """A header with extensions, of which the checksum (CRC32C) is one."""
    addresses = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 443)
    rest = addresses + b"\x03\0\x04" + bytes.fromhex(checksum) + b"\x01\0\x02h2" + b"\x04\0\0"
    return SIGNATURE + b"\x21\x11" + struct.pack("!H", len(rest)) + rest


def site(
    origin: Origin, *, networks: tuple[str, ...] = ("127.0.0.0/8",), tls: Tls | None = None, **http: float
) -> Edge:
    origin.default = Reply(200, {"cache-control": "no-store"}, "from origin")
    edge = Edge("test", limits=Limits(http=HttpLimits(**http)))  # type: ignore[arg-type]
    edge.listen("127.0.0.1:0", tls=tls or (), proxy_protocol=networks)
    edge.route("/*", to=edge.origin("first", origin.url))
    return edge


@pytest.mark.parametrize(
    ("header", "client"),
    [
        pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", "192.0.2.7", id="version 1"),
        pytest.param(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7", id="version 1, IPv6"),
        pytest.param(b"PROXY UNKNOWN\r\n", "127.0.0.1", id="version 1, unknown"),
        pytest.param(version_2("192.0.2.7", 4711), "192.0.2.7", id="version 2"),
        pytest.param(version_2("2001:db8::7", 4711), "2001:db8::7", id="version 2, IPv6"),
        pytest.param(version_2("192.0.2.7", 4711, command=0), "127.0.0.1", id="version 2, local"),
        pytest.param(summed("8bf553aa"), "192.0.2.7", id="version 2, with a checksum"),
    ],
)
@pytest.mark.parametrize("pieces", ["at once", "byte by byte"])
def test_the_client_of_a_connection_is_the_one_that_its_header_names(
    origin: Origin, start: Start, header: bytes, client: str, pieces: str
) -> None:
    server = start(site(origin))
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if pieces == "byte by byte":
            for byte in header:
                sock.sendall(bytes([byte]))
            assert [get(sock).status for _ in range(2)] == [200, 200]
        else:
            request = b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n"
            sock.sendall(header + request[:20])
            sock.sendall(request[20:])
            assert sock.recv(12) == b"HTTP/1.1 200"
    assert origin.requests[0].get("x-forwarded-for") == client


def test_tls_begins_behind_the_header(origin: Origin, start: Start, authority: Authority) -> None:
    server = start(site(origin, tls=Tls(authority.issue("www.example.com").certificate)))
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")
        with authority.trusted().wrap_socket(plain, server_hostname="www.example.com") as sock:
            assert get(sock).status == 200
    assert origin.requests[0].get("x-forwarded-for") == "192.0.2.7"
    assert origin.requests[0].get("x-forwarded-proto") == "https"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n", id="none"),
        pytest.param(b"PROXY TCP4 192.0.2.7 4711 443\r\n", id="incomplete"),
        pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\nGET / HTTP/1.1\r\n", id="bare line feed"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * 200, id="107 bytes of version 1"),
        pytest.param(SIGNATURE + b"\x21\x11" + struct.pack("!H", 4081), id="4 KiB of version 2"),
        pytest.param(SIGNATURE + b"\x31\x11\0\x0c" + b"\0" * 12, id="version 3"),
        pytest.param(summed("01020304"), id="a wrong checksum"),
        pytest.param(summed("8bf553aa")[:-1] + b"\x08", id="an extension that is longer than the header"),
    ],
)
def test_a_connection_without_a_valid_header_is_closed(origin: Origin, start: Start, header: bytes) -> None:
    server = start(site(origin))
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
        sock.sendall(header)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    assert (sample(server, REFUSED), origin.requests) == (1, [])


def test_a_peer_that_is_no_proxy_of_the_listener_is_closed_at_once(origin: Origin, start: Start) -> None:
    server = start(site(origin, networks=("192.0.2.0/24",)))
    address = address_of(server.urls[0])
    with socket.create_connection(address, timeout=10) as sock, contextlib.suppress(ConnectionResetError):
        assert sock.recv(100) == b""
    assert sample(server, REFUSED) == 1


def test_a_header_that_does_not_come_in_time_ends_the_connection(origin: Origin, start: Start) -> None:
    server = start(site(origin, head_timeout=0.2))
    for first in (b"", b"PROXY TCP4 "):
        with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
            sock.sendall(first)
            assert sock.recv(100) == b""
    assert sample(server, REFUSED) == 2


def test_connections_are_counted_for_the_client_that_the_header_names(origin: Origin, start: Start) -> None:
    server = start(site(origin, client_connections=1))
    sockets = [socket.create_connection(address_of(server.urls[0]), timeout=10) for _ in range(3)]
    try:
        for sock, client in zip(sockets, ("192.0.2.7", "192.0.2.8", "192.0.2.7"), strict=True):
            sock.sendall(f"PROXY TCP4 {client} 192.0.2.1 4711 443\r\n".encode())
            if sock is not sockets[2]:
                assert get(sock).status == 200
        assert sockets[2].recv(100) == b""
        assert sample(server, 'edgerouter_refused_total{reason="client-connections"}') == 1
    finally:
        for sock in sockets:
            sock.close()


def test_the_bound_on_the_requests_of_a_connection_holds_behind_a_header(origin: Origin, start: Start) -> None:
    server = start(site(origin, connection_requests=2))
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")
        assert [get(sock).status for _ in range(2)] == [200, 200]
        assert sock.recv(100) == b""


def test_a_network_that_is_none_is_refused() -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", proxy_protocol=["10.0.0.0/33"])
    with pytest.raises(ConfigError, match=r"listeners\[0\]\.proxy_protocol\[0\]: .*must be an address or a network"):
        edge.compile()
    with pytest.raises(ConfigError, match=r"Listener\.proxy_protocol: .*must be a list of strings"):
        Listener("127.0.0.1:0", proxy_protocol=5)  # type: ignore[arg-type]
