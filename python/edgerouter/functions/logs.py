"""Lines of functions in the edge's own log: ``ctx.log`` and any other logger of the ``logging`` module.

A handler on the root logger hands each record to the core, which writes it as it writes its own lines: same place, same
format, same level (``EDGEROUTER_LOG``), with the function, the request's id and the traceback. A program that has given
the root logger handlers of its own keeps them, and then its format is what counts.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Context

__all__ = ["CURRENT", "Handler", "about", "encodable", "install", "trace_of", "uninstall"]

#: The call that a task runs for. Tasks that it starts inherit it with the context.
CURRENT: ContextVar[AsyncContext | Context] = ContextVar("edgerouter_call")

_lock = threading.Lock()
_users = 0
_installed: Handler | None = None
_level_before = logging.WARNING


class Handler(logging.Handler):
    """Writes records to the edge's log."""

    def emit(self, record: logging.LogRecord) -> None:
        from edgerouter import _core

        try:
            call = CURRENT.get(None) or _core.current_call()
            said: tuple[str | None, str | None] = getattr(record, "edge_call", (None, None))
            function = said[0] or (call.name if call is not None else None)
            request = said[1] or (call.log_id if call is not None else None)
            texts = (record.name, record.getMessage(), function, request, trace_of(record))
            logger, message, function, request, trace = (text and encodable(text) for text in texts)
            _core.log(record.levelno, logger or "", message or "", function, request, trace)
        except Exception:  # noqa: BLE001  # as every handler: logging must not break what logs
            self.handleError(record)


def trace_of(record: logging.LogRecord) -> str | None:
    """The traceback of a record, without the texts of the program's lines."""
    trace = None
    if record.exc_info:
        from edgerouter.source_line import formatted

        error = record.exc_info[1]
        trace = formatted(error).rstrip("\n") if isinstance(error, BaseException) else None
    elif record.exc_text:
        trace = record.exc_text
    if record.stack_info:
        trace = f"{trace}\n{record.stack_info}" if trace else record.stack_info
    return trace


def encodable(text: str) -> str:
    """The text with escapes for halves of surrogate pairs, which are no characters and may be in any error."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def about(function: str, request: str | None) -> dict[str, object]:
    """Names the call that a record is about where that is not the call that the code runs for."""
    return {"edge_call": (function, request)}


def install() -> None:
    """Sends the root logger's records to the edge's log, unless the program has handlers of its own there."""
    from edgerouter import _core

    global _users, _installed, _level_before
    with _lock:
        _users += 1
        root = logging.getLogger()
        if _installed is not None or root.handlers:
            return
        # It logs every change, and writing that line into a file beside the application is the next change.
        watcher = logging.getLogger("watchfiles")
        if watcher.level == logging.NOTSET:
            watcher.setLevel(logging.WARNING)
        _installed = Handler()
        _level_before = root.level
        root.addHandler(_installed)
        if root.level == logging.WARNING:
            # Nobody has set it.
            root.setLevel(_core.log_level())


def uninstall() -> None:
    """Reverts ``install`` after the last use."""
    global _users, _installed
    with _lock:
        _users = max(_users - 1, 0)
        if _users or _installed is None:
            return
        root = logging.getLogger()
        with contextlib.suppress(ValueError):
            root.removeHandler(_installed)
        root.setLevel(_level_before)
        _installed = None
