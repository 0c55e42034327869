"""The edge under faults: default configuration but for a small cache, and what a fault needs.

FAULTS_ORIGIN        URL of the origin
FAULTS_CONNECTIONS   ``max_connections`` of the origin; the default where it is not set
FAULTS_PROBE         seconds between two probes of the origin; it is not probed where it is not set
FAULTS_DRAIN         ``limits.http.drain_timeout``
FAULTS_BOTH          an address for HTTP/1.1 and HTTP/2 by prior knowledge
FAULTS_TLS           an address for TLS, whose certificate is in the folder FAULTS_CERTIFICATE
FAULTS_FUNCTIONS     a function that prints, for ``/loud/*``; no Python runs where it is not set
"""

import os
import sys

from edgerouter import (
    CacheLimits,
    Certificate,
    Context,
    Edge,
    Health,
    HttpLimits,
    Limits,
    Request,
    Response,
    Tls,
    cache,
)

edge = Edge(
    "faults",
    limits=Limits(
        cache=CacheLimits(memory_bytes="16MiB"),
        http=HttpLimits(drain_timeout=float(os.environ.get("FAULTS_DRAIN", "30"))),
    ),
)
url = os.environ["FAULTS_ORIGIN"]
probe = float(os.environ.get("FAULTS_PROBE", "0"))
origin = edge.origin(
    "origin",
    url,
    max_connections=int(os.environ.get("FAULTS_CONNECTIONS", "256")),
    health=Health("/healthz", interval=probe, timeout=probe, unhealthy_after=2) if probe else None,
)
edge.route("/pass/*", to=origin, cache=cache.DISABLED)
edge.route("/fail/*", to=edge.origin("failing", url, retries=0), cache=cache.DISABLED)

if both := os.environ.get("FAULTS_BOTH"):
    edge.listen(both, http=("h2", "http/1.1"))

if secured := os.environ.get("FAULTS_TLS"):
    folder = os.environ["FAULTS_CERTIFICATE"]
    edge.listen(secured, tls=Tls(Certificate(f"{folder}/cert.pem", f"{folder}/key.pem")))

if os.environ.get("FAULTS_FUNCTIONS"):

    @edge.function("/loud/{lines}")
    def loud(request: Request, ctx: Context) -> Response:
        """Prints so many lines to standard error."""
        for number in range(int(request.params["lines"])):
            print("a line of a function that has much to say:", number, "x" * 80, file=sys.stderr)
        return Response("said")


edge.route("/*", to=origin)
