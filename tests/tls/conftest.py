from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgerouter import Edge, Tls
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..certificates import Authority

Start = Callable[[Edge], Server]


def site(tls: Tls | list[Tls], **route: object) -> Edge:
    """An edge with one listener, that answers ``hello`` to each request."""
    edge = Edge("test")
    edge.listen("127.0.0.1:0", tls=tls)
    edge.route("/*", respond="hello", **route)  # type: ignore[arg-type]
    return edge


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
