"""A site whose hooks tell visitors apart by a variant, and what its responses say of the cache."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from edgerouter import Context, Edge, Request, Response
from edgerouter.testing import Running

from ..origins import Reply, Seen

Serve = Callable[[Edge], Running]
Made = Callable[..., httpx.Client]


def echo(seen: Seen) -> Reply:
    """The field that the hooks of these tests set, and how many requests the origin got."""
    return Reply(200, {"Cache-Control": "max-age=60"}, f"variant {seen.get('x-hooked')}")


def status(response: httpx.Response) -> str:
    """The edge's own member of ``Cache-Status``, without its name."""
    return response.headers["cache-status"].split(";", 1)[1].strip()


def is_hit(response: httpx.Response) -> bool:
    return status(response).startswith("hit")


def article(edge: Edge) -> None:
    """The A/B hook of the reference article, as it stands there but for the language."""

    def parse_cookies(field: str | None) -> dict[str, str]:
        pairs = (pair.strip().partition("=") for pair in (field or "").split(";"))
        return {name: value for name, _, value in pairs}

    @edge.on("origin_request", "/*")
    def handler(request: Request, ctx: Context) -> Response | None:
        request.headers["x-edge-function"] = "processed"
        cookies = parse_cookies(request.headers.get("cookie"))
        if not cookies.get("variant"):
            response = Response(status=302, headers={"location": request.path})
            response.headers["set-cookie"] = "variant=a; Path=/; Max-Age=2592000"
            return response
        request.headers["x-hooked"] = cookies["variant"]
        return None
