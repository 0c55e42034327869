"""The worker with the Cache API: a function that keeps the responses of an origin in a cache of its own.

edgerouter dev examples/cache_api/app.py
curl -i http://127.0.0.1:8080/static/logo.svg
"""

from __future__ import annotations

from edgerouter import AsyncContext, Edge, Request, Response

edge = Edge("cache-api")
site = edge.origin("site", "https://www.example.com")


@edge.function("/static/*", methods=["GET"])
async def cached(request: Request, ctx: AsyncContext) -> Response:
    response = await ctx.cache.match(request)
    if response is not None:
        return response
    # Of the origin, not of this very function.
    fetched = await ctx.fetch(request.url, origin=site)
    ctx.wait_until(ctx.cache.put(request, fetched))
    return fetched
