"""Tenants: the shares of several parties in one bill, by the routes that their requests took."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgerouter.costs.prices import Prices
from edgerouter.costs.terms import Tenant
from edgerouter.costs.usage import Usage
from edgerouter.monitoring.alerts import ANSWERED_BY_CACHE, LOOKED_UP
from edgerouter.monitoring.samples import Samples

__all__ = ["OTHERS", "Owners", "shares"]

#: The routes that no tenant has.
OTHERS = "(others)"
#: Outcomes of requests for which an origin was requested, and of those that a function answered.
_FROM_ORIGINS, _FROM_FUNCTIONS = "miss|revalidated|pass|tunnel", "function"


@dataclass(frozen=True)
class Owners:
    """The tenants of a price model, and their routes."""

    tenants: Sequence[Tenant]

    @cached_property
    def _patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        """Each tenant with its routes; ``*`` stands for any characters."""
        glob = (
            (one.name, "|".join(".*".join(map(re.escape, route.split("*"))) for route in one.routes))
            for one in self.tenants
        )
        return [(name, re.compile(f"(?:{pattern})", re.DOTALL)) for name, pattern in glob]

    def of(self, route: str) -> str:
        """The first tenant that has a route."""
        return next((name for name, pattern in self._patterns if pattern.fullmatch(route)), OTHERS)

    def usage(self, samples: Samples) -> dict[str, Usage]:
        """The counters of each tenant since the start of the edge.

        Requests to origins and calls of functions are those that viewers caused: the edge counts neither of them by
        route, but their outcomes.
        """
        requests, answered, looked_up, origins, functions = (
            self._sums(samples, "edgerouter_requests_total", outcomes)
            for outcomes in (None, ANSWERED_BY_CACHE, LOOKED_UP, _FROM_ORIGINS, _FROM_FUNCTIONS)
        )
        sent = self._sums(samples, "edgerouter_response_bytes_total")
        received = self._sums(samples, "edgerouter_route_origin_bytes_total")
        return {
            name: Usage(
                requests=requests.get(name, 0.0),
                answered_by_cache=answered.get(name, 0.0),
                looked_up=looked_up.get(name, 0.0),
                bytes=sent.get(name, 0.0),
                origin_requests=origins.get(name, 0.0),
                origin_bytes=received.get(name, 0.0),
                function_calls=functions.get(name, 0.0),
            )
            for name in (*(one.name for one in self.tenants), OTHERS)
        }

    def _sums(self, samples: Samples, family: str, outcomes: str | None = None) -> dict[str, float]:
        sums: dict[str, float] = {}
        wanted = {} if outcomes is None else {"cache": outcomes}
        for route, value in samples.by("route", family, **wanted).items():
            name = self.of(route)
            sums[name] = sums.get(name, 0.0) + value
        return sums

    def keys(self) -> dict[str, str]:
        """A key for the counters of each tenant, which is another one after its routes were changed."""
        whole = zlib.crc32(repr([(one.name, *one.routes) for one in self.tenants]).encode())
        return {
            **{one.name: f"{one.name}#{zlib.crc32(repr(one.routes).encode()):08x}" for one in self.tenants},
            OTHERS: f"{OTHERS}#{whole:08x}",
        }


def shares(prices: Prices, usage: Usage, share_of_month: float, tenants: Mapping[str, Usage]) -> list[dict[str, Any]]:
    """The tenants with their part of the bill, which together are the whole of it.

    A tenant pays its part in the amount of each item, at the mean price of the item: steps count for all together.
    Machines are divided by requests.
    """
    costs = dict.fromkeys(tenants, 0.0)
    for amount, line in prices.items(usage, share_of_month):
        parts = {name: getattr(of, amount) for name, of in tenants.items()}
        whole = sum(parts.values())
        if not whole:
            costs[OTHERS] = costs.get(OTHERS, 0.0) + line.cost
            continue
        for name, part in parts.items():
            costs[name] += line.cost * part / whole
    total = sum(costs.values())
    return [
        {
            "name": name,
            "requests": of.requests,
            "bytes": of.bytes,
            "origin_bytes": of.origin_bytes,
            "hit_rate": of.answered_by_cache / of.looked_up if of.looked_up else None,
            "cost": costs[name],
            "share": costs[name] / total if total else None,
        }
        for name, of in tenants.items()
        if name != OTHERS or of.requests or costs[name]
    ]
