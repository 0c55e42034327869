"""TLS with origins: what is offered, what is verified, and what an error says to do."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgerouter import Certificate, ConfigError, Edge, Secret, cache
from edgerouter.testing import Running

from ..certificates import Authority, Issued
from ..origins import Origin, Reply, raw_origin, wait_until

Serve = Callable[[Edge], Running]
NAME = "origin.example.com"
NUMBERS = itertools.count()


class SecureOrigin(Origin):
    """An origin that speaks TLS, and knows what it was offered."""

    def __init__(self, issued: Issued, **settings: Any) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(issued.chain, issued.key)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.context.sni_callback = self.named
        for name, value in settings.items():
            setattr(self.context, name, value)
        self.names: list[str | None] = []
        self.agreed: list[tuple[str | None, str | None]] = []
        self.clients: list[str] = []
        super().__init__()
        self.default = Reply(200, body="secure")

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def named(self, _sock: object, name: str | None, _context: object) -> None:
        self.names.append(name)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(connection, server_side=True) as secured:
            self.agreed.append((secured.version(), secured.selected_alpn_protocol()))
            shown = secured.getpeercert()
            if shown:
                self.clients.append(str(shown["subject"][0][0][1]))
            super()._serve(secured)


def pin(issued: Issued) -> str:
    key = x509.load_der_x509_certificate(issued.der).public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(hashlib.sha256(info).digest()).decode()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def origins() -> Iterator[Callable[..., SecureOrigin]]:
    made: list[SecureOrigin] = []

    def make(issued: Issued, **settings: Any) -> SecureOrigin:
        made.append(SecureOrigin(issued, **settings))
        return made[-1]

    yield make
    for origin in made:
        origin.close()


def logged(standard_error: Callable[[], str], pattern: str) -> None:
    """Waits for the line about a handshake that failed."""
    line = re.compile(rf"no TLS with site-\d+: .*{pattern}")
    wait_until(lambda: line.search(standard_error()) is not None, what=f"{pattern!r} in the log")


def site(origin: SecureOrigin, url: str | None = None, **settings: Any) -> Edge:
    edge = Edge("test")
    # The log sums lines about one origin.
    name = f"site-{next(NUMBERS)}"
    edge.route("/*", to=edge.origin(name, url or origin.url, **settings), cache=cache.DISABLED)
    return edge


def trusting(authority: Authority) -> dict[str, Any]:
    return {"tls_ca": Secret.literal(authority.file.read_text()), "tls_server_name": NAME}


def test_an_origin_is_verified_by_name_and_own_authority_and_speaks_http_1_1(
    authority: Authority, origins: Callable[..., SecureOrigin], serve: Serve
) -> None:
    origin = origins(authority.issue(NAME))
    assert httpx.get(serve(site(origin, **trusting(authority)))).text == "secure"
    # The edge has made a connection at its start, too, to see whether the origin is there.
    assert (set(origin.names), set(origin.agreed)) == ({NAME}, {("TLSv1.3", "http/1.1")})
    # Without another name, it is the host of the URL.
    local = origins(authority.issue("localhost"))
    edge = site(local, f"https://localhost:{local.port}", tls_ca=Secret.literal(authority.file.read_text()))
    assert httpx.get(serve(edge)).text == "secure"
    assert set(local.names) == {"localhost"}


@pytest.mark.parametrize(
    ("offered", "versions", "want"),
    [
        (["TLSv1.2"], {}, ["TLSv1.2"]),
        (["TLSv1.3"], {}, ["TLSv1.3"]),
        (None, {"maximum_version": ssl.TLSVersion.TLSv1_2}, ["TLSv1.2"]),
        (["TLSv1.3"], {"maximum_version": ssl.TLSVersion.TLSv1_2}, []),
        (["TLSv1.2"], {"minimum_version": ssl.TLSVersion.TLSv1_3}, []),
    ],
)
def test_the_versions_that_are_offered_are_those_of_the_origin(
    authority: Authority,
    origins: Callable[..., SecureOrigin],
    serve: Serve,
    standard_error: Callable[[], str],
    offered: list[str] | None,
    versions: dict[str, Any],
    want: list[str],
) -> None:
    origin = origins(authority.issue(NAME), **versions)
    status = httpx.get(serve(site(origin, tls_versions=offered, **trusting(authority)))).status_code
    assert (status, {version for version, _ in origin.agreed}) == (200 if want else 502, set(want))
    if not want:
        logged(standard_error, "the origin speaks none of the versions in tls_versions")


def test_a_client_certificate_is_shown_where_it_is_demanded_and_a_reload_replaces_it(
    authority: Authority,
    origins: Callable[..., SecureOrigin],
    serve: Serve,
    tmp_path: Path,
    standard_error: Callable[[], str],
) -> None:
    origin = origins(authority.issue(NAME))
    origin.context.load_verify_locations(authority.file)
    origin.context.verify_mode = ssl.CERT_REQUIRED
    response = httpx.get(serve(site(origin, retries=0, **trusting(authority))))
    assert (response.status_code, "detail=tls" in response.headers["cache-status"]) == (502, True)
    logged(standard_error, "the origin demands a certificate of the edge: give tls_certificate")
    chain, key = tmp_path / "edge.pem", tmp_path / "edge.key"

    def show(subject: str, by: Authority = authority) -> None:
        issued = by.issue(client=True, subject=subject)
        chain.write_bytes(issued.chain.read_bytes())
        key.write_bytes(issued.key.read_bytes())

    show("first")
    edge = site(origin, retries=0, tls_certificate=Certificate(chain, key), **trusting(authority))
    running = serve(edge)
    assert httpx.get(running).text == "secure"
    show("second")
    running.reload(edge)
    assert httpx.get(running).text == "secure"
    assert list(dict.fromkeys(origin.clients)) == ["first", "second"]
    show("third", Authority(tmp_path, "stranger"))
    running.reload(edge)
    assert httpx.get(running).status_code == 502
    logged(standard_error, "give one as tls_certificate that its authority has issued")


def test_a_pinned_key_is_demanded_beside_the_authority_or_alone(
    authority: Authority,
    origins: Callable[..., SecureOrigin],
    serve: Serve,
    standard_error: Callable[[], str],
) -> None:
    right, wrong = authority.issue(NAME), authority.issue(NAME)
    origin = origins(right)
    for terms, status in (
        ({"tls_pins": [pin(wrong), pin(right)], **trusting(authority)}, 200),
        ({"tls_pins": [pin(wrong)], **trusting(authority)}, 502),
        ({"tls_pins": [pin(right)], "tls_verify": False}, 200),
        ({"tls_pins": [pin(wrong)], "tls_verify": False}, 502),
        # A pin replaces no verification.
        ({"tls_pins": [pin(right)]}, 502),
    ):
        assert httpx.get(serve(site(origin, **terms))).status_code == status, terms
    logged(
        standard_error,
        f"is {re.escape(pin(right))}, which is not in tls_pins; add it if the origin's key was changed on purpose",
    )


def test_an_error_says_what_to_do(
    authority: Authority,
    origins: Callable[..., SecureOrigin],
    serve: Serve,
    standard_error: Callable[[], str],
) -> None:
    secure, old = origins(authority.issue(NAME)), origins(authority.issue(NAME, days=-1))
    ca = Secret.literal(authority.file.read_text())

    def plain(sock: socket.socket) -> None:
        with sock:
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            sock.recv(65_536)

    with raw_origin(plain) as url:
        for edge, advice in (
            # With the system's authorities, as nothing is said.
            (site(secure, tls_server_name=NAME), "as tls_ca"),
            (site(secure, tls_ca=ca), f"{NAME}.*as tls_server_name"),
            (site(old, **trusting(authority)), "renew it on the origin"),
            (site(secure, url.replace("http:", "https:"), **trusting(authority)), "this port does not speak TLS"),
        ):
            response = httpx.get(serve(edge))
            assert response.status_code == 502 and "detail=tls" in response.headers["cache-status"]
            # Nothing of it is a client's business.
            assert "tls_" not in response.text and NAME not in response.text
            logged(standard_error, advice)


def compiled(url: str, **terms: Any) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("site", url, **terms))
    edge.compile()


def test_terms_that_cannot_be_used_are_refused_without_showing_a_key(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.issue(client=True), authority.issue(client=True)
    bad = tmp_path / "bad.pem"
    bad.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for terms, want in (
        ({"tls_certificate": Certificate(one.chain, other.key)}, "tls_certificate.key: .*is not the key of the"),
        ({"tls_certificate": Certificate(one.key, one.key)}, "tls_certificate.chain: .*holds no certificate in PEM"),
        ({"tls_certificate": Certificate(one.chain, one.chain)}, "tls_certificate.key: .*holds no private key in PEM"),
        ({"tls_ca": Secret.literal(bad.read_text())}, "tls_ca: holds a certificate that cannot be used"),
        ({"tls_pins": ["sha256//AAAA"]}, "tls_pins.0.: .*must be sha256// and the SHA-256"),
        ({"tls_versions": ["TLSv1.1"]}, "tls_versions.0.: .*must be one of"),
        ({"tls_versions": []}, "tls_versions: .*at least one of"),
    ):
        with pytest.raises(ConfigError, match=want) as refused:
            compiled("https://a.example", **terms)
        assert "PRIVATE" not in str(refused.value)
    for terms in ({"tls_certificate": one.certificate}, {"tls_pins": [pin(one)]}, {"tls_versions": ["TLSv1.3"]}):
        with pytest.raises(ConfigError, match="is for https origins, and this url is http"):
            compiled("http://a.example", **terms)
