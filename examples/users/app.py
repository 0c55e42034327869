"""A users API on a SQL database in the shape of Cloudflare's D1: a SQLite file, users.db, in the current directory.

With DATABASE_URL=postgresql://USER:PASSWORD@HOST/DATABASE, or mysql://…, it is on that server. The migrations are in a
folder for each engine, as the engines differ in how they write a schema.

edgerouter db migrate examples/users/app.py
edgerouter run examples/users/app.py
curl -X POST http://127.0.0.1:8080/api/users -d '{"email": "ann@example.com", "name": "Ann"}'
curl http://127.0.0.1:8080/api/users
"""

from __future__ import annotations

import os

from edgerouter import AsyncContext, BindingError, Edge, Request, Response

edge = Edge("users")
edge.database("DB", os.environ.get("DATABASE_URL") or "sqlite:users.db")


@edge.function("/api/users", methods=["GET"])
async def users(request: Request, ctx: AsyncContext) -> Response:
    found = await ctx.env.DB.prepare("SELECT * FROM users ORDER BY created_at DESC LIMIT 10").all()
    return Response.json(found.results)


@edge.function("/api/users", methods=["POST"])
async def add(request: Request, ctx: AsyncContext) -> Response:
    user = request.json()
    insert = ctx.env.DB.prepare("INSERT INTO users (email, name) VALUES (?, ?)")
    try:
        result = await insert.bind(user["email"], user["name"]).run()
    except BindingError as error:
        if error.constraint != "unique":
            raise
        return Response.json({"success": False, "error": "This address is known already."}, status=409)
    return Response.json({"success": result.success})
