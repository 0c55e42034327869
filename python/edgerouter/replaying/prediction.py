"""The prediction: hit ratios, bytes and costs for each size of the memory cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgerouter.costs.prices import Prices
from edgerouter.costs.usage import Usage
from edgerouter.monitoring.alerts import ANSWERED_BY_CACHE, LOOKED_UP
from edgerouter.replaying.order import Order

__all__ = ["made"]

#: Seconds of a month, on average.
MONTH = 365.2425 / 12 * 86_400
_PLACES = ("the countries of viewers are unknown, so all bytes have the price of the region with *",)
_ANSWERED, _LOOKED_UP = frozenset(ANSWERED_BY_CACHE.split("|")), frozenset(LOOKED_UP.split("|"))


def made(found: Mapping[str, Any], order: Order, prices: Prices | None) -> dict[str, Any]:
    """The result of a run as the command prints it."""
    span = max(found["until"] - found["from"], 1)
    return {
        **{name: value for name, value in found.items() if name not in ("tiers", "from", "until")},
        "from": found["from"],
        "seconds": span,
        "sample": order.sample,
        "assumptions": [*order.sentences(), *(_PLACES if prices is not None and prices.needs_countries else ())],
        "tiers": [_tier(tier, span, prices) for tier in found["tiers"]],
        **({} if prices is None else {"prices": prices.name, "currency": prices.currency}),
    }


def _tier(tier: Mapping[str, Any], span: int, prices: Prices | None) -> dict[str, Any]:
    outcomes: Mapping[str, Mapping[str, int]] = tier["outcomes"]

    def total(what: str, of: frozenset[str] | None = None) -> int:
        return sum(counts[what] for name, counts in outcomes.items() if of is None or name in of)

    looked_up, answered = total("requests", _LOOKED_UP), total("requests", _ANSWERED)
    found = {
        **tier,
        "requests": total("requests"),
        "bytes": total("bytes"),
        "hit_ratio": _share(answered, looked_up),
        "byte_hit_ratio": _share(total("bytes", _ANSWERED), total("bytes", _LOOKED_UP)),
        "answered_by_cache": _share(answered, total("requests")),
    }
    if prices is not None:
        times = MONTH / span
        called = total("requests", frozenset({"function"}))
        usage = Usage(
            requests=found["requests"] * times,
            answered_by_cache=answered * times,
            looked_up=looked_up * times,
            bytes=found["bytes"] * times,
            origin_requests=tier["origin_requests"] * times,
            origin_bytes=tier["origin_bytes"] * times,
            function_calls=(tier["function_calls"] + called) * times,
            answered_by_functions=called * times,
        )
        bill = prices.bill(usage, 1.0)
        found["month"] = {"bill": [line._asdict() for line in bill], "total": sum(line.cost for line in bill)}
    return found


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
