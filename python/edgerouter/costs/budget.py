"""The budget alarm: which events are due. Nothing here sends one or remembers it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from edgerouter.costs.ledger import Ledger, Month
from edgerouter.costs.prices import Prices
from edgerouter.costs.projection import Projection, project

__all__ = ["described", "due", "projected"]


def projected(prices: Prices, ledger: Ledger, now: float) -> dict[str, Any] | None:
    """The cost of the whole month, as expected and with its interval; ``None`` before three complete hours."""
    blocks, length = ledger.blocks(now)
    month = Month.of(now)
    found: Projection | None = project(ledger.month(now), blocks, (month.end - now) / length)
    if found is None:
        return None
    return {
        "low": prices.total(found.low, 1.0),
        "expected": prices.total(found.expected, 1.0),
        "high": prices.total(found.high, 1.0),
        "from": f"{found.blocks} {'days' if length > 3_600 else 'hours'}",
    }


def due(prices: Prices, ledger: Ledger, now: float) -> Iterator[dict[str, Any]]:
    """Each event whose condition holds now: spending over a share of the budget, and a projection over all of it.

    The ``id`` of an event is the same each time, so that the ledger raises it once a month, and receivers that get it
    twice can drop one.
    """
    budget = prices.budget
    if budget is None:
        return
    month = Month.of(now)
    spent = prices.total(ledger.month(now), month.share(now))
    forecast = projected(prices, ledger, now)
    common = {
        "month": month.name,
        "at": f"{datetime.fromtimestamp(now, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "currency": prices.currency,
        "budget": budget.per_month,
        "spent": round(spent, 4),
        "projected": forecast,
        "prices": prices.name,
    }
    for share in budget.alarm_at:
        if spent > share * budget.per_month:
            yield {"id": f"{month.name}-spent-{share:g}", "kind": "spent", "share": share, **common}
    if forecast is not None and forecast["expected"] > budget.per_month:
        yield {"id": f"{month.name}-projected", "kind": "projected", "share": 1.0, **common}


def described(event: dict[str, Any]) -> str:
    """An event as a line of a log."""
    currency, budget = event["currency"], event["budget"]
    of = f"the budget of {budget:,.2f} {currency} for {event['month']}"
    if event["kind"] == "spent":
        return f"{event['spent']:,.2f} {currency} are spent: more than {event['share'] * 100:g} % of {of}"
    return f"{event['projected']['expected']:,.2f} {currency} are expected for the month: more than {of}"
