"""Purges: what was ordered, how far it is, and what it matched.

``Server.purge`` and ``Edge.purge`` give these; the values are what the engine said at that moment.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from edgerouter.errors import CacheError

__all__ = ["DryRun", "Matched", "Purge", "Scope"]


class Scope(msgspec.Struct, frozen=True):
    """One thing that a purge names."""

    kind: Literal["url", "path", "host", "tag", "everything"]
    value: str


class Matched(msgspec.Struct, frozen=True):
    """Stored responses that a purge concerned, so far or in all."""

    objects: int
    bytes: int


class Purge(msgspec.Struct, frozen=True, kw_only=True):
    """A purge. It is in effect for every request from the moment that it was given back.

    ``status``  ``"InProgress"`` until the store has been walked and counted, then ``"Completed"``
    ``created``  seconds since the epoch
    ``matched``  what it concerned; final once it is completed
    ``durable``  ``False`` when the disk cache had no room to write it down: a restart may bring back what it purged
    ``warning``  says so when a completed purge matched nothing, or one is not durable
    ``new``  ``False`` when the same reference had ordered it before
    """

    id: str
    status: Literal["InProgress", "Completed"]
    created: float
    soft: bool
    scopes: tuple[Scope, ...]
    reference: str | None
    matched: Matched
    warning: str | None
    durable: bool = True
    new: bool = False

    @property
    def completed(self) -> bool:
        """Whether the counts are final."""
        return self.status == "Completed"


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge would match now; nothing was purged.

    ``sample``  some of the responses, as ``host/path?query``
    """

    matched: Matched
    sample: tuple[str, ...]
    warning: str | None


def order(
    *,
    urls: Collection[str],
    paths: Collection[str],
    hosts: Collection[str],
    tags: Collection[str],
    everything: bool,
    soft: bool,
    dry_run: bool,
    reference: str | None,
) -> str:
    """The order as the engine reads it."""
    body: dict[str, object] = {"everything": everything, "soft": soft, "dry_run": dry_run, "reference": reference}
    for field, values in (("urls", urls), ("paths", paths), ("hosts", hosts), ("tags", tags)):
        if isinstance(values, (str, bytes)):
            raise CacheError(f"{field}: {values!r}: must be a list; write {field}=[{values!r}]")
        body[field] = list(values)
    try:
        return msgspec.json.encode(body).decode()
    except TypeError as error:
        raise CacheError(f"purge: {error}") from None
