"""Ways past the terms of a TLS policy: each is tried, and refused."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from edgerouter import Edge, Tls
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..certificates import Authority, Issued
from .clients import address_of, connected, get, sample
from .conftest import Start


@pytest.fixture
def www(authority: Authority) -> Issued:
    return authority.issue("www.example.com")


@pytest.fixture
def admin(authority: Authority) -> Issued:
    return authority.issue("admin.example.com", "*.internal.example.com")


def site(www: Issued, admin: Issued) -> Edge:
    """Two policies on one address: the second accepts TLS 1.3 only."""
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=[Tls(www.certificate), Tls(admin.certificate, policy="TLSv1.3_2025")])
    edge.route("/*", respond="hello")
    return edge


@pytest.mark.parametrize(
    "host",
    [
        "admin.example.com",
        "ADMIN.example.com",
        "admin.example.com.",
        "admin.example.com:443",
        "admin.example.com:8443",
        "a.internal.example.com",
    ],
)
def test_a_host_of_another_policy_is_misdirected(
    authority: Authority, start: Start, www: Issued, admin: Issued, host: str
) -> None:
    server = start(site(www, admin))
    with connected(server.urls[0], authority.trusted(), "www.example.com") as sock:
        refused = get(sock, host)
        assert (refused.status, refused.get("cache-control")) == (421, "no-store")
        assert get(sock, "www.example.com").status == 200, "the connection goes on for its own hosts"
    assert sample(server, 'edgerouter_refused_total{reason="misdirected"}') == 1


def test_the_target_of_a_request_counts_and_not_a_host_field_beside_it(
    authority: Authority, start: Start, www: Issued, admin: Issued
) -> None:
    server = start(site(www, admin))
    with connected(server.urls[0], authority.trusted(), "www.example.com") as sock:
        assert get(sock, "www.example.com", "https://admin.example.com/").status in (400, 421)
    with connected(server.urls[0], authority.trusted(), "www.example.com") as sock:
        assert get(sock, "admin.example.com", "https://admin.example.com/").status == 421


def test_a_client_that_names_no_host_or_an_unknown_one_does_not_reach_another_policy(
    authority: Authority, start: Start, www: Issued, admin: Issued
) -> None:
    server = start(site(www, admin))
    for name in (None, "unknown.example.net"):
        context = authority.trusted()
        context.check_hostname = False
        with connected(server.urls[0], context, name) as sock:
            assert get(sock, "admin.example.com").status == 421
            assert get(sock, "www.example.com").status == 200
            assert get(sock, "unknown.example.net").status == 200


def test_a_host_that_no_certificate_is_for_is_served_by_the_first_policy_only(
    authority: Authority, start: Start, www: Issued, admin: Issued
) -> None:
    server = start(site(www, admin))
    with connected(server.urls[0], authority.trusted(), "admin.example.com") as sock:
        assert get(sock, "unknown.example.net").status == 421
        assert get(sock, "www.example.com").status == 421
        assert get(sock, "a.internal.example.com").status == 200


def test_a_host_of_another_listener_is_misdirected(
    authority: Authority, start: Start, www: Issued, admin: Issued
) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=Tls(www.certificate))
    edge.listen("127.0.0.1:0", tls=Tls(admin.certificate, policy="TLSv1.3_2025"))
    edge.route("/*", respond="hello")
    server = start(edge)
    context = authority.trusted()
    context.check_hostname = False
    for name in ("www.example.com", "admin.example.com"):
        with connected(server.urls[0], context, name) as sock:
            assert get(sock, "admin.example.com").status == 421
    with connected(server.urls[1], authority.trusted(), "admin.example.com") as sock:
        assert get(sock, "admin.example.com").status == 200


def test_a_connection_from_before_a_reload_meets_the_terms_of_after_it(
    authority: Authority, start: Start, www: Issued, admin: Issued
) -> None:
    server = start(site(www, admin))
    with connected(server.urls[0], authority.trusted(), "www.example.com") as sock:
        assert get(sock).status == 200
        renewed = authority.issue("www.example.com", "example.com")
        server.reload(site(renewed, admin))
        assert get(sock).status == 200, "a certificate is no term"
        stricter = Edge("test")
        tls = [Tls(admin.certificate, policy="TLSv1.3_2025"), Tls(renewed.certificate, policy="TLSv1.3_2025")]
        stricter.listen("127.0.0.1:0", tls=tls)
        stricter.route("/*", respond="hello")
        server.reload(stricter)
        assert get(sock).status == 421
    with connected(server.urls[0], authority.trusted(), "www.example.com") as sock:
        assert get(sock).status == 200


def resumed(
    url: str, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None
) -> tuple[bool, ssl.SSLSession]:
    """If the session was resumed, and the one to resume next."""
    with connected(url, context, name, session) as sock:
        # TLS 1.3 sends tickets behind the handshake.
        assert get(sock, name).status == 200
        assert sock.session
        return bool(sock.session_reused), sock.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_access_log_says_which_tls_a_request_came_by(
    authority: Authority, www: Issued, admin: Issued, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    log = tmp_path / "access.log"
    served = Settings(workers=1, access_log=str(log), access_log_format="json")
    context = authority.trusted()
    context.minimum_version = context.maximum_version = version
    edge = site(www, admin)
    edge.listen("127.0.0.1:0")
    server = Server.start(edge, served)
    try:
        with connected(server.urls[0], context) as sock:
            assert get(sock).status == 200
            cipher, session = (sock.cipher() or ("",))[0], sock.session
        with connected(server.urls[0], context, session=session) as sock:
            assert get(sock).status == 200
            assert sock.session_reused
        with socket.create_connection(address_of(server.urls[1]), timeout=10) as plain:
            assert get(plain).status == 200
    finally:
        server.stop(5.0)
    first, second, clear = (json.loads(line) for line in log.read_text().splitlines())
    dotted = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]
    assert (first["tls"], first["sni"], "resumed" in first) == (dotted, "www.example.com", False)
    if version is ssl.TLSVersion.TLSv1_3:
        assert first["cipher"] == cipher
    else:
        assert first["cipher"].startswith("TLS_ECDHE_")
    assert (second["tls"], second["resumed"]) == (dotted, "yes")
    assert not {"tls", "cipher", "sni", "resumed"} & set(clear)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_by_every_worker_and_across_reloads(
    authority: Authority, start: Start, www: Issued, admin: Issued, version: ssl.TLSVersion
) -> None:
    server = start(site(www, admin))
    context = authority.trusted()
    context.minimum_version = context.maximum_version = version
    reused, session = resumed(server.urls[0], context, "www.example.com", None)
    assert not reused
    for _ in range(8):
        reused, session = resumed(server.urls[0], context, "www.example.com", session)
        assert reused
    server.reload(site(www, admin))
    reused, session = resumed(server.urls[0], context, "www.example.com", session)
    assert reused
    dotted = version.name.replace("v1_", "v1.")
    assert sample(server, f'edgerouter_tls_handshakes_total{{result="resumed",version="{dotted}"}}') == 9


def test_a_session_of_tls_1_2_without_tickets_is_resumed_by_its_number(
    authority: Authority, start: Start, www: Issued, admin: Issued
) -> None:
    server = start(site(www, admin))
    context = authority.trusted()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    _, session = resumed(server.urls[0], context, "www.example.com", None)
    assert session.id
    assert [resumed(server.urls[0], context, "www.example.com", session)[0] for _ in range(4)] == [True] * 4


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_one_policy_is_not_resumed_under_another(
    authority: Authority, start: Start, version: ssl.TLSVersion
) -> None:
    first, second = authority.issue("www.example.com"), authority.issue("www.example.com")
    edges = []
    for issued in (first, second):
        edge = Edge("test")
        edge.listen("127.0.0.1:0", tls=Tls(issued.certificate))
        edge.listen("127.0.0.1:0", tls=Tls(second.certificate))
        edge.route("/*", respond="hello")
        edges.append(edge)
    server = start(edges[0])
    context = authority.trusted()
    context.minimum_version = context.maximum_version = version
    _, session = resumed(server.urls[0], context, "www.example.com", None)
    reused, _ = resumed(server.urls[1], context, "www.example.com", session)
    assert not reused, "another listener's policy"
    server.reload(edges[1])
    reused, of_second = resumed(server.urls[0], context, "www.example.com", session)
    assert not reused, "the policy's own certificate was replaced"
    reused, _ = resumed(server.urls[1], context, "www.example.com", of_second)
    assert reused, "the very policy on another listener"


def test_early_data_is_not_offered(authority: Authority, start: Start, www: Issued, admin: Issued) -> None:
    server = start(site(www, admin))
    host, port = address_of(server.urls[0])
    client = subprocess.run(
        ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername", "www.example.com", "-tls1_3", "-ign_eof"],
        input=b"GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert re.findall(rb"Max Early Data: (\d+)", client.stdout) in ([b"0"], [b"0", b"0"])
