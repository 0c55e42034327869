"""WebSockets on streams of HTTP/2 (RFC 8441): for the origin they are upgrades of HTTP/1.1."""

from __future__ import annotations

import base64
import socket

import pytest
from h2.settings import SettingCodes

from edgerouter import Edge, HttpLimits, Limits, cache

from ..origins import Origin, Reply, Seen
from ..tls.clients import sample, until
from ..tls.conftest import Start
from .clients import Client, Field, Received, head, http2

CANCEL = 8


def shout(seen: Seen, sock: socket.socket) -> None:
    """Becomes a tunnel that sends back what it gets, in upper case."""
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello "
    )
    while data := sock.recv(65_536):
        sock.sendall(data.upper())


def site(origin: Origin, **limits: object) -> Edge:
    edge = Edge("test", limits=Limits(http=HttpLimits(**limits)))  # type: ignore[arg-type]
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.route("/*", to=edge.origin("site", origin.url), cache=cache.DISABLED)
    return edge


def connect(path: str = "/ws", protocol: str = "websocket", *more: Field) -> list[Field]:
    fields = head(path, "CONNECT", "www.example.com")
    return [*fields, (":protocol", protocol), ("sec-websocket-version", "13"), *more]


def until_body(client: Client, received: Received, length: int) -> bytes:
    while len(received.body) < length:
        assert client.step()
    return received.body


def test_an_extended_connect_becomes_a_tunnel_beside_other_requests(start: Start, origin: Origin) -> None:
    origin.on("/ws", shout)
    origin.default = Reply(body="other")
    server = start(site(origin))
    with http2(server.urls[0], None) as client:
        client.until_settled()
        assert client.http.remote_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
        stream = client.request(connect("/ws", "websocket", ("origin", "https://a.example")), end=False)
        received = client.responses[stream]
        assert until_body(client, received, 6) == b"hello "
        assert (received.status, received.get("sec-websocket-protocol")) == (200, "chat")
        assert received.get("sec-websocket-accept") is None and received.get("upgrade") is None
        client.http.send_data(stream, b"\x00binary\r\n\r\n")
        client.flush()
        assert client.response(client.request(head("/other"))).body == b"other"
        assert until_body(client, received, 17) == b"hello \x00BINARY\r\n\r\n"
        client.http.send_data(stream, b"z" * 15_000)
        client.http.send_data(stream, b"z" * 15_000, end_stream=True)
        client.flush()
        assert len(client.response(stream).body) == 30_017, "both ends"
    seen = origin.requests[0]
    assert (seen.method, seen.version, seen.get("upgrade")) == ("GET", "HTTP/1.1", "websocket")
    assert (seen.get("connection") or "").lower() == "upgrade"
    assert seen.get("origin") == "https://a.example"
    assert len(base64.b64decode(seen.get("sec-websocket-key") or "")) == 16
    until(lambda: sample(server, "edgerouter_connections") == 0)


@pytest.mark.parametrize("status", [302, 401, 403, 503])
def test_a_client_gets_the_response_of_an_origin_that_makes_no_tunnel(
    start: Start, origin: Origin, status: int
) -> None:
    fields = {"WWW-Authenticate": 'Basic realm="a"', "Location": "/login", "Set-Cookie": "a=b"}
    origin.default = Reply(status, fields, body="no tunnel")
    server = start(site(origin))
    with http2(server.urls[0], None) as client:
        received = client.response(client.request(connect(), end=False))
        assert (received.status, received.body, received.reset or 0) == (status, b"no tunnel", 0)
        assert {name: received.get(name.lower()) for name in fields} == fields
        assert client.get("/").status == status, "the connection goes on"


def test_a_success_of_an_origin_that_makes_no_tunnel_is_none(start: Start, origin: Origin) -> None:
    origin.default = Reply(200, body="no tunnel")
    server = start(site(origin))
    with http2(server.urls[0], None) as client:
        received = client.response(client.request(connect(), end=False))
        assert (received.status, received.body) == (502, b"")
        assert client.get("/").status == 200, "the connection goes on"


def test_an_origin_that_switches_to_another_protocol_makes_no_tunnel(start: Start, origin: Origin) -> None:
    def switch(seen: Seen, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\nhello")

    origin.default = switch
    server = start(site(origin))
    with http2(server.urls[0], None) as client:
        received = client.response(client.request(connect(), end=False))
        assert received.status == 502 and b"hello" not in received.body


def test_a_tunnel_ends_with_its_stream_and_by_its_silence(start: Start, origin: Origin) -> None:
    origin.on("/ws", shout)
    server = start(site(origin, tunnel_idle_timeout=1))
    with http2(server.urls[0], None) as client:
        first, silent = (client.request(connect(), end=False) for _ in range(2))
        until_body(client, client.responses[first], 6)
        client.http.reset_stream(first, CANCEL)
        client.flush()
        assert client.response(silent).reset == CANCEL
        assert client.response(client.request(head("/other"))).status == 404


@pytest.mark.parametrize(
    ("fields", "status"),
    [(connect(protocol="h2c"), 501), (connect(protocol="connect-udp"), 501), (connect()[1:], None)],
    ids=["h2c", "connect-udp", "get"],
)
def test_other_protocols_and_methods_get_no_tunnel(
    start: Start, origin: Origin, fields: list[Field], status: int | None
) -> None:
    server = start(site(origin))
    with http2(server.urls[0], None) as client:
        if status is None:
            fields = [(":method", "GET"), *fields]
        received = client.response(client.request(fields, end=False))
        # The stream is open: the edge ends it, without an error behind a response (RFC 9113 §8.1).
        assert (received.status, received.reset or 0) == ((status, 0) if status else (0, 1))
        assert origin.count() == 0
