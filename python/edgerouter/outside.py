"""Hosts that are no origins and that functions may fetch from: ``Edge("site", fetch=FetchHosts(…))``."""

from __future__ import annotations

from collections.abc import Collection

from edgerouter.checks import Check, Value

__all__ = ["FetchHosts"]


class FetchHosts(Value, frozen=True, kw_only=True):
    """The hosts of others that ``ctx.fetch`` may fetch from.

    ``hosts``  ``"api.example.com"``, ``"*.example.com"``, ``"http://10.0.0.7:8080"``; ``https`` unless it says ``http``
    ``networks``  private networks in which those hosts may be
    """

    hosts: Collection[str]
    networks: Collection[str] = ()

    def _check(self, check: Check) -> None:
        check.texts("hosts")
        check.texts("networks")
