from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgerouter import Edge
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..certificates import Authority

Start = Callable[[Edge], Server]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(edge)`` serves the listeners of ``edge`` alone, by two workers, and stops it after the test."""
    with ExitStack() as stack:

        def make(edge: Edge) -> Server:
            server = Server.start(edge, Settings(admin="127.0.0.1:0", workers=2), test_clock=True)
            stack.callback(server.stop, 5.0)
            return server

        yield make
