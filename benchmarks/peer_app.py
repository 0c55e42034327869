"""The function of ``benchmarks.app`` for servers of Python applications: JSON from the path and one header.

Both parse nothing that the protocol does not require, and use the same encoder as edgerouter does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

encode = msgspec.json.Encoder().encode
JSON = [("content-type", "application/json")]
JSON_BYTES = [(b"content-type", b"application/json")]


async def rsgi(scope: Any, protocol: Any) -> None:
    """For granian."""
    body = encode({"hello": scope.path.rpartition("/")[2], "agent": scope.headers.get("user-agent")})
    protocol.response_bytes(200, JSON, body)


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """For uvicorn."""
    agent = None
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value.decode("latin-1")
            break
    body = encode({"hello": scope["path"].rpartition("/")[2], "agent": agent})
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": JSON_BYTES + length})
    await send({"type": "http.response.body", "body": body})
