"""The event loop of async callables, on a thread of its own, and the frame that blocks it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import selectors
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING

from edgerouter.functions import TimeLimit
from edgerouter.functions.threads import give_way

if TYPE_CHECKING:
    from edgerouter._core import LoopQueue, Runner

__all__ = ["PATIENCE", "Loop"]

log = logging.getLogger("edgerouter.functions")

#: Seconds that ``stop`` waits for a loop, and that a loop which was left behind gives its tasks.
PATIENCE = 1.0
#: Beginnings of names of files as code has them, which follow no links. An idle loop waits in ``selectors``.
_NOT_OF_PROGRAMS = (
    f"{Path(__file__).parents[1]}{os.sep}",
    f"{Path(asyncio.__file__).parent}{os.sep}",
    selectors.__file__,
)


class Loop:
    """An event loop on a thread of its own, which takes calls from the queue."""

    def __init__(self, runner: Runner, number: int) -> None:
        self.runner = runner
        self.loop = asyncio.new_event_loop()
        self.queue: LoopQueue | None = None
        #: Turns that the watchdog has requested, the number due at its next look, and the code that it saw at the last.
        self.beats = 0
        self.over = False
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
        self.queue = self.runner.loop_queue(create, self.later)
        self.loop.add_reader(self.runner.fileno(), self.take, True)
        self.loop.call_soon(self.take, False)
        try:
            self.turn()
        finally:
            with contextlib.suppress(TimeLimit):
                self.loop.close()
            # It holds this loop, and with it the descriptors of the runner.
            self.queue = None

    def turn(self) -> None:
        """Turns the loop until its end. A task or callback of the program must not end it for all other calls."""
        while not self.over:
            try:
                self.loop.run_forever()
            except TimeLimit:
                # It arrived between two steps of the loop, where no call is past its time.
                continue
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio raises these from the loop itself.
                log.error("a task raised %s in the event loop of functions, which goes on", type(error).__name__)
                continue
            if not self.over:
                log.error("a callable stopped the event loop of functions, which goes on")

    def take(self, woken: bool) -> None:
        """Takes a batch and starts all of it."""
        queue = self.queue
        if queue is None:
            return
        if queue.run(woken):
            self.loop.call_soon(self.take, False)
        if queue.replaced:
            # Another loop replaced it while it was stuck. Calls that it has begun may end.
            self.loop.remove_reader(self.runner.fileno())
            self.end(cancel=False)

    def later(self) -> None:
        """Has the workers woken at the end of this turn, once for all calls that it answers."""
        if self.queue is not None:
            self.loop.call_soon(self.queue.announce)

    def beat(self) -> None:
        """Counts a turn of the loop."""
        self.beats += 1

    def holder(self) -> FrameType | None:
        """The frame that has blocked the loop since the last look, callables apart, which are watched exactly.

        A task of the program's own, or a callback while there are tasks: its outermost frame.
        """
        expected, self.expected = self.expected, None
        before, self.seen = self.seen, None
        queue = self.queue
        if queue is None or queue.busy or self.thread.ident is None:
            return None
        # An idle loop is left to sleep. The set of tasks may change meanwhile, which does not matter.
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
            if not frame.f_code.co_filename.startswith(_NOT_OF_PROGRAMS):
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
            self.over = True
            self.loop.stop()

        self.last = self.loop.create_task(ending())

    def stop(self) -> None:
        """Cancels what runs and ends the loop, if it can be ended."""
        try:
            self.loop.call_soon_threadsafe(functools.partial(self.end, cancel=True))
        except RuntimeError:
            return
        self.thread.join(PATIENCE)
