"""Every block of Python in the pages runs, after those that stand before it in its page."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgerouter import Edge, serving
from edgerouter.server import Server
from edgerouter.settings import Settings

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: The names that pages continue from, as their first lines say.
PRELUDE = """
import asyncio, json, time
from datetime import timedelta
from typing import Any
from edgerouter import *
from edgerouter import cache
from edgerouter._core import AsyncKv
from edgerouter.testing import Client

edge = Edge("storefront")
site = edge.origin("of-the-page", "http://127.0.0.1:9")
tls = Tls(certificates=[Certificate("site.pem", key="site.key")])


async def app(scope, receive, send):
    pass


api = app
"""
#: Pages whose blocks speak to an edge that is served.
SERVED = {"purging.md"}
VARIABLES = {
    "JWT_SECRET": "k" * 64,
    "URL_SECRET": "k" * 64,
    "CARTS_URL": "redis://127.0.0.1:6379/0",
}


def pages() -> dict[str, list[tuple[int, str]]]:
    """The blocks of each page, with their lines."""
    found = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        blocks = [(text.count("\n", 0, match.start()) + 1, match[1]) for match in BLOCK.finditer(text)]
        if blocks:
            found[str(page.relative_to(ROOT))] = blocks
    return found


PAGES = pages()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    """The edges that pages serve, which end with the test; those that would serve until a signal do not begin."""
    servers: list[Server] = []
    start = Server.start

    def noted(edge: Edge, settings: Settings | None = None, **options: bool) -> Server:
        servers.append(start(edge, settings, **options))
        return servers[-1]

    monkeypatch.setattr(Server, "start", noted)
    monkeypatch.setattr(serving, "serve", lambda *_, **__: True)
    yield servers
    for server in servers:
        server.stop(0)


def loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Server]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    prelude = PRELUDE
    if Path(page).name in SERVED:
        edge = Edge("storefront")
        edge.route("/*", respond="x")
        server = Server.start(edge, Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", workers=1))
        admin = (server.admin_url or "").removeprefix("http://")
        monkeypatch.setitem(sys.modules, "served_for_docs", ModuleType("served_for_docs"))
        sys.modules["served_for_docs"].edge = edge  # type: ignore[attr-defined]
        prelude += "from served_for_docs import edge\n"
    else:
        admin = "127.0.0.1:0"
    parts = [f"# {page}:{line}\n{block}" for line, block in PAGES[page]]
    text = "\n".join([prelude, *parts]).replace("127.0.0.1:8080", "127.0.0.1:0").replace("127.0.0.1:9090", admin)
    file = tmp_path / f"page_{re.sub('[^a-z]', '_', Path(page).stem)}.py"
    file.write_text(text)
    module = loaded(file)
    monkeypatch.delitem(sys.modules, file.stem)
    assert [name for name in vars(module) if isinstance(getattr(module, name), Edge)]


def test_most_blocks_of_the_pages_are_found() -> None:
    assert sum(map(len, PAGES.values())) > 70
