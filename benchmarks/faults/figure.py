"""A measured value beside its target, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.cache.stage import spread


@dataclass(frozen=True)
class Figure:
    """One value for each round (or for each request of all rounds, where every one of them must be within the target).

    ``judged``  what of the values is compared with the target: ``max`` unless the noise of the machine is in them
    ``least``   whether the target is the least value instead of the greatest
    """

    what: str
    values: Sequence[float]
    unit: str = ""
    target: float | None = None
    form: str = ",.0f"
    judged: Callable[[Sequence[float]], float] = max
    least: bool = False

    @property
    def value(self) -> float:
        return self.judged(self.values)

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.least else self.value <= self.target

    def row(self) -> str:
        verdict = {True: "met", False: "**missed**", None: ""}[self.met]
        bound = "" if self.target is None else f"{'≥' if self.least else '≤'} {self.target:{self.form}}"
        return f"| {self.what} | {self.value:{self.form}} {self.unit} | {bound} | {verdict} | {self.rounds()} |"

    def rounds(self) -> str:
        """The median and the range; of one value nothing, as it stands beside it."""
        if len(self.values) < 2:
            return ""
        return f"{len(self.values)}: {spread(self.values, self.form)}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(title: str, figures: Sequence[Figure]) -> list[str]:
    lines = [f"### {title}", "", "| | measured | target | | rounds: median (range) |", "|---|---|---|---|---|"]
    return [*lines, *(figure.row() for figure in figures), ""]
