"""Reports that are slow to make: kept by the function itself, and counted after the response.

edgerouter run examples/reports/app.py
curl -i http://127.0.0.1:8080/reports/2026-11-24     # made, twice: the second one has an Age
curl -i http://127.0.0.1:8080/popular                # how often each was requested
curl -i -X DELETE http://127.0.0.1:8080/reports/2026-11-24
"""

from __future__ import annotations

import asyncio
from collections import Counter

from edgerouter import AsyncContext, Context, Edge, Request, Response

edge = Edge("reports")
asked: Counter[str] = Counter()


@edge.function("/reports/{day}", methods=["GET"])
async def report(request: Request, ctx: AsyncContext) -> Response:
    day = request.params["day"]
    ctx.wait_until(count(day))
    reports = await ctx.caches.open("reports")
    found = await reports.match(request)
    if found is not None:
        return found
    response = Response.json(await compute(day), headers={"Cache-Control": "max-age=300", "ETag": f'"{day}"'})
    ctx.wait_until(reports.put(request, response))
    return response


@edge.function("/reports/{day}", methods=["DELETE"])
async def forget(request: Request, ctx: AsyncContext) -> Response:
    reports = await ctx.caches.open("reports")
    gone = await reports.delete(request, ignore_method=True)
    return Response(status=204 if gone else 404)


@edge.function("/popular")
def popular(request: Request, ctx: Context) -> Response:
    return Response.json(dict(asked.most_common(10)))


async def compute(day: str) -> dict[str, str]:
    """Stands for a slow query."""
    await asyncio.sleep(0.05)
    return {"day": day, "visitors": "many"}


async def count(day: str) -> None:
    """Stands for a call to a counting service; the visitor does not wait for it."""
    await asyncio.sleep(0)
    asked[day] += 1
