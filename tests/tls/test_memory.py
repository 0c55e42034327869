"""Memory of TLS connections, and certificates that change under load."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edgerouter import Certificate, Edge, Tls

from ..certificates import Authority
from ..processes import Process
from .clients import connected, get, until
from .conftest import Start
from .load import load


def resident(process: Process) -> int:
    """Bytes of memory that a process has."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def test_a_tls_connection_that_is_idle_after_a_request_takes_less_than_24_kib(
    authority: Authority, run: Callable[..., Process], tmp_path: Path
) -> None:
    issued = authority.issue("www.example.com")
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import Certificate, Edge, Tls\n"
        "edge = Edge('test')\n"
        f"edge.listen('127.0.0.1:0', tls=Tls(Certificate({str(issued.chain)!r}, {str(issued.key)!r})))\n"
        "edge.route('/*', respond='hello')\n"
    )
    process = run("run", str(app), "--workers", "1")
    url = process.wait_for(r"(https://127\.0\.0\.1:\d+)")[1]
    context, count = authority.trusted(), 1_500
    with ExitStack() as stack:

        def grow(number: int) -> None:
            for _ in range(number):
                assert get(stack.enter_context(connected(url, context))).status == 200

        # The memory of the first ones is there for those that come later.
        grow(100)
        before = resident(process)
        grow(count)
        until(lambda: (resident(process) - before) / count < 24 << 10)
        assert (resident(process) - before) / count < 24 << 10


def test_no_request_fails_while_certificates_change_under_load(
    authority: Authority, start: Start, tmp_path: Path
) -> None:
    chain, key = tmp_path / "live.pem", tmp_path / "live.key"

    def renew() -> None:
        issued = authority.issue("www.example.com")
        chain.write_bytes(issued.chain.read_bytes())
        key.write_bytes(issued.key.read_bytes())

    renew()
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=Tls(Certificate(chain, key)), http=("h2", "http/1.1"))
    edge.route("/*", respond="hello")
    server = start(edge)
    seen = set()
    with load(server.urls[0], authority.file) as clients:
        for number in range(50):
            renew()
            assert server.reload(edge) == number + 2
            before = clients.counts()
            until(lambda before=before: clients.all_served_since(before))  # type: ignore[misc]
            with connected(server.urls[0], authority.trusted()) as sock:
                seen.add(sock.getpeercert(binary_form=True))
    assert len(seen) == 50
