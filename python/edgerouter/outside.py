"""Hosts that are no origins and that functions may fetch from: ``Edge("site", fetch=FetchHosts(…))``."""

from __future__ import annotations

from collections.abc import Collection

from edgerouter.checks import Check, Value

__all__ = ["FetchHosts", "check_networks"]


def check_networks(check: Check) -> None:
    """Refuses a network of all addresses, which would let a name of others lead anywhere."""
    must = 'must be private networks such as "10.1.0.0/16", and none of all addresses'
    check.texts("networks", test=lambda text: not text.endswith("/0"), must=must)


class FetchHosts(Value, frozen=True, kw_only=True):
    """The hosts of others that ``ctx.fetch`` may fetch from.

    ``hosts``  ``"api.example.com"``, ``"*.example.com"``, ``"http://10.0.0.7:8080"``; ``https`` unless it says ``http``
    ``networks``  private networks in which those hosts may be
    """

    hosts: Collection[str]
    networks: Collection[str] = ()

    def _check(self, check: Check) -> None:
        check.texts("hosts")
        check_networks(check)
