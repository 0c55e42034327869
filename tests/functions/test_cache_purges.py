"""Purges reach what functions stored: in the default cache and in named ones, by whatever names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import Context, Edge, Purge, Request, Response
from edgerouter.testing import Running

from ..purges import completed

Serve = Callable[[Edge], Running]

URLS = ("https://www.example.com/a/1", "https://www.example.com/a/2?x=1", "https://other.example/b")


class Kept:
    """An edge whose function keeps responses in two caches, and says which are there."""

    def __init__(self, served: Running) -> None:
        self.served = served
        self.client = httpx.Client(base_url=served.url)

    def purge(self, **what: Any) -> Purge:
        return completed(self.served, self.served.server.purge(**what))


@pytest.fixture
def kept(serve: Serve) -> Kept:
    edge = Edge("test")

    @edge.function("/put")
    def put(request: Request, ctx: Context) -> Response:
        fields = {"Cache-Control": "max-age=60"}
        done = [
            cache.put(url, Response(url, headers={**fields, "Cache-Tag": f"t{number}, all"}))
            for cache in (ctx.cache, ctx.caches.open("own"))
            for number, url in enumerate(URLS)
        ]
        return Response.json(sum(done))

    @edge.function("/there")
    def there(request: Request, ctx: Context) -> Response:
        own = ctx.caches.open("own")
        found = [url for url in URLS if ctx.cache.match(url) is not None]
        found += [f"own {url}" for url in URLS if own.match(url) is not None]
        return Response.json(found)

    return Kept(serve(edge))


def both(*urls: str) -> set[str]:
    return {*urls, *(f"own {url}" for url in urls)}


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    ("what", "gone"),
    [
        ({"urls": [URLS[0]]}, both(URLS[0])),
        ({"urls": [URLS[1]]}, both(URLS[1])),
        ({"urls": ["https://www.example.com/a/2"]}, set()),
        ({"paths": ["/a/*"]}, both(URLS[0], URLS[1])),
        ({"paths": ["other.example/*"]}, both(URLS[2])),
        ({"hosts": ["www.example.com"]}, both(URLS[0], URLS[1])),
        ({"tags": ["t2"]}, both(URLS[2])),
        ({"tags": ["all"]}, both(*URLS)),
        ({"everything": True}, both(*URLS)),
    ],
)
def test_a_purge_means_what_functions_stored_and_nothing_else(
    kept: Kept, soft: bool, what: dict[str, Any], gone: set[str]
) -> None:
    """A stale response is not matched either, so a soft purge is a miss here."""
    assert kept.client.get("/put").json() == 2 * len(URLS)
    assert set(kept.client.get("/there").json()) == both(*URLS)
    assert kept.served.server.purge(**what, dry_run=True).matched.objects == len(gone)
    purge = kept.purge(**what, soft=soft)
    assert set(kept.client.get("/there").json()) == both(*URLS) - gone
    assert purge.matched.objects == len(gone)
    assert kept.client.get("/put").json() == 2 * len(URLS)
    assert set(kept.client.get("/there").json()) == both(*URLS), "what comes after a purge is none of its business"
