"""The logs and sizes of a prediction, and the assumptions about what a log does not say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgerouter import _core
from edgerouter.checks import size
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError, Problem

__all__ = ["FORMATS", "Assumption", "Order", "read_tiers", "tiers_around"]

#: The forms of logs, and the reader of each.
FORMATS = {"combined": "combined", "json": "json", "cloudflare": "json", "cloudfront": "cloudfront", "elb": "elb"}

#: Lifetime of successful responses for which neither the log nor the user says one.
USUAL = "max-age=300"

#: Directives of responses that decide about a shared cache (RFC 9111 §5.2.2, RFC 5861).
DIRECTIVES = frozenset(
    (
        *("max-age", "s-maxage", "no-store", "no-cache", "private", "public", "must-revalidate", "proxy-revalidate"),
        *("must-understand", "stale-while-revalidate", "stale-if-error"),
    )
)

#: Entries in all tiers, each of which takes about 300 bytes of memory.
MOST_ENTRIES = 4_000_000
MOST_TIERS = 16
LEAST_TIER = 1 << 20
MOST_TIER = 64 << 40


@dataclass(frozen=True)
class Assumption:
    """The ``Cache-Control`` of successful responses for paths of a pattern."""

    pattern: str
    cache_control: str

    @classmethod
    def read(cls, given: str) -> Assumption:
        """From ``/PATTERN=VALUE``; the value may be a number of seconds."""
        pattern, equals, value = given.partition("=")
        if not equals or not value.strip() or not pattern.startswith("/"):
            remedy = "must be /PATTERN=CACHE-CONTROL, such as '/assets/*=public, max-age=86400', or seconds"
            raise ConfigError([Problem("--assume", repr(given), remedy)])
        value = value.strip()
        if re.fullmatch(r"[0-9]{1,10}", value):
            value = f"max-age={value}"
        names = {directive.partition("=")[0].strip().lower() for directive in value.split(",")}
        if value.isprintable() and not names & DIRECTIVES:
            remedy = "has no directive that a cache obeys; write one, such as max-age=86400 or no-store, or seconds"
            raise ConfigError([Problem("--assume", repr(given), remedy)])
        return cls(pattern, value)


@dataclass(frozen=True)
class Order:
    """``tiers`` are sizes of the memory cache in bytes; ``sample``: one in so many URLs is replayed."""

    files: Sequence[Path]
    tiers: Sequence[int]
    format: str | None = None
    host: str = "localhost"
    scheme: str = "https"
    assumptions: Sequence[Assumption] = ()
    sample: int = 1

    def replay(self, edge: Edge) -> _core.Replay:
        """The run, not begun yet; ``ConfigError`` if it cannot be made."""
        lifetimes = [(one.pattern, one.cache_control) for one in (*self.assumptions, Assumption("/*", USUAL))]
        try:
            return _core.Replay(
                edge.encode(),
                list(self.files),
                tiers=list(self.tiers),
                format=None if self.format is None else FORMATS[self.format],
                host=self.host,
                scheme=self.scheme,
                lifetimes=lifetimes,
                sample=self.sample,
                most_entries=MOST_ENTRIES,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def sentences(self) -> list[str]:
        """The assumptions, for people."""
        lifetimes = [f"{one.cache_control} for {one.pattern}" for one in self.assumptions]
        lifetimes.append(f"{USUAL} for {'all others' if lifetimes else 'all'}")
        return [
            f"successful responses whose Cache-Control is not in the log have {'; '.join(lifetimes)}",
            "responses have an ETag, and neither Vary nor Set-Cookie; they change if their size does",
            f"requests without a host or scheme in the log are for {self.scheme}://{self.host}",
        ]


def read_tiers(given: Sequence[str]) -> list[int]:
    """Sizes as the user wrote them, in their order of magnitude."""
    found = set()
    for text in given:
        try:
            bytes_ = size(text)
        except ValueError as error:
            raise ConfigError([Problem("--memory", repr(text), str(error))]) from None
        if not LEAST_TIER <= bytes_ <= MOST_TIER:
            raise ConfigError([Problem("--memory", repr(text), "must be from 1MiB to 64TiB")])
        found.add(bytes_)
    if len(found) > MOST_TIERS:
        raise ConfigError([Problem("--memory", str(len(found)), f"must be at most {MOST_TIERS} sizes")])
    return sorted(found)


def tiers_around(bytes_: int) -> list[int]:
    """The size that a plan has, with smaller and larger ones."""
    return sorted({max(bytes_ * factor // 4, LEAST_TIER) for factor in (1, 2, 4, 8, 16)})
