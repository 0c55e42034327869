"""The health of an origin lasts as long as some plan in use has the origin."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx

from edgerouter import Edge, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, wait_until

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


def site(*origins: Origin) -> Edge:
    edge = Edge("test")
    for one in origins:
        edge.route(f"/{one.name}/*", to=edge.origin(one.name, one.url), cache=cache.DISABLED)
    return edge


def health(running: Running) -> dict[str, str]:
    metrics = httpx.get(f"{running.admin_url}/metrics").text
    return dict(re.findall(r'^edgerouter_origin_healthy\{origin="(\w+)"\} (\d)$', metrics, re.MULTILINE))


def test_a_reload_keeps_the_health_of_origins_that_stay_and_forgets_that_of_others(
    origin: Origin, second: Origin, serve: Serve, client_for: ClientFor
) -> None:
    both = (origin, second)
    running = serve(site(*both))
    client = client_for(running)
    for one in both:
        one.default = Reply(500, {}, "no")
        for _ in range(3):
            assert client.get(f"/{one.name}/").status_code == 500
    wait_until(lambda: health(running) == {"first": "0", "second": "0"}, what="both being found unhealthy")
    running.reload(site(*both))
    assert health(running) == {"first": "0", "second": "0"}
    running.reload(site(origin))
    assert health(running) == {"first": "0"}
    running.reload(site(*both))
    assert health(running) == {"first": "0", "second": "1"}
