"""Lines of the access log as values, and the conditions by which a reader chooses among them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["OUTCOMES", "Chosen", "LogLine", "of_data", "read"]

#: The sources of responses, as the log and the metrics name them.
OUTCOMES = (
    *("hit", "stale", "coalesced", "revalidated", "stale-on-error", "disconnected", "miss"),
    *("pass", "function", "redirect", "file", "tunnel", "error"),
)

_COMBINED = re.compile(
    r"(?P<client>\S+) - (?P<user>\S+) \[(?P<time>[^\]]*)\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+)'
    r'(?: "(?:[^"\\]|\\.)*" "(?P<agent>(?:[^"\\]|\\.)*)")?(?P<more>.*)'
)
_FIELD = re.compile(r'([a-z_]+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_STATUS = re.compile(r"[1-5](?:\d\d|xx)")


@dataclass(frozen=True)
class LogLine:
    """A request that was answered. A text that is unknown is empty, and a number that is unknown is zero."""

    time: str
    client: str
    method: str
    host: str
    url: str
    status: int
    bytes: int
    cache: str
    reason: str
    route: str
    origin: str
    seconds: float
    variant: str = ""
    agent: str = ""
    user: str = ""


def read(line: str) -> LogLine | None:
    """A line of the JSON or the combined form of the edge; ``None`` if it is neither."""
    return _of_json(line) if line.startswith("{") else _of_combined(line)


def _of_json(line: str) -> LogLine | None:
    try:
        return of_data(json.loads(line))
    except (ValueError, RecursionError):
        return None


def of_data(data: object) -> LogLine | None:
    """The object of a line of the JSON form; ``None`` if it is none."""
    try:
        if not isinstance(data, dict) or "status" not in data or "url" not in data:
            return None
        text = {name: str(data.get(name) or "") for name in ("time", "client", "method", "host", "url", "cache")}
        text |= {name: str(data.get(name) or "") for name in ("reason", "route", "origin", "variant", "user")}
        text["agent"] = str(data.get("user_agent") or "")
        numbers = int(data["status"]), int(data.get("bytes") or 0), float(data.get("seconds") or 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
    return LogLine(**text, status=numbers[0], bytes=numbers[1], seconds=numbers[2])


def _of_combined(line: str) -> LogLine | None:
    found = _COMBINED.fullmatch(line)
    if found is None:
        return None
    fields = {name: quoted or plain for name, quoted, plain in _FIELD.findall(found["more"])}
    method, _, target = found["request"].partition(" ")
    try:
        seconds = float(fields.get("time", "0"))
    except ValueError:
        return None
    return LogLine(
        time=found["time"],
        client=found["client"],
        method=method,
        host=fields.get("host", ""),
        url=target.rpartition(" ")[0] or target,
        status=int(found["status"]),
        bytes=int(found["bytes"]),
        cache=fields.get("cache", ""),
        reason=fields.get("reason", ""),
        route=fields.get("route", ""),
        origin=fields.get("origin", ""),
        seconds=seconds,
        variant=fields.get("variant", ""),
        agent=found["agent"] or "",
        user=found["user"].removeprefix("-"),
    )


@dataclass(frozen=True)
class Chosen:
    """Conditions, all of which a line meets. Of several values of one condition any one suffices; none means all.

    ``routes``  labels, in which ``*`` stands for itself: the route ``/*``
    ``hosts``  patterns, in which ``*`` stands for any characters
    ``statuses``  numbers such as ``404``, or classes such as ``5xx``
    ``slow``  seconds until the response had ended, at least
    """

    routes: Collection[str] = ()
    hosts: Collection[str] = ()
    statuses: Collection[str] = ()
    outcomes: Collection[str] = ()
    reasons: Collection[str] = ()
    slow: float = 0.0

    @staticmethod
    def is_status(text: str) -> bool:
        return _STATUS.fullmatch(text) is not None

    def has(self, line: LogLine) -> bool:
        status = str(line.status)
        return (
            (not self.routes or line.route in self.routes)
            and (not self.hosts or any(fnmatchcase(line.host.lower(), host.lower()) for host in self.hosts))
            and (not self.statuses or status in self.statuses or f"{status[:1]}xx" in self.statuses)
            and (not self.outcomes or line.cache in self.outcomes)
            and (not self.reasons or line.reason in self.reasons)
            and line.seconds >= self.slow
        )
