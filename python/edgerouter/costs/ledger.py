"""The ledger: usage by month, day and hour in a small file, so that no restart of an edge loses any.

Times are seconds since the epoch, given by the caller; months and days are those of UTC.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from edgerouter import regular
from edgerouter.costs.usage import Usage
from edgerouter.errors import ConfigError, EdgeError, Problem

__all__ = ["Alarm", "Ledger", "Month", "opened"]

VERSION = 1
MOST_BYTES = 8 << 20
#: Bounds of the file: hours for the first days of a month, days of two months, months of two years.
HOURS, DAYS, MONTHS, EDGES, ALARMS = 96, 62, 24, 64, 32
HOUR = 3_600.0
#: Usage of a longer time without a look is counted for the last of it.
LONGEST_GAP = 31 * 24 * HOUR
#: Seconds for which a lock is tried.
LONGEST_WAIT = 30.0


@dataclass(frozen=True)
class Month:
    """A month of UTC."""

    begin: float
    end: float

    @classmethod
    def of(cls, now: float) -> Month:
        first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = (first + timedelta(days=32)).replace(day=1)
        return cls(first.timestamp(), following.timestamp())

    @property
    def name(self) -> str:
        return f"{datetime.fromtimestamp(self.begin, UTC):%Y-%m}"

    def share(self, now: float) -> float:
        """The share of it that has passed."""
        return min(max((now - self.begin) / (self.end - self.begin), 0.0), 1.0)


@dataclass
class Alarm:
    """An alarm that is to be delivered: its event, and the number of attempts until now."""

    event: dict[str, Any]
    attempts: int = 0
    not_before: float = 0.0


@dataclass
class Ledger:
    """Usage by span of time, the last counters of each edge, and the alarms of the months."""

    edges: dict[str, tuple[float, Usage]] = field(default_factory=dict)
    months: dict[str, Usage] = field(default_factory=dict)
    days: dict[int, Usage] = field(default_factory=dict)
    hours: dict[int, Usage] = field(default_factory=dict)
    begun: float | None = None
    raised: list[str] = field(default_factory=list)
    waiting: list[Alarm] = field(default_factory=list)
    tenants: dict[str, dict[str, Usage]] = field(default_factory=dict)
    """By month and name."""
    counters: dict[str, dict[str, Usage]] = field(default_factory=dict)
    """The last ones of each tenant, by edge and key."""
    starts: dict[str, float] = field(default_factory=dict)
    """When each edge was started, for those that say it."""

    def observe(
        self,
        edge: str,
        usage: Usage,
        now: float,
        tenants: Mapping[str, tuple[str, Usage]] | None = None,
        stored: float = 0.0,
        started: float = 0.0,
    ) -> None:
        """Takes the counters of an edge. The first ones are a beginning; from then on their growth is usage.

        ``started``  when the edge was started, 0 if it does not say; after another start all its counters are growth
        ``stored``  bytes of the disk cache now, which count for the time since the last look
        ``tenants``  those of each tenant with the key under which they are kept: with a new key they begin anew
        """
        if self.begun is None:
            self.begun = now
        last = self.edges.get(edge)
        if last is None and len(self.edges) >= EDGES:
            raise EdgeError(f"a ledger has at most {EDGES} edges; use another file for {edge}")
        if last is not None:
            seconds = min(max(now - last[0], 0.0), LONGEST_GAP)
            anew = started != self.starts.get(edge, started)
            grown = replace(usage if anew else usage.since(last[1]), stored_byte_seconds=stored * seconds)
            # If the clock was set back, the growth counts for the present hour.
            for begin, share in _hours(max(min(last[0], now), now - LONGEST_GAP), now):
                self._add(begin, grown, share)
            self._share(edge, tenants or {}, (last[0], now), anew=anew)
        self.edges[edge] = (now, usage)
        self.starts[edge] = started
        self.counters[edge] = dict((tenants or {}).values())

    def _share(
        self, edge: str, tenants: Mapping[str, tuple[str, Usage]], span: tuple[float, float], *, anew: bool
    ) -> None:
        since, now = span
        known = self.counters.get(edge, {})
        for name, (key, counted) in tenants.items():
            if key not in known:
                continue
            grown = counted if anew else counted.since(known[key])
            for begin, share in _hours(max(min(since, now), now - LONGEST_GAP), now):
                month = self.tenants.setdefault(Month.of(begin).name, {})
                month[name] = month.get(name, Usage()).plus(grown, share)
        while len(self.tenants) > MONTHS:
            del self.tenants[min(self.tenants)]

    def of_tenants(self, now: float) -> dict[str, Usage]:
        """The usage of the month until now by tenant."""
        return dict(self.tenants.get(Month.of(now).name, {}))

    def _add(self, hour: float, usage: Usage, share: float) -> None:
        month = Month.of(hour).name
        self.months[month] = self.months.get(month, Usage()).plus(usage, share)
        for spans, length, most in ((self.hours, HOUR, HOURS), (self.days, 24 * HOUR, DAYS)):
            begin = int(hour // length * length)
            spans[begin] = spans.get(begin, Usage()).plus(usage, share)
            while len(spans) > most:
                del spans[min(spans)]
        while len(self.months) > MONTHS:
            del self.months[min(self.months)]

    def month(self, now: float) -> Usage:
        """The usage of the month until now."""
        return self.months.get(Month.of(now).name, Usage())

    def blocks(self, now: float) -> tuple[list[Usage], float]:
        """Usage of complete days, or of complete hours if there are not three of them yet, and the length of one.

        A span counts if the ledger was there for all of it. One without usage counts as such.
        """
        if self.begun is None:
            return [], 24 * HOUR
        for spans, length, most in ((self.days, 24 * HOUR, 28), (self.hours, HOUR, HOURS - 1)):
            first = -(-self.begun // length)
            last = now // length
            begins = [int(number * length) for number in range(int(max(first, last - most)), int(last))]
            if len(begins) >= 3 or length == HOUR:
                return [spans.get(begin, Usage()) for begin in begins], length
        return [], HOUR

    def raise_alarm(self, event: Mapping[str, Any]) -> bool:
        """Keeps an alarm, with its ``id``; false if it was raised before."""
        if event["id"] in self.raised:
            return False
        self.raised = [*self.raised, event["id"]][-ALARMS:]
        self.waiting = [*self.waiting, Alarm(dict(event))][-ALARMS:]
        return True

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "begun": self.begun,
            "edges": {name: {"at": at, "counters": usage.as_dict()} for name, (at, usage) in self.edges.items()},
            "months": {name: usage.as_dict() for name, usage in self.months.items()},
            "days": {str(begin): usage.as_dict() for begin, usage in self.days.items()},
            "hours": {str(begin): usage.as_dict() for begin, usage in self.hours.items()},
            "tenants": {month: _as_dicts(of) for month, of in self.tenants.items()},
            "counters": {edge: _as_dicts(of) for edge, of in self.counters.items()},
            "starts": self.starts,
            "raised": self.raised,
            "waiting": [
                {"event": one.event, "attempts": one.attempts, "not_before": one.not_before} for one in self.waiting
            ],
        }

    @classmethod
    def from_dict(cls, data: Any) -> Ledger:
        """A ledger as ``as_dict`` gives it; ``ValueError``, ``TypeError``, ``KeyError`` or the like if it is not."""
        if data["version"] != VERSION:
            raise ValueError(f"its version is {data['version']!r}, and this program knows {VERSION}")
        return cls(
            edges={
                str(name): (float(edge["at"]), Usage.from_dict(edge["counters"]))
                for name, edge in data["edges"].items()
            },
            months={str(name): Usage.from_dict(usage) for name, usage in data["months"].items()},
            days={int(begin): Usage.from_dict(usage) for begin, usage in data["days"].items()},
            hours={int(begin): Usage.from_dict(usage) for begin, usage in data["hours"].items()},
            begun=None if data["begun"] is None else float(data["begun"]),
            raised=[str(one) for one in data["raised"]],
            tenants={str(month): _usages(of) for month, of in data.get("tenants", {}).items()},
            counters={str(edge): _usages(of) for edge, of in data.get("counters", {}).items()},
            starts={str(edge): float(at) for edge, at in data.get("starts", {}).items()},
            waiting=[
                Alarm(dict(one["event"]), int(one["attempts"]), float(one["not_before"])) for one in data["waiting"]
            ],
        )


def _as_dicts(usages: Mapping[str, Usage]) -> dict[str, dict[str, float]]:
    return {name: usage.as_dict() for name, usage in usages.items()}


def _usages(data: Any) -> dict[str, Usage]:
    return {str(name): Usage.from_dict(usage) for name, usage in data.items()}


def _hours(begin: float, end: float) -> Iterator[tuple[float, float]]:
    """Each hour that a span touches, with the share of the span that is in it."""
    if end <= begin:
        yield end, 1.0
        return
    hour = begin // HOUR * HOUR
    while hour < end:
        overlap = min(hour + HOUR, end) - max(hour, begin)
        yield hour, overlap / (end - begin)
        hour += HOUR


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Ledger]:
    """The ledger of a file, which is written when the block ends without an exception.

    The file is locked meanwhile, and replaced whole, so that a reader or a crash never finds half of one.
    """
    try:
        with file.with_name(f"{file.name}.lock").open("a") as lock:
            _take(lock, file)
            ledger = _read(file)
            yield ledger
            _write(file, ledger)
    except OSError as error:
        remedy = f"{error.strerror or error}; give a file in a folder that this user can write"
        raise ConfigError([Problem("--state", repr(str(file)), remedy)]) from None


def _take(lock: IO[str], file: Path) -> None:
    """Locks, or gives up after a while: another program may hold it for as long as a webhook takes to answer."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise EdgeError(f"{file}: another program has used it for {LONGEST_WAIT:g} s; try again") from None
            time.sleep(0.05)


def _read(file: Path) -> Ledger:
    try:
        with regular.opened(file) as opened_file:
            content = opened_file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return Ledger()
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        return Ledger.from_dict(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        reason = f"is not a ledger of costs ({error}); move it away, or give another file"
        raise ConfigError([Problem("--state", repr(str(file)), reason)]) from None


def _write(file: Path, ledger: Ledger) -> None:
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w") as written:
            json.dump(ledger.as_dict(), written, separators=(",", ":"))
            written.flush()
            os.fsync(written.fileno())
        Path(temporary).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
