"""Names and labels in expressions of PromQL."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..metrics import COSTS, PAGE, ROW, documented

#: Prometheus adds them to each series of a target, and ``le`` to the buckets of a histogram.
ADDED = {"job", "instance", "le"}
#: Series of Prometheus itself.
OTHERS = {"up"}


def unknown(expression: str) -> Iterator[str]:
    """Each metric, label and word of a matcher in an expression that neither docs/metrics.md nor docs/costs.md has."""
    families = documented() | documented(COSTS)
    words = {
        name: set(re.findall(r"[\w-]+", row)) for name, _, row, _ in ROW.findall(PAGE.read_text() + COSTS.read_text())
    }
    labels = set(ADDED)
    for name, matchers in re.findall(r"\b(edgerouter_\w+)(?:\{(.*?)\})?", expression):
        family = re.sub(r"_bucket$", "", name)
        if family not in families:
            yield name
            continue
        if (name != family) != (families[family][0] == "histogram"):
            yield f"{name} is a {families[family][0]}"
        labels |= families[family][2]
        for label, values in re.findall(r'(\w+)\s*(?:=~|!=|=)\s*"(.*?)"', matchers):
            if label not in families[family][2] | ADDED:
                yield f"{name}{{{label}}}"
            elif label not in ADDED:
                # Statuses are written as a span in the page.
                known = words[family] | ({f"{first}xx" for first in range(2, 6)} if "5xx" in words[family] else set())
                yield from (f"{name}{{{label}={value}}}" for value in values.split("|") if value not in known)
    for group in re.findall(r"\b(?:by|on) \((.*?)\)", expression):
        yield from (f"by {label}" for label in re.split(r",\s*", group) if label not in labels)
    for name in re.findall(r"(?<![\w\"$.|])([a-z]\w+)(?= (?:==|>|and\b)|\{)", expression):
        if name not in families and name not in OTHERS and not name.startswith("edgerouter_"):
            yield name
