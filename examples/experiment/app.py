"""An A/B test whose settings are in a key-value store, and change while the edge serves.

edgerouter run examples/experiment/app.py
curl -i http://127.0.0.1:8080/
python examples/experiment/app.py treatment '{"weight": 90, "payload": {"headline": "New!"}}'
curl -i http://127.0.0.1:8080/

The value of experiment:VARIANT has the weight of a variant, whether it is enabled, and a payload for origins and
functions. A change is in use within five seconds, for every visitor and without a reload. A value that does not fit
changes nothing and is logged.
"""

from __future__ import annotations

import os
import sys

from edgerouter import AsyncContext, Edge, Experiment, Request

edge = Edge("experiment")
edge.kv("EXPERIMENTS", os.environ.get("EXPERIMENTS_URL", "sqlite:experiments.db"))
site = edge.origin("site", "http://127.0.0.1:9000")

ab = Experiment(
    "home",
    variants={"control": 50, "treatment": 50},
    cookie="ab-variant",
    config="kv:EXPERIMENTS/experiment:{variant}",
    config_interval=float(os.environ.get("CONFIG_INTERVAL", "5")),
    payload_header="X-Experiment",
)
edge.route("/*", to=site, experiment=ab)


@edge.function("/headline", experiment=ab)
async def headline(request: Request, ctx: AsyncContext) -> dict[str, object]:
    assert request.experiment is not None
    settings = request.experiment.payload or {}
    return {"variant": request.experiment.variant, "headline": settings.get("headline", "Welcome")}


if __name__ == "__main__":
    variant, settings = sys.argv[1:]
    with edge.bindings() as env:
        env.EXPERIMENTS.put(f"experiment:{variant}", settings)
