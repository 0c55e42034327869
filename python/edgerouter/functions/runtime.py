"""The Python side of the queue: a thread with an event loop, threads for plain callables, and a watchdog.

Calls are run and answered in Rust (``rust/python/src/runner``); here are the threads. Async callables are tasks
of the event loop; plain ones never run there, but on threads that take them from the queue themselves. The watchdog
starts those threads when they are wanted, and interrupts what is past its time. Where that does not help (it is blocked
in C), a fresh thread takes over, and the stuck one is left behind and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import logging
import os
import queue
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from edgerouter.functions import TimeLimit, logs

if TYPE_CHECKING:
    from edgerouter._core import BackgroundCall, LoopQueue, Runner

__all__ = [
    "Runtime",
    "call_off",
    "crowded",
    "held",
    "interrupted",
    "moved",
    "prepare_thread",
    "report",
    "start",
    "traced",
    "within",
]

log = logging.getLogger("edgerouter.functions")

#: Threads for plain callables of ``wait_until``: few, so that they delay no call.
ASIDE = 8
#: Seconds between two looks of the watchdog.
LOOK = 0.05
#: The niceness that threads for callables have above that of the workers (``setpriority(2)``).
NICE = 10
_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_ASYNCIO = str(Path(asyncio.__file__).resolve().parent) + os.sep
#: Seconds that ``stop`` waits for a loop, and that a loop which was left behind gives its tasks.
PATIENCE = 1.0


# -- what Rust calls ---------------------------------------------------------------------------------------------------


def report(name: str, what: str, happened: str, error: BaseException | None, request: str | None = None) -> str:
    """Logs a failure with its traceback under a new id, which the visitor sees."""
    identifier = secrets.token_hex(6)
    trace = (type(error), error, error.__traceback__) if error is not None else None
    extra = logs.about(name, request)
    log.error("error id %s: %s (%s) %s", identifier, name, what, happened, exc_info=trace, extra=extra)
    return identifier


def within(scope: Context, what: str, *arguments: object) -> object:
    """Calls one of these in the context of the call that it is about."""
    return scope.run(globals()[what], *arguments)


def traced(error: BaseException) -> str:
    """The traceback of what a callable raised, as developers are shown it."""
    return "".join(traceback.format_exception(error))


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


def prepare_thread(foreign: bool) -> int:
    """Prepares this thread for running callables; gives its identity.

    Python keeps a state for each thread, and discards that of a foreign one (a worker's) after each use; making it anew
    costs more than a quick call. Holding it once, and never releasing it, keeps it for as long as the thread lives.
    """
    if foreign:
        ctypes.pythonapi.PyGILState_Ensure()
    return threading.get_ident()


def call_off(thread: int) -> None:
    """Takes back an interrupt that has not arrived."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)


def interrupt(thread: int) -> None:
    """Raises ``TimeLimit`` in a thread, at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeLimit))


def give_way() -> None:
    """Gives the workers precedence over this thread on a shared core: requests that need no Python do not wait for it.

    Linux has a niceness for each thread; elsewhere it is the whole process's, and stays as it is.
    """
    if sys.platform == "linux":
        # The process's, not this thread's own, which may be inherited from one that gives way already.
        usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual + NICE)


# -- threads -----------------------------------------------------------------------------------------------------------


class Loop:
    """An event loop on a thread of its own, which takes calls from the queue."""

    def __init__(self, runtime: Runtime, number: int) -> None:
        self.runtime = runtime
        self.loop = asyncio.new_event_loop()
        self.queue: LoopQueue | None = None
        #: Turns that the watchdog has requested, the number due at its next look, and the code that it saw at the last.
        self.beats = 0
        self.expected: int | None = None
        self.seen: CodeType | None = None
        self.thread = threading.Thread(target=self.run, name=f"edge-python-{number}", daemon=True)

    def run(self) -> None:
        give_way()
        create = functools.partial(asyncio.Task, loop=self.loop)
        if sys.version_info >= (3, 12):
            # A call that ends without waiting needs no turn of the loop.
            create = functools.partial(create, eager_start=True)
        asyncio.set_event_loop(self.loop)
        self.queue = self.runtime.runner.loop_queue(create)
        self.loop.add_reader(self.runtime.runner.fileno(), self.take, True)
        self.loop.call_soon(self.take, False)
        try:
            self.turn()
        finally:
            with contextlib.suppress(TimeLimit):
                self.loop.close()

    def turn(self) -> None:
        """Turns the loop until it is stopped."""
        while True:
            try:
                self.loop.run_forever()
            except TimeLimit:
                # It arrived between two steps of the loop, where no call is past its time.
                continue
            return

    def take(self, woken: bool) -> None:
        """Takes a batch and starts all of it."""
        queue = self.queue
        if queue is None:
            return
        if queue.run(woken):
            self.loop.call_soon(self.take, False)
        if queue.replaced:
            # Another loop replaced it while it was stuck. Calls that it has begun may end.
            self.loop.remove_reader(self.runtime.runner.fileno())
            self.end(cancel=False)

    def beat(self) -> None:
        """Counts a turn of the loop."""
        self.beats += 1

    def holder(self) -> FrameType | None:
        """The frame that has blocked the loop since the last look, callables apart, which are watched exactly.

        A task of the program's own, or a callback while there are tasks: its outermost frame.
        """
        expected, self.expected = self.expected, None
        before, self.seen = self.seen, None
        if self.queue is None or self.queue.busy or self.thread.ident is None:
            return None
        # An idle loop is left to sleep. What the set of tasks looks like while it changes does not matter.
        tasks = None
        with contextlib.suppress(RuntimeError):
            tasks = asyncio.all_tasks(self.loop)
        if not tasks:
            return None
        self.expected = self.beats + 1
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.beat)
        if expected is None or self.beats >= expected:
            return None
        frame = sys._current_frames().get(self.thread.ident)
        outermost = None
        while frame is not None and frame.f_code is not Loop.turn.__code__:
            if not frame.f_code.co_filename.startswith((_ASYNCIO, _PACKAGE)):
                outermost = frame
            frame = frame.f_back
        if outermost is None:
            return None
        # One look may find what is innocent, of many that are quick; it must be the same twice.
        self.seen = outermost.f_code
        return outermost if before is self.seen else None

    def end(self, *, cancel: bool) -> None:
        """Ends the loop when its tasks have ended."""

        async def ending() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if cancel:
                for task in tasks:
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=PATIENCE)
            await self.loop.shutdown_asyncgens()
            self.loop.stop()

        self.last = self.loop.create_task(ending())

    def stop(self) -> None:
        """Cancels what runs and ends the loop, if it can be ended."""
        try:
            self.loop.call_soon_threadsafe(functools.partial(self.end, cancel=True))
        except RuntimeError:
            return
        self.thread.join(PATIENCE)


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
            self.threads.append(thread)
            thread.start()

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


class Runtime:
    """All Python threads of an engine."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.aside = Pool(runner, ASIDE, "background")
        self.aside_lock = threading.Lock()
        #: Of what ``wait_until`` was given: its task, and when that must end.
        self.timers: dict[asyncio.Task[None], asyncio.TimerHandle] = {}
        logs.install()
        self.stopping = threading.Event()
        self.count = 0
        self.workers = 0
        #: Code that was reported for holding the event loop.
        self.told: set[CodeType] = set()
        self.loops: list[Loop] = []
        self.active = self.fresh()
        runner.background(self.background)
        self.watchdog = threading.Thread(target=self.watch, name="edge-python-watchdog", daemon=True)
        self.watchdog.start()

    def fresh(self) -> Loop:
        """A loop of its own thread, which takes calls from now on."""
        self.count += 1
        loop = Loop(self, self.count)
        self.loops = [old for old in self.loops if old.thread.is_alive()]
        self.loops.append(loop)
        loop.thread.start()
        return loop

    def worker(self, serial: bool) -> None:
        """A thread that takes plain calls from the queue."""
        self.workers += 1
        name = "edge-serial" if serial else "edge-function"
        thread = threading.Thread(target=self.work, args=(serial,), name=f"{name}-{self.workers}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self.runner.not_started(serial)
            log.error("a thread for functions could not be started (%s); the calls wait for the others", error)

    def work(self, serial: bool) -> None:
        """Takes plain calls until the engine stops, or until there are more threads than the plan allows."""
        give_way()
        while True:
            try:
                self.runner.work(serial)
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

    def watch(self) -> None:
        """Starts threads that are wanted, and enforces the time limits, until the engine stops."""
        looked = time.monotonic()
        while not self.stopping.is_set():
            try:
                for serial in self.runner.watch(LOOK):
                    self.worker(serial)
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
            if loop.queue is None:
                continue
            for task in loop.queue.expired():
                with contextlib.suppress(RuntimeError):
                    loop.loop.call_soon_threadsafe(task.cancel)
        holder = self.active.holder()
        if holder is not None and holder.f_code not in self.told:
            self.told.add(holder.f_code)
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
        logs.uninstall()


def start(runner: Runner) -> Runtime:
    """Starts the threads for a runner of the core."""
    return Runtime(runner)
