"""A counting origin behind an edge that can be purged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from edgerouter import Edge, Purge
from edgerouter.testing import Running, running

from ..origins import Origin, Reply, Seen
from ..purges import completed
from ..responses import is_hit


@dataclass
class Shop:
    """An edge, a client for it, and an origin that counts: each answer's body is another number."""

    served: Running
    client: httpx.Client
    origin: Origin

    @property
    def admin(self) -> str:
        return self.served.admin_url

    def get(self, path: str, host: str = "shop.example", **headers: str) -> httpx.Response:
        fields = {"host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(path, headers=fields)

    def fill(self, *paths: str, host: str = "shop.example") -> None:
        for path in paths:
            self.get(path, host)
            assert is_hit(self.get(path, host)), path

    def purge(self, *urls: str, **what: Any) -> Purge:
        made: Purge = self.served.server.purge(urls, **what)
        return made

    def completed(self, purge: Purge) -> Purge:
        return completed(self.served, purge)


MakeShop = Callable[..., Shop]


@pytest.fixture
def make_shop(origin: Origin) -> Iterator[MakeShop]:
    """``make_shop(declare, headers)``: ``declare(edge, origin)`` adds the routes, one ``/*`` by default."""
    opened: list[Any] = []

    def make(declare: Callable[[Edge, Any], object] | None = None, headers: dict[str, str] | None = None) -> Shop:
        numbers = itertools.count(1)

        def answer(seen: Seen) -> Reply:
            return Reply(200, {"Cache-Control": "max-age=600", **(headers or {})}, f"{next(numbers)}")

        origin.default = answer
        edge = Edge("shop")
        first = edge.origin("first", origin.url)
        if declare is None:
            edge.route("/*", to=first)
        else:
            declare(edge, first)
        context = _serving(edge, origin)
        opened.append(context)
        return context.__enter__()

    yield make
    for context in reversed(opened):
        context.__exit__(None, None, None)


@contextmanager
def _serving(edge: Edge, origin: Origin) -> Iterator[Shop]:
    with running(edge) as served, httpx.Client(base_url=served.url, timeout=10.0) as client:
        yield Shop(served, client, origin)


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    return make_shop()
