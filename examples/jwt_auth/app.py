"""The worker with authentication at the edge: a token is verified, and the origin learns who the user is.

JWT_SECRET=... edgerouter dev examples/jwt_auth/app.py
curl -i -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/
"""

from __future__ import annotations

from edgerouter import AsyncContext, Edge, Jwt, Request, env

edge = Edge("jwt-auth")
site = edge.origin("site", "https://www.example.com")
token = Jwt.hs256(env("JWT_SECRET"), forward={"userId": "X-User-ID", "role": "X-User-Role"})


@edge.function("/whoami", auth=token)
async def whoami(request: Request, ctx: AsyncContext) -> dict[str, str | None]:
    return {"user": request.user, "role": (request.claims or {}).get("role")}


# No token: 401. An invalid one: 403. Copies of the two fields that a client sends are removed.
edge.route("/*", to=site, auth=token)
