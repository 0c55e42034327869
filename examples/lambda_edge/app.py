"""The article's Lambda@Edge function, a handler for AWS, as a hook of the edge.

edgerouter dev examples/lambda_edge/app.py
curl -i http://127.0.0.1:8080/
"""

from __future__ import annotations

from handler import lambda_handler  # type: ignore[import-not-found]  # the file beside this one

from edgerouter import Edge, lambda_edge

edge = Edge("lambda-edge")
site = edge.origin("site", "https://www.example.com")
edge.route("/*", to=site)
lambda_edge.attach(edge, lambda_handler, "viewer-request", "/*")
