"""The read of ``benchmarks.sql`` in Starlette, by aiosqlite, with a connection that stays open."""

from __future__ import annotations

import importlib
import os
from typing import Any

aiosqlite: Any = importlib.import_module("aiosqlite")
applications: Any = importlib.import_module("starlette.applications")
responses: Any = importlib.import_module("starlette.responses")
routing: Any = importlib.import_module("starlette.routing")
open_connections: list[Any] = []


async def user(request: Any) -> Any:
    if not open_connections:
        connection = await aiosqlite.connect(os.environ["BENCH_FILE"])
        connection.row_factory = aiosqlite.Row
        open_connections.append(connection)
    read = "SELECT id, email, name FROM users WHERE id = ?"
    async with open_connections[0].execute(read, (int(request.path_params["id"]),)) as cursor:
        row = await cursor.fetchone()
    return responses.JSONResponse(None if row is None else dict(row))


app = applications.Starlette(routes=[routing.Route("/user/{id}", user)])
