"""Traces like those of public CDN workloads, made from written seeds.

Sources of the parameters:

- popularity: Zipf with 0.64 to 0.83 at web proxies (Breslau et al., INFOCOM 1999), about 1 for hot sites
- one-hit wonders: three quarters of the objects of a CDN's edge are requested once (Maggs and Sitaraman, CCR 2015);
  20 to 60 % of objects in short windows of the traces of Yang et al. (SOSP 2023)
- sizes: log-normal with a long tail and no relation to popularity (Berger et al., AdaptSize, NSDI 2017), here with a
  median of 4 KiB and at most 512 KiB, so that a replay takes seconds
- scans: a crawler that takes every page once in a row, as in the block traces that ARC and its successors were
  made for
- change: popular objects are replaced all the time (news, releases), so that yesterday's counts mislead
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect
from dataclasses import dataclass

SMALLEST, MEDIAN, SIGMA, LARGEST = 128, 4096, 1.4, 512 << 10


@dataclass(frozen=True)
class Shape:
    """``once``: share of requests for objects that are never requested again. ``scans``: share of requests that belong
    to scans. ``drift``: objects of the ranking replaced by new ones for each thousand requests."""

    name: str
    seed: int
    objects: int
    skew: float
    once: float = 0.0
    scans: float = 0.0
    drift: int = 0

    def __str__(self) -> str:
        parts = [f"Zipf {self.skew:g} over {self.objects:,} objects"]
        if self.once:
            parts.append(f"{self.once:.0%} one-hit wonders")
        if self.scans:
            parts.append(f"{self.scans:.0%} in scans")
        if self.drift:
            parts.append(f"{self.drift} objects replaced per 1,000 requests")
        return ", ".join(parts) + f"; seed {self.seed}"


SHAPES = (
    Shape("web", 1, 60_000, 0.8, once=0.2),
    Shape("hot", 2, 40_000, 1.0, once=0.15, scans=0.1),
    Shape("scan", 3, 60_000, 0.8, scans=0.3),
    Shape("flat", 4, 40_000, 0.65, once=0.1, scans=0.1),
    Shape("news", 5, 30_000, 0.9, once=0.15, scans=0.1, drift=20),
)


def size_of(key: int, seed: int) -> int:
    draw = random.Random(key * 1_000_003 + seed).gauss(0, 1)
    return max(SMALLEST, min(LARGEST, int(MEDIAN * math.exp(SIGMA * draw))))


def make(shape: Shape, requests: int) -> list[tuple[int, int]]:
    """(key, size) for each request."""
    draw = random.Random(shape.seed)
    weights = list(itertools.accumulate(1 / (rank + 1) ** shape.skew for rank in range(shape.objects)))
    total = weights[-1]
    ranking = list(range(shape.objects))
    draw.shuffle(ranking)
    fresh = itertools.count(shape.objects)
    crawled = itertools.count(10_000_000)
    sizes: dict[int, int] = {}
    trace = []
    scanning = 0
    for number in range(requests):
        if shape.drift and number % 1000 == 0:
            for _ in range(shape.drift):
                # Anywhere in the ranking by the logarithm, so that the top changes as well.
                ranking[int(shape.objects ** draw.random()) - 1] = next(fresh)
        # A scan takes nine of ten requests while it lasts, 5,000 requests long.
        if shape.scans and not scanning and draw.random() < shape.scans / 0.9 / 5000 / (1 - shape.scans / 0.9):
            scanning = 5000
        if scanning:
            scanning -= 1
        if scanning and draw.random() < 0.9:
            key = next(crawled)
        elif draw.random() < shape.once:
            key = next(crawled) + 10_000_000
        else:
            key = ranking[min(bisect(weights, draw.random() * total), shape.objects - 1)]
        size = sizes.get(key) or sizes.setdefault(key, size_of(key, shape.seed))
        trace.append((key, size))
    return trace
