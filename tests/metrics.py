"""Samples of a scrape of the admin listener."""

from __future__ import annotations

import httpx

from edgerouter.testing import Running


def metric(edge: Running, name: str, labels: str = "") -> float:
    """The value of one sample; 0 before it is first counted."""
    text = httpx.get(f"{edge.admin_url}/metrics").text
    for line in text.splitlines():
        if line.startswith(f"{name}{labels} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def counted(admin: str, name: str) -> float:
    lines = httpx.get(f"{admin}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
