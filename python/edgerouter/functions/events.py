"""Server-sent events: ``Response.events`` writes them as browsers' ``EventSource`` reads them (HTML Standard, 9.2)."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import asyncio

__all__ = ["Event", "lines"]

_COMMENT = b":\n\n"


@dataclasses.dataclass(frozen=True)
class Event:
    """One event.

    ``data``   text, or a value that JSON can hold
    ``event``  its type; ``message`` for browsers when ``None``
    ``id``     remembered by the client, which sends it as ``Last-Event-ID`` when it connects again
    ``retry``  milliseconds after which the client connects again
    """

    data: Any = ""
    event: str | None = None
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        for name in ("event", "id"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or any(mark in value for mark in "\r\n\0")):
                raise ValueError(f"Event.{name}: {value!r} must be text without line breaks")
        if self.retry is not None and (
            isinstance(self.retry, bool) or not isinstance(self.retry, int) or self.retry < 0
        ):
            raise ValueError(f"Event.retry: {self.retry!r} must be milliseconds, ≥ 0")

    def encode(self) -> bytes:
        """The event's lines and the empty one that ends it."""
        found = []
        if self.event is not None:
            found.append(f"event: {self.event}")
        if self.id is not None:
            found.append(f"id: {self.id}")
        if self.retry is not None:
            found.append(f"retry: {self.retry}")
        text = self.data if isinstance(self.data, str) else msgspec.json.encode(self.data).decode()
        # A lone CR ends a line, too.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        found.extend(f"data: {line}" for line in text.split("\n"))
        return ("\n".join(found) + "\n\n").encode()


def lines(source: Any, heartbeat: float) -> AsyncIterator[bytes] | Iterator[bytes]:
    """The bytes of the events that ``source`` gives."""
    if isinstance(heartbeat, bool) or not isinstance(heartbeat, (int, float)) or not heartbeat >= 0:
        raise ValueError(f"Response.events: heartbeat is {heartbeat!r}, but must be seconds; 0 for none")
    if hasattr(source, "__aiter__"):
        return _awaited(source, heartbeat)
    if hasattr(source, "__iter__") and not isinstance(source, (str, bytes, dict)):
        return (_event(item).encode() for item in source)
    raise TypeError(f"Response.events takes an async iterator or an iterable of events, not {type(source).__name__}")


def _event(item: Any) -> Event:
    return item if isinstance(item, Event) else Event(item)


async def _awaited(source: Any, heartbeat: float) -> AsyncIterator[bytes]:
    import asyncio

    items = source.__aiter__()
    following: asyncio.Task[Any] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(_following(items))
            done, _ = await asyncio.wait({following}, timeout=heartbeat or None)
            if not done:
                yield _COMMENT
                continue
            item = following.result()
            following = None
            if item is _END:
                return
            yield _event(item).encode()
    finally:
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await following
        if (close := getattr(items, "aclose", None)) is not None:
            await close()


_END = object()


async def _following(items: Any) -> Any:
    """The next item, or ``_END``: a task cannot end in ``StopAsyncIteration``."""
    try:
        return await items.__anext__()
    except StopAsyncIteration:
        return _END
