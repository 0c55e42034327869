"""The plan's data: everything that an ``Edge`` collected, in the shape that the core decodes.

The same shape is a plan file (TOML or JSON). The core refuses unknown fields and reports all problems at once;
here is only the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, NamedTuple

from edgerouter.access_log import AccessLog
from edgerouter.cache import Duration
from edgerouter.checks import Check, Value
from edgerouter.limits import Limits
from edgerouter.origins import Group, Origin
from edgerouter.prefetch import Prefetch
from edgerouter.routes import Hook, Route
from edgerouter.service_worker import ServiceWorker
from edgerouter.storage import DiskCache

__all__ = ["CallableSpec", "Called", "Plan"]


class Called(Value, frozen=True, kw_only=True):
    """What the plan says about a function or hook; the callable itself stays in Python."""

    name: str
    inline: bool = False
    blocking: bool = False
    serial: bool = False
    timeout: Duration | None = None
    fail: Literal["open", "closed"] = "closed"

    def _check(self, check: Check) -> None:
        check.text("name")
        check.flag("inline", "blocking", "serial")
        check.seconds("timeout", optional=True, positive=True)
        check.choice("fail", ("open", "closed"))
        if self.inline is True and self.blocking is True:
            check.fail("inline", "cannot be combined with blocking: an inline callable promises never to wait")
        if self.inline is True and self.serial is True:
            check.fail("inline", "cannot be combined with serial: an inline callable runs on the thread that serves")


class CallableSpec(NamedTuple):
    """A callable as the function runtime takes it, in the plan's order."""

    callable: Callable[..., Any]
    is_async: bool
    inline: bool
    serial: bool
    timeout: float | None
    name: str


class Plan(Value, frozen=True, kw_only=True):
    """The whole."""

    version: Literal[1]
    name: str
    limits: Limits = Limits()
    disk_cache: DiskCache | None = None
    trusted_proxies: Collection[str] = ()
    trusted_proxy_fields: Collection[str] = ()
    via: str = "edgerouter"
    access_log: AccessLog | None = None
    origins: Collection[Origin] = ()
    groups: Collection[Group] = ()
    callables: Collection[Called] = ()
    hooks: Collection[Hook] = ()
    routes: Collection[Route] = ()
    service_workers: Collection[ServiceWorker] = ()
    prefetch: Collection[Prefetch] = ()

    def _check(self, check: Check) -> None:
        check.name("name")
        check.token("via")
        check.texts("trusted_proxies")
        check.texts("trusted_proxy_fields")
        check.instance("limits", Limits)
        check.instance("access_log", AccessLog, optional=True)
        check.instance("disk_cache", DiskCache, optional=True)
