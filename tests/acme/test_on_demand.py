"""Certificates that are ordered when a client first comes with a name."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from edgerouter import Acme, ConfigError, Edge, Limits, Tls, TlsLimits

from ..origins import wait_until
from ..tls.clients import connected, get, sample
from .conftest import Site, Start
from .issuers import Pebble

VALID = 'edgerouter_acme_certificates{state="valid"}'
ISSUED = 'edgerouter_acme_orders_total{result="issued"}'
#: An order against half of all nonces takes some seconds here.
LIMITS = Limits(tls=TlsLimits(handshake_timeout=60))


def waiting(site: Site, name: str, trusted: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", site.ports.tls), timeout=60)
    return trusted.wrap_socket(plain, server_hostname=name)


def refused(site: Site, name: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with connected(f"https://127.0.0.1:{site.ports.tls}", context, name):
            return False
    except OSError:
        return True


def test_a_listed_name_is_ordered_with_its_first_client_which_waits(site: Site, pebble: Pebble, start: Start) -> None:
    server = start(site.edge("a.example.com", "b.example.com", issuers=pebble.issuer(), on_demand=True, limits=LIMITS))
    trusted = pebble.trusted()
    with waiting(site, "a.example.com", trusted) as sock:
        assert get(sock, "a.example.com").body == b"hello"
    assert (sample(server, ISSUED), sample(server, VALID)) == (1, 1)
    assert refused(site, "c.example.com") is False  # The first policy's certificate, as for any unknown name.
    assert sample(server, ISSUED) == 1


def test_an_order_on_demand_waits_when_those_of_the_minute_have_begun(site: Site, pebble: Pebble, start: Start) -> None:
    bounds = TlsLimits(handshake_timeout=60, orders_per_minute=1)
    names = ("a.example.com", "b.example.com")
    edge = site.edge(*names, issuers=pebble.issuer(), on_demand=True, limits=Limits(tls=bounds))
    server = start(edge)
    waiting(site, "a.example.com", pebble.trusted()).close()
    brief = Limits(tls=TlsLimits(handshake_timeout=1, orders_per_minute=1))
    server.reload(site.edge(*names, issuers=pebble.issuer(), on_demand=True, limits=brief))
    # The second client waits for nothing, as long as a handshake may.
    assert refused(site, "b.example.com")
    assert (sample(server, ISSUED), sample(server, "edgerouter_acme_orders_under_way")) == (1, 0)
    assert "b.example.com" not in pebble.log()
    server.reload(edge)
    assert not refused(site, "a.example.com")


def test_a_name_that_is_on_demand_no_more_is_ordered_without_a_client(site: Site, pebble: Pebble, start: Start) -> None:
    server = start(site.edge("a.example.com", issuers=pebble.issuer(), on_demand=True, limits=LIMITS))
    assert sample(server, 'edgerouter_acme_certificates{state="absent"}') == 1
    server.reload(site.edge("a.example.com", issuers=pebble.issuer(), limits=LIMITS))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    assert sample(server, ISSUED) == 1


def test_a_name_that_a_function_allows_is_ordered_and_a_no_is_kept_for_an_hour(
    site: Site, pebble: Pebble, start: Start
) -> None:
    calls: list[str] = []

    def is_ours(name: str) -> bool:
        calls.append(name)
        if name == "broken.example.com":
            raise RuntimeError("no database")
        if name == "exits.example.com":
            raise SystemExit(1)
        return name in ("shop.example.com", "late.example.com")

    server = start(site.edge(issuers=pebble.issuer(), on_demand=is_ours, limits=LIMITS))
    with waiting(site, "shop.example.com", pebble.trusted()) as sock:
        assert get(sock, "shop.example.com").body == b"hello"
    assert calls == ["shop.example.com"] and sample(server, ISSUED) == 1
    for _ in range(3):
        assert refused(site, "other.example.com")
    assert calls == ["shop.example.com", "other.example.com"]
    server.engine.shift_clock(3_601)
    assert refused(site, "other.example.com")
    assert calls.count("other.example.com") == 2
    assert refused(site, "broken.example.com") and refused(site, "broken.example.com")
    assert calls.count("broken.example.com") == 1
    server.engine.shift_clock(3_700)
    assert refused(site, "broken.example.com")
    assert calls.count("broken.example.com") == 2
    # An exit ends neither the process nor the thread of these calls.
    assert refused(site, "exits.example.com") and refused(site, "after.example.com")
    assert calls[-2:] == ["exits.example.com", "after.example.com"]
    # No DNS name, so nobody is called.
    before = len(calls)
    for name in ("localhost", "a_b.example.com"):
        assert refused(site, name)
    assert len(calls) == before
    assert sample(server, ISSUED) == 1


def test_a_name_beyond_the_bound_is_not_allowed_and_a_stored_certificate_is_found_again(
    site: Site, pebble: Pebble, start: Start
) -> None:
    calls: list[str] = []

    def is_ours(name: str) -> bool:
        calls.append(name)
        return True

    bounds = Limits(tls=TlsLimits(handshake_timeout=60, allowed_names=1))
    edge = site.edge(issuers=pebble.issuer(), on_demand=is_ours, limits=bounds)
    server = start(edge)
    trusted = pebble.trusted()
    waiting(site, "one.example.com", trusted).close()
    assert refused(site, "two.example.com") and calls == ["one.example.com"]
    server.stop(5)
    pebble.stop()
    again = start(edge)
    waiting(site, "one.example.com", trusted).close()
    assert calls == ["one.example.com", "one.example.com"] and sample(again, ISSUED) == 0
    wait_until(lambda: sample(again, VALID) == 1, 60, what="the stored certificate")


def test_a_function_that_is_async_or_never_called_is_refused(tmp_path: Path) -> None:
    async def later(name: str) -> bool:
        return True

    for on_demand, want in ((later, "must be a plain def"), (5, "must be True, False, or a function")):
        with pytest.raises(ConfigError, match=want):
            Acme(storage=tmp_path, on_demand=on_demand)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least one name"):
        Acme(storage=tmp_path, on_demand=True)
    edge = Edge("test")
    listed = Tls(acme=Acme(["a.example"], storage=tmp_path))
    edge.listen("127.0.0.1:0", tls=[listed, Tls(acme=Acme(storage=tmp_path, on_demand=bool))])
    edge.route("/*", respond="hello")
    with pytest.raises(ConfigError, match="names that are not listed select the first policy"):
        edge.compile()
