"""TLS-ALPN-01 (RFC 8737): a proof in a handshake, as long as it is live."""

from __future__ import annotations

import socket
import ssl

import pytest
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from ..origins import wait_until
from ..tls.clients import connected, get, sample
from .conftest import Site, Start
from .issuers import Pebble

NAME = "www.example.com"
VALID = 'edgerouter_acme_certificates{state="valid"}'
IDENTIFIER = ObjectIdentifier("1.3.6.1.5.5.7.1.31")


def issuer_of(*protocols: str) -> ssl.SSLContext:
    """A client as an issuer is one: it verifies nothing, and offers the protocol of the challenge."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


def test_a_certificate_is_obtained_without_a_listener_in_plain_text(site: Site, pebble: Pebble, start: Start) -> None:
    server = start(site.edge(NAME, issuers=pebble.issuer(), plain=False, challenges=["tls-alpn-01"]))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    with connected(f"https://127.0.0.1:{site.ports.tls}", pebble.trusted()) as sock:
        assert get(sock, NAME).body == b"hello"
    assert sample(server, "edgerouter_acme_challenges_answered_total") >= 1
    assert "validate w/ HTTP" not in pebble.log()


def test_the_protocol_of_the_challenge_is_agreed_on_during_a_challenge_only(
    site: Site, pebble: Pebble, start: Start
) -> None:
    server = start(site.edge(NAME, issuers=pebble.issuer()))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    address = f"https://127.0.0.1:{site.ports.tls}"
    refused = pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol")
    with refused, connected(address, issuer_of("acme-tls/1"), NAME):
        pass
    live = site.storage / "challenges" / f"tls.{NAME}"
    live.write_text("token.thumbprint")
    # The worker counts after the client has seen its end.
    count = 'edgerouter_tls_handshakes_total{result="failed",version=""}'
    wait_until(lambda: sample(server, count) == 1, what="the count of the refused handshake")
    with connected(address, issuer_of("acme-tls/1"), NAME) as sock:
        assert sock.selected_alpn_protocol() == "acme-tls/1"
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        proof = x509.load_der_x509_certificate(der)
        extension = proof.extensions.get_extension_for_oid(IDENTIFIER)
        assert extension.critical
        names = proof.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [NAME]
        # No request is served on it.
        try:
            sock.sendall(f"GET / HTTP/1.1\r\nhost: {NAME}\r\n\r\n".encode())
            assert sock.recv(100) == b""
        except OSError:
            pass
    # Another name has no proof, and a client that also speaks HTTP is none of an issuer.
    with pytest.raises(OSError), connected(address, issuer_of("acme-tls/1"), "other.example.com"):
        pass
    with connected(address, issuer_of("acme-tls/1", "http/1.1"), NAME) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
    live.unlink()
    with pytest.raises(ssl.SSLError), connected(address, issuer_of("acme-tls/1"), NAME):
        pass
    wait_until(lambda: sample(server, count) == 3, what="the count of all refused handshakes")


def test_a_port_that_nobody_reaches_is_no_end_where_the_other_challenge_can_be_shown(
    site: Site, pebble: Pebble, start: Start
) -> None:
    server = start(site.edge(NAME, issuers=pebble.issuer(), plain=False))
    failures = f'edgerouter_acme_failures{{name="{NAME}"}}'
    wait_until(lambda: sample(server, failures) == 1, 60, what="a refused proof")
    server.engine.shift_clock(120)
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    assert sample(server, failures) == 0
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", site.ports.http)) != 0
