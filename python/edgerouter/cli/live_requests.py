"""Requests of a running edge as they are answered, by the stream of its admin listener."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from edgerouter.cli.admin import Admin, AdminError
from edgerouter.cli.running import warn
from edgerouter.monitoring.lines import Chosen, LogLine, of_data

__all__ = ["live_requests"]

#: Seconds between two attempts to reach an edge that has ended.
PAUSE = 1.0


def live_requests(edge: Admin, chosen: Chosen, show: Callable[[str, LogLine], None]) -> None:
    """Shows requests until Ctrl-C; ``AdminError`` if the edge cannot be reached at the first attempt.

    The edge ends each stream after some minutes. It sends what meets the conditions that it knows, and at most some
    hundred requests at a time.
    """
    reached = lost = False
    while True:
        begun = time.monotonic()
        try:
            for name, data in edge.events("/v1/requests", _query(chosen)):
                if name == "requests":
                    reached, lost = True, False
                    _show(data, chosen, show)
            reached, lost = True, False
            # A stream that ends at once is not opened again and again without a pause.
            time.sleep(max(0.0, PAUSE - (time.monotonic() - begun)))
        except AdminError as error:
            if not reached:
                raise AdminError(f"{error}. Or name an access log: edgerouter tail FILE") from None
            if not lost:
                warn(f"warning: {error}; trying again until Ctrl-C")
            lost = True
            time.sleep(PAUSE)


def _query(chosen: Chosen) -> list[tuple[str, str]]:
    """The conditions that the edge applies: it takes one value of each, and whole names of routes."""
    given = [
        (name, next(iter(values)))
        for name, values in (
            ("route", chosen.routes),
            ("status", chosen.statuses),
            ("cache", chosen.outcomes),
            ("reason", chosen.reasons),
        )
        if len(values) == 1
    ]
    return [*given, *([("slow", f"{chosen.slow:g}")] if chosen.slow else [])]


def _show(data: Any, chosen: Chosen, show: Callable[[str, LogLine], None]) -> None:
    for entry, line in _entries(data):
        if chosen.has(line):
            show(json.dumps(entry, separators=(",", ":"), ensure_ascii=False), line)
    if isinstance(data, dict) and data.get("lost"):
        warn(f"warning: {data['lost']} further requests came too fast to be shown")


def _entries(data: Any) -> Iterator[tuple[object, LogLine]]:
    found = data.get("requests") if isinstance(data, dict) else None
    for entry in found if isinstance(found, list) else ():
        if (line := of_data(entry)) is not None:
            yield entry, line
