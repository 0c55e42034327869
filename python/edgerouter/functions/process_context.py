"""The context of a call in a worker process: what only the edge has comes over the channel.

The classes have the operations of those of ``ctx`` in the edge's own process, by the same names.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from edgerouter.errors import CacheError
from edgerouter.functions import process_messages as messages
from edgerouter.functions.fetching import lines_of
from edgerouter.functions.process_bindings import Env
from edgerouter.functions.process_calls import Awaited, EdgeCalls, Line

if TYPE_CHECKING:
    from edgerouter._core import Request, Response

__all__ = ["MOST_PIECE", "RequestContent", "WorkerContext", "fields_of"]

#: Conversions of a call, and works that it gives to ``wait_until``.
MOST_CONVERSIONS = MOST_WORKS = 64
#: Bytes of a piece of a request's content: the first has what was there before the call.
MOST_PIECE = 1 << 30


def _response(parts: Any) -> Response:
    from edgerouter._core import Response

    status, headers, body = parts
    return Response(body, status, [tuple(pair) for pair in headers])


def fields_of(headers: Any) -> list[tuple[str, str]]:
    """All lines of header fields."""
    names = dict.fromkeys(name.lower() for name in headers)
    return [(name, line) for name in names for line in headers.get_all(name)]


def _place(request: Request | str) -> Any:
    """A request as the key of a cache."""
    from edgerouter._core import Request

    if isinstance(request, str):
        return request
    if not isinstance(request, Request):
        raise TypeError(f"a cache needs a Request or a URL, not {type(request).__name__}")
    return request.url, request.method, fields_of(request.headers)


class _Cache:
    """A cache of functions."""

    def __init__(self, line: Line, name: str | None) -> None:
        self._line = line
        self._name = name
        self.name = name or "default"

    def match(self, request: Request | str, *, ignore_method: bool = False) -> Any:
        def found(parts: Any) -> Response | None:
            return None if parts is None else _response(parts)

        place = _place(request)
        return self._line.begin("cache.match", found, cache=self._name, request=place, ignore_method=ignore_method)

    def put(self, request: Request | str, response: Response) -> Any:
        from edgerouter._core import Response

        if not isinstance(response, Response):
            raise TypeError(f"a cache stores a Response, not {type(response).__name__}")
        try:
            body = response.body
        except RuntimeError:
            raise CacheError("put: the body of this response streams and cannot be stored: give it the whole") from None
        parts = (response.status, fields_of(response.headers), body)
        return self._line.begin("cache.put", cache=self._name, request=_place(request), response=parts)

    def delete(self, request: Request | str, *, ignore_method: bool = False) -> Any:
        place = _place(request)
        return self._line.begin("cache.delete", cache=self._name, request=place, ignore_method=ignore_method)


class _Caches:
    """Caches by name."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.default = _Cache(line, None)

    def open(self, name: str) -> Any:
        return self._line.begin("cache.open", lambda _: _Cache(self._line, name), cache=name)


class _TracePlace(NamedTuple):
    trace_id: str
    span_id: str
    sampled: bool
    traceparent: str


class RequestContent:
    """The content of a request that its edge has: each iterator requests a piece when it wants one."""

    def __init__(self, line: Line, memory: int) -> None:
        self._line = line
        self._memory = memory

    def _load(self, parts: Any) -> bytes:
        body, shared = parts
        return messages.load(self._memory, body, shared, MOST_PIECE)

    def awaited(self) -> AsyncIterator[bytes]:
        """The pieces, for async functions."""
        return _AwaitedPieces(lambda: self._line.begin("content", self._load))

    def waited_for(self) -> Iterator[bytes]:
        """The pieces, for plain functions."""
        while piece := self._line.begin("content", self._load):
            yield piece


class _AwaitedPieces:
    """The pieces of a content. A task that is cancelled while it waits for one leaves it to the next."""

    def __init__(self, request: Callable[[], Awaited]) -> None:
        self.request = request
        self.coming: Awaited | None = None
        self.over = False

    def __aiter__(self) -> _AwaitedPieces:
        return self

    async def __anext__(self) -> bytes:
        if self.over:
            raise StopAsyncIteration
        if self.coming is None:
            self.coming = self.request()
        await asyncio.wait({self.coming.future})
        coming, self.coming = self.coming, None
        piece: bytes = await coming
        self.over = not piece
        if self.over:
            raise StopAsyncIteration
        return piece


class WorkerContext:
    """The context of an isolated call."""

    phase = "function"

    def __init__(self, call: messages.Call, edge_calls: EdgeCalls, awaits: bool) -> None:
        self.name = call.name
        self.request_id = self.log_id = call.request_id
        self.log = logging.getLogger(f"edgerouter.functions.{call.name}")
        self.trace = _TracePlace(*call.trace) if call.trace is not None else None
        self.region = call.region
        self.tags: list[str] = []
        self.conversions: list[tuple[str, float]] = []
        #: Given to ``wait_until`` and not yet begun, with the context of each; ``work_comes`` has further ones begun.
        self.works: list[tuple[Awaitable[object] | Callable[[], object], contextvars.Context]] = []
        self.work_comes: Callable[[], object] | None = None
        self.room_for_works = MOST_WORKS
        #: The response of a mounted application, before its end.
        self.answered: asyncio.Future[Any] | None = None
        self.line = Line(edge_calls, awaits)
        self.env = Env(self.line, call.bindings)
        self.caches = _Caches(self.line)
        self.cache = self.caches.default
        self._until = time.monotonic() + call.left

    def remaining(self) -> float:
        """Seconds left for the call."""
        return max(0.0, self._until - time.monotonic())

    def tag(self, tag: str) -> None:
        """Gives the response a tag by which it can be purged; one that is none fails at the end of the call."""
        if not isinstance(tag, str):
            raise TypeError(f"ctx.tag takes a str, not {type(tag).__name__}")
        self.tags.append(tag)

    def convert(self, goal: str, value: float = 0.0) -> bool:
        """Counts a conversion of the visitor when the call has ended; true, for it is not known whether it was lost."""
        if not isinstance(goal, str) or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"ctx.convert takes a str and a number, not {goal!r:.80} and {value!r:.80}")
        if len(self.conversions) < MOST_CONVERSIONS:
            self.conversions.append((goal, float(value)))
        return True

    def early_hints(self, *links: str) -> bool:
        """Has the edge send a 103 with these links ahead of the response; true, for it is not known whether it was."""
        if not links or any(char < " " or char == "\x7f" or char > "\xff" for link in links for char in link):
            raise ValueError("ctx.early_hints takes one or more values of Link, without control characters")
        if self.line.over:
            raise RuntimeError("ctx.early_hints was used after its call was over")
        edge_calls = self.line.edge_calls
        edge_calls.begin("hints", {"links": list(links)}, edge_calls.fresh())
        return True

    def _when_gone(self, call: Callable[[], object]) -> bool:
        """Has ``call()`` made, once, when the client is gone before there is an answer. Its edge sees it."""

        def replied(future: asyncio.Future[messages.Reply]) -> None:
            if not future.cancelled() and future.result().error is None:
                call()

        self.line.edge_calls.future("gone", {}).add_done_callback(replied)
        return True

    def _answer(self, response: Response) -> None:
        """Answers before the end of the call: for applications."""
        if self.answered is not None and not self.answered.done():
            self.answered.set_result(response)

    def wait_until(self, work: Awaitable[object] | Callable[[], object]) -> bool:
        """Goes on with ``work`` after the response; the process takes no other call meanwhile."""
        if not callable(work) and not hasattr(work, "__await__"):
            raise TypeError(f"wait_until takes an awaitable or a callable without arguments, not {type(work).__name__}")
        if self.line.over or self.room_for_works == 0:
            if (close := getattr(work, "close", None)) is not None:
                # Python would complain that it was never awaited.
                close()
            return False
        self.room_for_works -= 1
        self.works.append((work, contextvars.copy_context()))
        if self.work_comes is not None:
            self.work_comes()
        return True

    def fetch(self, request: Request | str, **options: Any) -> Any:
        """Makes a request through the edge."""
        from edgerouter._core import Request

        if isinstance(request, Request):
            options["of_client"] = True
            if options.get("method") is None:
                options["method"] = request.method
            if options.get("headers") is None:
                # The type of another content is its own.
                replaced = () if options.get("json") is None else ("content-type",)
                options["headers"] = [line for line in fields_of(request.headers) if line[0] not in replaced]
            if options.get("body") is None and options.get("json") is None:
                options["body"] = request.body
            request = request.url
        if not isinstance(request, str):
            raise TypeError(f"ctx.fetch takes a Request or a URL, not {type(request).__name__}")
        if options.get("headers") is not None:
            options["headers"] = lines_of(options["headers"])
        if options.get("origin") is not None and not isinstance(options["origin"], str):
            options["origin"] = getattr(options["origin"], "name", options["origin"])
        if not self.line.awaits:
            return self.line.begin("fetch", _response, request=request, options=options)
        return self._fetched(request, options)

    async def _fetched(self, request: str, options: dict[str, Any]) -> Response:
        response: Response = await self.line.begin("fetch", _response, request=request, options=options)
        return response
