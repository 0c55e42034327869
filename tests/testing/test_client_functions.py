"""``Client``: functions follow the clock of the test, and a test leaves nothing of them behind."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from edgerouter import AsyncContext, CachePolicy, Context, Edge, Request, Response
from edgerouter.testing import Client, Reply

from ..origins import wait_until


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


def test_the_caches_of_functions_follow_the_clock() -> None:
    with Client(application(), origins={"site": {}}) as client:
        assert "age" not in client.get("/own").headers
        client.clock.advance(30)
        assert int(client.get("/own").headers["age"]) in range(30, 40)
        client.clock.advance(31)
        assert "age" not in client.get("/own").headers


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


def test_a_client_that_has_ended_leaves_no_descriptor_of_its_functions() -> None:
    descriptors = Path("/proc/self/fd")

    def used() -> int:
        with Client(application(), origins={"site": {}}) as client:
            assert [client.get(path).status_code for path in ("/own", "/plain", "/fetches")] == [200, 200, 404]
        gc.collect()
        return len(list(descriptors.iterdir()))

    first = used()
    wait_until(lambda: used() <= first, what="an end of a client with as few descriptors as before")
