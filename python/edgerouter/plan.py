"""The plan's data: everything that an ``Edge`` collected, in the shape that the core decodes.

The same shape is a plan file (TOML or JSON). The core refuses unknown fields and reports all problems at once;
this is only the shape.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from edgerouter.access_log import AccessLog
from edgerouter.bindings import Binding
from edgerouter.callables import Called
from edgerouter.checks import Check, Value
from edgerouter.geo import GeoPolicy
from edgerouter.guarding import AddressPolicy, RateLimit, SecurityHeaders
from edgerouter.limits import Limits
from edgerouter.listening import Listener
from edgerouter.origins import Group, Origin
from edgerouter.outside import FetchHosts
from edgerouter.prefetch import Prefetch
from edgerouter.routes import Hook, Route, check_rate_limits
from edgerouter.service_worker import ServiceWorker
from edgerouter.storage import DiskCache
from edgerouter.tracing import Tracing

__all__ = ["Plan"]


class Plan(Value, frozen=True, kw_only=True):
    """A site's whole policy."""

    version: Literal[1]
    name: str
    limits: Limits = Limits()
    listeners: Collection[Listener] = ()
    disk_cache: DiskCache | None = None
    trusted_proxies: Collection[str] = ()
    trusted_proxy_fields: Collection[str] = ()
    hosts: Collection[str] = ()
    addresses: AddressPolicy | Mapping[str, Any] | None = None
    security: SecurityHeaders | Mapping[str, Any] | None = None
    rate_limits: Collection[RateLimit | Mapping[str, Any]] = ()
    via: str = "edgerouter"
    access_log: AccessLog | None = None
    tracing: Tracing | None = None
    fetch: FetchHosts | Mapping[str, Any] | None = None
    origins: Collection[Origin] = ()
    groups: Collection[Group] = ()
    callables: Collection[Called] = ()
    hooks: Collection[Hook] = ()
    routes: Collection[Route] = ()
    service_workers: Collection[ServiceWorker] = ()
    prefetch: Collection[Prefetch] = ()
    bindings: Collection[Binding] = ()
    geo: GeoPolicy | Mapping[str, Any] | None = None

    def _check(self, check: Check) -> None:
        check.name("name")
        check.token("via")
        check.texts("trusted_proxies")
        check.texts("trusted_proxy_fields")
        check.texts("hosts")
        check.instance("addresses", AddressPolicy, optional=True)
        check.instance("security", SecurityHeaders, optional=True)
        check_rate_limits(check)
        check.instance("limits", Limits)
        check.instance("access_log", AccessLog, optional=True)
        check.instance("tracing", Tracing, optional=True)
        check.instance("fetch", FetchHosts, optional=True)
        check.instance("geo", GeoPolicy, optional=True)
        check.instance("disk_cache", DiskCache, optional=True)
