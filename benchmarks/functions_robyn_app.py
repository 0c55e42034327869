"""The functions of ``benchmarks.functions_app`` for robyn: ``python functions_robyn_app.py PORT``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from urllib.parse import parse_qs

from robyn import Headers, Request, Response, Robyn, StreamingResponse

port = int(sys.argv.pop())
app = Robyn(__file__)
PIECE = "x" * 65_536


@app.get("/fn/:name")
async def hello(request: Request) -> str:
    return f"hello {request.path_params['name']}"


@app.get("/json/:name")
async def json(request: Request) -> dict[str, object]:
    return {"hello": request.path_params["name"], "agent": request.headers.get("user-agent")}


@app.get("/stream")
async def stream(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        for _ in range(16):
            yield PIECE

    return StreamingResponse(pieces(), headers=Headers({}), media_type="application/octet-stream")


@app.post("/form")
async def form(request: Request) -> Response:
    body = request.body if isinstance(request.body, str) else bytes(request.body).decode()
    return Response(200, Headers({}), f"hello {parse_qs(body)['name'][0]}")


app.start(host="127.0.0.1", port=port)
