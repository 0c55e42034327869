"""The edge. Run it with: edgerouter run app.py --reload"""

from edgerouter import AsyncContext, Context, Edge, Health, Request, Response, cache

edge = Edge("starter")

site = edge.origin("site", "http://127.0.0.1:9000", health=Health("/healthz"))

edge.route("/static/*", to=site, cache=cache.OPTIMIZED)
edge.route("/api/*", to=site, cache=cache.DISABLED)
edge.route("/*", to=site)


@edge.function("/hello/{name}")
async def hello(request: Request, ctx: AsyncContext) -> Response:
    """Answered at the edge, without an origin."""
    return Response.json({"hello": request.params["name"]})


@edge.on("viewer_response", "/api/*")
def mark(request: Request, response: Response, ctx: Context) -> None:
    """Every answer of the API says that it came through here."""
    response.headers["x-edge"] = "starter"
