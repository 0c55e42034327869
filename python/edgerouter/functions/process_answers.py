"""The edge's side of a call in a worker process: the calls that it makes of its edge, and the content that it streams.

A process may send whatever it likes: operations are named here, and each runs as the function's own would, in its time
and within its bounds. Calls beyond ``MOST_EDGE_CALLS`` at a time are refused: a process that keeps to the rules
waits before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from edgerouter._core import Request, Response
from edgerouter.documents import AsyncDocuments, binding_below
from edgerouter.functions import process_messages as messages
from edgerouter.functions.late import raising
from edgerouter.functions.process_context import fields_of
from edgerouter.functions.streams import ready
from edgerouter.functions.worker_process import raised

if TYPE_CHECKING:
    from edgerouter._core import AsyncCache, AsyncContext, AsyncDatabase
    from edgerouter.functions.worker_process import Worker

__all__ = ["Answers", "StreamedContent", "bindings_of"]

#: Sessions of databases in a call.
MOST_SESSIONS = 16
#: Seconds that a function has to end a content that nobody wants.
GRACE = 1.0
_KV = frozenset({"get", "entry", "put", "delete", "list", "add"})
_STATEMENT = frozenset({"all", "run", "first", "raw"})


def bindings_of(ctx: AsyncContext, names: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Name, kind and dialect of the bindings of these names and kinds."""
    found: list[tuple[str, str, str]] = []
    for name, kind in names:
        if name in ctx.env:
            bound = getattr(ctx.env, name)
            found.append((name, kind, "" if kind == "kv" else below(bound).engine))
    return found


def below(bound: Any) -> Any:
    """The database or server of a binding."""
    return binding_below(bound) if isinstance(bound, AsyncDocuments) else bound


def parts_of(response: Response | None) -> Any:
    """A response as plain values."""
    return None if response is None else (response.status, fields_of(response.headers), response.body)


def request_of(place: Any) -> Request | str:
    """The key of a cache."""
    if isinstance(place, str):
        return place
    url, method, headers = place
    return Request(url, method, [tuple(pair) for pair in headers])


class Answers:
    """Takes the messages of a call, and does what it calls its edge for."""

    def __init__(self, worker: Worker, ctx: AsyncContext) -> None:
        self.worker, self.ctx = worker, ctx
        self.tasks: set[asyncio.Task[None]] = set()
        #: Those of calls that may be cancelled, by their numbers.
        self.numbers: dict[int, asyncio.Task[None]] = {}
        self.sessions: dict[int, AsyncDatabase] = {}
        #: The content of the request, if it goes to the process in pieces.
        self.content: AsyncIterator[bytes] | None = None

    async def next(self) -> messages.ToEdge:
        """The next message that is no question."""
        while True:
            message = await self.worker.receive()
            if isinstance(message, messages.Cancel):
                if (task := self.numbers.pop(message.number, None)) is not None:
                    task.cancel()
            elif not isinstance(message, messages.EdgeCall):
                return message
            elif message.what == "hints":
                # At once: the result that they come ahead of may be here already.
                self.hint(message.arguments)
            else:
                self.begin(message)
            # A process that calls without end leaves the loop to others, and what it has cancelled ends before its next
            # call is counted.
            await asyncio.sleep(0)

    def begin(self, call: messages.EdgeCall) -> None:
        """Does what the process calls its edge for. A reply may be there before its task has ended."""
        task = asyncio.ensure_future(self.answer(call, len(self.tasks) >= 2 * messages.MOST_EDGE_CALLS))
        self.tasks.add(task)
        self.numbers[call.number] = task
        task.add_done_callback(partial(self.discard, call.number))

    def discard(self, number: int, task: asyncio.Task[None]) -> None:
        """Forgets a call that has ended."""
        self.tasks.discard(task)
        if self.numbers.get(number) is task:
            del self.numbers[number]

    def failed(self, failed: messages.Failed) -> None:
        """Logs a failure of work after the response, and counts it."""
        self.ctx.wait_until(raising(failed.what or "wait_until", raised(failed)))

    def hint(self, arguments: dict[str, Any]) -> None:
        """Sends early hints; wrong ones are refused in the process already."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self.ctx.early_hints(*arguments["links"])

    def close(self) -> None:
        """Ends what is under way: the call is over."""
        for task in self.tasks:
            task.cancel()

    async def answer(self, call: messages.EdgeCall, refused: bool) -> None:
        reply = messages.Reply(call.number)
        try:
            if refused:
                raise RuntimeError(
                    f"ctx: another process makes {messages.MOST_EDGE_CALLS} calls of its edge at a time at most"
                )
            reply.value = await self.value(call.what, call.arguments)
            content = messages.encode(reply)
        except Exception as error:  # noqa: BLE001  # whatever an operation raises
            constraint, in_doubt = getattr(error, "constraint", None), getattr(error, "in_doubt", False)
            message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
            reply = messages.Reply(
                call.number, None, messages.Refused(type(error).__name__, message, constraint, in_doubt)
            )
            content = messages.encode(reply)
        # A process that is gone is noticed where its result is awaited.
        with contextlib.suppress(OSError):
            await self.worker.send_bytes(content)

    async def value(self, what: str, arguments: dict[str, Any]) -> Any:
        room, _, operation = what.partition(".")
        given = {name: value for name, value in arguments.items() if name not in ("binding", "options")}
        if room == "content":
            return await self.piece()
        if room == "gone":
            return await ready(self.ctx._when_gone)
        if room == "fetch":
            options = dict(arguments["options"])
            if options.get("headers") is not None:
                options["headers"] = [tuple(pair) for pair in options["headers"]]
            return parts_of(await self.ctx.fetch(given["request"], **options))
        if room == "cache":
            return await self.cache(operation, **given)
        bound = getattr(self.ctx.env, str(arguments["binding"]))
        if room == "kv" and operation in _KV:
            return await self.kv(getattr(bound, operation)(*given["values"], **arguments["options"]))
        if room == "sql":
            return await self.sql(bound, operation, arguments)
        if room == "documents" and operation == "run":
            name, script, prefix, given_to_it = given["values"]
            return await below(bound).run(name, script, prefix, tuple(given_to_it))
        raise RuntimeError(f"ctx of another process has no {what!r}")

    async def piece(self) -> tuple[bytes, int]:
        """The next piece of the request's content, as ``store`` gives it; empty at its end."""
        piece = await anext(self.content, b"") if self.content is not None else b""
        return messages.store(self.worker.requests, piece)

    async def cache(self, operation: str, cache: str | None, **given: Any) -> Any:
        found: AsyncCache = self.ctx.cache if cache is None else await self.ctx.caches.open(cache)
        if operation == "open":
            return None
        place = request_of(given["request"])
        if operation == "put":
            status, headers, body = given["response"]
            return await found.put(place, Response(body, status, [tuple(pair) for pair in headers]))
        ignore = bool(given["ignore_method"])
        if operation == "match":
            return parts_of(await found.match(place, ignore_method=ignore))
        if operation == "delete":
            return await found.delete(place, ignore_method=ignore)
        raise RuntimeError(f"ctx.cache of another process has no {operation!r}")

    async def kv(self, operation: Awaitable[Any]) -> Any:
        value = await operation
        if hasattr(value, "cursor"):
            return value.keys, value.cursor
        if hasattr(value, "version"):
            return value.value, value.metadata, value.version, value.expires
        return value

    async def sql(self, bound: Any, operation: str, arguments: dict[str, Any]) -> Any:
        database: AsyncDatabase = below(bound)
        if (number := arguments["session"]) is not None:
            if number not in self.sessions:
                if len(self.sessions) >= MOST_SESSIONS:
                    raise RuntimeError(f"a call in another process has {MOST_SESSIONS} sessions of databases at most")
                self.sessions[number] = database.with_session(arguments["begin"])
            database = self.sessions[number]
        if operation == "exec":
            script = await database.exec(arguments["sql"])
            value: Any = (script.count, script.duration)
        elif operation == "batch":
            given = [database.prepare(sql).bind(*values) for sql, values in arguments["statements"]]
            value = [result_of(one) for one in await database.batch(given)]
        elif operation in _STATEMENT:
            statement = database.prepare(arguments["sql"]).bind(*arguments["values"])
            value = await getattr(statement, operation)(**arguments["options"])
            value = result_of(value) if operation in ("all", "run") else value
        else:
            raise RuntimeError(f"a database of another process has no {operation!r}")
        return database.bookmark, value


def result_of(result: Any) -> Any:
    """The result of a statement as plain values."""
    return result.results, result.meta, result.success


class StreamedContent:
    """The content that a call streams, as an async iterator. ``over(background)`` is called once, at its end."""

    def __init__(
        self, answers: Answers, raised: Callable[[messages.Failed], Exception], over: Callable[[bool | None], None]
    ) -> None:
        self.answers, self.raised = answers, raised
        self.over: Callable[[bool | None], None] | None = over
        #: For the pump, behind the last piece.
        self._trailers: list[tuple[bytes, bytes]] | None = None
        self.loop = asyncio.get_running_loop()

    def __aiter__(self) -> StreamedContent:
        return self

    async def __anext__(self) -> bytes | str:
        if self.over is None:
            raise StopAsyncIteration
        try:
            message = await self.answers.next()
        except Exception:
            self.end(None)
            raise
        if isinstance(message, messages.Piece):
            return message.content.decode() if message.text else message.content
        if isinstance(message, messages.End):
            self._trailers = message.trailers
            self.end(message.background)
            raise StopAsyncIteration
        if isinstance(message, messages.Failed):
            self.end(message.background)
            raise self.raised(message)
        self.end(None)
        raise RuntimeError("the worker process sent a message out of its order")

    def end(self, background: bool | None) -> None:
        over, self.over = self.over, None
        if over is not None:
            over(background)

    async def aclose(self) -> None:
        """Has the function end its iterator, in a short time."""
        if self.over is None:
            return
        background: bool | None = None
        with contextlib.suppress(Exception):
            async with asyncio.timeout(GRACE):
                await self.answers.worker.send(messages.Stop())
                while not isinstance(message := await self.answers.next(), (messages.End, messages.Failed)):
                    pass
                background = message.background
        self.end(background)

    def __del__(self) -> None:
        # A response that is never sent has no iterator that is closed.
        if self.over is not None:
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.over, None)
