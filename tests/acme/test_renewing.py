"""Renewal ahead of time, as issuers wish, and under load."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx

from edgerouter.server import Server

from ..certificates import Authority
from ..origins import wait_until
from ..processes import command
from ..tls.clients import connected, get, sample
from ..tls.load import load
from .conftest import Site, Start
from .issuers import DAY, Pebble

NAME = "www.example.com"
VALID = 'edgerouter_acme_certificates{state="valid"}'
ISSUED = 'edgerouter_acme_orders_total{result="issued"}'


def obtained(site: Site, pebble: Pebble, start: Start) -> tuple[Server, ssl.SSLContext]:
    server = start(site.edge(NAME, issuers=pebble.issuer()))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    return server, pebble.trusted()


def certificate_of(site: Site, context: ssl.SSLContext) -> bytes | None:
    with connected(f"https://127.0.0.1:{site.ports.tls}", context) as sock:
        return sock.getpeercert(binary_form=True)


def renew(server: Server, before: float = 1) -> None:
    """Moves the clock to a time at which the certificate is due, and back when it was renewed."""
    server.engine.shift_clock(64 * DAY)
    wait_until(lambda: sample(server, ISSUED) > before, 90, what="a renewed certificate")
    server.engine.shift_clock(0)


def test_a_certificate_is_renewed_when_two_thirds_of_its_validity_have_passed(
    site: Site, pebble: Pebble, start: Start
) -> None:
    server, context = obtained(site, pebble, start)
    first = certificate_of(site, context)
    server.engine.shift_clock(59 * DAY)
    with connected(f"https://127.0.0.1:{site.ports.tls}", context) as sock:
        assert get(sock, NAME).status == 200
        renew(server)
        # The connection from before stays as it is.
        assert get(sock, NAME).status == 200 and sock.getpeercert(binary_form=True) == first
    # An order is counted a moment before its certificate is used.
    wait_until(lambda: certificate_of(site, context) != first, what="the new certificate")
    stored = (site.storage / "certificates" / f"{NAME}.pem").read_text()
    assert stored.startswith(f"issuer: {pebble.directory}\n-----BEGIN PRIVATE KEY-----")


def test_the_one_in_use_stays_while_a_renewal_fails(site: Site, pebble: Pebble, start: Start) -> None:
    server, context = obtained(site, pebble, start)
    first = certificate_of(site, context)
    pebble.stop()
    server.engine.shift_clock(64 * DAY)
    failures = f'edgerouter_acme_failures{{name="{NAME}"}}'
    wait_until(lambda: sample(server, failures) == 1, 60, what="a failed renewal")
    assert certificate_of(site, context) == first
    server.engine.shift_clock(91 * DAY)
    wait_until(lambda: sample(server, failures) == 2, 60, what="another")
    # Expired by the edge's clock, and better than none.
    assert sample(server, 'edgerouter_acme_certificates{state="expired"}') == 1
    assert certificate_of(site, context) == first


def test_a_window_of_the_issuer_is_followed_and_garbage_is_not(site: Site, pebble: Pebble, start: Start) -> None:
    server, context = obtained(site, pebble, start)
    first = certificate_of(site, context)
    verified = ssl.create_default_context(cafile=str(pebble.authority.file))
    chain = (site.storage / "certificates" / f"{NAME}.pem").read_text()
    leaf = chain[chain.index("-----BEGIN CERTIFICATE") :].split("-----END CERTIFICATE-----")[0]

    def answer(window: str) -> None:
        given = {"certificate": f"{leaf}-----END CERTIFICATE-----\n", "ariResponse": window}
        url = f"https://127.0.0.1:{pebble.management}/set-renewal-info/"
        assert httpx.post(url, content=json.dumps(given), verify=verified).status_code == 200

    read = "GET /draft-ietf-acme-ari-03/renewalInfo/"
    wait_until(lambda: pebble.log().count(read) == 1, 60, what="the first look at the window")
    answer("garbage")
    server.engine.shift_clock(7 * 3_600)
    wait_until(lambda: pebble.log().count(read) == 2, 60, what="the second")
    answer('{"suggestedWindow": {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}}')
    server.engine.shift_clock(14 * 3_600)
    wait_until(lambda: sample(server, ISSUED) == 2, 60, what="a renewed certificate")
    wait_until(lambda: certificate_of(site, context) != first, what="the new certificate")
    assert first is not None


def test_no_request_fails_while_certificates_are_renewed(site: Site, pebble: Pebble, start: Start) -> None:
    server, _ = obtained(site, pebble, start)
    with load(f"https://127.0.0.1:{site.ports.tls}", pebble.root()):
        for done in (1, 2, 3):
            renew(server, sample(server, ISSUED))
            assert sample(server, ISSUED) > done


def test_the_list_of_certificates_has_their_state_and_check_warns_of_expired_ones(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    given = authority.issue("given.example.com")
    old, late = (authority.issue(f"{name}.example.com", days=-1) for name in ("old", "late"))
    storage = tmp_path / "storage"
    (storage / "certificates").mkdir(parents=True)
    stored = storage / "certificates" / "old.example.com.pem"
    stored.write_bytes(old.key.read_bytes() + old.chain.read_bytes())
    (storage / "certificates" / "bad.example.com.pem").write_text("garbage")
    app = tmp_path / "app.py"
    app.write_text(f"""
from edgerouter import Acme, Certificate, Edge, Tls
edge = Edge("test")
acme = Acme(["new.example.com", "old.example.com", "bad.example.com"], storage={str(storage)!r})
given = [Certificate(f"{{file}}.pem", f"{{file}}.key") for file in {[str(one.chain)[:-4] for one in (given, late)]!r}]
edge.listen("127.0.0.1:0", tls=Tls(given, acme=acme))
edge.route("/*", respond="hello")
""")
    listed = command("cert", "list", str(app), "--json")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)["certificates"]
    assert [(row["name"], row["source"], row["state"]) for row in rows] == [
        ("given.example.com", "given", "valid"),
        ("late.example.com", "given", "expired"),
        ("new.example.com", "acme", "absent"),
        ("old.example.com", "acme", "expired"),
        ("bad.example.com", "acme", "unreadable"),
    ]
    assert "old.example.com  expired  " in command("cert", "list", str(app)).stdout
    checked = command("check", str(app), "--strict")
    assert checked.returncode == 1
    warnings = (
        "for old.example.com is expired",
        "for bad.example.com is unreadable",
        "for late.example.com has expired",
    )
    for warning in warnings:
        assert warning in " ".join(checked.stdout.split())
