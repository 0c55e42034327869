"""Places of handshakes: clients that begin one and fall silent keep nobody out."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from edgerouter import Acme, Edge, Issuer, Limits, Tls, TlsLimits

from ..certificates import Authority
from ..origins import wait_until
from .clients import address_of, connected, get, sample
from .conftest import Start

#: Longer than any client here waits.
BOUNDS = Limits(tls=TlsLimits(handshakes=2, handshake_timeout=300))
DISPLACED = 'edgerouter_tls_handshakes_total{result="displaced",version=""}'


def hello(context: ssl.SSLContext, name: str = "www.example.com") -> bytes:
    """The first message of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("sent", ["the first bytes", "a whole hello"])
def test_handshakes_whose_clients_are_silent_give_their_places_to_others(
    authority: Authority, start: Start, sent: str
) -> None:
    edge = Edge("test", limits=BOUNDS)
    edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    edge.route("/*", respond="hello")
    server = start(edge)
    first = hello(authority.trusted())
    with contextlib.ExitStack() as silent:
        sockets = []
        for _ in range(6):
            sock = silent.enter_context(socket.create_connection(address_of(server.urls[0]), timeout=30))
            sock.sendall(first if sent == "a whole hello" else first[:7])
            sockets.append(sock)
        for _ in range(3):
            with connected(server.urls[0], authority.trusted()) as sock:
                assert get(sock).status == 200
        wait_until(lambda: sample(server, DISPLACED) >= 4, what="the silent ones to give way")
        # They are closed; the last two may keep places that nobody needs.
        wait_until(lambda: sum(map(has_ended, sockets)) >= 4, what="the end of those that were displaced")


def has_ended(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


def test_handshakes_that_wait_for_a_certificate_on_demand_keep_nobody_out(
    authority: Authority, start: Start, tmp_path: Path
) -> None:
    bounds = TlsLimits(handshakes=2, handshake_timeout=300, issuer_timeout=300, order_timeout=300)
    with socket.create_server(("127.0.0.1", 0)) as silent_issuer, contextlib.ExitStack() as waiting:
        issuer = Issuer(f"https://127.0.0.1:{silent_issuer.getsockname()[1]}/directory", ca_file=authority.file)
        acme = Acme(["a.example.com"], storage=tmp_path / "storage", issuers=issuer, on_demand=True)
        edge = Edge("test", limits=Limits(tls=bounds))
        edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate, acme=acme))
        edge.listen("127.0.0.1:0")
        edge.route("/*", respond="hello")
        server = start(edge)
        for _ in range(6):
            sock = waiting.enter_context(socket.create_connection(address_of(server.urls[0]), timeout=30))
            sock.sendall(hello(authority.trusted(), "a.example.com"))
        # The order has begun, and does not end.
        silent_issuer.settimeout(30)
        waiting.enter_context(silent_issuer.accept()[0])
        for _ in range(3):
            with connected(server.urls[0], authority.trusted()) as secured:
                assert get(secured).status == 200
        wait_until(lambda: sample(server, DISPLACED) >= 4, what="the silent ones to give way")


def test_a_handshake_keeps_its_place_while_there_are_others(authority: Authority, start: Start) -> None:
    edge = Edge("test", limits=BOUNDS)
    edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    edge.route("/*", respond="hello")
    server = start(edge)
    with socket.create_connection(address_of(server.urls[0]), timeout=30) as slow:
        slow.sendall(hello(authority.trusted())[:7])
        for _ in range(20):
            with connected(server.urls[0], authority.trusted()) as sock:
                assert get(sock).status == 200
        assert sample(server, DISPLACED) == 0
        assert sample(server, "edgerouter_tls_handshakes_under_way") == 1
