"""A service worker made from the route table: a script that answers in the browser when the network does not.

The script's text and its caching rules are the core's; here are its settings.
"""

from __future__ import annotations

from collections.abc import Collection

from edgerouter.checks import Check, Value

__all__ = ["ServiceWorker"]


class _Path(Value, frozen=True):
    path: str


class ServiceWorker(_Path, frozen=True, kw_only=True):
    """A script for browsers; see ``Edge.service_worker`` for what each field means."""

    host: str | None = None
    scope: str = "/"
    precache: Collection[str] = ()
    offline: str | None = None
    api: Collection[str] = ()
    authorized: bool = False
    entries: int = 100

    def _check(self, check: Check) -> None:
        check.path("path", "scope")
        check.path("offline", optional=True)
        check.text("host", optional=True)
        for field in ("precache", "api"):
            check.texts(field, test=_is_local, must="must be a path of this site that starts with one /")
        check.flag("authorized")
        check.whole("entries", most=10_000)


def _is_local(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")
