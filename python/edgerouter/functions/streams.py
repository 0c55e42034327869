"""Content in pieces: the pump that sends what a function's iterator gives, and the iterators over a request's content.

The pump runs on the event loop. An iterator that is not async runs on a thread, which it has for as long as it gives
pieces without a wait for the client. The client that is gone ends the pump, which closes the iterator: its ``finally``
runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from edgerouter.errors import Abort
from edgerouter.functions import logs
from edgerouter.functions.threads import Pool, settled_by
from edgerouter.functions.written import Written

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Context, PieceSink, PieceSource, Runner

__all__ = ["Pump", "awaited", "ready", "waited_for"]

log = logging.getLogger("edgerouter.functions")

#: Seconds for which a plain iterator may keep its thread while others wait for one.
TURN = 0.05
#: Seconds that a plain function waits for a piece at a time: the watchdog reaches it in between.
SLICE = 0.05
_END = object()


class Pump:
    """Sends what iterators give; one for an engine."""

    def __init__(self, runner: Runner, active: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.active = active
        self.tasks: set[asyncio.Task[None]] = set()
        #: The threads of plain iterators: no more than there are cores and a few, as for plain functions.
        self.threads = Pool(runner, min(32, (os.cpu_count() or 1) + 4), "stream")
        self.lock = threading.Lock()

    def start(self, source: Any, sink: PieceSink, call: AsyncContext | Context | None) -> None:
        """Starts to send what ``source`` gives: on the loop that calls this, or else on the one in service."""
        if isinstance(source, Written):
            source.opened(sink)
            return
        loop = asyncio._get_running_loop()
        if loop is not None:
            self.begin(loop, source, sink, call)
            return
        try:
            loop = self.active()
            loop.call_soon_threadsafe(self.begin, loop, source, sink, call)
        except RuntimeError:
            sink.end(False)

    def begin(
        self, loop: asyncio.AbstractEventLoop, source: Any, sink: PieceSink, call: AsyncContext | Context | None
    ) -> None:
        """Makes it a task, which ends when the client is gone."""
        task = loop.create_task(self.send(source, sink, call))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

        def gone() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)

        if not sink.when_unwanted(gone):
            task.cancel()

    async def send(self, source: Any, sink: PieceSink, call: AsyncContext | Context | None) -> None:
        """Sends all pieces, and closes the iterator."""
        if call is not None:
            logs.CURRENT.set(call)
        complete = False
        try:
            if hasattr(source, "__aiter__"):
                complete = await self.async_pieces(source, sink)
            else:
                complete = await self.plain_pieces(source, sink)
            # Of an application in a process of its own.
            if complete and (trailers := getattr(source, "_trailers", None)):
                complete = False
                sink.end(True, trailers)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                # Nobody has cancelled this task: the iterator waited for another one.
                failed(call, error, sink)
            elif not sink.unwanted:
                raise
        except BaseException as error:  # noqa: BLE001  # whatever it raises
            failed(call, error, sink)
        finally:
            sink.end(complete)

    async def async_pieces(self, source: Any, sink: PieceSink) -> bool:
        """True at the end, false when the client is gone."""
        pieces = source.__aiter__()
        sink.turns_with(asyncio.get_running_loop())
        try:
            async for piece in pieces:
                room = sink.put(piece)
                if room is None:
                    return False
                if not room and (wait := sink.room()) is not None:
                    await wait
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()
        return True

    async def plain_pieces(self, source: Any, sink: PieceSink) -> bool:
        """As ``async_pieces``, with the steps of the iterator on a thread."""
        scope = contextvars.copy_context()
        pieces = iter(source)
        step: asyncio.Future[bool | None] | None = None
        try:
            while True:
                step = self.on_thread(lambda: scope.run(turn, pieces, sink))
                goes_on = await asyncio.shield(step)
                step = None
                if goes_on is not True:
                    return goes_on is None and not sink.unwanted
                if (wait := sink.room()) is not None:
                    await wait
        finally:
            if (close := getattr(pieces, "close", None)) is not None:
                if step is not None and not step.done():
                    # A generator cannot be closed while it runs.
                    with contextlib.suppress(Exception):
                        await step
                await self.on_thread(lambda: scope.run(close))

    def on_thread(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Runs a step on one of the threads."""

        def submit(call: Callable[[], None]) -> None:
            with self.lock:
                self.threads.submit(call)

        return settled_by(function, submit)

    def stop(self) -> None:
        """Takes no more steps."""
        self.threads.stop()


def turn(pieces: Iterator[Any], sink: PieceSink) -> bool | None:
    """Sends pieces while there is room. True: it goes on; false: the client is gone; ``None``: that was all."""
    until = time.monotonic() + TURN
    while (piece := next(pieces, _END)) is not _END:
        room = sink.put(piece)
        if room is None:
            return False
        if not room or time.monotonic() > until:
            return True
    return None


async def ready(when: Callable[[Callable[[], object]], bool]) -> None:
    """Waits until ``when``'s event."""
    loop = asyncio.get_running_loop()
    happened = loop.create_future()

    def settle() -> None:
        if not happened.done():
            happened.set_result(None)

    def call() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle)

    if when(call):
        await happened


def failed(call: AsyncContext | Context | None, error: BaseException, sink: PieceSink | None = None) -> None:
    """Answers with the failure of an iterator that has given nothing; another one breaks the content off.

    An ``Abort`` that is answered with is not logged: it is no failure.
    """
    if sink is not None and sink.refuse(error, None):
        return
    name = call.name if call is not None else "?"
    identifier = os.urandom(6).hex()
    trace = (type(error), error, error.__traceback__)
    extra = logs.about(name, call.log_id if call is not None else None)
    happened = "broke its content off"
    if isinstance(error, Abort):
        happened = "raised Abort after its response had begun"
    if sink is not None and sink.refuse(error, identifier):
        happened = "failed before it gave anything"
    log.error("error id %s: %s %s: %s", identifier, name, happened, type(error).__name__, exc_info=trace, extra=extra)


def awaited(first: bytes, rest: PieceSource | None) -> AsyncIterator[bytes]:
    """The pieces of a request's content, for async functions."""
    return ContentPieces(first, rest)


class ContentPieces:
    """The pieces of a request's content. A task that is cancelled while it waits for one loses none.

    An async generator would be over then, and the content would pass for complete.
    """

    def __init__(self, first: bytes, rest: PieceSource | None) -> None:
        self.first, self.rest = first, rest

    def __aiter__(self) -> ContentPieces:
        return self

    async def __anext__(self) -> bytes:
        if self.first:
            first, self.first = self.first, b""
            return first
        while self.rest is not None:
            piece = self.rest.take()
            if piece is None:
                await ready(self.rest.when_ready)
            elif piece:
                return piece
            else:
                self.rest = None
        raise StopAsyncIteration


def waited_for(first: bytes, rest: PieceSource | None) -> Iterator[bytes]:
    """The pieces of a request's content, for plain functions."""
    if first:
        yield first
    while rest is not None:
        piece = rest.take()
        if piece is None:
            rest.wait(SLICE)
        elif piece:
            yield piece
        else:
            return
