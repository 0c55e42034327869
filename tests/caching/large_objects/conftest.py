"""A film, an edge that stores it in slices, and a client."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from edgerouter.testing import Running

from ...origins import Origin
from .films import Film, Serve, edge_for


@pytest.fixture
def film(origin: Origin) -> Film:
    film = Film()
    origin.on("/film", film)
    return film


@pytest.fixture
def edge(origin: Origin, serve: Serve) -> Running:
    return serve(edge_for(origin))


@pytest.fixture
def client(edge: Running, client_for: Callable[[Running], httpx.Client]) -> httpx.Client:
    return client_for(edge)
