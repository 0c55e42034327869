"""The life of an application beside its calls: handlers of its start and its stop, and its scheduled jobs.

They run on the event loop of functions, plain ones on a thread. Each version of an application has a life of its own: a
reload begins that of the new one before it serves, and ends that of the old one after its last call.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import datetime
import fcntl
import functools
import hashlib
import inspect
import logging
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgerouter.errors import EdgeError
from edgerouter.functions.event_loop import PATIENCE
from edgerouter.functions.threads import settled_by

if TYPE_CHECKING:
    from edgerouter.jobs import Handler, Job

__all__ = ["Life"]

log = logging.getLogger("edgerouter.functions")

#: Seconds after which a time that was missed is left out.
LATE = 60
#: Seconds at most between two looks at the clock.
LOOK = 10.0


class Life:
    """The life of one version of an application."""

    def __init__(self, name: str, starts: Sequence[Handler], stops: Sequence[Handler], jobs: Sequence[Job]) -> None:
        self.name = name
        self.starts = tuple(starts)
        self.stops = tuple(stops)
        self.jobs = tuple(jobs)
        self.loop: Callable[[], asyncio.AbstractEventLoop] | None = None
        self.running: list[asyncio.Task[None]] = []
        self.retired = asyncio.Event()
        self.begun = False
        self.lock = threading.Lock()

    def begin(self, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        """Runs the handlers of the start in their order; ``EdgeError`` when one fails, after those of the stop."""
        self.loop = loop
        self.begun = True
        for handler in self.starts:
            try:
                self.wait(handler)
            except Exception as error:
                self.end()
                if isinstance(error, TimeoutError):
                    message = f"the start handler {handler.name} did not end within {handler.timeout:g} s"
                else:
                    message = f"the start handler {handler.name} raised {error}"
                raise EdgeError(message) from error

    def serve(self) -> None:
        """Starts the scheduled jobs: this version is in service."""
        if self.jobs and self.loop is not None:
            loop = self.loop()
            loop.call_soon_threadsafe(
                lambda: self.running.extend(
                    loop.create_task(self.repeat(job, number)) for job, number in self.numbered()
                )
            )

    def numbered(self) -> Iterator[tuple[Job, int]]:
        """The jobs, each with its number among those of one name and times, as a loop or a factory declares them."""
        before: collections.Counter[tuple[str, str, str]] = collections.Counter()
        for job in self.jobs:
            alike = (job.name, job.expression, str(job.timezone))
            yield job, before[alike]
            before[alike] += 1

    def retire(self) -> None:
        """Starts no further runs of jobs: another version is in service. Calls and runs of this one go on."""
        if self.jobs and self.loop is not None:
            with contextlib.suppress(RuntimeError):
                self.loop().call_soon_threadsafe(self.retired.set)

    def end(self, *, finish: bool = False) -> None:
        """Runs the handlers of the stop, once; a failure of one is logged and skips no other.

        ``finish`` lets runs of jobs come to their end before; without it they are cancelled, because the process stops.
        """
        if not finish:
            self.cancel()
        # A second caller waits for the first.
        with self.lock:
            begun, self.begun = self.begun, False
            if not begun:
                return
            self.retire()
            self.settle(finish)
            for handler in self.stops:
                try:
                    self.wait(handler)
                except _Stuck:
                    log.error("the stop handler %s was not called: another one holds the event loop", handler.name)
                except TimeoutError:
                    log.error("the stop handler %s did not end within %g s", handler.name, handler.timeout)
                except Exception as error:
                    what = f"error id {os.urandom(6).hex()}: the stop handler {handler.name} raised"
                    log.error(what, exc_info=error.__cause__ or error)

    def cancel(self) -> None:
        """Cancels the runs of jobs, also for a caller of ``end`` that waits for them."""
        if self.jobs and self.loop is not None:
            with contextlib.suppress(RuntimeError):
                self.loop().call_soon_threadsafe(lambda: [task.cancel() for task in self.running])

    def settle(self, finish: bool) -> None:
        """Waits for the runs of jobs."""
        if not self.jobs or self.loop is None:
            return

        async def over() -> None:
            await asyncio.gather(*self.running, return_exceptions=True)

        patience = max(job.timeout for job in self.jobs) if finish else 0
        # The loop itself may be stuck, or over.
        with contextlib.suppress(TimeoutError, RuntimeError, concurrent.futures.CancelledError):
            asyncio.run_coroutine_threadsafe(over(), self.loop()).result(patience + 1)

    def wait(self, handler: Handler) -> None:
        """Runs a handler on the loop and waits for it."""
        assert self.loop is not None  # set by ``begin``
        begun = threading.Event()

        async def run() -> None:
            begun.set()
            await called(handler.function, handler.timeout)

        running = asyncio.run_coroutine_threadsafe(run(), self.loop())
        if not begun.wait(PATIENCE):
            # A handler before this one has not come back.
            running.cancel()
            raise _Stuck
        # The loop may be stuck from now on.
        running.result(handler.timeout + 1)

    async def repeat(self, job: Job, number: int = 0) -> None:
        """Runs a job at its times."""
        after: float | None = time.time()
        while after is not None:
            after = await self.repeat_until_set(job, number, after)

    async def repeat_until_set(self, job: Job, number: int, after: float) -> float | None:
        """Runs a job at its times after ``after``; gives the time after which they are to be looked for anew.

        That is so when times were missed by far, because the clock was set or the machine slept: one by one they would
        hold the event loop. And when the clock was set back, as the next one would not come for as long. ``None``:
        there are no more.
        """
        ended, ahead = 0.0, time.time() - time.monotonic()
        for due in job.times(datetime.datetime.fromtimestamp(after, datetime.UTC)):
            if not await self.comes(due.timestamp(), ahead):
                return None
            now = time.time()
            if due.timestamp() > now:
                return now
            if now - due.timestamp() > LATE:
                return now - LATE
            if due.timestamp() <= ended:
                # The run before took longer.
                continue
            try:
                with alone(self.name, job, due, number) as first:
                    if first:
                        await called(job.function, job.timeout)
            except TimeoutError:
                log.error("the scheduled job %s did not end within %g s", job.name, job.timeout)
            except Exception as error:
                raised = error.__cause__ or error
                log.error("error id %s: the scheduled job %s raised", os.urandom(6).hex(), job.name, exc_info=raised)
            ended = time.time()
        return None

    async def comes(self, due: float, ahead: float) -> bool:
        """Waits for a time, or until the clock is set back; false if another version is in service before it.

        The time of a retired version that has come is still its own: the next one counts from when it began to serve.
        ``ahead``: by how much the clock was ahead of one that nobody sets.
        """
        while (left := due - time.time()) > 0 and ahead - (time.time() - time.monotonic()) <= LATE:
            if self.retired.is_set():
                return False
            # Clocks are set: one long wait would miss that.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.retired.wait(), min(left, LOOK))
        return True


def begin(call: Callable[[], None]) -> None:
    """Runs a plain handler or job on a thread that does not keep the process from ending."""
    threading.Thread(target=call, name="edge-life", daemon=True).start()


class _Stuck(Exception):  # noqa: N818  # it ends no handler
    """The event loop did not begin with a handler."""


class _Raised(Exception):  # noqa: N818  # it stands for its cause
    """The failure of a handler or job, whatever its class: an exit would end the loop of all others."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.__cause__ = error


async def called(function: Callable[[], Any], timeout: float) -> None:
    """Calls and awaits; a plain function runs on a thread. ``_Raised`` has what it raises."""

    async def run() -> None:
        try:
            result: Any = function() if inspect.iscoroutinefunction(function) else await settled_by(function, begin)
            if isinstance(result, Awaitable):
                await result
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            raise _Raised(error) from error

    await asyncio.wait_for(run(), timeout)


@contextlib.contextmanager
def alone(name: str, job: Job, due: datetime.datetime, number: int = 0) -> Iterator[bool]:
    """True in one process of this user on this machine for each time of a job; in all where no file can say which."""
    with contextlib.ExitStack() as held:
        try:
            first = is_first(held, f"{name}\0{job.name}\0{job.expression}\0{job.timezone}\0{number}", due)
        except OSError as error:
            warn_not_alone(str(error))
            first = True
        yield first


@functools.lru_cache(maxsize=16)
def warn_not_alone(why: str) -> None:
    """Says once why a job runs in each process."""
    log.warning(
        "scheduled jobs run in each process of this machine, as no file can say which one: %s; "
        "set XDG_RUNTIME_DIR to a folder that this user may write in",
        why,
    )


def is_first(held: contextlib.ExitStack, alike: str, due: datetime.datetime) -> bool:
    """Takes a time of a job, until ``held`` ends, unless another process has it or had it."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"edgerouter-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise EdgeError(f"{folder} belongs to another user; set XDG_RUNTIME_DIR")
    key = hashlib.sha256(alike.encode()).hexdigest()[:32]
    file = os.open(folder / f"{key}.job", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    text = os.pread(file, 32, 0)
    # A time further ahead was written by a clock that was wrong.
    if text.isdigit() and 0 <= int(text) - int(due.timestamp()) <= LATE:
        return False
    # In this order a full disk leaves what is there.
    text = str(int(due.timestamp())).encode()
    os.pwrite(file, text, 0)
    os.ftruncate(file, len(text))
    return True
