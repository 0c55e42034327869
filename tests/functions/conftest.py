"""An application in a file of its own, as processes import it: the text is the test module's ``MODULE``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgerouter.application import FileApplication
from edgerouter.testing import Running, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the file."""
    return tmp_path_factory.mktemp("isolated")


@pytest.fixture(scope="module")
def served(folder: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    """The application that serves."""
    (folder / "app.py").write_text(request.module.MODULE)
    with running(FileApplication("app.py", folder=folder).load()) as edge:
        yield edge


@pytest.fixture
def client(served: Running) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=served.url, timeout=20) as made:
        yield made
