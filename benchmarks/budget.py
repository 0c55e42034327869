"""The budget of instructions: the file that keeps it, and new figures judged against it.

Nothing here runs or measures anything; ``benchmarks.instructions`` does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

THREADS = 0.2
_HEAD = """\
# User instructions a request, by work: what `python -m benchmarks.instructions` counted, and what `--check` allows a
# few per cent more of (docs/benchmarks.md). Written by `--write` from a release build.
"""


@dataclass(frozen=True)
class Budget:
    """``counted_with``: the interpreter and the tools, on which the figures depend, too."""

    counted_with: str
    figures: Mapping[str, int]

    @classmethod
    def read(cls, file: Path) -> Budget:
        if not file.exists():
            return cls("", {})
        data = tomllib.loads(file.read_text())
        return cls(data["counted-with"], data["instructions"])

    def write(self, file: Path) -> None:
        lines = [f'counted-with = "{self.counted_with}"', "", "[instructions]"]
        lines += [f"{work} = {figure:_}" for work, figure in self.figures.items()]
        file.write_text(_HEAD + "\n".join(lines) + "\n")


@dataclass(frozen=True)
class Comparison:
    """One work: its figure now, its budget if it has one, and the tolerated difference as a share of the budget."""

    work: str
    now: int
    budget: int | None
    tolerance: float

    @property
    def difference(self) -> float | None:
        return self.now / self.budget - 1 if self.budget else None

    @property
    def exceeds(self) -> bool:
        """True without a budget, too: a work that is counted is also kept within one."""
        return self.budget is None or self.now - self.budget > self.tolerance * self.budget

    @property
    def improves(self) -> bool:
        return self.budget is not None and self.budget - self.now > self.tolerance * self.budget

    def __str__(self) -> str:
        if self.budget is None or self.difference is None:
            return f"{self.work}: {self.now:,} instructions a request, and no budget; give it one by --write"
        side = "above" if self.difference > 0 else "below"
        figure = f"{self.work}: {self.now:,} instructions a request, {abs(self.difference):.1%} {side} its budget of"
        advice = "; lower the budget by --write" if self.improves else ""
        return f"{figure} {self.budget:,} (tolerated: {self.tolerance:.0%}){advice}"


def compare(budget: Mapping[str, int], now: Mapping[str, int], tolerances: Mapping[str, float]) -> list[Comparison]:
    return [Comparison(work, figure, budget.get(work), tolerances[work]) for work, figure in now.items()]


def table(found: Sequence[Comparison]) -> list[str]:
    lines = ["| work | instructions a request | budget | difference | |", "|---|---:|---:|---:|---|"]
    for one in found:
        known = one.budget is not None and one.difference is not None
        budget, difference = (f"{one.budget:,}", f"{one.difference:+.1%}") if known else ("none", "n/a")
        word = "**exceeded**" if one.exceeds else "improved" if one.improves else "within"
        lines.append(f"| {one.work} | {one.now:,} | {budget} | {difference} | {word} |")
    return lines


def of_requests(threads: Sequence[int]) -> int:
    """The instructions of the threads that serve requests, of those of all threads.

    Timers, the log and health checks run by the second. Threads with such work only have far less than ``THREADS`` of
    the busiest one's instructions, and are left out, so that a slow machine counts the same as a fast one.
    """
    least = max(threads, default=0) * THREADS
    return sum(count for count in threads if count >= least)
