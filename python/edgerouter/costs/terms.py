"""The parts of a price model: prices by steps, regions, tenants and the budget."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from edgerouter.costs.usage import Usage

__all__ = ["ELSEWHERE", "Budget", "Line", "Region", "Schedule", "Tenant"]

#: Stands for all countries that no other region names, and for an unknown one.
ELSEWHERE = "*"


class Line(NamedTuple):
    """An item of a bill."""

    item: str
    amount: float
    unit: str
    cost: float


@dataclass(frozen=True)
class Schedule:
    """The price of a unit, by the amount in a month: each step up to an amount, and the last one without end."""

    steps: tuple[tuple[float, float], ...] = ()

    def cost(self, amount: float) -> float:
        total = begin = 0.0
        for end, price in self.steps:
            if amount <= begin:
                break
            total += (min(amount, end) - begin) * price
            begin = end
        return total

    def more(self, amount: float, further: float) -> float:
        """The price of further units after an amount."""
        return self.cost(amount + further) - self.cost(amount)


@dataclass(frozen=True)
class Region:
    """A part of the bytes to viewers that has a price of its own: a share that the model gives, or countries."""

    name: str
    per_gb: Schedule
    share: float = 1.0
    countries: tuple[str, ...] = ()

    def bytes(self, usage: Usage, others: Collection[Region]) -> float:
        """Its part. Countries that no region names belong to the one with ``*``, as do bytes without a country."""
        if not self.countries:
            return usage.bytes * self.share
        own = sum(usage.countries.get(code, 0.0) for code in self.countries)
        if ELSEWHERE not in self.countries:
            return own
        named = (code for other in others for code in other.countries if other is not self)
        return max(usage.bytes - sum(usage.countries.get(code, 0.0) for code in named), 0.0)


@dataclass(frozen=True)
class Tenant:
    """A party that shares the bill: its routes by their labels in the metrics, in which ``*`` is any text."""

    name: str
    routes: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """The money for a month, and the shares of it at which an alarm is due."""

    per_month: float
    alarm_at: tuple[float, ...] = (1.0,)
