"""The prediction beside the edge: the log of real traffic, replayed, gives what the counters of that edge gave."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgerouter.cli.admin import Admin
from edgerouter.costs.usage import Usage

from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process, command, free_port, reachable

REQUESTS = 1_500

APP = """
from edgerouter import Edge, cache

edge = Edge("test")
site = edge.origin("first", "{url}")
edge.route("/*", to=site)
edge.route("/fixed/*", to=site, cache=cache.OPTIMIZED)
edge.route("/api/*", to=site, cache=cache.DISABLED)
"""


def workload() -> Iterator[tuple[str, str]]:
    """More than the memory holds: assets by Zipf's law, some of which are large, and what no cache may have."""
    chance = random.Random(2026)
    weights = [1 / (rank + 1) for rank in range(300)]
    for _ in range(REQUESTS):
        kind = chance.choices(["asset", "fixed", "personal", "api", "large"], [60, 20, 8, 7, 5])[0]
        rank = chance.choices(range(300), weights)[0]
        rank = rank % 12 if kind == "large" else rank
        method = "POST" if kind == "asset" and chance.random() < 0.02 else "GET"
        yield method, f"/{kind}/{rank}"
    yield "GET", "/missing"
    yield "HEAD", "/asset/0"


def content(seen: Seen) -> Reply:
    kind = seen.path.split("/")[1]
    seed = zlib.crc32(seen.path.encode())
    body = b"x" * {"large": 250_000, "missing": 10}.get(kind, 2_000 + seed % 40_000)
    lifetime = "no-store" if kind == "personal" else "max-age=600"
    if seen.get("if-none-match") == f'"{seed}"':
        return Reply(304, {"etag": f'"{seed}"'}, b"")
    return Reply(404 if kind == "missing" else 200, {"cache-control": lifetime, "etag": f'"{seed}"'}, body)


@pytest.mark.parametrize("form", ["json", "combined"])
def test_the_predicted_hit_ratio_is_that_of_the_edge_within_a_point(origin: Origin, tmp_path: Path, form: str) -> None:
    origin.default = content
    app, log = tmp_path / "app.py", tmp_path / "access.log"
    app.write_text(APP.format(url=origin.url))
    port, admin = free_port(), free_port()
    edge = Process(
        *("run", str(app), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"),
        *("--memory-cache-size", "4MiB", "--access-log", str(log), "--access-log-format", form, "--workers", "1"),
    )
    try:
        wait_until(lambda: reachable(port), 60, "the listener")
        sent = 0
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            for method, path in workload():
                sent += len(client.request(method, path).content)
        wait_until(lambda: log.read_text().count("\n") >= REQUESTS + 2, 60, "the log")
        usage = Usage.of(Admin(f"127.0.0.1:{admin}").samples())
    finally:
        edge.end()
    options = ("--app", str(app), "--memory", "4MiB", "--assume", "/*=600", "--scheme", "http", "--json")
    done = command("replay", str(log), *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (tier,) = found["tiers"]
    assert (found["format"], found["requests"], found["not_understood"]) == (form, REQUESTS + 2, 0)
    assert tier["evicted"] > 100
    real = usage.answered_by_cache / usage.looked_up
    assert 0.3 < real < 0.8
    assert tier["hit_ratio"] == pytest.approx(real, abs=0.01)
    assert tier["bytes"] == sent == usage.bytes
    assert tier["origin_requests"] == pytest.approx(usage.origin_requests, rel=0.02)
