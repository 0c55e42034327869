"""The usage of a whole month from that of its first days, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from edgerouter.costs.usage import Usage

__all__ = ["LEAST_BLOCKS", "Projection", "project"]

#: Fewer blocks say nothing about how much they differ.
LEAST_BLOCKS = 3
LEVEL = 0.9


@dataclass(frozen=True)
class Projection:
    """Usage of the month: the expected one, and the bounds of an interval that holds it in nine of ten months.

    ``blocks`` is the number of equal spans, hours or days, that were observed.
    """

    low: Usage
    expected: Usage
    high: Usage
    blocks: int


def project(so_far: Usage, blocks: Sequence[Usage], remaining: float) -> Projection | None:
    """The month from the usage so far, from that of complete spans, and from the number of spans that remain.

    The sum of R further spans is predicted from n of them with mean m and deviation s as R·m ± t·s·√(R + R²/n): the
    first term is the chance of the further ones, the second that of the mean. Spans count as independent, so days are
    better than hours, which follow a daily rhythm.
    """
    if len(blocks) < LEAST_BLOCKS:
        return None
    count = len(blocks)
    quantile = student((1 + LEVEL) / 2, count - 1)
    bounds: dict[str, tuple[float, float, float]] = {}
    observed = [block.flat() for block in blocks]
    names = dict.fromkeys(name for amounts in (so_far.flat(), *observed) for name in amounts)
    for name in names:
        already = so_far.flat().get(name, 0.0)
        amounts = [block.get(name, 0.0) for block in observed]
        mean = fmean(amounts)
        width = quantile * stdev(amounts) * math.sqrt(remaining + remaining**2 / count)
        middle = already + mean * remaining
        bounds[name] = max(already, middle - width), middle, middle + width
    low, expected, high = (Usage.of_flat({name: found[index] for name, found in bounds.items()}) for index in range(3))
    return Projection(low, expected, high, count)


def student(share: float, freedom: int) -> float:
    """A quantile of Student's t: exact for one and two degrees of freedom, else by its expansion around the normal."""
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        return (2 * share - 1) / math.sqrt(2 * share * (1 - share))
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(z + sum(term / freedom**power for power, term in enumerate(terms, 1)))
