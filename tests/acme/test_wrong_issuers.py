"""Issuers that answer what no issuer should: nothing of it is used, and none of them gets orders without end."""

from __future__ import annotations

import datetime as dt
import json
import os
import ssl
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ..certificates import Authority
from ..origins import wait_until
from ..processes import Process, command
from ..tls.clients import connected, sample
from .conftest import Site, Start
from .scripted import DAY, Answer, Scripted, problem

NAME = "www.example.com"
ISSUED = 'edgerouter_acme_orders_total{result="issued"}'
FAILED = 'edgerouter_acme_orders_total{result="failed"}'

Request = x509.CertificateSigningRequest
Run = Callable[..., Process]


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    made = Scripted(tmp_path)
    yield made
    made.stop()


def app(site: Site, issuer: Scripted) -> str:
    """A program of its own, whose log a test can read."""
    file = site.storage.parent / "app.py"
    file.write_text(f"""
from edgerouter import Acme, Edge, Issuer, Tls
edge = Edge("test")
issuer = Issuer({issuer.issuer().directory!r}, ca_file={str(issuer.authority.file)!r})
edge.listen("127.0.0.1:{site.ports.tls}", tls=Tls(acme=Acme(["{NAME}"], storage={str(site.storage)!r}, issuers=issuer)))
edge.listen("127.0.0.1:{site.ports.http}")
edge.route("/*", respond="hello")
""")
    return str(file)


WRONG: dict[str, tuple[Callable[[Scripted, Request], bytes], str]] = {
    "of another name": (lambda it, of: it.leaf(of, "other.example.com"), f"is not for {NAME}"),
    "of another key": (
        lambda it, of: it.leaf(of, key=ec.generate_private_key(ec.SECP256R1()).public_key()),
        "the key does not belong to the certificate",
    ),
    "expired": (lambda it, of: it.leaf(of, start=-90 * DAY, end=dt.timedelta(seconds=-5)), "has expired"),
    "in reverse": (lambda it, of: it.root() + it.leaf(of), f"is not for {NAME}"),
    "empty": (lambda it, of: b"", "there is no certificate in PEM"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_chain_that_is_not_what_was_ordered_is_not_used(site: Site, scripted: Scripted, run: Run, kind: str) -> None:
    make, why = WRONG[kind]
    scripted.issue = lambda request: make(scripted, request)
    process = run("run", app(site, scripted))
    process.wait_for(f"no certificate for {NAME} by 127.0.0.1:[0-9]+: .*{why}; the next attempt is in")
    assert not (site.storage / "certificates").exists()
    assert process.end() == 0


PAGE: Answer = (503, {"Content-Type": "text/html", "Retry-After": "120"}, b"<html>We are busy.</html>")


@pytest.mark.parametrize(
    ("step", "answer", "want"),
    [
        ("new", problem("rateLimited", "too many", Retry_After="7200"), "too many .*in 7200 seconds"),
        ("account", PAGE, "answered 503 Service Unavailable with text/html, which is no answer of ACME; .*in 120 sec"),
        ("new", (200, {"Content-Type": "text/html"}, b"<html>"), "answered 200 OK with text/html, which is no answer"),
        ("order", problem("unauthorized", "the order went bad", 403), "the order went bad"),
        ("finalize", problem("badNonce", "not that one", 400), "not that one"),
    ],
)
def test_a_step_that_fails_is_reported_in_the_words_of_the_issuer(
    site: Site, scripted: Scripted, run: Run, step: str, answer: Answer, want: str
) -> None:
    scripted.always[step] = answer
    process = run("run", app(site, scripted))
    process.wait_for(f"no certificate for {NAME} by 127.0.0.1:[0-9]+: .*{want}")
    assert scripted.steps.count(step) <= 80
    assert process.end() == 0


def test_a_date_says_when_the_next_order_may_come(site: Site, scripted: Scripted, start: Start) -> None:
    busy = problem("rateLimited", "too many", Retry_After=formatdate(time.time() + 7_200, usegmt=True))
    scripted.always["new"] = busy
    server = start(site.edge(NAME, issuers=scripted.issuer()))
    wait_until(lambda: sample(server, FAILED) == 1, 60, what="the failure")
    del scripted.always["new"]
    server.engine.shift_clock(3_600)
    # An order for another name shows that the thread has looked at what is due.
    server.reload(site.edge(NAME, "other.example.com", issuers=scripted.issuer()))
    wait_until(lambda: sample(server, ISSUED) == 1, 60, what="the other certificate")
    assert [order["identifiers"][0]["value"] for order in scripted.orders] == ["other.example.com"]
    server.engine.shift_clock(7_300)
    wait_until(lambda: sample(server, ISSUED) == 2, 60, what="the certificate")


def test_an_issuer_that_has_each_certificate_renewed_at_once_gets_fewer_and_fewer_orders(
    site: Site, scripted: Scripted, start: Start
) -> None:
    """Ten orders a minute went to it for ever, and none to others."""
    past = {"start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z"}
    scripted.always["window"] = (200, {"Retry-After": "60"}, {"suggestedWindow": past})
    server = start(site.edge(NAME, issuers=scripted.issuer()))
    wait_until(lambda: sample(server, ISSUED) == 5, 60, what="the last one that is renewed at once")
    looks = scripted.steps.count("window")
    wait_until(lambda: scripted.steps.count("window") > looks, 60, what="the look at its window")
    server.reload(site.edge(NAME, "other.example.com", issuers=scripted.issuer()))
    wait_until(lambda: scripted.orders[-1]["identifiers"][0]["value"] == "other.example.com", 60, what="the other")
    assert len(scripted.orders) == 6
    server.engine.shift_clock(120)
    wait_until(lambda: len([it for it in scripted.orders if it["identifiers"][0]["value"] == NAME]) == 6, 60)


def test_an_expired_file_replaces_no_certificate_that_is_valid(site: Site, scripted: Scripted, start: Start) -> None:
    server = start(site.edge(NAME, issuers=scripted.issuer()))
    wait_until(lambda: sample(server, ISSUED) == 1, 60, what="the certificate")
    context = ssl.create_default_context(cafile=str(scripted.authority.file))

    def served() -> bytes | None:
        with connected(f"https://127.0.0.1:{site.ports.tls}", context) as sock:
            return sock.getpeercert(binary_form=True)

    first = served()
    old = Authority(site.storage.parent, "old").issue(NAME, days=-1)
    stored = site.storage / "certificates" / f"{NAME}.pem"
    fresh = stored.with_name("by-hand")
    fresh.write_bytes(old.key.read_bytes() + old.chain.read_bytes())
    fresh.rename(stored)
    server.reload(site.edge(NAME, issuers=scripted.issuer(), email="ops@example.com"))
    server.engine.shift_clock(60)
    wait_until(lambda: sample(server, 'edgerouter_acme_certificates{state="valid"}') == 1, 60)
    assert served() == first


def test_what_a_killed_process_has_left_is_removed_and_a_pipe_holds_no_thread(
    site: Site, scripted: Scripted, run: Run
) -> None:
    folder = site.storage / "certificates"
    folder.mkdir(parents=True)
    left, fresh = folder / ".4711.0.new", folder / ".4712.0.new"
    for file in (left, fresh):
        file.write_text("a key")
    os.utime(left, (1, 1))
    os.mkfifo(folder / f"{NAME}.pem")
    listed = command("cert", "list", app(site, scripted), "--json")
    assert json.loads(listed.stdout)["certificates"][0]["state"] == "unreadable"
    process = run("run", app(site, scripted))
    process.wait_for(f"the stored certificate for {NAME} cannot be read: it is a pipe; name a regular file")
    assert not left.exists() and fresh.exists()
    (folder / f"{NAME}.pem").unlink()
    assert process.end() == 0
