from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgerouter import Acme, Edge, Limits, Tls

from ..processes import free_port
from ..tls.conftest import Start, start
from .issuers import Pebble

__all__ = ["Start", "start"]


@dataclass
class Ports:
    http: int
    tls: int


@dataclass
class Site:
    """An edge on the ports at which the issuer looks."""

    ports: Ports
    storage: Path

    def edge(self, *names: str, issuers: Any, plain: bool = True, limits: Limits | None = None, **more: Any) -> Edge:
        edge = Edge("test", limits=limits or Limits())
        acme = Acme(list(names), storage=self.storage, issuers=issuers, **more)
        edge.listen(f"127.0.0.1:{self.ports.tls}", tls=Tls(acme=acme))
        if plain:
            edge.listen(f"127.0.0.1:{self.ports.http}")
        edge.route("/*", respond="hello", viewer="redirect-to-https")
        return edge


@pytest.fixture
def ports() -> Ports:
    return Ports(free_port(), free_port())


@pytest.fixture
def site(ports: Ports, tmp_path: Path) -> Site:
    return Site(ports, tmp_path / "storage")


@pytest.fixture
def pebbles(ports: Ports, tmp_path: Path) -> Iterator[Callable[..., Pebble]]:
    made: list[Pebble] = []

    def make(**settings: Any) -> Pebble:
        made.append(Pebble(tmp_path / f"pebble-{len(made)}", ports.http, ports.tls, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for pebble in made:
            pebble.stop()


@pytest.fixture
def pebble(pebbles: Callable[..., Pebble]) -> Pebble:
    return pebbles()
