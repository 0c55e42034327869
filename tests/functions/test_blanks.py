"""Values of fields that applications and functions give with blanks around them, as Django's Set-Cookie by WSGI has."""

from __future__ import annotations

import contextlib
from typing import Any

from edgerouter import Context, Edge, Request, Response
from edgerouter.server import Server
from edgerouter.settings import Settings

from ..http2.clients import http2


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    fields = [(b"x-a", b" \t a b\t "), (b"x-none", b" ")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    await send({"type": "http.response.body", "body": b"content"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b" 7 ")]})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-A", " \t a b\t "), ("X-None", " ")])
    return [b"content"]


def test_blanks_around_the_value_of_a_field_are_no_part_of_it() -> None:
    edge = Edge("test")
    edge.listen("127.0.0.1:0", http=("h2",))
    edge.mount("/asgi", asgi)
    edge.mount("/wsgi", wsgi)

    @edge.function("/function")
    def function(request: Request, ctx: Context) -> Response:
        response = Response("content", headers={"x-a": " \t a b\t "})
        response.headers["x-none"] = " "
        return response

    @edge.on("viewer_response", "/wsgi")
    def seen(request: Request, response: Response, ctx: Context) -> None:
        response.headers.add("x-seen", response.headers["x-a"] + " ")

    # A client that keeps to RFC 9113 ends the connection at a value with blanks around it.
    server = Server.start(edge, Settings(admin="127.0.0.1:0", workers=1))
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop, 5.0)
        client = stack.enter_context(http2(server.urls[0], None))
        for path in ("/asgi", "/wsgi", "/function"):
            found = client.get(path, "www.example.com", ("te", "trailers"))
            assert (found.status, found.get("x-a"), found.get("x-none")) == (200, "a b", "")
            assert found.trailers == ([("x-sum", "7")] if path == "/asgi" else [])
            assert found.get("x-seen") == ("a b" if path == "/wsgi" else None)
