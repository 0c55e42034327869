"""Output while the edge serves: lines are queued for a thread of the core, so that no printing waits for their reader.

A terminal that was stopped, a full pipe or a full disk behind ``sys.stderr`` would otherwise hold whatever prints: the
event loop of functions, the thread that hears signals.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, TextIO

from edgerouter import _core

__all__ = ["Stream", "keep_standard_descriptors", "queued"]

#: A line without an end is written in pieces of this size.
_MOST = 8_192


class Stream(io.TextIOBase):
    """A text stream in the place of ``sys.stdout`` or ``sys.stderr``. Lines of two threads are not mixed."""

    def __init__(self, instead: TextIO, *, error: bool) -> None:
        self._instead = instead
        self._error = error
        self._begun = threading.local()
        self.buffer = _Bytes(self)
        self.name = str(getattr(instead, "name", "<stderr>" if error else "<stdout>"))

    encoding = "utf-8"
    errors = "backslashreplace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._instead.isatty()

    def fileno(self) -> int:
        return self._instead.fileno()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.write_bytes(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def write_bytes(self, given: bytes) -> None:
        """Queues the lines that are whole now."""
        begun: bytes = getattr(self._begun, "text", b"") + given
        end = begun.rfind(b"\n") + 1
        if len(begun) - end > _MOST:
            end = len(begun)
        self._begun.text = begun[end:]
        if end:
            _core.write_stream(self._error, begun[:end])

    def flush(self) -> None:
        begun: bytes = getattr(self._begun, "text", b"")
        if begun:
            self._begun.text = b""
            _core.write_stream(self._error, begun)

    def close(self) -> None:
        """Only flushes: it stands for a stream of the process."""
        self.flush()


class _Bytes(io.BufferedIOBase):
    """The bytes beneath a ``Stream``."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, given: Any) -> int:
        copied = bytes(given)
        self._stream.write_bytes(copied)
        return len(copied)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def keep_standard_descriptors() -> None:
    """Opens ``/dev/null`` in place of standard descriptors that are closed, or a connection would get their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is taken.
            os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def queued() -> Iterator[None]:
    """Queues printed and logged lines until the block ends. Streams that the program has replaced are left alone."""
    given: list[tuple[str, TextIO | None, TextIO | None]] = [
        ("stdout", sys.stdout, sys.__stdout__),
        ("stderr", sys.stderr, sys.__stderr__),
    ]
    streams = [
        (name, stream, Stream(stream, error=name == "stderr"))
        for name, stream, usual in given
        if stream is not None and stream is usual and _is_standard(stream, 2 if name == "stderr" else 1)
    ]
    for name, stream, ours in streams:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        setattr(sys, name, ours)
        _point_handlers(stream, ours)
    try:
        yield
    finally:
        for name, stream, ours in streams:
            ours.flush()
            if getattr(sys, name) is ours:
                setattr(sys, name, stream)
            _point_handlers(ours, stream)
        if streams:
            _core.flush_streams()


def _is_standard(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


def _point_handlers(old: object, new: Any) -> None:
    """Handlers of ``logging`` that were made before write where new ones do."""
    if "logging" not in sys.modules:
        return
    # Waits for another thread that is just importing it.
    import logging

    loggers = [logging.root, *logging.Logger.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is old:
                # Not ``setStream``: that flushes the old stream, which may be stuck.
                handler.stream = new
