"""Threads that run callables: how they are interrupted, and the ones for plain calls in the background."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgerouter._core import raise_in
from edgerouter.functions import TimeLimit

if TYPE_CHECKING:
    import asyncio

    from edgerouter._core import Runner

__all__ = ["Pool", "call_off", "give_way", "interrupt", "settled_by"]

#: The niceness that threads for callables have above that of the workers (``setpriority(2)``).
NICE = 10


def call_off(thread: int) -> None:
    """Takes back an interrupt that has not arrived."""
    raise_in(thread, None)


def interrupt(thread: int) -> None:
    """Raises ``TimeLimit`` in a thread, at its next bytecode."""
    raise_in(thread, TimeLimit)


def give_way() -> None:
    """Gives the workers precedence over this thread on a shared core: requests that need no Python do not wait for it.

    Linux has a niceness for each thread; elsewhere it is the whole process's, and stays as it is.
    """
    if sys.platform == "linux":
        # The process's, not this thread's own, which may be inherited from one that gives way already.
        usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual + NICE)


def settled_by(function: Callable[[], Any], submit: Callable[[Callable[[], None]], object]) -> asyncio.Future[Any]:
    """A future of the running loop for the result of ``function``, which ``submit`` has a daemon thread run.

    The executors of the standard library would keep the process from ending for as long as a call does.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def call() -> None:
        result, error = None, None
        try:
            result = function()
        except BaseException as raised:  # noqa: BLE001  # whatever the call raises is its result
            # A future cannot hold this one.
            error = RuntimeError("StopIteration") if isinstance(raised, StopIteration) else raised
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    submit(call)
    return future


class Pool:
    """Threads for what ``wait_until`` was given. Daemons, unlike the standard pool's: a stuck one must not keep the
    process.
    """

    def __init__(self, runner: Runner, most: int, name: str) -> None:
        self.runner = runner
        self.most = most
        self.name = name
        self.calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.idle = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], None]) -> None:
        """Runs ``call`` on a thread that is idle, on a new one, or on the first that becomes idle. From one thread."""
        self.calls.put(call)
        if self.idle.acquire(blocking=False):
            return
        _waiting, _running, abandoned = self.runner.load()
        if len(self.threads) < self.most + abandoned:
            name = f"edge-{self.name}-{len(self.threads) + 1}"
            thread = threading.Thread(target=self.work, name=name, daemon=True)
            thread.start()
            self.threads.append(thread)

    def work(self) -> None:
        give_way()
        while True:
            try:
                call = self.calls.get_nowait()
            except queue.Empty:
                self.idle.release()
                call = self.calls.get()
            if call is None:
                return
            call()
            # Its objects are not needed while this thread waits for the next.
            del call

    def stop(self) -> None:
        """Drops the calls that have not begun, and ends the threads that can be ended."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.calls.get_nowait()
        for _ in self.threads:
            self.calls.put(None)
