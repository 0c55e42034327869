"""Calls of a worker process to its edge, and the replies to them.

A plain function waits for each reply, an async one awaits it and may have several under way.
"""

from __future__ import annotations

import asyncio
import select
import threading
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from edgerouter import errors
from edgerouter.functions import process_messages as messages

if TYPE_CHECKING:
    from edgerouter.functions.process_worker import Channel

__all__ = ["EdgeCalls", "Line", "same"]

_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        AttributeError,
        KeyError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
        errors.BodyError,
        errors.CacheError,
        errors.FetchError,
    )
}


def raised(refused: messages.Refused) -> Exception:
    """The exception of the edge."""
    if refused.name == "BindingError":
        return errors.BindingError(refused.message, refused.constraint, refused.in_doubt)  # type: ignore[arg-type]
    if refused.name == "GoneError":
        from edgerouter.websocket import GoneError

        return GoneError(refused.message)
    return _ERRORS.get(refused.name, errors.EdgeError)(refused.message)


class EdgeCalls:
    """The messages of the edge: calls, and replies to those that a function makes of it. One thread at a time reads."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.turn = threading.Condition()
        self.reading = False
        self.number = 0
        #: Replies that are waited for; ``None``: not yet there.
        self.replies: dict[int, messages.Reply | None] = {}
        self.futures: dict[int, asyncio.Future[messages.Reply]] = {}
        #: Those that wait until others are answered.
        self.later: deque[tuple[str, dict[str, Any], int]] = deque()
        self.call: messages.Call | None = None
        self.leaving = self.stopped = False
        #: Called when nobody wants the rest of a content.
        self.on_stop: Callable[[], object] | None = None

    def next_call(self) -> messages.Call | None:
        """The next call; ``None``: there is none."""
        self.read_until(lambda: self.call is not None or self.leaving)
        call, self.call = self.call, None
        if call is None:
            return None
        self.stopped = False
        self.futures.clear()
        self.later.clear()
        return call

    def read_until(self, there: Callable[[], bool]) -> None:
        """Takes messages until ``there()``, or waits while another thread takes them."""
        with self.turn:
            while not there():
                if self.reading:
                    self.turn.wait()
                    continue
                self.reading = True
                self.turn.release()
                try:
                    message = self.channel.receive()
                finally:
                    self.turn.acquire()
                    self.reading = False
                self.take(message)
                self.turn.notify_all()

    def is_stopped(self) -> bool:
        """True if nobody wants the rest of a content. Looks, and waits for nothing."""
        with self.turn:
            while not self.stopped and not self.reading and select.select([self.channel.sock], [], [], 0)[0]:
                self.take(self.channel.receive())
            return self.stopped

    def readable(self) -> None:
        """Takes a message, on an event loop."""
        with self.turn:
            self.take(self.channel.receive())

    def take(self, message: messages.ToWorker) -> None:
        if isinstance(message, messages.Call):
            self.call = message
        elif isinstance(message, messages.Beat):
            # Of a process for WebSockets before its first.
            self.channel.send(message)
        elif isinstance(message, messages.Leave):
            self.leaving = True
        elif isinstance(message, messages.Stop):
            self.stopped = True
            if self.on_stop is not None:
                self.on_stop()
        elif isinstance(message, messages.Reply):
            if (future := self.futures.pop(message.number, None)) is not None:
                if not future.done():
                    future.set_result(message)
                self.begin_later()
            elif message.number in self.replies:
                self.replies[message.number] = message

    def begin_later(self) -> None:
        """Makes the calls that have waited, as far as there is room."""
        while self.later and len(self.futures) - len(self.later) < messages.MOST_EDGE_CALLS:
            what, arguments, number = self.later.popleft()
            try:
                self.begin(what, arguments, number)
            except (TypeError, ValueError) as error:
                future = self.futures.pop(number)
                if not future.done():
                    future.set_exception(error)

    def forget(self, number: int, future: asyncio.Future[messages.Reply]) -> None:
        """Has the edge end a call whose future was cancelled: nobody waits for the reply."""
        if not future.cancelled() or self.futures.get(number) is not future:
            return
        del self.futures[number]
        waiting = next((call for call in self.later if call[2] == number), None)
        if waiting is not None:
            self.later.remove(waiting)
            return
        self.channel.send(messages.Cancel(number))
        self.begin_later()

    def begin(self, what: str, arguments: dict[str, Any], number: int) -> None:
        try:
            self.channel.send(messages.EdgeCall(number, what, arguments))
        except (TypeError, OverflowError) as error:
            raise TypeError(f"ctx of another process takes plain values: {error}") from None

    def fresh(self) -> int:
        with self.turn:
            self.number += 1
            return self.number

    def wait(self, what: str, arguments: dict[str, Any]) -> Any:
        """The reply, for plain functions."""
        number = self.fresh()
        self.replies[number] = None
        try:
            self.begin(what, arguments, number)
            self.read_until(lambda: self.replies[number] is not None)
        finally:
            reply = self.replies.pop(number)
        return value_of(reply)

    def future(self, what: str, arguments: dict[str, Any]) -> asyncio.Future[messages.Reply]:
        """The time of the reply, for async functions."""
        number = self.fresh()
        waits = len(self.futures) >= messages.MOST_EDGE_CALLS
        future = self.futures[number] = asyncio.get_running_loop().create_future()
        try:
            if waits:
                self.later.append((what, arguments, number))
            else:
                self.begin(what, arguments, number)
        except BaseException:
            del self.futures[number]
            raise
        future.add_done_callback(partial(self.forget, number))
        return future


def value_of(reply: messages.Reply | None) -> Any:
    """The value of a reply, or its exception."""
    assert reply is not None  # it was waited for
    if reply.error is not None:
        raise raised(reply.error) from None
    return reply.value


class Awaited:
    """A value that is requested when this is made, and awaited."""

    def __init__(self, future: asyncio.Future[messages.Reply], convert: Callable[[Any], Any]) -> None:
        self.future, self.convert = future, convert

    def __await__(self) -> Generator[Any, None, Any]:
        reply = yield from self.future.__await__()
        return self.convert(value_of(reply))


def same(value: Any) -> Any:
    return value


class Line:
    """EdgeCalls in the way of one call."""

    def __init__(self, edge_calls: EdgeCalls, awaits: bool) -> None:
        self.edge_calls, self.awaits = edge_calls, awaits
        self.over = False
        self.sessions = 0

    def begin(self, what: str, convert: Callable[[Any], Any] = same, **arguments: Any) -> Any:
        if self.over:
            raise RuntimeError(f"ctx.{what} was used after its call was over")
        if self.awaits:
            return Awaited(self.edge_calls.future(what, arguments), convert)
        return convert(self.edge_calls.wait(what, arguments))
