"""A page by the place of its visitor, with the nearest region and the visitor's own data.

Where clients are comes from files in MaxMind's format, such as GeoLite2-City.mmdb, which are not part of this package:
GEO_FILES names them, separated by ":". The user is the subject of a token, of which JWT_SECRET is the key.

edgerouter db migrate examples/geo/app.py
GEO_FILES=GeoLite2-City.mmdb JWT_SECRET=… edgerouter run examples/geo/app.py
curl http://127.0.0.1:8080/
"""

from __future__ import annotations

import os

from edgerouter import AsyncContext, Edge, Jwt, Request, When, env

edge = Edge("geo", trusted_proxies=["127.0.0.1"])
edge.geo(
    os.environ.get("GEO_FILES", "GeoLite2-City.mmdb").split(":"),
    regions={"iad1": (38.9, -77.4), "sfo1": (37.6, -122.4), "fra1": (50.0, 8.6)},
)
edge.database("DB", "sqlite:geo.db")

edge.route("/", respond="Not available in this country.", when=When(country=["AQ"]))


@edge.function("/", auth=Jwt.hs256(env("JWT_SECRET"), optional=True))
async def handler(request: Request, ctx: AsyncContext) -> dict[str, object]:
    geo = request.geo
    return {
        "city": geo.city or "Unknown",
        "country": geo.country or "Unknown",
        "region": geo.region or "Unknown",
        "lat": geo.latitude,
        "lon": geo.longitude,
        "served_for": ctx.region,
        "user": await user_data(ctx, request.user),
    }


async def user_data(ctx: AsyncContext, user: str | None) -> dict[str, object] | None:
    if user is None:
        return None
    found: dict[str, object] | None = (
        await ctx.env.DB.prepare("SELECT id, name FROM users WHERE id = ?").bind(user).first()
    )
    return found
