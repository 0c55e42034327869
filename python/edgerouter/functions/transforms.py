"""Content that passes a hook and is transformed on its way: ``response.transform(…)``.

The pump of ``streams`` sends what ``transformed`` gives, on the event loop. Each function has the iterator of the one
before it, and the first one that of the content that came.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from edgerouter.errors import BodyError
from edgerouter.functions.streams import ready

if TYPE_CHECKING:
    from edgerouter._core import PieceSource, Response

__all__ = ["Content", "charset_of", "of_text", "transformed"]

log = logging.getLogger("edgerouter.functions")

#: Bytes that a transform may give without taking a piece of the content that came, or after its end.
MOST_AHEAD = 64 << 20

Pieces = AsyncIterator[bytes]


class Content:
    """The content that came, as the first transform takes it, and the time that the transforms have.

    They have the time-out of their hook for what they do between two pieces that they take, and after the last one.
    Time in which they wait for content or for the client does not count.
    """

    def __init__(self, source: PieceSource, seconds: float) -> None:
        self.source = source
        self.seconds = seconds
        self.left = seconds
        self.ahead = 0
        self.failed: BaseException | None = None
        self.step: asyncio.Timeout | None = None

    def __aiter__(self) -> Content:
        return self

    async def __anext__(self) -> bytes:
        try:
            while (piece := self.source.take()) is None:
                self._runs(False)
                await ready(self.source.when_ready)
        except BodyError:
            # A transform that goes on would make a broken body a whole one.
            self.failed = ConnectionError("the content that came broke off")
            raise self.failed from None
        if not piece:
            self._runs(True)
            raise StopAsyncIteration
        self.left, self.ahead = self.seconds, 0
        self._runs(True)
        return piece

    def _runs(self, runs: bool) -> None:
        if self.step is not None and not self.step.expired():
            now = asyncio.get_running_loop().time()
            if (until := self.step.when()) is not None:
                self.left = min(self.left, until - now) if not runs else self.left
            self.step.reschedule(now + self.left if runs else None)

    async def next_of(self, pieces: AsyncIterator[Any]) -> Any:
        """The next piece of the last transform, in the time that is left; ``StopAsyncIteration`` at its end."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.left) as self.step:
                piece = await pieces.__anext__()
                until = self.step.when()
        except TimeoutError:
            if self.step is None or not self.step.expired():
                raise
            message = f"it ran for {self.seconds:g} s, the time-out of its hook, without taking a piece of the content"
            raise TimeoutError(message) from None
        if until is not None:
            self.left = until - loop.time()
        if not isinstance(piece, (bytes, str, bytearray, memoryview)):
            raise TypeError(f"a transform gives bytes or text, not {type(piece).__name__}")
        self.ahead += len(piece)
        if self.ahead > MOST_AHEAD:
            raise OverflowError(f"it gave {MOST_AHEAD >> 20} MiB without taking a piece of the content")
        return piece


async def transformed(
    source: PieceSource, functions: list[Callable[[AsyncIterator[Any]], AsyncIterator[Any]]], seconds: float
) -> AsyncIterator[Any]:
    """The pieces that ``functions`` make of those of ``source``, one after another."""
    content = Content(source, seconds)
    stages: list[AsyncIterator[Any]] = [content]
    try:
        for function in functions:
            stage = function(stages[-1])
            if not hasattr(stage, "__aiter__"):
                close = getattr(stage, "close", None)
                if close is not None:
                    close()
                raise TypeError(
                    f"{_named(function)} gave {type(stage).__name__}: a transform is an async generator, or gives an "
                    "async iterator"
                )
            stages.append(aiter(stage))
        while True:
            try:
                piece = await content.next_of(stages[-1])
            except StopAsyncIteration:
                break
            yield piece
        if content.failed is not None:
            raise content.failed
    finally:
        for stage in reversed(stages[1:]):
            if (close := getattr(stage, "aclose", None)) is not None:
                await close()


def _named(function: object) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def charset_of(response: Response) -> str | None:
    """The ``charset`` of a response (RFC 9110 §8.3.2), if it names one."""
    for parameter in (response.headers.get("content-type") or "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"')
    return None


def of_text(
    response: Response, function: Callable[[AsyncIterator[str]], AsyncIterator[str]]
) -> Callable[[Pieces], AsyncIterator[bytes]]:
    """A transform of bytes by one of text: characters stay whole, and bytes that are none pass as they are."""
    charset = charset_of(response) or "utf-8"
    try:
        # Refuses codecs that are none of text, such as base64.
        "".encode(charset)
        codec = codecs.lookup(charset)
    except (LookupError, ValueError):
        log.warning("a transform of text reads the charset %r, which is unknown, as utf-8", charset[:40])
        codec = codecs.lookup("utf-8")

    async def decoded(pieces: Pieces) -> AsyncIterator[str]:
        decoder = codec.incrementaldecoder("surrogateescape")
        async for piece in pieces:
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", True):
            yield text

    async def encoded(pieces: Pieces) -> AsyncIterator[bytes]:
        encoder = codec.incrementalencoder("surrogateescape")
        source = decoded(pieces)
        texts = function(source)
        if not hasattr(texts, "__aiter__"):
            raise TypeError(f"{_named(function)} gave {type(texts).__name__}: a transform is an async generator")
        try:
            async for text in texts:
                yield encoder.encode(text)
            if rest := encoder.encode("", True):
                yield rest
        finally:
            for stage in (texts, source):
                if (close := getattr(stage, "aclose", None)) is not None:
                    await close()

    return encoded
