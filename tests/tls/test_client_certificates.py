"""Mutual TLS: who gets a connection, and how routes, keys, functions and origins learn who the client is."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from edgerouter import ConfigError, Context, Edge, ForwardPolicy, Request, Response, Tls, When, cache

from ..certificates import Authority, Issued
from ..origins import Origin, Reply
from .clients import address_of, connected, get, sample, until
from .conftest import Start

FIELDS = {
    "certificate": "Client-Cert",
    "fingerprint": "X-Client-Fingerprint",
    "subject": "X-Client-Subject",
    "names": "X-Client-Names",
    "serial": "X-Client-Serial",
}


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    folder = tmp_path / "clients"
    folder.mkdir()
    return Authority(folder, "clients")


def mutual(authority: Authority, clients: Authority, mode: str = "required", **fields: str) -> Tls:
    return Tls(
        authority.issue("www.example.com").certificate,
        client_ca=clients.file,
        client_certificates=mode,  # type: ignore[arg-type]
        client_fields=fields or FIELDS,
    )


def client_of(authority: Authority, issued: Issued | None) -> ssl.SSLContext:
    context = authority.trusted()
    if issued is not None:
        context.load_cert_chain(issued.chain, issued.key)
    return context


def refused(url: str, context: ssl.SSLContext) -> bool:
    """If the edge ends the connection instead of answering. In TLS 1.3 a client learns that after its handshake."""
    try:
        with connected(url, context) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n")
            return sock.recv(100) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def show_field(edge: Edge, field: str, absent: str | None = None) -> None:
    """Has ``/who`` respond with a field of its request. Without ``absent`` the field must be there."""

    @edge.function("/who")
    def who(request: Request, ctx: Context) -> Response:
        return Response.text(request.headers[field] if absent is None else request.headers.get(field) or absent)


def test_a_required_certificate_is_verified_before_anything_is_served(
    authority: Authority, clients: Authority, start: Start, tmp_path: Path
) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients))
    edge.route("/*", respond="hello")
    server = start(edge)
    (tmp_path / "strangers").mkdir()
    strangers = Authority(tmp_path / "strangers", "clients")
    for issued in (
        None,
        strangers.issue(client=True, subject="ada"),
        clients.issue(client=True, subject="ada", days=-1),
        clients.issue("ada.example.com"),
    ):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_of(authority, issued)
            context.minimum_version = context.maximum_version = version
            assert refused(server.urls[0], context)
    # A handshake is counted behind the alert that its client has read.
    until(lambda: sample(server, 'edgerouter_tls_handshakes_total{result="failed",version=""}') == 8)
    with connected(server.urls[0], client_of(authority, clients.issue(client=True, subject="ada"))) as sock:
        assert get(sock).status == 200


def test_the_origin_gets_the_identity_and_never_a_clients_own_copy(
    authority: Authority, clients: Authority, start: Start, origin: Origin
) -> None:
    origin.default = Reply(200, {"cache-control": "no-store"}, "from origin")
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients, "optional"))
    edge.listen("127.0.0.1:0")
    edge.route("/*", to=edge.origin("first", origin.url))
    secured, plain = start(edge).urls
    forged = "".join(f"{name}: forged\r\n{name.replace('-', '_')}: forged\r\n" for name in FIELDS.values())
    ada = clients.issue("ada.example.com", "spiffe://example.com/ada", client=True, subject="Ada, Countess")
    with connected(secured, client_of(authority, ada)) as sock:
        assert get(sock, fields=forged).status == 200
    seen = origin.requests[-1]
    assert seen.all("Client-Cert") == [f":{base64.b64encode(ada.der).decode()}:"]
    assert seen.all("X-Client-Fingerprint") == [hashlib.sha256(ada.der).hexdigest()]
    assert seen.all("X-Client-Subject") == [r"CN=Ada\2C Countess"]
    assert seen.all("X-Client-Names") == ["DNS:ada.example.com, URI:spiffe://example.com/ada"]
    assert len(seen.all("X-Client-Serial")) == 1
    with (
        connected(secured, authority.trusted()) as without,
        socket.create_connection(address_of(plain), timeout=10) as clear,
    ):
        sockets: list[socket.socket] = [without, clear]
        for other in sockets:
            assert get(other, fields=forged).status == 200
            assert b"forged" not in origin.requests[-1].raw
            assert not any(origin.requests[-1].get(name) for name in FIELDS.values())


@pytest.mark.parametrize("form", ["UTF8String", "BMPString", "UniversalString"])
def test_a_subject_is_the_same_text_in_each_form_of_it(
    authority: Authority, clients: Authority, start: Start, origin: Origin, form: str
) -> None:
    origin.default = Reply(200)
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients))
    edge.route("/*", to=edge.origin("first", origin.url))
    zoe = clients.issue(client=True, subject="Zoë, 中", form=form)
    with connected(start(edge).urls[0], client_of(authority, zoe)) as sock:
        assert get(sock).status == 200
    assert origin.requests[-1].all("X-Client-Subject") == [r"CN=Zo\C3\AB\2C \E4\B8\AD"]


def test_a_stored_response_is_for_one_client_unless_the_policy_declares_otherwise(
    authority: Authority, clients: Authority, start: Start, origin: Origin
) -> None:
    origin.default = lambda seen: Reply(200, {"cache-control": "max-age=60"}, seen.get("x-client-subject") or "nobody")
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients, "optional", subject="X-Client-Subject"))
    to = edge.origin("first", origin.url)
    edge.route("/own", to=to)
    edge.route("/shared", to=to, forward=ForwardPolicy(unkeyed=["X-Client-Subject"]))
    edge.route("/hidden", to=to, forward=ForwardPolicy(headers=["accept"]))
    server = start(edge)
    issued = [clients.issue(client=True, subject="ada"), clients.issue(client=True, subject="bob"), None]
    for path, bodies, requests in (
        ("/own", [b"CN=ada", b"CN=bob", b"nobody"], 3),
        ("/shared", [b"CN=ada"] * 3, 1),
        ("/hidden", [b"nobody"] * 3, 1),
    ):
        for _ in range(2):
            for who, body in zip(issued, bodies, strict=True):
                with connected(server.urls[0], client_of(authority, who)) as sock:
                    assert get(sock, path=path).body == body, path
        assert origin.count(path) == requests, path


def test_routes_and_functions_see_who_the_client_is(authority: Authority, clients: Authority, start: Start) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients, "optional", subject="X-Client-Subject"))
    edge.route("/admin", respond="welcome", when=When(header="X-Client-Subject", equals="CN=ada"))
    edge.route("/admin", respond={"status": 403, "body": "not you"})

    show_field(edge, "x-client-subject", absent="nobody")
    server = start(edge)
    for issued, status, body in (
        (clients.issue(client=True, subject="ada"), 200, b"CN=ada"),
        (clients.issue(client=True, subject="bob"), 403, b"CN=bob"),
        (None, 403, b"nobody"),
    ):
        with connected(server.urls[0], client_of(authority, issued)) as sock:
            assert get(sock, path="/admin", fields="x-client-subject: CN=ada\r\n").status == status
            assert get(sock, path="/who").body == body


def test_functions_and_hooks_have_the_certificate_without_any_field(
    authority: Authority, clients: Authority, start: Start, origin: Origin
) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "from origin")
    tls = Tls(authority.issue("www.example.com").certificate, client_ca=clients.file, client_certificates="optional")
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=tls)
    edge.route("/origin", to=edge.origin("first", origin.url))

    @edge.function("/who")
    def who(request: Request, ctx: Context) -> Response:
        held = request.client_certificate
        if held is None:
            return Response.text("nobody")
        facts = {
            "subject": held.subject,
            "names": held.names,
            "fingerprint": held.fingerprint,
            "der": held.der.hex(),
            "valid": held.not_before < held.not_after and int(held.serial, 16) > 0,
        }
        return Response.json(facts)

    @edge.on("origin_request", "/origin")
    def signs(request: Request, ctx: Context) -> None:
        held = request.client_certificate
        request.headers["x-subject"] = held.subject if held else "nobody"

    server = start(edge)
    ada = clients.issue("ada.example.com", client=True, subject="ada")
    for issued, subject in ((ada, "CN=ada"), (None, "nobody")):
        with connected(server.urls[0], client_of(authority, issued)) as sock:
            body = get(sock, path="/who").body
            if issued is None:
                assert body == b"nobody"
            else:
                assert json.loads(body) == {
                    "subject": "CN=ada",
                    "names": ["DNS:ada.example.com"],
                    "fingerprint": hashlib.sha256(ada.der).hexdigest(),
                    "der": ada.der.hex(),
                    "valid": True,
                }
            # The response depends on who the client is, so it is not stored.
            assert get(sock, path="/origin").body == b"from origin"
            assert origin.requests[-1].get("x-subject") == subject


def test_a_name_with_the_escape_of_a_comma_in_it_reads_unlike_one_with_a_comma(
    authority: Authority, clients: Authority, start: Start
) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients, names="X-Client-Names"))

    show_field(edge, "x-client-names")
    server = start(edge)
    for name, shown in (
        ("urn://ada, DNS:root", rb"URI:urn://ada\2C DNS:root"),
        (r"urn://ada\2C DNS:root", rb"URI:urn://ada\5C2C DNS:root"),
    ):
        with connected(server.urls[0], client_of(authority, clients.issue(name, client=True))) as sock:
            assert get(sock, path="/who").body == shown


def test_an_authority_of_clients_that_has_expired_is_warned_of(
    authority: Authority, start: Start, tmp_path: Path, standard_error: Callable[[], str]
) -> None:
    (tmp_path / "over").mkdir()
    over = Authority(tmp_path / "over", "over", days=-1)
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, over))
    edge.route("/*", respond="hello")
    server = start(edge)
    until(lambda: 'the authority "CN=over" in client_ca has expired' in standard_error())
    # RFC 5280 §6.1.1 (d): the end of a trust anchor is no part of the validation.
    with connected(server.urls[0], client_of(authority, over.issue(client=True, subject="ada"))) as sock:
        assert get(sock).status == 200


def test_a_host_with_client_certificates_is_not_reached_by_a_connection_of_another_host(
    authority: Authority, clients: Authority, start: Start
) -> None:
    admin = Tls(authority.issue("admin.example.com").certificate, client_ca=clients.file)
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=[Tls(authority.issue("www.example.com").certificate), admin])
    edge.route("/*", respond="hello")
    server = start(edge)
    with connected(server.urls[0], authority.trusted()) as sock:
        assert get(sock, "admin.example.com").status == 421
    context = client_of(authority, clients.issue(client=True, subject="ada"))
    with connected(server.urls[0], context, "admin.example.com") as sock:
        assert get(sock, "admin.example.com").status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_keeps_the_identity_and_ends_with_its_authority(
    authority: Authority, clients: Authority, start: Start, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    tls = mutual(authority, clients, subject="X-Client-Subject")
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=tls)

    show_field(edge, "x-client-subject", absent="nobody")
    server = start(edge)
    context = client_of(authority, clients.issue(client=True, subject="ada"))
    context.minimum_version = context.maximum_version = version
    with connected(server.urls[0], context) as sock:
        assert get(sock, path="/who").body == b"CN=ada"
        session = sock.session
    with connected(server.urls[0], context, session=session) as sock:
        assert (get(sock, path="/who").body, sock.session_reused) == (b"CN=ada", True)
        (tmp_path / "others").mkdir()
        others = Authority(tmp_path / "others", "others")
        clients.file.write_bytes(others.file.read_bytes())
        server.reload(edge)
        assert get(sock, path="/who").status == 421, "its authority is no longer trusted"
    assert refused(server.urls[0], context)


@pytest.mark.parametrize(
    ("version", "options"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_3, ssl.Options(0), id="TLS 1.3"),
        pytest.param(ssl.TLSVersion.TLSv1_2, ssl.Options(0), id="TLS 1.2"),
        pytest.param(ssl.TLSVersion.TLSv1_2, ssl.OP_NO_TICKET, id="TLS 1.2 by its number"),
    ],
)
def test_a_client_with_a_renewed_certificate_is_let_in_with_a_session_of_the_one_before(
    authority: Authority, clients: Authority, start: Start, version: ssl.TLSVersion, options: ssl.Options
) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients, subject="X-Client-Subject"))
    show_field(edge, "x-client-subject", absent="nobody")
    server = start(edge)
    brief = clients.issue(client=True, subject="ada", days=5 / 86_400)
    context = client_of(authority, brief)
    context.minimum_version = context.maximum_version = version
    context.options |= options
    with connected(server.urls[0], context) as sock:
        assert get(sock, path="/who").body == b"CN=ada"
        session = sock.session
    with connected(server.urls[0], context, session=session) as sock:
        assert (get(sock, path="/who").body, sock.session_reused) == (b"CN=ada", True)
        session = sock.session
    end = x509.load_der_x509_certificate(brief.der).not_valid_after_utc.timestamp()
    until(lambda: time.time() > end + 1)
    renewed = clients.issue(client=True, subject="bob")
    context.load_cert_chain(renewed.chain, renewed.key)
    with connected(server.urls[0], context, session=session) as sock:
        assert (get(sock, path="/who").body, sock.session_reused) == (b"CN=bob", False)


def large(clients: Authority, size: int) -> Issued:
    """A certificate of about this many bytes in DER."""
    names = [f"a{number:04}.example.com" for number in range(size // 25)]
    short = len(clients.issue(*names, "urn://", client=True, subject="ada").der)
    return clients.issue(*names, "urn://" + "x" * (size - short - 4), client=True, subject="ada")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [10_000, 65_430])
def test_a_client_with_a_large_certificate_is_served_and_resumes_where_a_ticket_has_room(
    authority: Authority, clients: Authority, start: Start, version: ssl.TLSVersion, size: int
) -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=mutual(authority, clients, subject="X-Client-Subject"))

    show_field(edge, "x-client-subject")
    server = start(edge)
    issued = large(clients, size)
    assert abs(len(issued.der) - size) < 10
    context = client_of(authority, issued)
    context.minimum_version = context.maximum_version = version
    with connected(server.urls[0], context) as sock:
        assert get(sock, path="/who").body == b"CN=ada"
        session = sock.session
    with connected(server.urls[0], context, session=session) as sock:
        assert get(sock, path="/who").body == b"CN=ada"
        # TLS 1.2 has sessions by their number, too.
        assert sock.session_reused is (size < 16_384 or version is ssl.TLSVersion.TLSv1_2)


def test_settings_that_would_do_nothing_or_cannot_be_used_are_refused(
    authority: Authority, clients: Authority, tmp_path: Path
) -> None:
    certificate = authority.issue("www.example.com").certificate
    for given, message in (
        ({"client_certificates": "required"}, r"Tls\.client_certificates: .*has no effect; give client_ca"),
        ({"client_fields": {"subject": "X-S"}}, r"Tls\.client_fields: .*has no effect; give client_ca"),
        ({"client_ca": clients.file, "client_fields": {"cn": "X-S"}}, r"must be one of certificate, fingerprint"),
        ({"client_ca": clients.file, "client_fields": {"subject": "X S"}}, r"must be the name of a request field"),
        ({"client_ca": clients.file, "client_certificates": "maybe"}, r"must be one of None, required, optional"),
    ):
        with pytest.raises(ConfigError, match=message):
            Tls(certificate, **given)
    (tmp_path / "empty.pem").write_text("nothing")
    for file, fields, message in (
        (tmp_path / "empty.pem", {}, r"tls\[0\]\.client_ca: file .*empty\.pem: holds no certificate in PEM"),
        (tmp_path / "absent.pem", {}, r"tls\[0\]\.client_ca: file .*absent\.pem: cannot be read"),
        (clients.file, {"subject": "Host"}, r"client_fields\.subject: .*neither frames nor routes"),
        (clients.file, {"subject": "X-A", "serial": "x-a"}, r"is the field of another fact"),
    ):
        edge = Edge("test")
        edge.listen("127.0.0.1:0", tls=Tls(certificate, client_ca=file, client_fields=fields))
        edge.route("/*", respond="hello", cache=cache.DISABLED)
        with pytest.raises(ConfigError, match=message):
            edge.compile()
