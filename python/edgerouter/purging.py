"""Purges: their orders, their progress, and the responses that they matched.

``Purging`` is what ``Server`` and ``Edge`` have in common; the values are a snapshot of the engine's.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, overload

import msgspec

from edgerouter.errors import CacheError

if TYPE_CHECKING:
    from edgerouter import _core

__all__ = ["DryRun", "Matched", "Purge", "Purging", "Scope"]


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

    ``id``  by which its status can be read
    ``soft``  stale instead of gone: what it names is validated at the origin, and may be served stale meanwhile
    ``scopes``  what it names
    ``reference``  the caller's own name for it: a second order with the same one is the first again
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
        """True if the counts are final."""
        return self.status == "Completed"


class DryRun(msgspec.Struct, frozen=True, kw_only=True):
    """The responses that a purge would match now; nothing was purged.

    ``matched``  what the purge would concern
    ``sample``  some of the responses, as URLs
    ``warning``  says so when it would match nothing
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


class _Purges(msgspec.Struct):
    purges: list[Purge]


class Purging:
    """Purges of a running edge."""

    @property
    def engine(self) -> _core.Engine:
        """The engine that serves the edge."""
        raise NotImplementedError

    @overload
    def purge(
        self,
        urls: Collection[str] = ...,
        *,
        paths: Collection[str] = ...,
        hosts: Collection[str] = ...,
        tags: Collection[str] = ...,
        everything: bool = ...,
        soft: bool = ...,
        reference: str | None = ...,
        dry_run: Literal[False] = ...,
    ) -> Purge: ...

    @overload
    def purge(
        self,
        urls: Collection[str] = ...,
        *,
        paths: Collection[str] = ...,
        hosts: Collection[str] = ...,
        tags: Collection[str] = ...,
        everything: bool = ...,
        soft: bool = ...,
        reference: str | None = ...,
        dry_run: Literal[True],
    ) -> DryRun: ...

    def purge(
        self,
        urls: Collection[str] = (),
        *,
        paths: Collection[str] = (),
        hosts: Collection[str] = (),
        tags: Collection[str] = (),
        everything: bool = False,
        soft: bool = False,
        reference: str | None = None,
        dry_run: bool = False,
    ) -> Purge | DryRun:
        """Invalidates what is stored; in effect for every request from the return on.

        ``urls``  whole URLs as viewers see them
        ``paths``  paths on every host, or ``host/path``; ``*`` stands for any characters
        ``hosts``, ``tags``, ``everything``  by host, by ``Cache-Tag`` or ``Surrogate-Key``, or all
        ``soft``  stale instead of gone: stale-while-revalidate and stale-if-error still serve it
        ``reference``  the caller's name for it; the same one again gives the same purge
        ``dry_run``  only count, and give a sample

        Raises ``CacheError`` with the field and the remedy.
        """
        text = order(
            urls=urls,
            paths=paths,
            hosts=hosts,
            tags=tags,
            everything=everything,
            soft=soft,
            dry_run=dry_run,
            reference=reference,
        )
        answer = self.engine.purge(text)
        if dry_run:
            return msgspec.json.decode(answer, type=DryRun)
        return msgspec.json.decode(answer, type=Purge)

    def purges(self) -> list[Purge]:
        """The purges that are remembered, newest first."""
        return msgspec.json.decode(self.engine.purges(None), type=_Purges).purges

    def find_purge(self, id: str) -> Purge | None:  # noqa: A002
        """The purge of this id as it is now."""
        answer = self.engine.purges(id)
        return None if answer == "null" else msgspec.json.decode(answer, type=Purge)
