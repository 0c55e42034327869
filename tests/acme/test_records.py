"""DNS-01 (RFC 8555 §8.4): records that a function sets, for wildcards too."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import Acme, ConfigError, Edge, Limits, Tls, TlsLimits

from ..origins import wait_until
from ..tls.clients import connected, get, sample
from .conftest import Site, Start
from .issuers import Pebble

VALID = 'edgerouter_acme_certificates{state="valid"}'


class Zone:
    """The records of the server of names that the issuer uses."""

    def __init__(self, pebble: Pebble) -> None:
        self.url = f"http://127.0.0.1:{pebble.names_management}"
        self.calls: list[tuple[str, str, bool]] = []
        self.threads: set[str] = set()

    def set_record(self, name: str, text: str, present: bool) -> None:
        self.calls.append((name, text, present))
        self.threads.add(threading.current_thread().name)
        if present:
            httpx.post(f"{self.url}/set-txt", json={"host": f"{name}.", "value": text}).raise_for_status()
        else:
            httpx.post(f"{self.url}/clear-txt", json={"host": f"{name}."}).raise_for_status()


def test_a_wildcard_is_obtained_by_records_that_a_function_sets_and_removes(
    site: Site, pebble: Pebble, start: Start
) -> None:
    zone = Zone(pebble)
    server = start(site.edge("*.example.com", issuers=pebble.issuer(), plain=False, dns=zone.set_record))
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    for name in ("a.example.com", "B.example.com"):
        with connected(f"https://127.0.0.1:{site.ports.tls}", pebble.trusted(), name) as sock:
            assert get(sock, name).body == b"hello"
    assert (site.storage / "certificates" / "_wildcard.example.com.pem").exists()
    wait_until(lambda: len(zone.calls) == 2, 60, what="the removal")
    (name, text, _), last = zone.calls
    assert zone.calls == [(name, text, True), (name, text, False)] and last[0] == "_acme-challenge.example.com"
    assert zone.threads == {"edge-dns"}


def test_a_wildcard_on_demand_is_ordered_with_the_first_client_of_one_of_its_names(
    site: Site, pebble: Pebble, start: Start
) -> None:
    zone = Zone(pebble)
    limits = Limits(tls=TlsLimits(handshake_timeout=60))
    edge = site.edge("*.example.com", issuers=pebble.issuer(), limits=limits, dns=zone.set_record, on_demand=True)
    server = start(edge)
    assert sample(server, VALID) == 0
    trusted = pebble.trusted()
    for name in ("a.example.com", "b.example.com"):
        plain = socket.create_connection(("127.0.0.1", site.ports.tls), timeout=60)
        with trusted.wrap_socket(plain, server_hostname=name) as sock:
            assert get(sock, name).body == b"hello"
    assert (sample(server, VALID), sample(server, 'edgerouter_acme_orders_total{result="issued"}')) == (1, 1)


def test_an_order_fails_with_the_reason_of_the_function_and_is_tried_again(
    site: Site, pebble: Pebble, start: Start
) -> None:
    zone = Zone(pebble)
    works: list[bool] = []

    def set_record(name: str, text: str, present: bool) -> None:
        if not works:
            raise RuntimeError("no zone")
        zone.set_record(name, text, present)

    server = start(site.edge("*.example.com", issuers=pebble.issuer(), dns=set_record))
    failures = 'edgerouter_acme_failures{name="*.example.com"}'
    wait_until(lambda: sample(server, failures) == 1, 60, what="a failed order")
    works.append(True)
    server.engine.shift_clock(120)
    wait_until(lambda: sample(server, VALID) == 1, 60, what="the certificate")
    assert sample(server, failures) == 0


@pytest.mark.parametrize("field", ["dns", "on_demand"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nomodule", 'must be a function, or its name as in "package.module:function"'),
        ("no_such_module:function", "there is no module no_such_module; its folder must be in PYTHONPATH"),
        ("json:nothing", "json has no nothing"),
        ("string:digits", "must be a function, but is of type str"),
        ("asyncio:sleep", "must be a plain def, not async"),
        ("json:", "must be a function, or its name"),
        ("", "must"),
    ],
    ids=["no colon", "no module", "no function", "no callable", "async", "no name", "empty"],
)
def test_a_callable_that_a_plan_names_is_looked_for_before_it_serves(
    tmp_path: Path, field: str, name: str, said: str
) -> None:
    """It was found out at the first order, which may be a renewal in two months."""
    edge = Edge("test")
    names: dict[str, Any] = {"dns": "json:dumps", field: name}
    edge.listen("127.0.0.1:0", tls=Tls(acme=Acme(["a.example"], storage=tmp_path, **names)))
    edge.route("/*", respond="hello")
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        edge.compile()
    (problem,) = refused.value.problems
    assert problem.path == f"listeners[0].tls[0].acme.{field}"
    assert problem.place is not None and "test_records.py:" in problem.place


def test_a_callable_that_a_plan_names_and_that_is_there_is_accepted(tmp_path: Path) -> None:
    edge = Edge("test")
    acme = Acme(["a.example"], storage=tmp_path, dns="os.path:join", on_demand="json.decoder:JSONDecoder.decode")
    edge.listen("127.0.0.1:0", tls=Tls(acme=acme))
    edge.route("/*", respond="hello")
    assert edge.compile().name == "test"


def test_a_function_without_its_challenge_or_one_that_is_async_is_refused(tmp_path: Path) -> None:
    async def later(name: str, text: str, present: bool) -> None: ...

    for dns, want in ((later, "must be a plain def"), (5, "must be a callable")):
        with pytest.raises(ConfigError, match=want):
            Acme(["a.example"], storage=tmp_path, dns=dns)  # type: ignore[arg-type]
    edge = Edge("test")
    acme = Acme(["a.example"], storage=tmp_path, challenges=["http-01"], dns=print)
    edge.listen("127.0.0.1:0", tls=Tls(acme=acme))
    edge.route("/*", respond="hello")
    with pytest.raises(ConfigError, match="has no effect: add"):
        edge.compile()
