"""An origin with pictures, and an edge that makes variants of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from edgerouter import Edge, Images, Limits
from edgerouter.testing import Running, running

from ..origins import Origin, Reply
from . import pictures

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
WEBP = "image/webp,*/*;q=0.8"
FRESH = {"cache-control": "max-age=600", "etag": '"v1"', "cache-tag": "pictures"}


class Gallery:
    """An edge with ``/_image`` and a route with images, and a client for it."""

    def __init__(self, served: Running, client: httpx.Client, origin: Origin) -> None:
        self.served = served
        self.client = client
        self.origin = origin

    def put(self, path: str, content: bytes, kind: str = "image/jpeg", **fields: str) -> None:
        self.origin.on(path, Reply(200, {"content-type": kind} | FRESH | fields, content))

    def get(self, path: str, accept: str = "*/*", method: str = "GET", **fields: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return self.client.request(method, path, headers={"accept": accept} | named)

    def image(self, url: str, query: str = "", accept: str = "*/*", **fields: str) -> httpx.Response:
        parameters = {"url": url} | dict(pair.split("=", 1) for pair in query.split("&") if pair)
        return self.get(f"/_image?{httpx.QueryParams(parameters)}", accept, **fields)

    def count(self, name: str, label: str = "") -> int:
        pattern = rf"^edgerouter_{name}(?:{{[^}}]*{re.escape(label)}[^}}]*}})? (\d+)$"
        return sum(map(int, re.findall(pattern, self.served.server.metrics(), re.MULTILINE)))


Gallerist = Callable[..., Gallery]


@pytest.fixture
def gallery(origin: Origin) -> Iterator[Gallerist]:
    """``gallery(**images)`` starts one; ``limits`` are those of the edge."""
    with ExitStack() as stack:

        def make(limits: Limits | None = None, route: dict[str, Any] | None = None, **images: Any) -> Gallery:
            edge = Edge("test", limits=limits or Limits())
            site = edge.origin("site", origin.url)
            policy = Images(**images)
            edge.images("/_image", sources=[site], images=policy)
            edge.route("/photos/*", to=site, images=policy, **(route or {}))
            edge.route("/*", to=site)
            served = stack.enter_context(running(edge))
            client = stack.enter_context(httpx.Client(base_url=served.url, timeout=30))
            made = Gallery(served, client, origin)
            made.put("/a.jpg", pictures.coded(pictures.photo()))
            made.put("/photos/a.jpg", pictures.coded(pictures.photo()))
            return made

        yield make
