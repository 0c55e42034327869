"""Samples of a scrape of the admin listener, and the families that docs/metrics.md names."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from edgerouter.testing import Running

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
#: Has the families that `edgerouter cost watch` writes.
COSTS = PAGE.with_name("costs.md")
ROW = re.compile(r"^\| `(edgerouter_\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*) \|$", re.MULTILINE)


def documented(page: Path = PAGE) -> dict[str, tuple[str, str, set[str]]]:
    """Each family's type, its help text, which has no markup in a scrape, and its labels."""
    return {
        name: (kind, text.replace("`", ""), set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, text in ROW.findall(page.read_text())
    }


def metric(edge: Running, name: str, labels: str = "") -> float:
    """The value of one sample; 0 before it is first counted."""
    text = httpx.get(f"{edge.admin_url}/metrics", timeout=30).text
    for line in text.splitlines():
        if line.startswith(f"{name}{labels} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def counted(admin: str, name: str) -> float:
    lines = httpx.get(f"{admin}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
