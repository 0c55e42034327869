"""The cost report: usage, bill, savings, projection and budget, for people, programs and Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgerouter.costs.budget import projected
from edgerouter.costs.ledger import Ledger, Month
from edgerouter.costs.prices import Prices
from edgerouter.costs.tenants import OTHERS, shares
from edgerouter.costs.terms import Line
from edgerouter.costs.usage import Usage

__all__ = ["FAMILIES", "of_ledger", "of_usage", "textfile"]

DAY = 86_400

#: Gauges of the text file, with their help texts.
FAMILIES = {
    "edgerouter_cost_spent": "Cost of this month until now, by the prices of the file.",
    "edgerouter_cost_projected": "Cost of the whole month, by the bound of its interval.",
    "edgerouter_cost_budget": "Budget of a month.",
    "edgerouter_cost_alarms_waiting": "Budget alarms that no webhook has taken yet.",
    "edgerouter_cost_tenant_spent": "The part of the cost of this month that is a tenant's.",
}


def of_usage(prices: Prices, usage: Usage, tenants: Mapping[str, Usage] | None = None) -> dict[str, Any]:
    """The report on the counters of an edge since its start, without a month."""
    return _report(prices, usage, "since the start of the edge", 0.0, tenants or {})


def of_ledger(prices: Prices, ledger: Ledger, now: float) -> dict[str, Any]:
    """The report on the month."""
    month = Month.of(now)
    report = _report(prices, ledger.month(now), month.name, month.share(now), ledger.of_tenants(now))
    report["projected"] = projected(prices, ledger, now)
    if prices.budget is not None:
        report["budget"] = {
            "per_month": prices.budget.per_month,
            "spent_share": report["total"] / prices.budget.per_month,
        }
    report["alarms_waiting"] = len(ledger.waiting)
    report["days"] = _days(prices, ledger, now)
    return report


def _days(prices: Prices, ledger: Ledger, now: float) -> list[dict[str, float]]:
    """The days of the month with their part of its costs and savings, so that steps of prices count in their order."""
    month = Month.of(now)
    so_far = Usage()
    days: list[dict[str, float]] = []
    for begin in sorted(ledger.days):
        if not month.begin <= begin < month.end:
            continue
        share = (month.share(begin), month.share(min(begin + DAY, now)))
        before = prices.total(so_far, share[0]), _sum(prices.savings(so_far))
        so_far = so_far.plus(ledger.days[begin])
        after = prices.total(so_far, share[1]), _sum(prices.savings(so_far))
        usage = ledger.days[begin]
        days.append(
            {
                "begin": float(begin),
                "cost": after[0] - before[0],
                "saved": after[1] - before[1],
                "requests": usage.requests,
                "bytes": usage.bytes,
            }
        )
    return days


def _report(
    prices: Prices, usage: Usage, span: str, share_of_month: float, tenants: Mapping[str, Usage]
) -> dict[str, Any]:
    lines, savings = prices.bill(usage, share_of_month), prices.savings(usage)
    uncompressed = usage.bytes + usage.before_compression - usage.after_compression
    return {
        "span": span,
        "prices": prices.name,
        "source": prices.source,
        "currency": prices.currency,
        "usage": usage.as_dict(),
        "hit_rate": usage.answered_by_cache / usage.looked_up if usage.looked_up else None,
        "compression_saves": 1 - usage.bytes / uncompressed if uncompressed > 0 else None,
        "bill": [line._asdict() for line in lines],
        "total": _sum(lines),
        "savings": [line._asdict() for line in savings],
        "saved": _sum(savings),
        **(_places(prices, usage) if prices.needs_countries else {}),
        **({"tenants": shares(prices, usage, share_of_month, _complete(prices, tenants))} if prices.tenants else {}),
    }


def _places(prices: Prices, usage: Usage) -> dict[str, Any]:
    """Bytes to viewers by country, where prices differ by it."""
    unplaced = max(usage.bytes - sum(usage.countries.values()), 0.0)
    return {"unplaced_bytes": unplaced, "countries": prices.by_country(usage)}


def _complete(prices: Prices, tenants: Mapping[str, Usage]) -> dict[str, Usage]:
    """The tenants of the model in their order; usage of others, and of tenants that it had before, is the rest."""
    found = {one.name: tenants.get(one.name, Usage()) for one in prices.tenants}
    found[OTHERS] = Usage()
    for name, usage in tenants.items():
        if name not in found or name == OTHERS:
            found[OTHERS] = found[OTHERS].plus(usage)
    return found


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _sum(lines: list[Line]) -> float:
    return sum(line.cost for line in lines)


def textfile(report: dict[str, Any]) -> str:
    """The report for the textfile collector of Prometheus' node exporter."""
    currency = _quoted(report["currency"])
    labels = f'currency="{currency}"'
    bounds = report["projected"] or {}
    values = {
        "edgerouter_cost_spent": [(labels, report["total"])],
        "edgerouter_cost_projected": [
            (f'bound="{bound}",{labels}', bounds[bound]) for bound in ("low", "expected", "high") if bound in bounds
        ],
        "edgerouter_cost_budget": [(labels, report["budget"]["per_month"])] if "budget" in report else [],
        "edgerouter_cost_alarms_waiting": [("", report["alarms_waiting"])],
        "edgerouter_cost_tenant_spent": [
            (f'currency="{currency}",tenant="{_quoted(tenant["name"])}"', tenant["cost"])
            for tenant in report.get("tenants", ())
        ],
    }
    lines = []
    for name, help_text in FAMILIES.items():
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{{{of}}} {value}" if of else f"{name} {value}" for of, value in values[name]]
    return "\n".join(lines) + "\n"
