"""The results and failures of calls in a worker process, as its edge gets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from edgerouter.errors import Abort
from edgerouter.functions import process_messages as messages
from edgerouter.functions.late import LateError
from edgerouter.functions.logs import encodable
from edgerouter.functions.process_context import fields_of
from edgerouter.functions.results import is_data, plain

__all__ = ["Streamed", "failure_of", "result_of"]


class Streamed(NamedTuple):
    """A result that an iterator gives in pieces."""

    iterator: Any
    status: int
    headers: messages.Pairs


def result_of(value: Any, memory: int, status: int = 0) -> messages.Result | Streamed:
    """The result that a value stands for, by the rules for functions."""
    from edgerouter._core import Request, Response

    if (
        not status
        and isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[1], int)
        and 200 <= value[1] <= 599
    ):
        return result_of(value[0], memory, value[1])
    if isinstance(value, Response):
        headers = fields_of(value.headers)
        if (iterator := value.take_iterator()) is not None:
            return Streamed(iterator, status or value.status, headers)
        body, shared = messages.store(memory, value.body)
        return messages.Result("response", status or value.status, headers, body, shared)
    if isinstance(value, str):
        kind, content = "text", value.encode()
    elif isinstance(value, bytes):
        # Not of a class of its own, which a message does not take.
        kind, content = "bytes", bytes(memoryview(value))
    elif value is None and status:
        # ``return None, 204``: a status that says it all.
        return messages.Result("response", status, [], b"")
    elif not isinstance(value, Request) and (hasattr(value, "__aiter__") or hasattr(value, "__next__")):
        return Streamed(value, status or 200, [])
    elif isinstance(value, (dict, list)) or is_data(value):
        kind, content = "json", msgspec.json.encode(value, enc_hook=plain)
    else:
        raise TypeError(f"returned {type(value).__name__}, expected a Response, str, bytes, data or an iterator")
    body, shared = messages.store(memory, content)
    return messages.Result(kind, status or 200, [], body, shared)


def failure_of(error: BaseException, *, background: bool = False) -> messages.Failed:
    """The failure that an exception stands for."""
    from edgerouter.source_line import formatted

    what = ""
    if isinstance(error, LateError):
        what, error = error.what, error.error
    trace = formatted(error)
    abort = None
    if isinstance(error, Abort):
        given: Mapping[str, str] | None = error.headers
        abort = (error.status, error.detail, dict(given) if given is not None else None)
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  # as a traceback has it
        said = "<exception str() failed>"
    # A character that is none must not keep the failure from its edge.
    message, trace, what = (encodable(text) for text in (said[:8192], trace[-262_144:], what))
    return messages.Failed(type(error).__name__, message, trace, abort, background, what)
