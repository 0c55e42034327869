"""Samples of a scrape, and the differences between two: totals, rates and percentiles for views in the terminal."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Samples", "Span"]

Labels: TypeAlias = tuple[tuple[str, str], ...]
Family: TypeAlias = dict[Labels, float]

_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
#: Samples that are read of one scrape; an edge with a thousand routes has some ten thousand.
MOST = 1_000_000


@dataclass(frozen=True)
class Samples:
    """A scrape at ``time`` (seconds), by family and labels."""

    time: float
    families: Mapping[str, Family] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, time: float) -> Samples:
        """The samples of a text of Prometheus. Lines that are not samples are left out."""
        families: dict[str, Family] = defaultdict(dict)
        for count, line in enumerate(text.splitlines()):
            if count >= MOST:
                break
            found = None if line.startswith("#") else _LINE.fullmatch(line)
            if found is None:
                continue
            try:
                value = float(found[3])
            except ValueError:
                continue
            labels = tuple((name, _plain(given)) for name, given in _LABEL.findall(found[2] or ""))
            families[found[1]][labels] = value
        return cls(time, dict(families))

    def values(self, name: str, **wanted: str) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and value of each sample of a family that has these labels. Words of a value are joined by ``|``."""
        for labels, value in self.families.get(name, {}).items():
            of = dict(labels)
            if all(of.get(label) in words.split("|") for label, words in wanted.items()):
                yield of, value

    def total(self, name: str, **wanted: str) -> float:
        """The sum of these samples; 0 if there are none, since a counter is absent until it is first counted."""
        return sum(value for _, value in self.values(name, **wanted))

    def by(self, label: str, name: str, **wanted: str) -> dict[str, float]:
        """The sums of these samples by the values of a label."""
        sums: dict[str, float] = defaultdict(float)
        for of, value in self.values(name, **wanted):
            sums[of.get(label, "")] += value
        return dict(sums)

    def since(self, earlier: Samples) -> Samples:
        """The growth of each counter. One that fell belongs to a process that started anew: all of it is growth."""
        families = {}
        for name, family in self.families.items():
            before = earlier.families.get(name, {})
            families[name] = {
                labels: value - before.get(labels, 0.0) if value >= before.get(labels, 0.0) else value
                for labels, value in family.items()
            }
        return Samples(self.time, families)


class Span:
    """The time between two scrapes of one edge."""

    def __init__(self, first: Samples, last: Samples) -> None:
        self.seconds = max(last.time - first.time, 1e-9)
        self.last = last
        self.grown = last.since(first)

    def rate(self, name: str, **wanted: str) -> float:
        """Growth of counters in a second."""
        return self.grown.total(name, **wanted) / self.seconds

    def rates(self, label: str, name: str, **wanted: str) -> dict[str, float]:
        """Growth of counters in a second by the values of a label."""
        return {of: grown / self.seconds for of, grown in self.grown.by(label, name, **wanted).items()}

    def quantile(self, share: float, name: str, **wanted: str) -> float | None:
        """A percentile of a histogram, as Prometheus estimates it; ``None`` if nothing was observed."""
        buckets = sorted((float(of), grown) for of, grown in self.grown.by("le", f"{name}_bucket", **wanted).items())
        if not buckets or buckets[-1][1] <= 0:
            return None
        rank = share * buckets[-1][1]
        index = bisect_left([grown for _, grown in buckets], rank)
        end, through = buckets[index]
        begin, before = buckets[index - 1] if index else (0.0, 0.0)
        if end == float("inf"):
            return begin
        return begin + (end - begin) * ((rank - before) / (through - before) if through > before else 1.0)


def _plain(value: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else found[1], value)
