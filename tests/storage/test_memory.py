"""The bounds of the tier in memory follow the plan in service."""

from __future__ import annotations

import httpx
import pytest

from edgerouter import CacheLimits, ConfigError, Edge, Limits
from edgerouter.testing import running

from ..metrics import metric
from ..origins import Origin, Reply

MIB = 1 << 20
BODY = b"x" * 10_000


def bounded(origin: Origin, memory: int, largest: int | None = None) -> Edge:
    edge = Edge("test", limits=Limits(cache=CacheLimits(memory_bytes=memory, largest_object_bytes=largest)))
    edge.route("/*", to=edge.origin("first", origin.url))
    return edge


def test_a_reload_gives_the_memory_its_bounds(origin: Origin) -> None:
    origin.default = lambda seen: Reply(headers={"cache-control": "max-age=3600"}, body=BODY)
    with running(bounded(origin, 4 * MIB)) as served, httpx.Client(base_url=served.url) as client:

        def is_stored(path: str) -> bool:
            return "hit" in [client.get(path).headers["cache-status"].split("; ")[1] for _ in range(2)]

        assert all(is_stored(f"/{number}") for number in range(300))
        assert metric(served, "edgerouter_cache_bytes") > 300 * len(BODY)
        # Bytes beyond the bound are evicted before the reload has ended.
        served.server.reload(bounded(origin, MIB, largest=MIB))
        assert metric(served, "edgerouter_cache_capacity_bytes") == MIB
        assert 0 < metric(served, "edgerouter_cache_bytes") <= MIB
        assert any(is_stored(f"/a/{number}") for number in range(50))
        served.server.reload(bounded(origin, MIB, largest=4_096))
        assert not any(is_stored(f"/b/{number}") for number in range(5))
        served.server.reload(bounded(origin, 64 * MIB))
        assert all(is_stored(f"/{number}") for number in range(300))
        assert metric(served, "edgerouter_cache_bytes") > 300 * len(BODY)


def test_a_reload_leaves_a_large_memory_enough_to_choose_from(origin: Origin) -> None:
    with running(bounded(origin, 64 * MIB)) as served:
        with pytest.raises(ConfigError, match=r"limits\.cache\.memory_bytes: must be at least 67108864 while"):
            served.server.reload(bounded(origin, 63 * MIB))
        assert metric(served, "edgerouter_cache_capacity_bytes") == 64 * MIB
        served.server.reload(bounded(origin, 256 * MIB))
        assert metric(served, "edgerouter_cache_capacity_bytes") == 256 * MIB
