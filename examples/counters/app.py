"""Counters and settings in a key-value store: a file while you develop, Redis where many machines share it.

edgerouter run examples/counters/app.py                                   # counters.db, in the current directory
KV_URL=redis://127.0.0.1:6379/0 edgerouter run examples/counters/app.py   # the same on Redis
curl -X PUT http://127.0.0.1:8080/pages/home -d '{"title": "Welcome"}'
curl http://127.0.0.1:8080/pages/home                                     # counts a view
curl http://127.0.0.1:8080/pages
"""

from __future__ import annotations

import os

from edgerouter import Abort, AsyncContext, Edge, Request, Response

edge = Edge("counters")
# With a password in it the URL belongs into env("KV_URL"), which no log and no repr shows.
edge.kv("PAGES", os.environ.get("KV_URL", "sqlite:counters.db"))


@edge.function("/pages/{name}", methods=["GET"])
async def page(request: Request, ctx: AsyncContext) -> Response:
    name = request.params["name"]
    found = await ctx.env.PAGES.get(f"page:{name}", "json")
    if found is None:
        raise Abort(404, "There is no such page.")
    return Response.json({**found, "views": await ctx.env.PAGES.add(f"views:{name}")})


@edge.function("/pages/{name}", methods=["PUT"])
async def store(request: Request, ctx: AsyncContext) -> Response:
    name = request.params["name"]
    # The first one wins where several make a page at once.
    new = await ctx.env.PAGES.put(f"page:{name}", request.json(), if_absent=True)
    return Response.json({"stored": new}, status=201 if new else 409)


@edge.function("/pages")
async def pages(request: Request, ctx: AsyncContext) -> Response:
    found = await ctx.env.PAGES.list("page:", cursor=request.query.get("cursor"), limit=100)
    return Response.json({"pages": [key.removeprefix("page:") for key in found.keys], "next": found.cursor})
