"""The functions of ``benchmarks.functions_app`` for granian (RSGI) and uvicorn (ASGI), each the least that its protocol
requires."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

encode = msgspec.json.Encoder().encode
TEXT, JSON = "text/plain; charset=utf-8", "application/json"
PIECE = b"x" * 65_536


def made(path: str, agent: str | None) -> tuple[str, bytes]:
    """Type and content of the answers that need no content of the request."""
    _, kind, name = path.split("/", 2)
    if kind == "json":
        return JSON, encode({"hello": name, "agent": agent})
    return TEXT, f"hello {name}".encode()


def greeted(form: bytes) -> bytes:
    return f"hello {parse_qs(form.decode())['name'][0]}".encode()


async def rsgi(scope: Any, protocol: Any) -> None:
    if scope.path == "/stream":
        stream = protocol.response_stream(200, [("content-type", "application/octet-stream")])
        for _ in range(16):
            await stream.send_bytes(PIECE)
    elif scope.path == "/form":
        protocol.response_bytes(200, [("content-type", TEXT)], greeted(await protocol()))
    else:
        kind, body = made(scope.path, scope.headers.get("user-agent"))
        protocol.response_bytes(200, [("content-type", kind)], body)


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    path = scope["path"]
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(16):
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await send({"type": "http.response.body"})
        return
    if path == "/form":
        content = b""
        more = True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        kind, body = TEXT, greeted(content)
    else:
        agent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"user-agent"), None)
        kind, body = made(path, agent)
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
