"""Content that its maker writes piece by piece, as an application does that sends messages: no iterator is between.

The pump hands over the sink of the pipe to the worker. In a process of its own an application writes into a ``Handed``
in its place, from which the process sends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, PieceSink

__all__ = ["Handed", "Sink", "Written", "bytes_of"]

#: Pieces that a ``Handed`` keeps before its writer has to wait.
_WAITING = 2


def bytes_of(content: Any) -> bytes:
    """The bytes of a message. A number is none: ``bytes`` would make as many."""
    return bytes(memoryview(content))


class Sink(Protocol):
    """The end of a content that is written: see ``PieceSink``."""

    def put(self, piece: bytes, /) -> bool | None:
        """Takes a piece: true while there is room for another, ``None`` when nobody wants one."""

    def turns_with(self, event_loop: asyncio.AbstractEventLoop, /) -> None:
        """Has the other end woken at the end of a turn of this event loop, on which the pieces are put."""

    def room(self) -> Awaitable[object] | None:
        """The time when there is room or nobody wants more; ``None`` when that is so already."""

    def when_unwanted(self, call: Callable[[], object], /) -> bool:
        """Has ``call()`` made, once, when nobody wants more; false when that is so already."""

    def end(self, complete: bool, trailers: list[tuple[bytes, bytes]] | None = None, /) -> None:
        """Ends the content, with trailers; not ``complete``: it broke off."""


class Written:
    """The content of a response that is written. ``sink`` is there once the call was answered with the response."""

    sink: Sink | None

    def __init__(self, handed: Handed | None) -> None:
        self.sink = self.handed = handed

    def opened(self, sink: PieceSink) -> None:
        """Takes the sink of the pipe to the worker."""
        self.sink = sink

    def break_off(self, error: BaseException | None, ctx: AsyncContext) -> None:
        """Ends the content before it is complete; ``error``: the reason for the log."""
        from edgerouter.functions.streams import failed

        if self.handed is not None:
            self.handed.error = error
        elif error is not None:
            failed(ctx, error)
        if self.sink is not None:
            self.sink.end(False)

    @property
    def trailers(self) -> list[tuple[bytes, bytes]] | None:
        """Fields behind what the iterator gave."""
        return self.handed.trailers if self.handed is not None else None

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self.handed is None:
            raise TypeError("this content is written into a sink, and no iterator gives it")
        return self.handed.taken()


class Handed:
    """Pieces that are handed to an iterator on the same event loop."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.complete: bool | None = None
        self.trailers: list[tuple[bytes, bytes]] | None = None
        #: The iterator raises it when the content broke off.
        self.error: BaseException | None = None
        self.unwanted = False
        self.gone: Callable[[], object] | None = None
        self.come = asyncio.Event()
        self.fits = asyncio.Event()

    def put(self, piece: bytes) -> bool | None:
        """Takes a piece, unless the iterator is closed."""
        if self.unwanted:
            return None
        if piece:
            self.pieces.append(piece)
            self.come.set()
        return len(self.pieces) < _WAITING

    def turns_with(self, event_loop: asyncio.AbstractEventLoop) -> None:
        """Does nothing: the iterator is on the same event loop."""

    def room(self) -> Awaitable[object] | None:
        """The time when the iterator has taken a piece, or is closed."""
        if self.unwanted or len(self.pieces) < _WAITING:
            return None
        self.fits.clear()
        return self.fits.wait()

    def when_unwanted(self, call: Callable[[], object]) -> bool:
        """Has ``call()`` made when the iterator is closed before the end."""
        self.gone = call
        return not self.unwanted

    def end(self, complete: bool, trailers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Ends the iterator, after the pieces that it has not given yet."""
        if self.complete is None:
            self.complete = complete
            self.trailers = trailers
        self.come.set()

    async def taken(self) -> AsyncIterator[bytes]:
        """Gives the pieces; raises ``error`` where they broke off."""
        try:
            while self.pieces or self.complete is None:
                if self.pieces:
                    piece = self.pieces.popleft()
                    self.fits.set()
                    yield piece
                else:
                    self.come.clear()
                    await self.come.wait()
            if not self.complete:
                raise self.error or RuntimeError("the content broke off")
        finally:
            self.unwanted = True
            self.fits.set()
            if self.complete is None and self.gone is not None:
                self.gone()
