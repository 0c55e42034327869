"""Signals and other events of a process that serves, one at a time for the main thread."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter.server import Server

__all__ = ["Event", "Signals", "Stopping"]

Event: TypeAlias = Literal["stop", "reload", "changed", "stopped", "reopen", "unknown"]


class Stopping(BaseException):
    """A signal to stop interrupted a reload."""


#: SIGHUP opens logs again and reloads, SIGUSR1 only opens logs again.
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
#: Other servers replace themselves by it. By default it would end the process, with the requests under way.
_UNKNOWN = getattr(signal, "SIGUSR2", None)
#: Raised by a write to a client that is gone. Python ignores it, unless the user's file has reset it, as scripts do
#: whose output goes through ``head``: each such client would end the process.
_BROKEN_PIPE: int | None = getattr(signal, "SIGPIPE", None)


class Signals:
    """Turns signals into events; only the main thread can install the handlers.

    While the configuration is read the main thread runs the user's file. A signal to stop interrupts that, and where it
    cannot be interrupted (blocked in C, or it catches everything) ``SignalWatch`` stops the process without Python.
    """

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._mine = threading.current_thread() is threading.main_thread()
        self._interrupting = False
        self._before: dict[int, Any] = {}
        self._watch: _core.SignalWatch | None = None
        self._wakeup = -1

    def __enter__(self) -> Signals:
        if self._mine:
            numbers = [number for name in _SIGNALS if (number := getattr(signal, name, None)) is not None]
            self._before = {number: signal.getsignal(number) for number in numbers}
            self.take()
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if self._watch is not None:
            signal.set_wakeup_fd(self._wakeup)
            self._watch.close()

    @contextlib.contextmanager
    def early(self) -> Iterator[None]:
        """Keeps those that are no reason to end for when the process serves: by default they would end its start.

        SIGUSR2 is the application's, if it wants that: its handler comes later, also one that Python does not know, as
        that of faulthandler.
        """
        names = ("SIGHUP", "SIGUSR1") if self._mine else ()
        numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
        if self._mine and _UNKNOWN is not None and signal.getsignal(_UNKNOWN) is signal.SIG_DFL:
            numbers.append(_UNKNOWN)
        before = {number: signal.signal(number, self._on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def take(self) -> None:
        """Installs the handlers, again after the user's file may have replaced them."""
        for number in self._before:
            signal.signal(number, self._on_signal)
        if _BROKEN_PIPE is not None and self._mine and signal.getsignal(_BROKEN_PIPE) is signal.SIG_DFL:
            signal.signal(_BROKEN_PIPE, signal.SIG_IGN)
        if self._watch is not None:
            signal.set_wakeup_fd(self._watch.fileno(), warn_on_full_buffer=False)

    def guard(self, server: Server) -> None:
        """Has the engine obey signals while Python cannot act on them."""
        if self._mine:
            self._watch = server.engine.watch_signals()
            self._wakeup = signal.set_wakeup_fd(self._watch.fileno(), warn_on_full_buffer=False)

    def heard(self) -> None:
        """Reports to the engine that Python is stopping by itself."""
        if self._watch is not None:
            self._watch.heard()

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Has a signal to stop raise ``Stopping`` until the block ends."""
        self._interrupting = True
        try:
            yield
        finally:
            self._interrupting = False

    def next(self) -> Event:
        """The next event. Looks again and again: a signal just before the wait would only be noticed after it."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self.events.get(timeout=0.5)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == _UNKNOWN:
            self.events.put("unknown")
            return
        if number in (getattr(signal, "SIGHUP", None), getattr(signal, "SIGUSR1", None)):
            self.events.put("reload" if number == getattr(signal, "SIGHUP", None) else "reopen")
            return
        self.events.put("stop")
        if self._interrupting:
            raise Stopping
