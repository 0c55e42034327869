"""Handshakes of TLS, new connections of HTTP/2 and ends of connections come after requests of those that were served
before.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from edgerouter import Context, Edge, Request, Tls
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..certificates import Authority
from ..http2.clients import head, http2
from .clients import address_of, connected, get, read

Act = Callable[[socket.socket], object]

MANY = 30


class Held:
    """An edge whose only worker is held until ``release``, so that all that is sent meanwhile comes in at once."""

    def __init__(self, *tls: Tls) -> None:
        self.begun, self.go, self.served = threading.Event(), threading.Event(), list[str]()
        edge = Edge("test")
        edge.listen("127.0.0.1:0", tls=tls, http=("h2", "http/1.1"))

        @edge.function("/hold", inline=True)
        def hold(request: Request, ctx: Context) -> str:
            self.begun.set()
            self.go.wait(10)
            return "held"

        @edge.function("/{who}", inline=True)
        def serve(request: Request, ctx: Context) -> str:
            self.served.append(request.params["who"])
            return "served"

        self.server = Server.start(edge, Settings(workers=1))
        self.url = self.server.urls[0]

    def release(self) -> None:
        self.go.set()


@pytest.fixture
def secured(authority: Authority) -> Iterator[Held]:
    held = Held(Tls(authority.issue("www.example.com").certificate))
    try:
        yield held
    finally:
        held.release()
        held.server.stop(5.0)


@pytest.fixture
def plain() -> Iterator[Held]:
    held = Held()
    try:
        yield held
    finally:
        held.release()
        held.server.stop(5.0)


def hello(authority: Authority) -> bytes:
    """The first bytes of a handshake."""
    sent = ssl.MemoryBIO()
    client = authority.trusted().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="www.example.com")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def half_shaken(url: str, authority: Authority) -> socket.socket:
    """A connection whose client has got all that the edge sends in a handshake, and not answered it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.trusted().wrap_bio(incoming, outgoing, server_hostname="www.example.com")
    sock = socket.create_connection(address_of(url), 10)
    try:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                return sock
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
    except BaseException:
        sock.close()
        raise


def answered(clients: list[socket.socket]) -> list[socket.socket]:
    """The clients in the order in which something comes for them: the kernel lists sockets in that order."""
    order: list[socket.socket] = []
    with selectors.EpollSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ, client)
        while selector.get_map():
            ready = selector.select(10)
            assert ready, "the edge answers nobody"
            for key, _ in ready:
                order.append(key.data)
                selector.unregister(key.fileobj)
    return order


def place(held: Held, holder: socket.socket, modest: socket.socket, others: list[socket.socket], act: Act) -> int:
    """The place of a client's answer among those of all, whose requests and acts come in at once, its own last."""
    holder.sendall(b"GET /hold HTTP/1.1\r\nhost: www.example.com\r\n\r\n")
    assert held.begun.wait(10)
    for other in others:
        act(other)
    modest.sendall(b"GET /one HTTP/1.1\r\nhost: www.example.com\r\n\r\n")
    held.release()
    return answered([modest, *others]).index(modest)


def leave(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def test_a_request_is_served_before_handshakes_that_came_before_it(secured: Held, authority: Authority) -> None:
    with contextlib.ExitStack() as stack:
        modest = stack.enter_context(connected(secured.url, authority.trusted()))
        holder = stack.enter_context(connected(secured.url, authority.trusted()))
        for client in (modest, holder):
            assert get(client, path="/before").body == b"served"
        first = hello(authority)
        others = [stack.enter_context(socket.create_connection(address_of(secured.url), 10)) for _ in range(MANY)]
        # One that is served shows that those before it were accepted.
        assert get(modest, path="/before").body == b"served"
        assert place(secured, holder, modest, others, lambda other: other.sendall(first)) < 5
        assert read(modest).body == b"served"
        assert read(holder).body == b"held"


def test_a_request_is_served_before_handshakes_that_their_clients_leave(secured: Held, authority: Authority) -> None:
    with contextlib.ExitStack() as stack:
        modest = stack.enter_context(connected(secured.url, authority.trusted()))
        holder = stack.enter_context(connected(secured.url, authority.trusted()))
        for client in (modest, holder):
            assert get(client, path="/before").body == b"served"
        others = [stack.enter_context(half_shaken(secured.url, authority)) for _ in range(MANY)]
        assert place(secured, holder, modest, others, leave) < 5
        assert [other.recv(1) for other in others] == [b""] * MANY
        assert read(modest).body == b"served"


def test_a_request_is_served_before_most_connections_that_end_before_it(plain: Held) -> None:
    with contextlib.ExitStack() as stack:
        address = address_of(plain.url)
        modest, holder, *others = (stack.enter_context(socket.create_connection(address, 10)) for _ in range(MANY + 2))
        for client in (modest, holder, *others):
            assert get(client, path="/before").body == b"served"
        assert place(plain, holder, modest, others, leave) < 6
        assert [other.recv(1) for other in others] == [b""] * MANY
        assert read(modest).body == b"served"


def test_a_request_is_served_before_connections_that_have_yet_to_take_a_response(plain: Held) -> None:
    with contextlib.ExitStack() as stack:
        holder, modest, *others = (stack.enter_context(http2(plain.url, None)) for _ in range(MANY + 2))
        for client in (holder, modest, *others):
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.until_settled()
        assert modest.get("/before").body == b"served"
        # An inline function is interrupted after a quarter of a second: what is sent meanwhile is ready.
        streams = [other.begin(head("/new")) for other in others]
        one = modest.begin(head("/one"))
        holding = holder.request(head("/hold"))
        assert plain.begun.wait(10)
        for client in (*others, modest):
            client.flush()
        plain.release()
        assert holder.response(holding).body == b"held"
        assert modest.response(one).body == b"served"
        assert {other.response(stream).body for other, stream in zip(others, streams, strict=True)} == {b"served"}
    assert plain.served.count("new") == MANY and plain.served.index("one") < 6
