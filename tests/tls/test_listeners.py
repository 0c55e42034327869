"""Listeners with TLS: certificates by name, policies, ALPN, the scheme of requests, bounds, reloads."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
import threading

import pytest

from edgerouter import ConfigError, Edge, Limits, Tls, TlsLimits, _core, cache

from ..certificates import Authority
from ..origins import Origin, Reply
from ..processes import free_port
from ..raw import responses
from .clients import address_of, connected, get, read, sample, until
from .conftest import Start, site


def test_a_request_is_answered_over_tls_1_3_and_1_2(authority: Authority, start: Start) -> None:
    server = start(site(Tls(authority.issue("www.example.com").certificate)))
    assert server.urls[0].startswith("https://127.0.0.1:")
    for version, name in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
        context = authority.trusted()
        context.minimum_version = context.maximum_version = version
        with connected(server.urls[0], context) as sock:
            first, second = get(sock), get(sock)
            assert (sock.version(), first.status, first.body) == (name, 200, b"hello")
            assert second.body == b"hello"


def test_an_exact_name_selects_its_certificate_before_a_wildcard(authority: Authority, start: Start) -> None:
    wildcard = authority.issue("*.example.com", "example.com")
    exact = authority.issue("www.example.com")
    other = authority.issue("other.example.org")
    server = start(site([Tls([other.certificate, wildcard.certificate, exact.certificate])]))
    for name, issued in (
        ("www.example.com", exact),
        ("WWW.EXAMPLE.COM", exact),
        ("a.example.com", wildcard),
        ("example.com", wildcard),
        ("other.example.org", other),
    ):
        with connected(server.urls[0], authority.trusted(), name) as sock:
            assert sock.getpeercert(binary_form=True) == issued.der, name


def test_a_client_without_a_name_gets_the_first_certificate(authority: Authority, start: Start) -> None:
    first, second = authority.issue("a.example.com"), authority.issue("b.example.com")
    server = start(site([Tls(first.certificate), Tls(second.certificate)]))
    with connected(server.urls[0], authority.trusted(), None) as sock:
        assert sock.getpeercert(binary_form=True) == first.der
    context = authority.trusted()
    context.check_hostname = False
    with connected(server.urls[0], context, "unknown.example.net") as sock:
        assert sock.getpeercert(binary_form=True) == first.der


def test_a_client_that_verifies_rsa_only_gets_the_rsa_certificate_of_the_name(
    authority: Authority, start: Start
) -> None:
    by_ec, by_rsa = authority.issue("www.example.com"), authority.issue("www.example.com", kind="rsa")
    server = start(site(Tls([by_ec.certificate, by_rsa.certificate])))
    context = authority.trusted()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with connected(server.urls[0], context) as sock:
        assert sock.getpeercert(binary_form=True) == by_rsa.der
    with connected(server.urls[0], authority.trusted()) as sock:
        assert sock.getpeercert(binary_form=True) == by_ec.der


@pytest.mark.parametrize(
    ("policy", "version", "cipher", "works"),
    [
        ("TLSv1.2_2021", ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("TLSv1.2_2025", ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", False),
        ("TLSv1.2_2025", ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", True),
        ("TLSv1.3_2025", ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", False),
        ("TLSv1.3_2025", ssl.TLSVersion.TLSv1_3, "DEFAULT", True),
    ],
)
def test_a_policy_is_cloudfronts_of_that_name(
    authority: Authority, start: Start, policy: str, version: ssl.TLSVersion, cipher: str, works: bool
) -> None:
    tls = Tls(authority.issue("www.example.com").certificate, policy=policy)  # type: ignore[arg-type]
    server = start(site(tls))
    context = authority.trusted()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(cipher)
    if not works:
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"), connected(server.urls[0], context):
            pass
        # A handshake is counted behind the alert that its client has read.
        until(lambda: sample(server, 'edgerouter_tls_handshakes_total{result="failed",version=""}') == 1)
        return
    with connected(server.urls[0], context) as sock:
        assert get(sock).status == 200


@pytest.mark.parametrize("policy", ["SSLv3", "TLSv1", "TLSv1_2016", "TLSv1.1_2016", "TLSv1.2_2018", "TLSv1.2_2019"])
def test_an_outdated_policy_is_refused_with_the_nearest_one(authority: Authority, policy: str) -> None:
    certificate = authority.issue("www.example.com").certificate
    with pytest.raises(ConfigError, match=r"Tls\.policy: .*the nearest policy is TLSv1\.2_2021"):
        Tls(certificate, policy=policy)  # type: ignore[arg-type]
    plan = site(Tls(certificate)).to_dict()
    plan["listeners"][0]["tls"][0]["policy"] = policy
    with pytest.raises(ConfigError, match=r"listeners\[0\]\.tls\[0\]\.policy: .*the nearest policy is .TLSv1\.2_2021"):
        Edge.from_dict(plan).compile()


def test_alpn_selects_an_offered_protocol_and_refuses_a_client_that_offers_only_others(
    authority: Authority, start: Start
) -> None:
    edge = Edge("test")
    tls = Tls(authority.issue("www.example.com").certificate)
    edge.listen("127.0.0.1:0", tls=tls, http=("http/1.1",))
    edge.listen("127.0.0.1:0", tls=tls, http=("h2",))
    edge.route("/*", respond="hello")
    old, new = start(edge).urls
    for url, want, other in ((old, "http/1.1", "h2"), (new, "h2", "http/1.1")):
        context = authority.trusted()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with connected(url, context) as sock:
            assert sock.selected_alpn_protocol() == want
        context = authority.trusted()
        context.set_alpn_protocols([other])
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"), connected(url, context):
            pass


def test_a_protocol_that_is_not_served_is_refused_with_those_that_are(authority: Authority) -> None:
    tls = Tls(authority.issue("www.example.com").certificate)
    with pytest.raises(ConfigError, match=r"Listener\.http: .*must be .h2. or .http/1\.1."):
        Edge("test").listen("127.0.0.1:0", tls=tls, http=("h3", "http/1.1"))
    with pytest.raises(ConfigError, match=r"Listener\.http: .*must name at least one protocol"):
        Edge("test").listen("127.0.0.1:0", tls=tls, http=())
    for protocols, problem in (
        (["h3"], r"listeners\[0\]\.http\[0\]: \"h3\": is not a protocol of HTTP over TCP"),
        (["h2", "h2"], r"listeners\[0\]\.http\[1\]: \"h2\": is named twice"),
        ([], r"listeners\[0\]\.http: .*must name at least one protocol"),
    ):
        plan = site(tls).to_dict()
        plan["listeners"][0]["http"] = protocols
        with pytest.raises(ConfigError, match=problem):
            Edge.from_dict(plan).compile()


def test_the_scheme_of_a_request_is_https_for_routes_keys_and_origins(
    authority: Authority, start: Start, origin: Origin
) -> None:
    origin.default = lambda seen: Reply(
        headers={"cache-control": "max-age=60"}, body=seen.get("x-forwarded-proto") or ""
    )
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    edge.listen("127.0.0.1:0")
    to = edge.origin("first", origin.url)
    edge.route("/only", to=to, viewer="https-only", cache=cache.DISABLED)
    edge.route("/redirected", to=to, viewer="redirect-to-https", cache=cache.DISABLED)
    edge.route("/*", to=to)
    secured, plain = start(edge).urls
    assert (secured[:8], plain[:7]) == ("https://", "http://")
    with connected(secured, authority.trusted()) as sock, socket.create_connection(address_of(plain), 10) as clear:
        for path in ("/only", "/redirected", "/stored"):
            response = get(sock, path=path)
            assert (response.status, response.body) == (200, b"https"), path
        assert get(clear, path="/only").status == 403
        moved = get(clear, path="/redirected")
        assert (moved.status, moved.get("location")) == (301, "https://www.example.com/redirected")
        assert get(clear, path="/stored").body == b"http", "the key has the scheme"
        assert get(sock, path="/stored").get("cache-status") is not None


def test_plain_text_on_a_port_of_tls_is_answered_by_an_alert_and_a_clean_close(
    authority: Authority, start: Start
) -> None:
    server = start(site(Tls(authority.issue("www.example.com").certificate)))
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n")
        received = b""
        while more := sock.recv(4096):
            received += more
    # TLS 1.2's record of a fatal alert.
    assert (received[:3], len(received), received[5]) == (b"\x15\x03\x03", 7, 2)
    until(lambda: sample(server, 'edgerouter_tls_handshakes_total{result="failed",version=""}') == 1)


def test_a_silent_client_is_closed_when_its_time_for_the_handshake_is_over(authority: Authority, start: Start) -> None:
    tls = Tls(authority.issue("www.example.com").certificate)
    edge = Edge("test", limits=Limits(tls=TlsLimits(handshake_timeout=0.2)))
    edge.listen("127.0.0.1:0", tls=tls)
    edge.route("/*", respond="hello")
    server = start(edge)
    for first in (b"", b"\x16"):
        with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
            sock.sendall(first)
            assert sock.recv(100) == b""
    # The end of a handshake is counted when its connection is closed.
    until(lambda: sample(server, 'edgerouter_tls_handshakes_total{result="timeout",version=""}') == 2)
    # A client that speaks has more time here, as a busy machine may take it.
    server.reload(site(tls))
    with connected(server.urls[0], authority.trusted()) as sock:
        assert get(sock).status == 200


def test_handshakes_beyond_the_bound_wait_for_a_place(authority: Authority, start: Start) -> None:
    edge = Edge("test", limits=Limits(tls=TlsLimits(handshakes=1)))
    edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    edge.route("/*", respond="hello")
    server = start(edge)
    under_way = "edgerouter_tls_handshakes_under_way"
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as slow:
        slow.sendall(b"\x16\x03")
        until(lambda: sample(server, under_way) == 1)
        answered: list[int] = []

        def ask() -> None:
            with connected(server.urls[0], authority.trusted()) as sock:
                answered.append(get(sock).status)

        other = threading.Thread(target=ask)
        other.start()
        assert (answered, sample(server, under_way)) == ([], 1)
    other.join(60)
    assert answered == [200]


def test_connections_that_say_nothing_take_no_place_of_a_handshake(authority: Authority, start: Start) -> None:
    edge = Edge("test", limits=Limits(tls=TlsLimits(handshakes=1)))
    edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    edge.route("/*", respond="hello")
    server = start(edge)
    address = address_of(server.urls[0])
    under_way = "edgerouter_tls_handshakes_under_way"
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(3)]
        until(lambda: sample(server, "edgerouter_connections_accepted_total") >= len(silent))
        # Served, although there is only one place.
        with connected(server.urls[0], authority.trusted()) as sock:
            assert get(sock).status == 200
        until(lambda: sample(server, under_way) == 0)
        silent[0].sendall(b"\x16\x03")
        until(lambda: sample(server, under_way) == 1)


def test_large_responses_and_uploads_arrive_whole(authority: Authority, start: Start, origin: Origin) -> None:
    origin.default = lambda seen: Reply(headers={"cache-control": "max-age=60"}, body=seen.body or b"x" * 3_000_000)
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=Tls(authority.issue("www.example.com").certificate))
    edge.route("/*", to=edge.origin("first", origin.url))
    server = start(edge)
    with connected(server.urls[0], authority.trusted()) as sock:
        assert [len(get(sock, path="/large").body) for _ in range(2)] == [3_000_000] * 2
        body = b"y" * 2_000_000
        sender = threading.Thread(
            target=sock.sendall,
            args=(b"POST /up HTTP/1.1\r\nhost: www.example.com\r\ncontent-length: 2000000\r\n\r\n" + body,),
        )
        sender.start()
        sender.join(60)
        assert read(sock).body == body


def test_a_reload_replaces_certificates_and_drops_no_connection(authority: Authority, start: Start) -> None:
    issued = authority.issue("www.example.com")
    edge = site(Tls(issued.certificate))
    server = start(edge)
    with connected(server.urls[0], authority.trusted()) as before:
        assert get(before).status == 200
        renewed = authority.issue("www.example.com")
        issued.chain.write_bytes(renewed.chain.read_bytes())
        with pytest.raises(ConfigError, match="is not the key of the certificate"):
            server.reload(edge)
        assert get(before).status == 200
        issued.key.write_bytes(renewed.key.read_bytes())
        server.reload(edge)
        assert get(before).status == 200
        with connected(server.urls[0], authority.trusted()) as after:
            assert after.getpeercert(binary_form=True) == renewed.der
            assert get(after).status == 200


def test_a_reload_that_moves_a_listener_is_refused(authority: Authority, start: Start) -> None:
    tls = Tls(authority.issue("www.example.com").certificate)
    server = start(site(tls))
    moved = site(tls)
    moved.listen("127.0.0.1:0")
    with pytest.raises(ConfigError, match="listeners: cannot be added, removed or moved while the edge serves"):
        server.reload(moved)
    with connected(server.urls[0], authority.trusted()) as sock:
        assert get(sock).status == 200


def test_the_post_quantum_group_is_agreed_on_with_a_client_that_offers_it(authority: Authority, start: Start) -> None:
    server = start(site(Tls(authority.issue("www.example.com").certificate)))
    # Keys of ML-KEM-768 whose coefficients are all zero are valid (FIPS 203 §7.2); 32 bytes of X25519 follow.
    share = b"\0" * 1152 + b"\1" * 32 + b"\x09" + b"\0" * 31
    groups = (0x11EC, 0x001D)
    extensions = {
        0: (lambda name: vector(2, b"\0" + vector(2, name)))(b"www.example.com"),
        10: vector(2, b"".join(group.to_bytes(2, "big") for group in groups)),
        13: vector(2, b"\x04\x03\x08\x04"),
        43: vector(1, b"\x03\x04"),
        51: vector(2, (0x11EC).to_bytes(2, "big") + vector(2, share)),
    }
    body = b"\x03\x03" + b"r" * 32 + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    body += vector(2, b"".join(kind.to_bytes(2, "big") + vector(2, data) for kind, data in extensions.items()))
    hello = b"\x01" + vector(3, body)
    with socket.create_connection(address_of(server.urls[0]), timeout=10) as sock:
        sock.sendall(b"\x16\x03\x01" + vector(2, hello))
        received = b""
        while len(received) < 1300:
            more = sock.recv(4096)
            assert more, received[:100]
            received += more
    assert received[0] == 0x16 and received[5] == 2, "a ServerHello"
    # Its key share: the group, and 1,088 bytes of ciphertext and 32 of X25519.
    assert b"\x11\xec" + (1120).to_bytes(2, "big") in received


def vector(width: int, data: bytes) -> bytes:
    """Data behind its length (RFC 8446 §3.4)."""
    return len(data).to_bytes(width, "big") + data


def test_openssl_verifies_the_chain_and_closes_cleanly(authority: Authority, start: Start) -> None:
    server = start(site(Tls(authority.issue("www.example.com").certificate)))
    host, port = address_of(server.urls[0])
    client = subprocess.run(
        [
            *f"openssl s_client -connect {host}:{port} -servername www.example.com -verify_return_error -quiet".split(),
            *("-alpn", "http/1.1", "-CAfile", str(authority.file)),
        ],
        input=b"GET / HTTP/1.1\r\nhost: www.example.com\r\nconnection: close\r\n\r\n",
        capture_output=True,
        timeout=30,
        check=False,
    )
    (response,) = responses(client.stdout)
    assert (response.status, response.body) == (200, b"hello")
    assert not re.search(rb"unexpected eof", client.stderr)


def test_an_idle_connection_ends_by_the_close_of_tls_when_the_edge_stops(authority: Authority, start: Start) -> None:
    server = start(site(Tls(authority.issue("www.example.com").certificate)))
    with connected(server.urls[0], authority.trusted()) as sock:
        assert get(sock).status == 200
        stopper = threading.Thread(target=server.stop, args=(5.0,))
        stopper.start()
        # An end without it would raise SSLEOFError.
        assert sock.recv(100) == b""
        stopper.join(60)


def test_an_address_of_ipv6_serves_ipv4_too(authority: Authority, start: Start) -> None:
    edge = Edge("test")
    edge.listen("[::]:0", tls=Tls(authority.issue("www.example.com").certificate))
    edge.route("/*", respond="hello")
    port = address_of(start(edge).urls[0])[1]
    for host in ("[::1]", "127.0.0.1"):
        with connected(f"https://{host}:{port}", authority.trusted()) as sock:
            answer = get(sock)
            assert (answer.status, answer.body) == (200, b"hello"), host


def test_a_redirect_to_https_names_the_port_of_the_listener_with_tls(authority: Authority, start: Start) -> None:
    port = free_port()
    edge = Edge("test")
    edge.listen("127.0.0.1:0")
    edge.listen(f"127.0.0.1:{port}", tls=Tls(authority.issue("www.example.com").certificate))
    edge.route("/*", respond="hello", viewer="redirect-to-https")
    plain, _ = start(edge).urls
    with socket.create_connection(address_of(plain), timeout=10) as sock:
        for host, location in (
            ("www.example.com:8080", f"https://www.example.com:{port}/a?b"),
            ("[::1]:8080", f"https://[::1]:{port}/a?b"),
            ("www.example.com", "https://www.example.com/a?b"),
            ("[::1]", "https://[::1]/a?b"),
        ):
            assert get(sock, host, "/a?b").get("location") == location


def test_check_advises_on_https_only_where_nobody_speaks_it(authority: Authority) -> None:
    tls = Tls(authority.issue("www.example.com").certificate, client_ca=authority.file)
    edge = Edge("test")
    edge.route("/*", respond="hello", viewer="https-only")
    assert [it["rule"] for it in _core.lint(edge.encode())] == ["https"]
    edge.listen("127.0.0.1:0", tls=tls)
    assert _core.lint(edge.encode()) == []
    edge.listen("127.0.0.1:0")
    edge.route("/open", respond="hello")
    assert [(it["rule"], it["path"]) for it in _core.lint(edge.encode())] == [("client-certificates", "listeners[1]")]
