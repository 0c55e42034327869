"""A folder of files, and an edge that serves it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge
from edgerouter.testing import Running

#: Old enough that validators are strong: a file that was just written may change within the same time.
OLD = 1_700_000_000


def put(file: Path, content: str | bytes, at: int = OLD) -> Path:
    """Writes a file, last changed ``at``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(file, (at, at))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "dist"
    put(made / "index.html", "<h1>home</h1>")
    put(made / "app.3f2a9c1b.js", "x = 1\n")
    put(made / "docs" / "index.html", "<h1>docs</h1>")
    put(made / "docs" / "a b.txt", "spaces")
    put(made / "large.bin", bytes(range(256)) * 4_096)
    return made


Served = Callable[..., httpx.Client]


@pytest.fixture
def served(folder: Path, serve: Callable[[Edge], Running], client_for: Callable[[Running], httpx.Client]) -> Served:
    """``served(prefix, **options)`` serves the folder and gives a client that accepts no coding unless it says so."""

    def make(prefix: str = "/", **options: object) -> httpx.Client:
        edge = Edge("test")
        edge.files(prefix, folder, **options)  # type: ignore[arg-type]
        client = client_for(serve(edge))
        client.headers["accept-encoding"] = "identity"
        return client

    return make
