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

    steps = _Steps(source.__aiter__())
    try:
        while True:
            done, _ = await asyncio.wait({steps.coming}, timeout=heartbeat or None)
            if not done:
                yield _COMMENT
                continue
            item = steps.coming.result()
            if item is _END:
                return
            yield _event(item).encode()
            steps.go_on()
    finally:
        await steps.close()


_END = object()


class _Steps:
    """The items of an async iterator, which one task takes: time-outs, task groups and the context last over them."""

    def __init__(self, items: Any) -> None:
        import asyncio

        self.items = items
        self.loop = asyncio.get_running_loop()
        #: The next item, or ``_END``.
        self.coming: asyncio.Future[Any] = self.loop.create_future()
        self.wanted = asyncio.Event()
        self.over = False
        self.task = self.loop.create_task(self.run())

    def go_on(self) -> None:
        """Has the next item taken."""
        self.coming = self.loop.create_future()
        self.wanted.set()

    async def run(self) -> None:
        """Takes each item when it is wanted."""
        from asyncio import CancelledError

        try:
            async for item in self.items:
                if self.over:
                    break
                self.coming.set_result(item)
                await self.wanted.wait()
                self.wanted.clear()
            if not self.coming.done():
                self.coming.set_result(_END)
        except CancelledError:
            # Perhaps of another task that the iterator has waited for.
            self.coming.cancel()
        except BaseException as error:  # noqa: BLE001  # whatever it raises is that of the content
            if not self.coming.done():
                self.coming.set_exception(error)
        finally:
            if (close := getattr(self.items, "aclose", None)) is not None:
                await close()

    async def close(self) -> None:
        """Ends the iterator."""
        from asyncio import CancelledError

        self.over = True
        self.task.cancel()
        with contextlib.suppress(CancelledError, Exception):
            await self.task
        if self.coming.done() and not self.coming.cancelled():
            # Nobody takes it any more.
            self.coming.exception()
