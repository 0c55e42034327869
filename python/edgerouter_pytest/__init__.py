"""The plugin of pytest: fixtures for tests of one's own site.

It is apart from ``edgerouter``, which pytest would otherwise import at every start: nothing of that is loaded before a
fixture is used.

``edge_client(edge, origins=...)`` serves an edge until the test ends and is a ``Client`` for it. ``fake_origin(...)``
makes a ``FakeOrigin``. ``edge_app`` is the application that ``edgerouter_app`` of pytest's settings names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgerouter.edge import Edge
    from edgerouter.testing.client import Client
    from edgerouter.testing.origins import FakeOrigin

__all__ = ["edge_app", "edge_client", "fake_origin", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the setting."""
    parser.addini("edgerouter_app", "the application of the fixture edge_app, as edgerouter run takes it")


@pytest.fixture
def edge_client() -> Iterator[Callable[..., Client]]:
    """``edge_client(edge, origins=...)`` serves an edge and is a client for it; it ends after the test."""
    from edgerouter.testing.client import Client

    with ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(Client(*given, **more))


@pytest.fixture
def fake_origin() -> Iterator[Callable[..., FakeOrigin]]:
    """``fake_origin(replies)`` makes an origin; it ends after the test."""
    from edgerouter.testing.origins import FakeOrigin

    with ExitStack() as stack:
        yield lambda *given, **more: stack.enter_context(FakeOrigin(*given, **more))


@pytest.fixture
def edge_app(request: pytest.FixtureRequest) -> Edge:
    """The edge of the application that the setting ``edgerouter_app`` names, loaded anew for each test."""
    from edgerouter.application import FileApplication

    named: Any = request.config.getini("edgerouter_app")
    if not named:
        raise pytest.UsageError("edge_app: set edgerouter_app in the settings of pytest, as edgerouter_app = app.py")
    return FileApplication(named, folder=request.config.rootpath).load()
