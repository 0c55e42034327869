"""The files in deploy/ agree with the product: options, paths and limits that they name are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import httpx
import pytest

from edgerouter import Limits
from edgerouter.application import FileApplication
from edgerouter.testing import running

from ..origins import Origin, Reply

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "deploy" / "edgerouter.service").read_text()


def options(of: str) -> set[str]:
    """The options that ``edgerouter run`` documents."""
    documented = (ROOT / "docs" / "cli.md").read_text()
    return set(re.findall(rf"`{of}([a-z-]+)", documented))


def test_the_unit_starts_the_edge_with_options_that_there_are() -> None:
    started = re.search(r"^ExecStart=(.*?)(?<!\\)\n", UNIT, re.DOTALL | re.MULTILINE)
    assert started is not None
    given = [word for word in shlex.split(started[1].replace("\\\n", " ")) if word.startswith("--")]
    assert given and {word.removeprefix("--") for word in given} <= options("--")


def test_the_unit_waits_longer_than_the_edge_drains() -> None:
    waits = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    drain = Limits().http.drain_timeout
    assert isinstance(drain, float)
    assert waits is not None and int(waits[1]) > drain


def test_the_unit_lets_the_edge_write_where_the_documents_keep_certificates() -> None:
    storage = re.search(r'storage="/var/lib/([a-z]+)/acme"', (ROOT / "docs" / "certificates.md").read_text())
    assert storage is not None and f"\nStateDirectory={storage[1]}\n" in UNIT


def test_the_variables_of_the_containers_are_documented() -> None:
    documented = (ROOT / "docs" / "cli.md").read_text()
    for file in ("Containerfile", "compose.yaml"):
        named = set(re.findall(r"\bEDGEROUTER_[A-Z_]+", (ROOT / "deploy" / file).read_text()))
        assert named, file
        for name in named:
            assert f"`{name}`" in documented or f"`{name}=" in documented, (file, name)


def test_the_application_of_the_deployment_serves_the_site_that_it_is_given(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORIGIN", origin.url)
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "the site")
    with running(FileApplication(str(ROOT / "examples" / "production" / "app.py")).load()) as url:
        assert httpx.get(f"{url}/static/a.css").text == "the site"
        assert httpx.get(f"{url}/").text == "the site"
        assert "; hit" in httpx.get(f"{url}/").headers["cache-status"]
