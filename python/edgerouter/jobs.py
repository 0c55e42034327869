"""Handlers of start and stop, and scheduled jobs, as an edge declares them; ``functions.lifecycle`` runs them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from edgerouter.checks import shown
from edgerouter.errors import ConfigError, Problem

__all__ = ["Handler", "Job"]


class Handler(NamedTuple):
    """A callable for the start or the stop."""

    name: str
    function: Callable[[], Any]
    timeout: float


class Job(NamedTuple):
    """A callable with the times at which it runs."""

    name: str
    function: Callable[[], Any]
    expression: str
    timezone: datetime.tzinfo
    timeout: float

    def times(self, after: datetime.datetime) -> Iterator[datetime.datetime]:
        """The times after ``after``, in order."""
        from cronsim import CronSim

        return CronSim(self.expression, after.astimezone(self.timezone))

    def check(self) -> None:
        """Refuses an expression that cron does not know, or that never comes true."""
        from cronsim import CronSimError

        try:
            next(self.times(datetime.datetime.now(datetime.UTC)))
        except CronSimError as error:
            message = (
                f"is no cron expression: {error}; five fields are minute, hour, day, month and weekday, "
                "and six begin with the second"
            )
            raise ConfigError([Problem("schedule", self.expression, message)]) from None
        except StopIteration:
            raise ConfigError([Problem("schedule", self.expression, "never comes true")]) from None


def job(name: str, function: Callable[[], Any], expression: object, timezone: object, timeout: float) -> Job:
    """A job whose times were checked."""
    import zoneinfo

    if not isinstance(expression, str):
        message = 'must be a cron expression such as "*/5 * * * *"'
        raise ConfigError([Problem("schedule.expression", shown(expression), message)])
    try:
        if not isinstance(timezone, str):
            raise ValueError
        zone = zoneinfo.ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):
        message = "timezone must be an IANA name such as UTC or Europe/Berlin"
        raise ConfigError(
            [Problem("schedule", timezone if isinstance(timezone, str) else shown(timezone), message)]
        ) from None
    made = Job(name, function, expression, zone, timeout)
    made.check()
    return made
