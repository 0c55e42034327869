"""The Python side of the queue: a thread with an event loop, threads for plain callables, and a watchdog.

Calls are run and answered in Rust (``rust/python/src/runner``); these are the threads. Async callables are tasks of an
``event_loop``. Plain ones never run there, but on threads that take them from the queue themselves. The watchdog starts
those threads on demand and interrupts calls that exceed their time. A fresh thread replaces one that cannot be
interrupted because it is blocked in C; the stuck one is abandoned and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from contextvars import Context
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from edgerouter.functions import TimeLimit, logs
from edgerouter.functions.event_loop import PATIENCE, Loop
from edgerouter.functions.late import LateError
from edgerouter.functions.threads import Pool, give_way, interrupt

if TYPE_CHECKING:
    from edgerouter import _core
    from edgerouter._core import BackgroundCall, PieceSink, Runner
    from edgerouter.functions.streams import Pump

__all__ = ["Runtime", "crowded", "held", "interrupted", "moved", "report", "settle", "start", "traced", "within"]

log = logging.getLogger("edgerouter.functions")

#: The calls that a thread takes: any plain ones, those that run one at a time, or those that other calls wait for.
Kind: TypeAlias = Literal["plain", "serial", "nested"]

#: Threads for plain callables of ``wait_until``: few, so that they delay no call.
ASIDE = 8
#: Seconds between two looks of the watchdog.
LOOK = 0.05


def report(name: str, what: str, happened: str, error: BaseException | None, request: str | None = None) -> str:
    """Logs a failure with its traceback under a new id, which the visitor sees."""
    if isinstance(error, LateError):
        what, error = error.what, error.error
        happened = f"raised {type(error).__name__}"
    identifier = os.urandom(6).hex()
    trace = (type(error), error, error.__traceback__) if error is not None else None
    extra = logs.about(name, request)
    log.error("error id %s: %s (%s) %s", identifier, name, what, happened, exc_info=trace, extra=extra)
    return identifier


def within(scope: Context, what: str, *arguments: object) -> object:
    """Calls one of these in the context of the call that it is about."""
    return scope.run(globals()[what], *arguments)


def traced(error: BaseException) -> str:
    """The traceback of what a callable raised, as developers are shown it."""
    from edgerouter.source_line import formatted

    return formatted(error)


def interrupted(name: str, what: str, seconds: float, request: str | None = None) -> None:
    """Logs that a callable was past its time."""
    extra = logs.about(name, request)
    log.warning("%s (%s) was interrupted: its time is %g s", name, what, seconds, extra=extra)


def crowded(name: str) -> None:
    """Logs that ``wait_until`` took no more."""
    log.warning("%s: wait_until refused: as many go on already as limits.functions.background_tasks allows", name)


def moved(name: str, why: str) -> None:
    """Logs that an inline callable broke its promise."""
    log.warning("%s is not called inline any more, but through the queue: %s", name, why)


def held(name: str, seconds: float) -> None:
    """Logs that an async callable blocked the event loop."""
    log.warning(
        "%s held the event loop for %.0f ms or more, and every other async call waited; make it a plain def, which "
        "runs on a thread, or put what blocks into await asyncio.to_thread(...). This is said once",
        name,
        seconds * 1000,
    )


def settle(owner: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Wakes a task that waits for data. It may belong to a loop that another one has replaced."""
    if owner is asyncio._get_running_loop():
        _wake(future)
        return
    with contextlib.suppress(RuntimeError):
        owner.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Runtime:
    """All Python threads of an engine."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.aside = Pool(runner, ASIDE, "background")
        self.aside_lock = threading.Lock()
        #: The tasks of ``wait_until``, and the time limit of each.
        self.timers: dict[asyncio.Task[None], asyncio.TimerHandle] = {}
        logs.install()
        self.stopping = threading.Event()
        self.count = 0
        self.workers = 0
        #: Code that was reported for holding the event loop.
        self.reported: set[CodeType] = set()
        self.loops: list[Loop] = []
        self.active = self.fresh()
        runner.background(self.background)
        self.pump: Pump | None = None
        self.pump_lock = threading.Lock()
        runner.streams(self.stream)
        self.watchdog = threading.Thread(target=self.watch, name="edge-python-watchdog", daemon=True)
        self.watchdog.start()

    def fresh(self) -> Loop:
        """A loop of its own thread, which takes calls from now on."""
        self.count += 1
        loop = Loop(self.runner, self.count)
        self.loops = [old for old in self.loops if old.thread.is_alive()]
        self.loops.append(loop)
        loop.thread.start()
        return loop

    def worker(self, kind: Kind) -> None:
        """A thread that takes plain calls from the queue."""
        self.workers += 1
        name = "edge-function" if kind == "plain" else f"edge-{kind}"
        thread = threading.Thread(target=self.work, args=(kind,), name=f"{name}-{self.workers}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self.runner.not_started(kind)
            log.error("a thread for functions could not be started (%s); the calls wait for the others", error)

    def work(self, kind: Kind) -> None:
        """Takes plain calls until the engine stops, or until there are more threads than the plan allows."""
        give_way()
        while True:
            try:
                self.runner.work(kind)
            except TimeLimit:
                # It arrived between two calls, where none is past its time.
                continue
            return

    def background(self, call: BackgroundCall, awaited: bool) -> None:
        """Goes on with what ``wait_until`` was given: on the loop that calls this, or else on the one in service."""
        if not awaited:
            with self.aside_lock:
                self.aside.submit(call)
            return
        running = asyncio._get_running_loop()
        if running is not None and any(loop.loop is running for loop in self.loops):
            self.begin(running, call)
            return
        try:
            self.active.loop.call_soon_threadsafe(self.begin, self.active.loop, call)
        except RuntimeError:
            call.close()

    def begin(self, loop: asyncio.AbstractEventLoop, call: BackgroundCall) -> None:
        """Makes it a task that ends in time. It begins in the next turn of the loop: what answers comes first."""
        task = asyncio.Task(call, loop=loop)

        def expire() -> None:
            task.cancel()
            # One that goes on all the same is cancelled again.
            self.timers[task] = loop.call_later(PATIENCE, expire)

        def done(task: asyncio.Task[None]) -> None:
            self.timers.pop(task).cancel()

        self.timers[task] = loop.call_later(call.remaining(), expire)
        task.add_done_callback(done)

    def stream(self, source: Any, sink: PieceSink, call: _core.AsyncContext | _core.Context | None) -> None:
        """Sends the content of a streamed response. The first one imports the module for it, which no start needs."""
        pump = self.pump
        if pump is None:
            from edgerouter.functions.streams import Pump

            with self.pump_lock:
                pump = self.pump = self.pump or Pump(self.runner, lambda: self.active.loop)
        pump.start(source, sink, call)

    def watch(self) -> None:
        """Starts threads that are wanted, and enforces the time limits, until the engine stops."""
        looked = time.monotonic()
        while not self.stopping.is_set():
            try:
                for kind in self.runner.watch(LOOK):
                    self.worker(kind)
                if time.monotonic() - looked >= LOOK:
                    looked = time.monotonic()
                    self.look()
            except Exception:
                log.exception("the watchdog of functions failed; it goes on")

    def look(self) -> None:
        """Interrupts calls past their time, and replaces the loop where that does not help."""
        for overdue in self.runner.overdue():
            interrupt(overdue.thread)
            overdue.sent()
        for loop in self.loops:
            if (queue := loop.queue) is None:
                continue
            for task in queue.expired():
                with contextlib.suppress(RuntimeError):
                    loop.loop.call_soon_threadsafe(task.cancel)
        holder = self.active.holder()
        if holder is not None and holder.f_code not in self.reported:
            self.reported.add(holder.f_code)
            code = holder.f_code
            name = f"{holder.f_globals.get('__name__', '?')}.{code.co_qualname} ({code.co_filename}:{holder.f_lineno})"
            held(name, LOOK)
        queue = self.active.queue
        if queue is not None and queue.stuck():
            log.error("a callable could not be interrupted; another thread takes over the queue")
            self.active = self.fresh()

    def stop(self) -> None:
        """Ends all threads that can be ended; the others are daemons."""
        self.stopping.set()
        self.active.stop()
        self.aside.stop()
        if self.pump is not None:
            self.pump.stop()
        logs.uninstall()


def start(runner: Runner) -> Runtime:
    """Starts the threads for a runner of the core."""
    return Runtime(runner)
