"""The functions that ``benchmarks.functions`` measures on edgerouter: default configuration.

BENCH_ORIGIN  the port of the origin on 127.0.0.1
BENCH_WEB     1: the application of FastAPI is mounted, too
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from edgerouter import AsyncContext, Edge, Request, Response

edge = Edge("bench")
edge.route("/hit/*", to=edge.origin("origin", f"http://127.0.0.1:{os.environ.get('BENCH_ORIGIN', '9000')}"))
PIECE = b"x" * 65_536


@edge.function("/fn/{name}")
async def hello(request: Request, ctx: AsyncContext) -> Response:
    return Response(f"hello {request.params['name']}")


@edge.function("/json/{name}")
async def json(request: Request, ctx: AsyncContext) -> dict[str, Any]:
    return {"hello": request.params["name"], "agent": request.headers.get("user-agent")}


@edge.function("/stream")
async def stream(request: Request, ctx: AsyncContext) -> AsyncIterator[bytes]:
    for _ in range(16):
        yield PIECE


@edge.function("/form", methods=["POST"])
async def form(request: Request, ctx: AsyncContext) -> Response:
    fields = await request.form()
    return Response(f"hello {fields['name']}")


@edge.function("/page")
async def page(request: Request, ctx: AsyncContext) -> Response:
    return await ctx.fetch("/hit/1k")


if os.environ.get("BENCH_WEB") == "1":
    from benchmarks.web_app import app

    edge.mount("/app", app)
