"""Certificates that the edge obtains from a real issuer, and what happens when that one fails."""

from __future__ import annotations

import json
import re
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from edgerouter import Acme, ConfigError, Edge, Issuer, Secret, Tls

from ..certificates import Authority
from ..origins import wait_until
from ..processes import free_port
from ..raw import RawResponse
from ..tls.clients import connected, get, read, sample
from .conftest import Site, Start
from .issuers import DAY, Impostor, Pebble

NAME = "www.example.com"
ABSENT = 'edgerouter_acme_certificates{state="absent"}'
VALID = 'edgerouter_acme_certificates{state="valid"}'


def served(port: int, context: ssl.SSLContext, name: str = NAME) -> tuple[RawResponse, bytes]:
    """A response over TLS, and the certificate that came with it."""
    with connected(f"https://127.0.0.1:{port}", context, name) as sock:
        der = sock.getpeercert(binary_form=True)
        assert der is not None
        return get(sock, name), der


def plain(port: int, path: str) -> RawResponse:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nhost: {NAME}\r\n\r\n".encode())
        return read(sock)


def test_a_certificate_is_obtained_for_each_name_and_used_at_once(site: Site, pebble: Pebble, start: Start) -> None:
    server = start(site.edge(NAME, "api.example.com", issuers=pebble.issuer(), email="ops@example.com"))
    wait_until(lambda: sample(server, VALID) == 2, 60, what="two certificates")
    for name in (NAME, "api.example.com"):
        response, der = served(site.ports.tls, pebble.trusted(), name)
        assert (response.status, response.body) == (200, b"hello")
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.DNSName) == [name]
        end = x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
        assert sample(server, f'edgerouter_tls_certificate_expiry_timestamp_seconds{{name="{name}"}}') == end
        assert sample(server, f'edgerouter_acme_failures{{name="{name}"}}') == 0
    assert sample(server, 'edgerouter_acme_orders_total{result="issued"}') == 2
    assert sample(server, "edgerouter_acme_challenges_answered_total") >= 2
    assert "reject 50% of good nonces" in pebble.log()


def test_a_reader_of_the_count_of_issued_orders_finds_their_certificates(
    site: Site, pebble: Pebble, start: Start
) -> None:
    names = [f"n{number}.example.com" for number in range(6)]
    server = start(site.edge(*names, issuers=pebble.issuer()))
    trusted = pebble.trusted()

    def is_served(name: str) -> bool:
        try:
            return served(site.ports.tls, trusted, name)[0].status == 200
        except OSError:
            return False

    # Without a pause: a count that comes before its certificate is ahead for a moment only.
    deadline = time.monotonic() + 60
    issued = 0
    while issued < len(names):
        assert time.monotonic() < deadline, issued
        lines = server.metrics().splitlines()
        counted = dict(line.rsplit(" ", 1) for line in lines if line.startswith("edgerouter_acme_"))
        if (count := int(counted['edgerouter_acme_orders_total{result="issued"}'])) > issued:
            issued = count
            assert int(counted[VALID]) >= issued
            assert sum(map(is_served, names)) >= issued


def test_keys_are_for_this_user_only_and_a_restart_uses_what_is_stored(
    site: Site, pebble: Pebble, start: Start
) -> None:
    edge = site.edge(NAME, issuers=pebble.issuer())
    server = start(edge)
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    context = pebble.trusted()
    _, first = served(site.ports.tls, context)
    files = [path for path in site.storage.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".pem", ".json", ".lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert list((site.storage / "challenges").iterdir()) == []
    server.stop(5)
    # The issuer is not needed for what is stored.
    pebble.stop()
    again = start(edge)
    response, second = served(site.ports.tls, context)
    assert (response.status, second) == (200, first)
    # Nor is it called: nothing is due.
    assert sample(again, f'edgerouter_acme_failures{{name="{NAME}"}}') == 0
    assert sample(again, 'edgerouter_acme_orders_total{result="issued"}') == 0


def test_only_a_live_token_is_answered_and_any_other_takes_the_way_of_all_requests(
    site: Site, pebble: Pebble, start: Start
) -> None:
    edge = site.edge(NAME, issuers=pebble.issuer())
    server = start(edge)
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    answered = sample(server, "edgerouter_acme_challenges_answered_total")
    token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
    path = f"/.well-known/acme-challenge/{token}"
    assert plain(site.ports.http, path).status == 301
    # Another process that shares the folder shows its proof by this one, too.
    live = site.storage / "challenges" / token
    live.write_text(f"{token}.thumbprint")
    response = plain(site.ports.http, path)
    assert (response.status, response.body) == (200, f"{token}.thumbprint".encode())
    assert response.get("cache-status") == "edgerouter; detail=challenge"
    assert response.get("cache-control") == "no-store"
    assert served(site.ports.tls, pebble.trusted())[0].status == 200
    with connected(f"https://127.0.0.1:{site.ports.tls}", pebble.trusted()) as sock:
        assert get(sock, NAME, path).body == b"hello"
    for other in (f"{path}/", f"{path}x", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/../x"):
        assert plain(site.ports.http, other).status == 301, other
    live.unlink()
    assert plain(site.ports.http, path).status == 301
    assert sample(server, "edgerouter_acme_challenges_answered_total") == answered + 1


def test_handshakes_fail_and_are_counted_as_long_as_there_is_no_certificate(site: Site, start: Start) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        authority = Authority(site.storage.parent)
        issuer = Issuer(f"https://127.0.0.1:{silent.getsockname()[1]}/dir", ca_file=authority.file)
        edge = site.edge(NAME, issuers=issuer)
        server = start(edge)
        assert sample(server, ABSENT) == 1
        with pytest.raises(ssl.SSLError):
            served(site.ports.tls, authority.trusted())
        assert sample(server, "edgerouter_acme_handshakes_without_certificate_total") == 1
        # Plain text is served meanwhile, and a stop does not wait for the issuer.
        assert plain(site.ports.http, "/").status == 301
        assert server.stop(5)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage", b"HTTP/1.1 500 No\r\n\r\n"]
)
def test_the_next_issuer_is_tried_when_one_answers_nothing_useful(
    site: Site, pebble: Pebble, start: Start, answer: bytes
) -> None:
    with Impostor(site.storage.parent, answer) as bad:
        server = start(site.edge(NAME, issuers=[bad.issuer(), pebble.issuer()]))
        wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
        assert served(site.ports.tls, pebble.trusted())[0].status == 200


def test_an_issuer_that_asks_for_patience_gets_no_order_until_then(site: Site, start: Start) -> None:
    busy = b"HTTP/1.1 503 Busy\r\nretry-after: 7200\r\ncontent-length: 0\r\n\r\n"
    with Impostor(site.storage.parent, busy) as first, Impostor(site.storage.parent, b"", "second") as second:
        server = start(site.edge(NAME, issuers=[first.issuer(), second.issuer()]))
        failures = f'edgerouter_acme_failures{{name="{NAME}"}}'
        wait_until(lambda: sample(server, failures) == 1, 60, what="a failed order")
        assert (first.requests, second.requests) == (1, 1)
        # The other one wants no pause, and is tried after the usual wait.
        server.engine.shift_clock(120)
        wait_until(lambda: sample(server, failures) == 2, 60, what="a second one")
        assert (first.requests, second.requests) == (1, 2)
        server.engine.shift_clock(7_400)
        wait_until(lambda: sample(server, failures) == 3, 60, what="a third one")
        assert (first.requests, second.requests) == (2, 3)


def test_a_certificate_is_of_the_profile_that_was_asked_for(
    site: Site, pebbles: Callable[..., Pebble], start: Start
) -> None:
    kinds = {
        "classic": {"description": "three months", "validityPeriod": 90 * DAY},
        "shortlived": {"description": "six days", "validityPeriod": 6 * DAY},
    }
    pebble = pebbles(profiles=kinds)
    server = start(site.edge(NAME, issuers=pebble.issuer(profile="eternal")))
    failures = f'edgerouter_acme_failures{{name="{NAME}"}}'
    wait_until(lambda: sample(server, failures) == 1, 60, what="a failed order")
    assert "Order" not in pebble.log()
    server.reload(site.edge(NAME, issuers=pebble.issuer(profile="shortlived")))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    _, der = served(site.ports.tls, pebble.trusted())
    found = x509.load_der_x509_certificate(der)
    assert round((found.not_valid_after_utc - found.not_valid_before_utc).total_seconds() / DAY) == 6


def test_an_issuer_whose_certificate_is_not_by_its_ca_file_gets_no_request(
    site: Site, pebble: Pebble, start: Start
) -> None:
    other = Authority(site.storage.parent, "other")
    issuer = Issuer(pebble.directory, ca_file=other.file)
    server = start(site.edge(NAME, issuers=issuer))
    failed = 'edgerouter_acme_orders_total{result="failed"}'
    wait_until(lambda: sample(server, failed) == 1, 60, what="a failed order")
    wait_until(lambda: sample(server, f'edgerouter_acme_failures{{name="{NAME}"}}') == 1, what="its name")
    # The folder was tried for room, and holds no account.
    assert list((site.storage / "accounts").iterdir()) == []


def test_an_account_is_made_once_and_made_anew_when_the_issuer_has_lost_it(
    site: Site, pebble: Pebble, start: Start
) -> None:
    server = start(site.edge(NAME, issuers=pebble.issuer()))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    (account,) = (site.storage / "accounts").iterdir()
    before = account.read_bytes()
    server.reload(site.edge(NAME, "api.example.com", issuers=pebble.issuer()))
    wait_until(lambda: sample(server, VALID) == 2, 60, what="the second certificate")
    assert account.read_bytes() == before
    # Pebble keeps nothing.
    pebble.stop()
    pebble.start()
    server.reload(site.edge(NAME, "new.example.com", issuers=pebble.issuer(), challenges=["http-01"]))

    def obtained() -> bool:
        # The name is there as soon as the thread has seen the reload.
        failures = re.search(r'edgerouter_acme_failures\{name="new.example.com"\} (\d+)', server.metrics())
        server.engine.shift_clock(3_600 * int(failures[1] if failures else 0))
        return failures is not None and sample(server, VALID) == 2

    wait_until(obtained, 60, what="a certificate by a new account")
    assert json.loads(account.read_bytes()) != json.loads(before)
    assert account.with_name(f"{account.name}.gone").read_bytes() == before


def test_an_account_is_bound_to_an_external_one(site: Site, pebbles: Callable[..., Pebble], start: Start) -> None:
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    pebble = pebbles(externalAccountBindingRequired=True, externalAccountMACKeys={"kid-1": key})
    server = start(site.edge(NAME, issuers=pebble.issuer(key_id="kid-1", hmac_key=Secret.literal(key))))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    stored = b"".join(path.read_bytes() for path in site.storage.rglob("*") if path.is_file())
    assert key.encode() not in stored


def test_two_processes_that_share_a_folder_obtain_one_certificate(site: Site, pebble: Pebble, start: Start) -> None:
    edge = site.edge(NAME, issuers=pebble.issuer())
    ports = (free_port(), free_port())
    other = f"""
from edgerouter import Acme, Edge, Issuer, Tls
edge = Edge("other")
issuer = Issuer({pebble.directory!r}, ca_file={str(pebble.authority.file)!r})
edge.listen("127.0.0.1:{ports[0]}", tls=Tls(acme=Acme(["{NAME}"], storage={str(site.storage)!r}, issuers=issuer)))
edge.listen("127.0.0.1:{ports[1]}")
edge.route("/*", respond="other")
"""
    app = site.storage.parent / "app.py"
    app.write_text(other)
    process = subprocess.Popen([sys.executable, "-m", "edgerouter", "run", str(app)])
    try:
        server = start(edge)
        wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
        context = pebble.trusted()

        def by_other() -> bytes | None:
            try:
                return served(ports[0], context)[1]
            except OSError:
                return None

        wait_until(lambda: by_other() is not None, 60, what="the other's certificate")
        assert by_other() == served(site.ports.tls, context)[1]
    finally:
        process.terminate()
        process.wait(60)
    assert len(list((site.storage / "accounts").iterdir())) == 1
    assert pebble.log().count("Issued certificate serial") == 1


def test_a_folder_that_takes_no_file_keeps_nothing_from_being_served(site: Site, pebble: Pebble, start: Start) -> None:
    server = start(site.edge(NAME, issuers=pebble.issuer()))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    _, first = served(site.ports.tls, pebble.trusted())
    # Garbage in the file, and then no file: the one in use stays.
    file = site.storage / "certificates" / f"{NAME}.pem"
    file.write_text("garbage")
    server.reload(site.edge(NAME, issuers=pebble.issuer(), email="ops@example.com"))
    assert served(site.ports.tls, pebble.trusted())[1] == first
    file.unlink()
    server.reload(site.edge(NAME, issuers=pebble.issuer(), email="me@example.com"))
    assert served(site.ports.tls, pebble.trusted())[1] == first


def test_a_stored_certificate_that_nobody_can_read_is_a_failure_until_it_is_gone(
    site: Site, pebble: Pebble, start: Start
) -> None:
    stored = site.storage / "certificates" / "a.example.com.pem"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b" " * (2 << 20))
    server = start(site.edge("a.example.com", issuers=pebble.issuer()))
    failures = 'edgerouter_acme_failures{name="a.example.com"}'
    wait_until(lambda: sample(server, failures) == 1, 60, what="the failure")
    stored.unlink()
    server.engine.shift_clock(120)
    valid = 'edgerouter_acme_certificates{state="valid"}'
    wait_until(lambda: sample(server, valid) == 1, 60, what="the certificate")
    assert sample(server, failures) == 0


def test_terms_that_could_obtain_nothing_are_refused(tmp_path: Path) -> None:
    for names, more, want in (
        ([], {}, "names"),
        (["a.example"], {"storage": ""}, "storage"),
        (["a.example"], {"issuers": []}, "issuers"),
        (["a.example"], {"challenges": ["http-2"]}, "challenges[0]"),
    ):
        with pytest.raises(ConfigError) as refused:
            Acme(names, **{"storage": str(tmp_path), **more})  # type: ignore[arg-type]
        assert refused.value.problems[0].path == f"Acme.{want}"
    with pytest.raises(ConfigError, match="must be given: an external account has both"):
        Issuer(key_id="kid-1")
    for url in ("https://me:secret@ca.example/dir", "http://me:secret@ca.example/dir"):
        with pytest.raises(ConfigError, match="must have no user or password") as refused:
            Issuer(url)
        assert "secret" not in str(refused.value) and refused.value.problems[0].value is None
    with pytest.raises(ConfigError, match="at least one certificate"):
        Tls()
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=Tls(acme=Acme(["*.example.com"], storage=tmp_path)))
    edge.route("/*", respond="hello")
    with pytest.raises(ConfigError, match="no certificate for a wildcard is obtained by"):
        edge.compile()


def test_metrics_show_no_secret(site: Site, pebble: Pebble, start: Start) -> None:
    server = start(site.edge(NAME, issuers=pebble.issuer()))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    assert server.admin_url is not None
    assert "PRIVATE" not in httpx.get(f"{server.admin_url}/metrics").text
