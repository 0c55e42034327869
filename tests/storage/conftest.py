"""An edge with a disk, in this process or as ``edgerouter run``, before an origin whose bodies can be checked."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import CacheLimits, DiskCache, Edge, Limits
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen, wait_until
from ..processes import Process

MIB = 1 << 20
# The port of the edge changes when it starts again, and would be part of the URLs.
HOST = {"Host": "site.example"}
ONLY_STORED = {"Cache-Control": "only-if-cached"}


def body_of(path: str, version: int = 0) -> bytes:
    """Every byte of a body follows from path and version, so that a wrong one shows."""
    seed = hashlib.sha256(f"{path} {version}".encode()).digest()
    return f"{path} {version} ".encode() + seed * (1 + seed[0] % 64)


def edge_for(
    origin: Origin, folder: Path, *, size: int = 64 * MIB, memory: int = 64 * MIB, slice_bytes: int = MIB, **disk: Any
) -> Edge:
    edge = Edge(
        "test",
        limits=Limits(
            cache=CacheLimits(memory_bytes=memory, largest_object_bytes=min(memory // 2, MIB), slice_bytes=slice_bytes)
        ),
        disk_cache=DiskCache(str(folder), size, **disk),
    )
    edge.route("/*", to=edge.origin("first", origin.url))
    return edge


def metric(text: str, name: str) -> int:
    found = re.search(rf"^edgerouter_disk_{name} (\d+)$", text, re.MULTILINE)
    assert found, f"no edgerouter_disk_{name}"
    return int(found[1])


def settled(metrics: Callable[[], str]) -> None:
    wait_until(lambda: metric(metrics(), "waiting_bytes") == 0, 60, "everything is written")


@pytest.fixture
def stored(origin: Origin) -> Origin:
    """An origin whose answers may be stored for an hour."""
    versions: dict[str, int] = {}

    def answer(seen: Seen) -> Reply:
        if seen.method == "POST":
            versions[seen.path] = versions.get(seen.path, 0) + 1
            return Reply(204)
        return Reply(200, {"Cache-Control": "max-age=3600"}, body_of(seen.path, versions.get(seen.path, 0)))

    origin.default = answer
    return origin


@pytest.fixture
def serving(stored: Origin, tmp_path: Path) -> Callable[..., Any]:
    """``serving(...)`` is a context that serves one route from ``tmp_path / "cache"``; a client and the edge."""

    class Serving:
        def __init__(self, **options: Any) -> None:
            folder = options.pop("folder", tmp_path / "cache")
            self.context = running(edge_for(stored, folder, **options))

        def __enter__(self) -> tuple[httpx.Client, Running]:
            edge = self.context.__enter__()
            self.client = httpx.Client(base_url=edge.url, headers=HOST, timeout=20)
            return self.client, edge

        def __exit__(self, *raised: Any) -> None:
            self.client.close()
            self.context.__exit__(*raised)

    return Serving


APP = """
from edgerouter import CacheLimits, DiskCache, Edge, Limits

edge = Edge(
    "test",
    limits=Limits(cache=CacheLimits(memory_bytes=262_144, largest_object_bytes=65_536)),
    disk_cache=DiskCache({folder!r}, {size}, segment_bytes=131_072),
)
edge.route("/*", to=edge.origin("first", {url!r}))
"""


class Edges:
    """``edgerouter run`` again and again, on one directory."""

    def __init__(self, app: Path) -> None:
        self.app = app
        self.process: Process | None = None

    def start(self) -> tuple[httpx.Client, Callable[[], str]]:
        self.process = Process("run", str(self.app), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        found = self.process.wait_for(r"(http://[^ ]+)\n +(http://[^ ]+)  admin")
        client = httpx.Client(base_url=found[1], headers=HOST, timeout=20)
        return client, lambda: httpx.get(f"{found[2]}/metrics", timeout=20).text

    def kill(self) -> None:
        if self.process is not None:
            self.process.end(signal.SIGKILL)


@pytest.fixture
def edges(stored: Origin, tmp_path: Path) -> Iterator[Edges]:
    app = tmp_path / "app.py"
    app.write_text(APP.format(folder=str(tmp_path / "cache"), size=16 * MIB, url=stored.url))
    made = Edges(app)
    yield made
    if made.process is not None and made.process.process.poll() is None:
        made.kill()
