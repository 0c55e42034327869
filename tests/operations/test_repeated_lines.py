"""Warnings that are repeated are summed, and whatever they are about is named in the log."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from ..certificates import Authority
from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process, free_port, reachable

Run = Callable[..., Process]

BINDINGS = """
from edgerouter import BindingError, Edge, Response

edge = Edge("test")
for name in ("CARTS", "SESSIONS", "PRICES"):
    edge.kv(name, "redis://127.0.0.1:{port}/0")


@edge.function("/")
def all_at_once(request, ctx):
    for binding in (ctx.env.CARTS, ctx.env.SESSIONS, ctx.env.PRICES):
        try:
            binding.get("key")
        except BindingError:
            pass
    return Response("asked")
"""


def test_each_of_several_bindings_that_fail_at_once_is_named(tmp_path: Path, run: Run) -> None:
    app, port = tmp_path / "app.py", free_port()
    app.write_text(BINDINGS.format(port=free_port()))
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: reachable(port), 60, "the listener")
    for _ in range(3):
        assert httpx.get(f"http://127.0.0.1:{port}/", timeout=60).text == "asked"
    found = [
        process.wait_for(rf'a binding cannot be reached; calls of it fail binding="{name}" error=')
        for name in ("CARTS", "SESSIONS", "PRICES")
    ]
    assert len(found) == 3


def test_each_of_several_certificates_that_have_expired_is_named(tmp_path: Path, run: Run) -> None:
    authority, port = Authority(tmp_path), free_port()
    names = [f"{name}.example.com" for name in ("www", "shop", "blog")]
    given = [authority.issue(name, days=-1) for name in names]
    pairs = ", ".join(f"Certificate({str(it.chain)!r}, {str(it.key)!r})" for it in given)
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import Certificate, Edge, Tls\nedge = Edge('test')\nedge.route('/*', respond='x')\n"
        f"edge.listen('127.0.0.1:{port}', tls=Tls([{pairs}]))\n"
    )
    process = run("run", str(app))
    found = [
        process.wait_for(rf"the certificate for {re.escape(name)} has expired: clients refuse it") for name in names
    ]
    assert len(found) == len(names)


def test_a_probe_that_fails_now_and_then_makes_no_origin_down_in_the_log(
    origin: Origin, tmp_path: Path, run: Run
) -> None:
    turns = itertools.count()

    def in_turn(_: Seen) -> Reply:
        return Reply(503 if next(turns) % 2 else 200)

    origin.on("/up", in_turn)
    origin.default = Reply(200, {}, "here")
    app, port = tmp_path / "app.py", free_port()
    app.write_text(
        "from edgerouter import Edge, Health\nedge = Edge('test')\n"
        f"site = edge.origin('site', {origin.url!r}, health=Health('/up', interval=0.05, unhealthy_after=3))\n"
        "edge.route('/*', to=site)\n"
    )
    process = run("run", str(app), "--listen", f"127.0.0.1:{port}")
    line = "a health probe failed; an origin is unhealthy after 3 in a row"
    said = process.wait_for(rf"{line} origin=site path=/up why=(.*)")
    assert "503" in said[1]
    process.wait_for(rf"{line} \(repeated\) of=site /up more=\d")
    assert httpx.get(f"http://127.0.0.1:{port}/", timeout=60).text == "here"
    assert "is down" not in process.output and "origin is unhealthy origin" not in process.output
