"""Tests and intervals that hold however often somebody looks.

A test with a fixed sample size is wrong if it is looked at again and again until it is significant. The p-value here is
that of a mixture sequential probability ratio test (Robbins 1970; Johari, Pekelis and Walsh 2015): under the hypothesis
that both variants convert alike, the probability that it *ever* falls below a level is at most that level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Arm", "difference", "p_value", "split_p_value", "wilson"]

#: Conversions, and visitors without one, that both variants together must have before the test begins: below that the
#: normal distribution is no good approximation.
LEAST = 20
#: The strength of the belief in the weights, in visitors, of the check of the split.
CONCENTRATION = 100.0


@dataclass(frozen=True)
class Arm:
    """Visitors of a variant, and those of them who converted."""

    visitors: int
    conversions: int

    @property
    def rate(self) -> float:
        return self.conversions / self.visitors if self.visitors else 0.0


def _variance(one: Arm, other: Arm) -> float:
    """The variance of the difference of the rates if they are the same."""
    visitors = one.visitors + other.visitors
    pooled = (one.conversions + other.conversions) / visitors
    return pooled * (1 - pooled) * (1 / one.visitors + 1 / other.visitors)


def p_value(one: Arm, other: Arm, effect: float) -> float:
    """The p-value of the hypothesis that both convert alike, at this moment.

    ``effect``  the standard deviation of the differences that are expected; chosen before the experiment

    The smallest value of all moments is a p-value as well.
    """
    conversions = one.conversions + other.conversions
    without = one.visitors + other.visitors - conversions
    if not one.visitors or not other.visitors or min(conversions, without) < LEAST:
        return 1.0
    variance, mixture = _variance(one, other), effect * effect
    square = (other.rate - one.rate) ** 2
    exponent = mixture * square / (2 * variance * (variance + mixture))
    log_ratio = exponent + 0.5 * math.log(variance / (variance + mixture))
    return math.exp(-log_ratio) if log_ratio > 0 else 1.0


def difference(one: Arm, other: Arm, effect: float, level: float) -> tuple[float, float]:
    """An interval for the difference of the rates, of a sequence that holds at all times with ``1 - level``."""
    if not one.visitors or not other.visitors:
        return -1.0, 1.0
    # With a pseudo-visitor of each kind, so that a rate of zero has a variance.
    rates = [(arm.conversions + 1) / (arm.visitors + 2) for arm in (one, other)]
    variance = sum(rate * (1 - rate) / arm.visitors for rate, arm in zip(rates, (one, other), strict=True))
    mixture = effect * effect
    spread = 2 * variance * (variance + mixture) / mixture
    width = math.sqrt(spread * (math.log(1 / level) + 0.5 * math.log((variance + mixture) / variance)))
    middle = other.rate - one.rate
    return max(-1.0, middle - width), min(1.0, middle + width)


def wilson(arm: Arm, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of one rate (Wilson 1927), for one look."""
    if not arm.visitors:
        return 0.0, 1.0
    share = z * z / arm.visitors
    middle = arm.rate + share / 2
    width = z * math.sqrt(arm.rate * (1 - arm.rate) / arm.visitors + share / (4 * arm.visitors))
    return max(0.0, (middle - width) / (1 + share)), min(1.0, (middle + width) / (1 + share))


def split_p_value(counts: Sequence[int], weights: Sequence[float]) -> float:
    """The p-value of the hypothesis that visitors were split by the weights, at any moment (Lindon and Malek 2022).

    One over the ratio of a Dirichlet mixture of multinomial distributions to that of the weights, a martingale.
    """
    pairs = [(count, weight) for count, weight in zip(counts, weights, strict=True) if weight > 0]
    if sum(count for count, _ in pairs) < sum(counts):
        return 0.0
    whole, total = sum(weight for _, weight in pairs), sum(counts)
    belief = CONCENTRATION
    log_ratio = math.lgamma(belief) - math.lgamma(belief + total)
    for count, weight in pairs:
        share = weight / whole
        log_ratio += math.lgamma(belief * share + count) - math.lgamma(belief * share) - count * math.log(share)
    return math.exp(-log_ratio) if log_ratio > 0 else 1.0
