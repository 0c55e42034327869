"""``ctx.fetch``: a request that a function makes through the edge itself.

It passes the routes, the cache, the pools and the failover of the edge, as a client's request would, with the address
of the client whose request led to it. Rate limits have counted that one; every other rule applies. Nothing of the outer
request is copied: a token or a cookie goes along when the function says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from edgerouter.errors import FetchError
from edgerouter.functions.streams import SLICE, ready

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Context, PendingFetch, Request, Response

__all__ = ["awaited", "wait_for"]

_PORTS = {"http": 80, "https": 443}
#: Fields that are the edge's own to set.
_FRAMING = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})


async def awaited(ctx: AsyncContext, request: Request | str, **options: Any) -> Response:
    """For async functions."""
    # An inline callable has none, and begins anew on a loop: nothing has been requested by then.
    asyncio.get_running_loop()
    pending = begin(ctx, request, **options)
    await ready(pending.when_ready)
    return pending.take()


def wait_for(ctx: Context, request: Request | str, **options: Any) -> Response:
    """For plain functions, whose thread waits."""
    from edgerouter import _core

    if _core.serves():
        raise RuntimeError(
            "ctx.fetch waits, which a plain inline callable must not: leave inline=True out, or make it async"
        )
    pending = begin(ctx, request, **options)
    until = time.monotonic() + max(ctx.remaining(), 0) + 1
    # In slices, so that the watchdog can interrupt.
    while not pending.wait(SLICE):
        if time.monotonic() > until:
            raise FetchError("there was no response in the time of the call")
    return pending.take()


def begin(
    ctx: AsyncContext | Context,
    request: Request | str,
    *,
    method: str | None = None,
    headers: Any = None,
    body: str | bytes | None = None,
    json: Any = None,
    cache: str = "default",
    timeout: float | None = None,
) -> PendingFetch:
    """Starts the request; ``ValueError`` for one that cannot be made."""
    from edgerouter._core import Request

    scheme, authority = ctx.fetch_origin()
    if isinstance(request, Request):
        url = request.url
        method = request.method if method is None else method
        given = dict.fromkeys(name.lower() for name in request.headers)
        sent = [(name, value) for name in given for value in request.headers.get_all(name)]
        fields = sent if headers is None else list(pairs(headers))
        if body is None and json is None:
            body = request.body
    elif isinstance(request, str):
        url, fields = request, list(pairs(headers))
    else:
        raise TypeError(f"ctx.fetch takes a Request or a URL, not {type(request).__name__}")
    if json is not None:
        if body is not None:
            raise ValueError("fetch: body cannot be combined with json")
        body = msgspec.json.encode(json)
        fields.append(("content-type", "application/json"))
    content = body.encode() if isinstance(body, str) else bytes(body or b"")
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"fetch: {url!r} is neither a path nor a URL of http or https")
        own = urlsplit(f"//{authority}")
        if parts.hostname != own.hostname or parts.port not in (None, own.port or _PORTS[scheme]):
            raise ValueError(
                f"fetch: {parts.netloc.rpartition('@')[2]!r} is not the host of this request; declare it as an origin, "
                "route a path to it, and fetch that path"
            )
        scheme = parts.scheme
    elif not url.startswith("/"):
        raise ValueError(f"fetch: {url!r} is neither a path, which starts with /, nor a URL of http or https")
    target = parts.path or "/"
    if parts.query:
        target = f"{target}?{parts.query}"
    left = max(ctx.remaining(), 0.0)
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0):
        raise ValueError(f"fetch: timeout is {timeout!r}, but must be seconds, > 0")
    seconds = left if timeout is None else min(left, float(timeout))
    kept = [(name, value) for name, value in fields if name.lower() not in _FRAMING]
    return ctx.begin_fetch(method or "GET", scheme, authority, target, kept, content, cache, seconds)


def pairs(headers: Any) -> Iterator[tuple[str, str]]:
    """Fields as pairs."""
    if headers is None:
        return
    yield from headers.items() if isinstance(headers, Mapping) or hasattr(headers, "items") else headers
