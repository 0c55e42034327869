"""The edge that is measured: default configuration, one route for each work of the harness.

BENCH_ORIGIN   the port of the origin on 127.0.0.1
JWT_SECRET     the HS256 secret of the ``/jwt/`` route
BENCH_TRACES   the receiver of the traces of 1 % of the requests, if there are any
BENCH_THREADS  the number of threads for plain functions, if not the default
"""

import os
import time

from edgerouter import Context, Edge, Experiment, FunctionLimits, Jwt, Limits, Request, Response, Tracing, cache, env

threads = os.environ.get("BENCH_THREADS")
receiver = os.environ.get("BENCH_TRACES")
edge = Edge(
    "bench",
    limits=Limits(functions=FunctionLimits(threads=int(threads))) if threads else None,
    tracing=Tracing(endpoint=receiver, ratio=0.01) if receiver else None,
)
origin = edge.origin("origin", f"http://127.0.0.1:{os.environ.get('BENCH_ORIGIN', '9000')}")

edge.route("/hit/*", to=origin)
edge.route("/pass/*", to=origin, cache=cache.DISABLED)
edge.route(
    "/jwt/*",
    to=origin,
    auth=Jwt.hs256(env("JWT_SECRET"), shared=True),
    experiment=Experiment("home", cookie="ab-variant", variants={"control": 50, "treatment": 50}),
)
edge.route("/hook/*", to=origin)


@edge.on("viewer_request", "/hook/*", inline=True)
def market(request: Request, ctx: Context) -> None:
    """A field of the key from another field, as for pages by language."""
    request.headers["x-market"] = request.headers.get("accept-language", "en")[:2]


@edge.function("/fn/{name}")
def queued(request: Request, ctx: Context) -> Response:
    """JSON from the path and one header, on Python's own thread: the default."""
    return Response.json({"hello": request.params["name"], "agent": request.headers.get("user-agent")})


@edge.function("/fn-inline/{name}", inline=True)
def inline(request: Request, ctx: Context) -> Response:
    """The same on the worker itself: for functions that promise never to wait."""
    return Response.json({"hello": request.params["name"], "agent": request.headers.get("user-agent")})


@edge.function("/spin")
def spin(request: Request, ctx: Context) -> Response:
    """Holds the interpreter for two seconds: cached hits must not notice (P6)."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        for _ in range(100_000):
            pass
    return Response.json({"spun": True})
