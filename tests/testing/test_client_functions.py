"""``Client``: the part of the cache in responses that functions and other caches have made."""

from __future__ import annotations

import pytest

from edgerouter import AsyncContext, CachePolicy, Context, Edge, Request, Response
from edgerouter.testing import Client, Reply


def application() -> Edge:
    edge = Edge("site")
    site = edge.origin("site", "https://www.example.com", retries=0)
    edge.route("/page", to=site, cache=CachePolicy())

    @edge.function("/own")
    async def own(request: Request, ctx: AsyncContext) -> Response:
        found = await ctx.cache.match("https://own.example/")
        if found is None:
            found = Response("made", headers={"cache-control": "max-age=60"})
            await ctx.cache.put("https://own.example/", found.clone())
        return found

    @edge.function("/fetches")
    async def fetches(request: Request, ctx: AsyncContext) -> Response:
        return await ctx.fetch("/page")

    @edge.function("/plain")
    def plain(request: Request, ctx: Context) -> Response:
        return Response(iter(["a", "b"]))

    return edge


@pytest.mark.parametrize(
    "sent",
    ["Origin; hit; ttl=30", 'Origin; fwd=miss; key="a, b; hit"; stored', '"a, \\"b\\"; hit"; ttl=7; detail=x'],
)
def test_the_part_of_the_cache_is_that_of_the_edge_and_not_of_its_origin(sent: str) -> None:
    reply = Reply(200, {"cache-control": "max-age=60", "cache-status": sent}, "x")
    with Client(application(), origins={"site": {"/page": reply}}) as client:
        fields = client.get("/page").headers["cache-status"]
        assert fields.startswith(f"{sent}, ") and fields.endswith("detail=absent")
        first = client.cache
        assert (first.hit, first.forwarded, first.stored, first.detail) == (False, "uri-miss", True, "absent")
        client.get("/page")
        assert (client.cache.hit, client.cache.forwarded, client.cache.detail) == (True, None, None)
        client.get("/fetches")
        assert (client.cache.hit, client.cache.forwarded, client.cache.detail) == (False, None, "function")
