"""The Python side of the queue: one event loop that takes calls in batches, runs them and answers them.

Sync callables run on the loop's own thread, one at a time; ``blocking=True`` ones on a pool; async ones as tasks. A
watchdog interrupts a sync callable that is past its time. Where that does not help (it is blocked in C), a fresh
thread with a fresh loop takes over the queue and the stuck one is left behind and counted.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from edgerouter.functions import TimeLimit

if TYPE_CHECKING:
    from edgerouter._core import Call, Runner

log = logging.getLogger("edgerouter.functions")

#: Calls taken from the queue at once; between batches the loop looks after its tasks.
BATCH = 64
#: Threads for ``blocking=True`` callables.
POOL = 32
#: Seconds between two looks of the watchdog, and between an interrupt and giving a thread up.
LOOK = 0.05
GRACE = 1.0


def report(name: str, what: str, happened: str, error: BaseException | None) -> str:
    """Logs a failure with its traceback under a new id, which is what the visitor is told."""
    identifier = secrets.token_hex(6)
    trace = (type(error), error, error.__traceback__) if error is not None else None
    log.error("error id %s: %s (%s) %s", identifier, name, what, happened, exc_info=trace)
    return identifier


def fail(call: Call, error: BaseException) -> None:
    """Answers a call with what its callable raised."""
    happened = f"raised {type(error).__name__}"
    call.fail(report(call.name, call.what, happened, error), type(error).__name__, str(error))


def finish(call: Call, result: object) -> None:
    """Answers a call with what its callable returned."""
    identifier = secrets.token_hex(6)
    wrong = call.finish(result, identifier)
    if wrong is not None:
        log.error("error id %s: %s (%s) %s", identifier, call.name, call.what, wrong)


def interrupt(thread: int) -> None:
    """Raises ``TimeLimit`` in a thread, at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeLimit))


class Running:
    """A sync callable on some thread, as the watchdog sees it."""

    __slots__ = ("deadline", "interrupted", "lock", "over", "thread")

    def __init__(self, thread: int, seconds: float) -> None:
        self.thread = thread
        self.deadline = time.monotonic() + seconds
        self.interrupted: float | None = None
        self.over = False
        self.lock = threading.Lock()

    def end(self) -> None:
        """No interrupt may come after this: it would hit whatever the thread does next."""
        with self.lock:
            self.over = True

    def check(self, now: float) -> bool:
        """Interrupts when it is time; true when that has not helped."""
        with self.lock:
            if self.over or now < self.deadline:
                return False
            if self.interrupted is None:
                self.interrupted = now
                interrupt(self.thread)
                return False
            return now - self.interrupted > GRACE


def run_sync(call: Call, running: Running) -> None:
    """Runs a sync callable to its end or its time limit, and answers."""
    try:
        try:
            result = call.callable_object(*call.arguments())
        finally:
            running.end()
    except TimeLimit:
        log.warning("%s (%s) was interrupted after %g s", call.name, call.what, call.timeout)
        call.expire()
    except BaseException as error:  # noqa: BLE001 - whatever it raises costs its own request only
        fail(call, error)
    else:
        finish(call, result)


class Loop:
    """An event loop on a thread of its own, which takes calls from the queue."""

    def __init__(self, runtime: Runtime, number: int) -> None:
        self.runtime = runtime
        self.loop = asyncio.new_event_loop()
        self.current: Running | None = None
        self.left_behind = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.thread = threading.Thread(target=self.run, name=f"edge-python-{number}", daemon=True)

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.add_reader(self.runtime.runner.fileno(), self.take)
        self.loop.call_soon(self.take)
        try:
            self.loop.run_forever()
        finally:
            if self.left_behind:
                # It came back after all; its place is taken.
                self.runtime.runner.abandoned(-1)
            self.loop.close()

    def take(self) -> None:
        """Takes a batch and starts all of it."""
        for call in self.runtime.runner.drain(BATCH):
            if self.left_behind:
                # Its place was taken while it was stuck in an earlier call of the batch.
                call.expire()
            elif call.is_async:
                task = self.loop.create_task(self.run_async(call))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            elif call.blocking:
                self.runtime.pool.submit(self.runtime.run_blocking, call)
            elif not call.over:
                self.current = Running(threading.get_ident(), call.timeout)
                try:
                    run_sync(call, self.current)
                except TimeLimit:
                    call.expire()
                finally:
                    self.current = None
        if self.left_behind:
            self.loop.stop()

    async def run_async(self, call: Call) -> None:
        try:
            async with asyncio.timeout(call.timeout):
                result = await call.callable_object(*call.arguments())
        except (TimeoutError, asyncio.CancelledError) as error:
            if isinstance(error, TimeoutError) and not call.over and call.timeout > 0 and error.__cause__ is None:
                fail(call, error)
            else:
                call.expire()
        except TimeLimit:
            call.expire()
        except BaseException as error:  # noqa: BLE001 - as above
            fail(call, error)
        else:
            finish(call, result)

    def stop(self) -> None:
        """Ends the loop at its next turn."""

        def end() -> None:
            for task in self.tasks:
                task.cancel()
            self.loop.call_soon(self.loop.stop)

        try:
            self.loop.call_soon_threadsafe(end)
        except RuntimeError:
            return
        self.thread.join(1.0)


class Runtime:
    """All Python threads of an engine."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.pool = ThreadPoolExecutor(POOL, thread_name_prefix="edge-blocking")
        self.blocking: set[Running] = set()
        self.blocking_lock = threading.Lock()
        self.given_up: set[Running] = set()
        self.stopping = threading.Event()
        self.count = 0
        self.active = self.fresh()
        self.watchdog = threading.Thread(target=self.watch, name="edge-python-watchdog", daemon=True)
        self.watchdog.start()

    def fresh(self) -> Loop:
        self.count += 1
        loop = Loop(self, self.count)
        loop.thread.start()
        return loop

    def run_blocking(self, call: Call) -> None:
        if call.over:
            call.expire()
            return
        running = Running(threading.get_ident(), call.timeout)
        with self.blocking_lock:
            self.blocking.add(running)
        try:
            run_sync(call, running)
        except TimeLimit:
            call.expire()
        finally:
            with self.blocking_lock:
                self.blocking.discard(running)
                if running in self.given_up:
                    self.given_up.discard(running)
                    self.runner.abandoned(-1)

    def watch(self) -> None:
        """Interrupts what is past its time, and replaces the loop where that does not help."""
        while not self.stopping.wait(LOOK):
            now = time.monotonic()
            active = self.active
            current = active.current
            if current is not None and current.check(now):
                active.left_behind = True
                self.runner.abandoned(1)
                log.error("a callable could not be interrupted; another thread takes over the queue")
                self.active = self.fresh()
            with self.blocking_lock:
                for running in self.blocking:
                    if running not in self.given_up and running.check(now):
                        self.given_up.add(running)
                        self.runner.abandoned(1)

    def stop(self) -> None:
        """Ends all threads that can be ended; the others are daemons."""
        self.stopping.set()
        self.active.stop()
        self.pool.shutdown(wait=False, cancel_futures=True)


def start(runner: Any) -> Runtime:
    """Starts the threads for a runner of the core."""
    return Runtime(runner)
