"""The read of ``benchmarks.sql`` as a function of edgerouter."""

from __future__ import annotations

import os

from edgerouter import AsyncContext, Edge, Request, Response

edge = Edge("sql")
edge.database("DB", f"sqlite:{os.environ['BENCH_FILE']}")


@edge.function("/user/{id}")
async def user(request: Request, ctx: AsyncContext) -> Response:
    read = ctx.env.DB.prepare("SELECT id, email, name FROM users WHERE id = ?")
    return Response.json(await read.bind(int(request.params["id"])).first())
