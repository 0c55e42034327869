"""A site behind the edge, as the files in deploy/ run it. ORIGIN names the site's server."""

from __future__ import annotations

import os

from edgerouter import CachePolicy, Edge, Health, cache

edge = Edge("production")

site = edge.origin("site", os.environ.get("ORIGIN", "http://127.0.0.1:9000"), health=Health("/"))

edge.route("/static/*", to=site, cache=cache.OPTIMIZED)
edge.route("/*", to=site, cache=CachePolicy(stale_while_revalidate=30, stale_if_error=86_400))
