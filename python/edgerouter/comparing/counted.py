"""The report by the counts of edges: the answers of ``/v1/experiments`` of one edge, or of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgerouter.comparing.report import Looks, reported
from edgerouter.comparing.statistics import Arm
from edgerouter.errors import ConfigError, Problem

__all__ = ["of_edges"]


def of_edges(
    answers: Sequence[Mapping[str, Any]],
    experiment: str | None,
    goal: str | None,
    *,
    control: str | None = None,
    weights: Mapping[str, float] | None = None,
    effect: float = 0.02,
    level: float = 0.05,
) -> dict[str, Any]:
    """The report about an experiment of all edges together. A visitor of two of them counts in each.

    ``experiment``  its name; may be left out if there is one only
    ``goal``  the conversions that are compared: ``request``, or the first that was reached

    Raises ``ConfigError`` for names that the edges do not have.
    """
    views = [view for answer in answers for view in answer["experiments"]]
    names = list(dict.fromkeys(view["name"] for view in views))
    if not names:
        message = "the edge has no experiment; is the plan with the experiment in service?"
        raise ConfigError([Problem("--experiment", None if experiment is None else repr(experiment), message)])
    if experiment is None and len(names) > 1:
        raise ConfigError([Problem("--experiment", None, f"must name one of {', '.join(names)}")])
    name = names[0] if experiment is None else experiment
    own = [view for view in views if view["name"] == name]
    if not own:
        raise ConfigError([Problem("--experiment", repr(name), f"is not in the plan; there are {', '.join(names)}")])
    met = [view for view in own if view.get("variants")]
    goals = list(dict.fromkeys(one for view in met for one in view["goals"]))
    if goal is not None and goal not in goals:
        reached = f"reached are {', '.join(goals)}" if goals else "no goal was reached yet"
        raise ConfigError([Problem("--goal", repr(goal), f"no visitor has reached it; {reached}")])
    chosen = goal or ("request" if "request" in goals or not goals else goals[0])
    looks = Looks(control, effect)
    if len(met) == 1:
        for point in met[0]["history"]:
            looks.at(_arms_at(met[0], point, chosen))
    found = reported(name, _arms(met, chosen), looks, weights=weights or own[0]["weights"], level=level)
    for row in found["variants"]:
        row.update(_value(met, row["variant"], row["visitors"]))
    return {
        **found,
        "goal": chosen,
        "goals": goals,
        "mixed": sum(view["mixed"] for view in met),
        "left_out": sum(view["left_out"] for view in met) + sum(answer["lost"] for answer in answers),
        "kept": all(answer["kept"] for answer in answers),
    }


def _arms(views: Sequence[Mapping[str, Any]], goal: str) -> dict[str, Arm]:
    arms: dict[str, Arm] = {}
    for view in views:
        for one in view["variants"]:
            before = arms.get(one["variant"], Arm(0, 0))
            reached = one["conversions"].get(goal, 0)
            arms[one["variant"]] = Arm(before.visitors + one["visitors"], before.conversions + reached)
    return arms


def _arms_at(view: Mapping[str, Any], point: Mapping[str, Any], goal: str) -> dict[str, Arm]:
    """The counts at a point of the history, which lacks the variants that were met later."""
    pairs = zip(view["variants"], point["visitors"], point["conversions"], strict=False)
    return {one["variant"]: Arm(visitors, reached.get(goal, 0)) for one, visitors, reached in pairs}


def _value(views: Sequence[Mapping[str, Any]], variant: str, visitors: int) -> dict[str, Any]:
    """The value of a visitor of a variant, with a 95 % interval for one look."""
    own = [one for view in views for one in view["variants"] if one["variant"] == variant]
    total, squares = (sum(one[part] for one in own) for part in ("value", "squares"))
    if not visitors or not squares:
        return {}
    mean = total / visitors
    width = 1.959964 * math.sqrt(max(0.0, squares / visitors - mean * mean) / visitors)
    return {"value": total, "value_each": mean, "value_interval": [mean - width, mean + width]}
