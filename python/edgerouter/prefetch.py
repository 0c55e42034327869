"""Prefetching: requests of the edge itself, listed or guessed, so that visitors find their answers stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from edgerouter.cache import Duration
from edgerouter.checks import Check, Size, Value

__all__ = ["Predict", "Prefetch"]


class _Urls(Value, frozen=True):
    urls: Collection[str]


class Prefetch(_Urls, frozen=True, kw_only=True):
    """A list of URLs; see ``Edge.prefetch`` for what each field means."""

    every: Duration | None = None
    on_start: bool = True
    host: str | None = None
    scheme: Literal["http", "https"] = "https"
    headers: Mapping[str, str | Collection[str]] = {}

    def _check(self, check: Check) -> None:
        check.texts("urls", test=_is_url, must="must be a path that starts with /, or a URL of http or https")
        if not self.urls:
            check.fail("urls", "must name at least one path or URL")
        check.seconds("every", optional=True, positive=True)
        check.flag("on_start")
        check.text("host", optional=True)
        check.choice("scheme", ("http", "https"))
        check.headers("headers")


def _is_url(text: str) -> bool:
    return text.startswith(("/", "http://", "https://"))


class Predict(Value, frozen=True, kw_only=True):
    """Guesses of the page that a visitor of a route will request next, fetched before it does.

    ``confidence``  the part of a page's visitors that must have gone on to the next page
    ``support``  how many they must have been
    ``pages``  pages fetched for one navigation, at most
    ``requests_per_minute``, ``bytes_per_minute``  what guessing may cost
    ``sample``  the part of the visitors that is learnt from
    """

    confidence: float = 0.5
    support: int = 3
    pages: int = 2
    requests_per_minute: int = 60
    bytes_per_minute: Size = 10_485_760
    sample: float = 1.0

    def _check(self, check: Check) -> None:
        check.number("confidence", "sample", above=0, most=1)
        check.whole("support", least=1, most=1_000)
        check.whole("pages", least=1, most=10)
        check.whole("requests_per_minute", most=1_000_000)
        check.whole("bytes_per_minute")
