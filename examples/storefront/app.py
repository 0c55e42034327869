"""The storefront's edge: two replicas, a cached site, an API behind a token, an experiment, functions and hooks.

    edgerouter dev examples/storefront/app.py --admin 127.0.0.1:9090

``make demo`` starts it with its two origins. ``STOREFRONT_ORIGINS`` has their URLs, ``STOREFRONT_CA`` the authority of
their certificates if they are URLs of https, ``JWT_SECRET`` the secret that they sign tokens with. Pages are for https
only: those who come without it are redirected, and API calls refused.
"""

import os

from edgerouter import AsyncContext, Context, Edge, Experiment, Health, Jwt, Request, Response, cache, env, secret_file

edge = Edge("storefront")

first, second = os.environ.get("STOREFRONT_ORIGINS", "http://127.0.0.1:9001 http://127.0.0.1:9002").split()
authority = os.environ.get("STOREFRONT_CA")
trusted = secret_file(authority) if authority else None
primary = edge.origin("primary", first, health=Health("/healthz"), tls_ca=trusted)
backup = edge.origin("backup", second, health=Health("/healthz"), tls_ca=trusted)
site = edge.group("site", [primary, backup], failover_on={500, 502, 503, 504})

edge.route("/static/*", to=site, cache=cache.OPTIMIZED, viewer="redirect-to-https", compress=True)
edge.route("/img/*", to=site, cache=cache.OPTIMIZED, viewer="redirect-to-https")
edge.route(
    "/api/*",
    to=site,
    cache=cache.DISABLED,
    viewer="https-only",
    auth=Jwt.hs256(env("JWT_SECRET"), forward={"userId": "X-User-ID", "role": "X-User-Role"}),
)
edge.route("/login", to=site, cache=cache.DISABLED, viewer="https-only")
edge.route("/events", to=site, cache=cache.DISABLED, viewer="https-only")
edge.route(
    "/offer",
    to=site,
    viewer="redirect-to-https",
    experiment=Experiment("offer", cookie="offer", mode="redirect", variants={"control": 90, "treatment": 10}),
)
edge.route(
    "/*",
    to=site,
    index="index.html",
    viewer="redirect-to-https",
    compress=True,
    experiment=Experiment("home", cookie="ab-variant", variants={"control": 50, "treatment": 50}),
)


@edge.function("/hello/{name}")
async def hello(request: Request, ctx: AsyncContext) -> Response:
    """An edge function: no origin takes part."""
    return Response.json({"hello": request.params["name"], "city": request.geo.city})


@edge.on("origin_request", "/product/*")
def tag(request: Request, ctx: Context) -> None:
    """Only on a miss: the origin sees that the edge was here."""
    request.headers["x-edge-function"] = "processed"


@edge.on("viewer_response", "/login", inline=True)
def secure(request: Request, response: Response, ctx: Context) -> None:
    """Adds the fields that a page with secrets should have, whatever the origin does."""
    response.headers["cache-control"] = "no-store"
    response.headers["x-content-type-options"] = "nosniff"
