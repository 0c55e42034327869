"""Certificates whose folder takes no more bytes."""

from __future__ import annotations

import resource
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from ..origins import wait_until
from ..processes import Process
from ..tls.clients import connected, get
from .conftest import Ports
from .issuers import Pebble

NAMES = ("one.example.com", "two.example.com")


@pytest.fixture
def started() -> Iterator[Callable[[Path], Process]]:
    """Runs an application in a process whose files may not have a byte: what a full disk is to it."""
    with ExitStack() as stack:

        def run(app: Path) -> Process:
            limited = ("prlimit", "--fsize=0:unlimited")
            process = Process("run", str(app), "--admin", "127.0.0.1:0", by=limited)
            stack.callback(process.end)
            return process

        yield run


def test_a_full_disk_takes_no_certificate_out_of_use_and_the_next_is_served_all_the_same(
    ports: Ports, pebble: Pebble, started: Callable[[Path], Process], tmp_path: Path
) -> None:
    app, storage = tmp_path / "app.py", tmp_path / "storage"

    def declare(*names: str, email: str) -> None:
        app.write_text(f"""
from edgerouter import Acme, Edge, Issuer, Tls
edge = Edge("test")
issuer = Issuer({pebble.directory!r}, ca_file={str(pebble.authority.file)!r})
acme = Acme({list(names)!r}, storage={str(storage)!r}, issuers=issuer, email={email!r} or None, challenges=["http-01"])
edge.listen("127.0.0.1:{ports.tls}", tls=Tls(acme=acme))
edge.listen("127.0.0.1:{ports.http}")
edge.route("/*", respond="hello")
""")

    declare(NAMES[0], email="ops@example.com")
    process = started(app)
    admin = process.wait_for(r"(http://\S+)  admin")[1]

    def metric(name: str) -> float:
        lines = httpx.get(f"{admin}/metrics").text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"edgerouter_acme_{name} "))

    def served(name: str, context: ssl.SSLContext) -> bool:
        with connected(f"https://127.0.0.1:{ports.tls}", context, name) as sock:
            return get(sock, name).status == 200

    def room(most: int) -> None:
        resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        process.process.send_signal(signal.SIGHUP)

    # An account that could not be kept is not made.
    process.wait_for(rf"no certificate for {NAMES[0]} .*: the folder cannot be used: File too large")
    assert "sign-me-up" not in pebble.log()
    valid = 'certificates{state="valid"}'
    declare(NAMES[0], email="")
    room(resource.RLIM_INFINITY)
    wait_until(lambda: metric(valid) == 1, 60, what="the first certificate")
    trusted = pebble.trusted()
    files = storage / "certificates"
    before = (files / f"{NAMES[0]}.pem").read_bytes()
    declare(*NAMES, email="")
    room(0)
    wait_until(lambda: metric(valid) == 2, 60, what="the second certificate")
    assert all(served(name, trusted) for name in NAMES)
    assert metric("certificates_not_stored") == 1
    assert [path.name for path in files.iterdir()] == [f"{NAMES[0]}.pem"]
    assert (files / f"{NAMES[0]}.pem").read_bytes() == before
    process.wait_for(rf"certificate for {NAMES[1]} cannot be stored in {storage}: File too large.*as soon as")
    declare(*NAMES, email="me@example.com")
    room(resource.RLIM_INFINITY)
    wait_until(lambda: metric("certificates_not_stored") == 0, 60, what="the certificate to be stored")
    assert sorted(path.name for path in files.iterdir()) == [f"{name}.pem" for name in NAMES]
