"""Prefetching: URLs that the edge asks of itself, so that visitors find their answers stored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from edgerouter.cache import Duration
from edgerouter.checks import Check, Value
from edgerouter.routes import HeaderValues

__all__ = ["Prefetch"]


class _Urls(Value, frozen=True):
    urls: Collection[str]


class Prefetch(_Urls, frozen=True, kw_only=True):
    """A list of URLs; see ``Edge.prefetch`` for what each field means."""

    every: Duration | None = None
    on_start: bool = True
    host: str | None = None
    scheme: Literal["http", "https"] = "https"
    headers: HeaderValues = {}

    def _check(self, check: Check) -> None:
        check.texts("urls", test=_is_url, must="must be a path that starts with /, or a URL of http or https")
        check.seconds("every", optional=True, positive=True)
        check.flag("on_start")
        check.text("host", optional=True)
        check.choice("scheme", ("http", "https"))
        check.headers("headers")


def _is_url(text: str) -> bool:
    return text.startswith(("/", "http://", "https://"))
