"""The report about an experiment: rates, differences to the control, and whether visitors were split as intended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgerouter.comparing.statistics import Arm, difference, p_value, split_p_value, wilson
from edgerouter.comparing.visitors import Experience
from edgerouter.errors import ConfigError, Problem
from edgerouter.monitoring.lines import LogLine

__all__ = ["SPLIT_LEVEL", "compare"]

#: New visitors between two looks at the test. The looks are where they are, however often a report is made.
LOOK_EVERY = 50
#: A split that is less probable than this is wrong.
SPLIT_LEVEL = 0.001


def compare(
    lines: Iterable[LogLine],
    experience: Experience,
    *,
    control: str | None = None,
    weights: Mapping[str, float] | None = None,
    effect: float = 0.02,
    level: float = 0.05,
) -> dict[str, Any]:
    """Reads the lines, looks at the test every some visitors, and gives the result at their end.

    ``control``  the variant that others are compared with: ``control``, or the first that was met
    ``weights``  the intended shares; the same for all variants if ``None``

    Raises ``ConfigError`` if there is no such variant.
    """
    smallest: dict[str, float] = {}
    since = 0
    for line in lines:
        since += experience.add(line)
        if since >= LOOK_EVERY:
            since = 0
            _look(experience, control, effect, smallest)
    _look(experience, control, effect, smallest)
    against = _control(experience, control)
    if control is not None and experience.variants and control not in experience.variants:
        met = ", ".join(experience.variants)
        raise ConfigError([Problem("--control", repr(control), f"is not a variant in the log; there are {met}")])
    others = max(1, len(experience.variants) - 1)
    rows = [_row(experience, name, against, smallest, effect, level / others) for name in experience.variants]
    return {
        "experiment": experience.experiment,
        "control": against,
        "level": level,
        "effect": effect,
        "variants": rows,
        "split": _split(experience, weights),
        "mixed": experience.mixed,
        "left_out": experience.left_out,
    }


def _control(experience: Experience, wanted: str | None) -> str | None:
    if wanted is not None:
        return wanted if wanted in experience.variants else None
    if "control" in experience.variants:
        return "control"
    return experience.variants[0] if experience.variants else None


def _arm(experience: Experience, name: str) -> Arm:
    return Arm(experience.visitors[name], experience.conversions[name])


def _look(experience: Experience, control: str | None, effect: float, smallest: dict[str, float]) -> None:
    against = _control(experience, control)
    if against is None:
        return
    for name in experience.variants:
        if name != against:
            found = p_value(_arm(experience, against), _arm(experience, name), effect)
            smallest[name] = min(smallest.get(name, 1.0), found)


def _row(
    experience: Experience, name: str, control: str | None, smallest: dict[str, float], effect: float, level: float
) -> dict[str, Any]:
    arm = _arm(experience, name)
    low, high = wilson(arm)
    row: dict[str, Any] = {
        "variant": name,
        "visitors": arm.visitors,
        "conversions": arm.conversions,
        "rate": arm.rate,
        "rate_interval": [low, high],
    }
    if control is None or name == control:
        return row
    against = _arm(experience, control)
    p = smallest.get(name, 1.0)
    return {
        **row,
        "difference": arm.rate - against.rate,
        "difference_interval": list(difference(against, arm, effect, level)),
        "p_value": p,
        "differs": p <= level,
    }


def _split(experience: Experience, weights: Mapping[str, float] | None) -> dict[str, Any]:
    names = [*experience.variants, *(name for name in weights or {} if name not in experience.variants)]
    intended = [1.0 if weights is None else weights.get(name, 0.0) for name in names]
    counts = [experience.visitors[name] for name in names]
    p = split_p_value(counts, intended) if sum(intended) > 0 and len(names) > 1 else 1.0
    return {"weights": dict(zip(names, intended, strict=True)), "p_value": p, "as_intended": p > SPLIT_LEVEL}
