"""The tests hold however often somebody looks: simulated experiments, looked at all the time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from edgerouter.comparing.statistics import Arm, difference, p_value, split_p_value, wilson

LEVEL = 0.05
VISITORS = 3_000
LOOK_EVERY = 25
Test = Callable[[Arm, Arm], float]


def always_valid(one: Arm, other: Arm) -> float:
    return p_value(one, other, 0.02)


def fixed_sample(one: Arm, other: Arm) -> float:
    """The usual test, which may be looked at once."""
    visitors = one.visitors + other.visitors
    pooled = (one.conversions + other.conversions) / visitors
    variance = pooled * (1 - pooled) * (1 / one.visitors + 1 / other.visitors)
    if variance == 0 or pooled * visitors < 20:
        return 1.0
    return math.erfc(abs(one.rate - other.rate) / math.sqrt(2 * variance))


def found(rates: tuple[float, float], trials: int, test: Test, seed: int = 7) -> float:
    """The share of experiments in which somebody who looks all the time sees a difference at some moment."""
    chance = random.Random(seed)
    significant = 0
    for _ in range(trials):
        conversions = [0, 0]
        for visitor in range(1, VISITORS + 1):
            for arm, rate in enumerate(rates):
                conversions[arm] += chance.random() < rate
            if visitor % LOOK_EVERY == 0:
                one, other = (Arm(visitor, count) for count in conversions)
                if test(one, other) <= LEVEL:
                    significant += 1
                    break
    return significant / trials


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_continuous_looks_raise_no_more_false_alarms_than_the_level(rate: float) -> None:
    trials = 500
    # Three standard deviations of the share itself.
    margin = 3 * math.sqrt(LEVEL * (1 - LEVEL) / trials)
    assert found((rate, rate), trials, always_valid) <= LEVEL + margin


def test_the_simulation_finds_a_test_that_must_not_be_looked_at() -> None:
    assert found((0.1, 0.1), 150, fixed_sample) > 3 * LEVEL


def test_a_real_difference_is_found() -> None:
    assert found((0.10, 0.15), 60, always_valid) > 0.9


def test_an_interval_that_is_looked_at_all_the_time_has_the_difference() -> None:
    chance, missed, trials = random.Random(11), 0, 150
    for _ in range(trials):
        conversions = [0, 0]
        for visitor in range(1, 1_500):
            conversions[0] += chance.random() < 0.1
            conversions[1] += chance.random() < 0.14
            if visitor % LOOK_EVERY == 0:
                low, high = difference(Arm(visitor, conversions[0]), Arm(visitor, conversions[1]), 0.02, LEVEL)
                if not low <= 0.04 <= high:
                    missed += 1
                    break
    assert missed / trials <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / trials)


def test_a_split_by_the_weights_is_rarely_doubted_and_a_wrong_one_is_found() -> None:
    chance, doubted = random.Random(3), 0
    for _ in range(100):
        counts = [0, 0]
        smallest = 1.0
        for visitor in range(2_000):
            counts[chance.random() < 0.3] += 1
            if visitor % 20 == 0:
                smallest = min(smallest, split_p_value(counts, [70, 30]))
        doubted += smallest <= LEVEL
    assert doubted / 100 <= 0.12
    assert split_p_value([5_200, 4_800], [50, 50]) < 0.05
    assert split_p_value([5_500, 4_500], [50, 50]) < 0.001
    assert split_p_value([10, 1], [100, 0]) == 0.0
    assert split_p_value([0, 0], [1, 1]) == 1.0


@pytest.mark.parametrize(
    ("arm", "want"),
    # Brown, Cai and DasGupta 2001, and the rule of three's neighbourhood.
    [
        (Arm(10, 0), (0.0, 0.2775)),
        (Arm(100, 10), (0.0552, 0.1744)),
        (Arm(0, 0), (0.0, 1.0)),
        (Arm(5, 5), (0.5655, 1.0)),
    ],
)
def test_an_interval_of_a_rate(arm: Arm, want: tuple[float, float]) -> None:
    assert wilson(arm) == pytest.approx(want, abs=2e-4)


def test_nothing_is_said_before_there_are_numbers() -> None:
    assert p_value(Arm(0, 0), Arm(10, 5), 0.02) == 1.0
    assert p_value(Arm(10, 0), Arm(10, 10), 0.02) == 1.0
    assert difference(Arm(0, 0), Arm(1, 1), 0.02, 0.05) == (-1.0, 1.0)
