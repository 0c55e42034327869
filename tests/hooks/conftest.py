"""A site behind hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import Edge
from edgerouter.testing import Running

from ..origins import Origin
from .variants import Made, Serve, echo


@pytest.fixture
def made(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]) -> Made:
    """``made(declare, **route)`` calls ``declare(edge)`` on an edge with ``/*`` to the origin, and serves it."""
    origin.default = echo

    def make(declare: Callable[[Edge], Any], **route: Any) -> httpx.Client:
        edge = Edge("test")
        declare(edge)
        edge.route("/*", to=edge.origin("first", origin.url), **route)
        return client_for(serve(edge))

    return make
