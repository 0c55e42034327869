"""The worker that resizes images: its URLs lead to variants that the edge makes and stores.

edgerouter dev examples/images/app.py
curl -iL "http://127.0.0.1:8080/image?url=/photos/cat.jpg&w=800&f=webp"
"""

from __future__ import annotations

from urllib.parse import urlencode

from edgerouter import Context, Edge, Images, Request, Response

edge = Edge("images")
site = edge.origin("site", "https://www.example.com")

edge.route("/photos/*", to=site)
edge.images("/_image", sources=[site], images=Images(widths=[400, 800, 1_600]))


@edge.function("/image", methods=["GET"])
def image(request: Request, ctx: Context) -> Response:
    """The worker's own URLs: 800 columns and WebP unless the query says otherwise."""
    query = request.query
    variant = {"url": query.get("url", ""), "w": query.get("w", "800"), "f": query.get("f", "webp")}
    return Response.redirect(f"/_image?{urlencode(variant)}")
