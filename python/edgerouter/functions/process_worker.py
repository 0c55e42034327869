"""A worker process: ``python -m edgerouter.functions.process_worker SOCKET REQUESTS RESPONSES`` (descriptors).

It imports the modules of its functions once and then runs one call at a time. It ends with the socket of its edge.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from edgerouter.errors import Abort
from edgerouter.functions import process_messages as messages
from edgerouter.functions.parameters import filled
from edgerouter.functions.results import plain

__all__ = ["WorkerContext"]

#: Conversions of a call.
MOST_CONVERSIONS = 64


class Channel:
    """The socket to the edge."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lock = threading.Lock()

    def send(self, message: messages.ToEdge) -> None:
        """Sends a message. Records of logs come from any thread."""
        encoded = messages.encode(message)
        if len(encoded) > messages.MOST_MESSAGE:
            raise ValueError(f"the fields of a response have more than {messages.MOST_MESSAGE} bytes")
        with self.lock:
            self.sock.sendall(encoded)

    def receive(self) -> messages.ToWorker:
        """The next message. The process ends when the edge is gone."""
        length = int.from_bytes(self.exactly(4), "big")
        return messages.decode_to_worker(self.exactly(length))

    def exactly(self, count: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < count:
            piece = self.sock.recv(count - len(pieces))
            if not piece:
                leave()
            pieces += piece
        return bytes(pieces)


def leave() -> NoReturn:
    """Ends the process at once, without the handlers that modules have registered for its end."""
    os._exit(0)


class Forward(logging.Handler):
    """Has the edge write the records: they are lines of its log."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.channel.send(messages.Log(record.name, record.levelno, self.format(record)[:65_536]))
        except Exception:  # noqa: BLE001  # the log of a log
            self.handleError(record)


class WorkerContext:
    """The context of an isolated call: its facts, its log, its tags and conversions.

    ``fetch``, ``cache``, ``env`` and ``wait_until`` belong to the edge's own process, and say so.
    """

    phase = "function"

    def __init__(self, call: messages.Call) -> None:
        self.name = call.name
        self.request_id = self.log_id = call.request_id
        self.log = logging.getLogger(f"edgerouter.functions.{call.name}")
        self.tags: list[str] = []
        self.conversions: list[tuple[str, float]] = []
        self._until = time.monotonic() + call.left

    def remaining(self) -> float:
        """Seconds left for the call."""
        return max(0.0, self._until - time.monotonic())

    def tag(self, tag: str) -> None:
        """Gives the response a tag by which it can be purged."""
        self.tags.append(tag)

    def convert(self, goal: str, value: float = 0.0) -> bool:
        """Counts a conversion of the visitor when the call has ended; true, for it is not known whether it was lost."""
        if len(self.conversions) < MOST_CONVERSIONS:
            self.conversions.append((goal, float(value)))
        return True

    def __getattr__(self, name: str) -> Any:
        if name in ("fetch", "cache", "caches", "env", "wait_until"):
            raise RuntimeError(
                f"ctx.{name} belongs to the edge's own process, and this function runs in another "
                '(isolation="process"): use it in a function without isolation'
            )
        raise AttributeError(name)


def imported(module: str, file: str, name: str) -> Callable[..., Any]:
    """The function at a place, from a module that is imported as the edge's process did."""
    found = sys.modules.get(module)
    if found is None:
        spec = importlib.util.find_spec(module) if module != "__main__" else None
        if spec is not None and spec.origin is not None and Path(spec.origin).samefile(file):
            found = importlib.import_module(module)
        else:
            # A program's own file must not run as a program again.
            alias = "__edgerouter_main__" if module == "__main__" else module
            if (known := sys.modules.get(alias)) is not None:
                found = known
            else:
                spec = importlib.util.spec_from_file_location(alias, file)
                if spec is None or spec.loader is None:
                    raise ImportError(f"{file} cannot be loaded as a Python file")
                found = importlib.util.module_from_spec(spec)
                sys.modules[alias] = found
                spec.loader.exec_module(found)
    value: Any = found
    for part in name.split("."):
        value = getattr(value, part)
    function: Callable[..., Any] = value
    return function


def result_of(value: Any, memory: int, tags: list[str], status: int = 0) -> messages.Result:
    """The result that a value stands for, by the rules for functions."""
    from edgerouter._core import Response

    if (
        not status
        and isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[1], int)
        and 200 <= value[1] <= 599
    ):
        return result_of(value[0], memory, tags, value[1])
    if isinstance(value, Response):
        names = dict.fromkeys(name.lower() for name in value.headers)
        headers = [(name, line) for name in names for line in value.headers.get_all(name)]
        body, shared = messages.store(memory, value.body)
        return messages.Result("response", status or value.status, headers, body, shared, tags)
    if isinstance(value, str):
        kind, content = "text", value.encode()
    elif isinstance(value, bytes):
        kind, content = "bytes", value
    elif value is None or hasattr(value, "__aiter__") or hasattr(value, "__next__"):
        raise TypeError(f"returned {type(value).__name__}, expected a Response, str, bytes or data: it cannot stream")
    else:
        kind, content = "json", msgspec.json.encode(value, enc_hook=plain)
    body, shared = messages.store(memory, content)
    return messages.Result(kind, status or 200, [], body, shared, tags)


def failure_of(error: BaseException) -> messages.Failed:
    """The failure that an exception stands for."""
    trace = "".join(traceback.format_exception(error))
    abort = None
    if isinstance(error, Abort):
        given: Mapping[str, str] | None = error.headers
        abort = (error.status, error.detail, dict(given) if given is not None else None)
    return messages.Failed(type(error).__name__, str(error)[:8192], trace[-262_144:], abort)


def serve(channel: Channel, requests: int, responses: int, start: messages.Start, most: int) -> NoReturn:
    """Runs calls until the edge is gone."""
    from edgerouter._core import assemble

    functions: dict[int, Callable[..., Any]] = {}
    for number, (module, file, name, pattern) in enumerate(start.functions):
        functions[number] = filled(imported(module, file, name), pattern, name)
    channel.send(messages.Ready())
    with asyncio.Runner() as runner:
        while True:
            call = channel.receive()
            if not isinstance(call, messages.Call):
                leave()
            # The kernel ends a process that takes more, wherever it is.
            signal.setitimer(signal.ITIMER_PROF, start.cpu)
            answer: messages.ToEdge
            try:
                body = messages.load(requests, call.body, call.shared, most)
                context = WorkerContext(call)
                request = assemble(dict(call.request), body)
                value = functions[call.function](request, context)
                if inspect.isawaitable(value):
                    value = runner.run(_awaited(value))
                answer = result_of(value, responses, context.tags)
                answer.conversions = context.conversions
                channel.send(answer)
            except SystemExit as error:
                os._exit(error.code if isinstance(error.code, int) else 1)
            except BaseException as error:  # noqa: BLE001  # whatever a function raises
                channel.send(failure_of(error))
            signal.setitimer(signal.ITIMER_PROF, 0)
            del call


async def _awaited(value: Any) -> Any:
    return await value


def main() -> NoReturn:
    """Takes the first message, imports and serves."""
    sock, requests, responses = (int(argument) for argument in sys.argv[1:4])
    # The terminal's Ctrl-C is for the edge, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    channel = Channel(socket.socket(fileno=sock))
    start = channel.receive()
    if not isinstance(start, messages.Start):
        leave()
    sys.path[:] = start.path
    root = logging.getLogger()
    root.addHandler(Forward(channel))
    root.setLevel(logging.INFO)
    try:
        serve(channel, requests, responses, start, 1 << 30)
    except Exception as error:  # noqa: BLE001  # whatever the import of a module raises
        channel.send(failure_of(error))
        leave()


if __name__ == "__main__":
    main()
