"""Everything that keeps visitors from waiting for a slow origin.

    python examples/latency/origin.py --port 9001 &
    edgerouter run examples/latency/app.py --admin 127.0.0.1:9090

Then open http://127.0.0.1:8080/, stop both, and reload the page.
"""

import os
from datetime import timedelta

from edgerouter import CachePolicy, Edge, Health, Predict

edge = Edge("latency")

origin = edge.origin("site", os.environ.get("LATENCY_ORIGIN", "http://127.0.0.1:9001"), health=Health("/healthz"))

# Stale for ten seconds at most while the origin is well, for a day while it is not; hot answers never expire.
patient = CachePolicy(grace=10, sick_grace=timedelta(days=1), refresh_ahead=True)

edge.route("/api/*", to=origin, cache=patient)
edge.route("/*", to=origin, cache=patient, predict=Predict(confidence=0.5))

# Stored before the first visitor comes, and kept so. Scheme, host and port are those of the visitors' requests.
site = "http://127.0.0.1:8080"
edge.prefetch([f"{site}/", f"{site}/api/popular", f"{site}/api/config"], every=30)

# The pages register it with navigator.serviceWorker.register("/sw.js").
edge.service_worker("/sw.js", precache=["/app.css"], offline="/offline.html", api=["/api/*"])
