"""The report about an experiment: rates, differences to the control, and whether visitors were split as intended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgerouter.comparing.statistics import Arm, difference, p_value, split_p_value, wilson
from edgerouter.comparing.visitors import Experience
from edgerouter.errors import ConfigError, Problem
from edgerouter.monitoring.lines import LogLine

__all__ = ["SPLIT_LEVEL", "Looks", "compare", "reported"]

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
    looks = Looks(control, effect)
    since = 0
    for line in lines:
        since += experience.add(line)
        if since >= LOOK_EVERY:
            since = 0
            looks.at(_arms(experience))
    found = reported(experience.experiment, _arms(experience), looks, weights=weights, level=level)
    return {**found, "mixed": experience.mixed, "left_out": experience.left_out}


def _arms(experience: Experience) -> dict[str, Arm]:
    return {name: Arm(experience.visitors[name], experience.conversions[name]) for name in experience.variants}


class Looks:
    """The smallest p-value of each variant, of all looks until now."""

    def __init__(self, control: str | None, effect: float) -> None:
        self.control = control
        self.effect = effect
        self.smallest: dict[str, float] = {}

    def against(self, arms: Mapping[str, Arm]) -> str | None:
        """The variant that others are compared with."""
        if self.control is not None:
            return self.control if self.control in arms else None
        return "control" if "control" in arms else next(iter(arms), None)

    def at(self, arms: Mapping[str, Arm]) -> None:
        """Looks at counts."""
        against = self.against(arms)
        if against is None:
            return
        for name, arm in arms.items():
            if name != against:
                found = p_value(arms[against], arm, self.effect)
                self.smallest[name] = min(self.smallest.get(name, 1.0), found)


def reported(
    experiment: str, arms: Mapping[str, Arm], looks: Looks, *, weights: Mapping[str, float] | None, level: float
) -> dict[str, Any]:
    """The report about the present counts, which are looked at as well."""
    looks.at(arms)
    if looks.control is not None and arms and looks.control not in arms:
        met = ", ".join(arms)
        message = f"is not a variant that was met; there are {met}"
        raise ConfigError([Problem("--control", repr(looks.control), message)])
    others = max(1, len(arms) - 1)
    return {
        "experiment": experiment,
        "control": looks.against(arms),
        "level": level,
        "effect": looks.effect,
        "variants": [_row(name, arms, looks, level / others) for name in arms],
        "split": _split(arms, weights),
    }


def _row(name: str, arms: Mapping[str, Arm], looks: Looks, level: float) -> dict[str, Any]:
    arm, control = arms[name], looks.against(arms)
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
    p = looks.smallest.get(name, 1.0)
    return {
        **row,
        "difference": arm.rate - arms[control].rate,
        "difference_interval": list(difference(arms[control], arm, looks.effect, level)),
        "p_value": p,
        "differs": p <= level,
    }


def _split(arms: Mapping[str, Arm], weights: Mapping[str, float] | None) -> dict[str, Any]:
    names = [*arms, *(name for name in weights or {} if name not in arms)]
    intended = [1.0 if weights is None else weights.get(name, 0.0) for name in names]
    counts = [arms[name].visitors if name in arms else 0 for name in names]
    p = split_p_value(counts, intended) if sum(intended) > 0 and len(names) > 1 else 1.0
    return {"weights": dict(zip(names, intended, strict=True)), "p_value": p, "as_intended": p > SPLIT_LEVEL}
