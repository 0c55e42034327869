"""Worker processes for functions with ``isolation="process"``: a pool that belongs to one version of an application.

Processes are started anew, never forked. Each runs one call at a time, so that its end costs one call at most. One that
crashed, took too long, too much processor time or too much memory is ended, and another takes its place. WebSockets
have processes of their own (``process_sockets``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from edgerouter._core import Response, dismantle, processes_changed
from edgerouter.errors import Abort, EdgeError
from edgerouter.functions import TimeLimit, logs
from edgerouter.functions import process_messages as messages
from edgerouter.functions.process_answers import Answers, StreamedContent, bindings_of
from edgerouter.functions.process_sockets import SocketPool
from edgerouter.functions.threads import settled_by
from edgerouter.functions.worker_process import Worker, WorkerError, raised

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from edgerouter._core import AsyncContext, Request
    from edgerouter.bindings import Binding
    from edgerouter.isolation import Isolation
    from edgerouter.websocket import Receive, Send

__all__ = ["ProcessPool"]

log = logging.getLogger("edgerouter.functions")

#: Bytes of a content that is read on the event loop.
AT_ONCE = 1 << 20
_TYPES = {"text": "text/plain; charset=utf-8", "json": "application/json"}
#: Seconds between two looks at the memory of processes that run a call.
LOOK = 0.1
#: Seconds until a process that could not start is tried again, at first and at most.
AGAIN = (0.1, 5.0)
#: Processes that the calls of one function have ended in a row, from which on it takes no more than half of them.
SPOILS = 2


class ProcessPool:
    """The processes of one edge and one ``Isolation``."""

    def __init__(self, isolation: Isolation, bindings: list[Binding]) -> None:
        self.isolation = isolation
        #: Those of the edge, which may be declared later.
        self.bindings = bindings
        self.functions: list[messages.Imported] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.workers: set[Worker] = set()
        self.free: deque[Worker] = deque()
        self.waiting: deque[asyncio.Future[Worker]] = deque()
        #: The processes for the WebSockets of each application that has some.
        self.sockets: dict[int, SocketPool] = {}
        #: The processes that calls of a function have ended, since one of its calls went well.
        self.ends: dict[int, int] = {}
        #: Calls of functions that end processes: their number in processes, and those that wait behind all others.
        self.spoiling = 0
        self.last: deque[asyncio.Future[Worker]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopped = False
        #: The part of this pool in the metrics.
        self.shown = (0, 0, 0, 0)
        #: Seconds for the start of all: imports may take a while.
        self.patience = 60.0

    def add(self, function: messages.Imported) -> int:
        """Adds a function, or an application at a path; gives its number."""
        self.functions.append(function)
        return len(self.functions) - 1

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the processes; ``EdgeError`` when one cannot import the functions."""
        self.loop = asyncio.get_running_loop()
        self.stopped = False
        try:
            await asyncio.gather(*(self.fresh() for _ in range(self.isolation.count)))
        except BaseException as error:
            await self.stop()
            if isinstance(error, (OSError, WorkerError)):
                raise EdgeError(f"a worker process could not start: {error}") from error
            raise
        self.keep(self.watch())

    async def stop(self) -> None:
        """Ends the processes, those of applications with their lifespan."""
        self.stopped = True
        for task in self.tasks:
            task.cancel()
        try:
            await asyncio.gather(*(sockets.stop() for sockets in self.sockets.values()))
            if any(function.interface == "asgi" for function in self.functions):
                await asyncio.gather(*(worker.leave() for worker in self.workers if not worker.busy))
        finally:
            # The event loop may end meanwhile.
            for connections in self.sockets.values():
                connections.abandon("the edge stops")
            self.sockets.clear()
            for worker in self.workers:
                worker.condemn("stopped", "the edge stops")
                worker.kill()
            self.workers.clear()
            self.free.clear()
            self.show()

    def keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Makes it a task that is not forgotten."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def fresh(self) -> None:
        """A process that is ready for calls."""
        worker = await self.begun(self.functions)
        self.workers.add(worker)
        self.release(worker)

    async def begun(self, functions: list[messages.Imported]) -> Worker:
        """A process that has imported these."""
        worker = Worker()
        try:
            await worker.send(messages.Start(sys.path.copy(), functions, self.isolation.cpu))
            answer = await worker.receive()
            if isinstance(answer, messages.Failed):
                raise WorkerError(f"{answer.name}: {answer.message}\n{answer.trace}")
        except BaseException:
            worker.kill()
            raise
        return worker

    def replace(self, worker: Worker) -> None:
        """Ends a process, and starts another in its place."""
        worker.kill()
        self.end_of_call(worker)
        if worker in self.workers:
            self.workers.discard(worker)
            if not self.stopped:
                self.keep(self.again())

    async def again(self) -> None:
        """Starts a process, after a while where that fails."""
        wait, longest = AGAIN
        while not self.stopped:
            try:
                await self.fresh()
            except (OSError, WorkerError) as error:
                log.error("a worker process could not start again, and is tried in %g s: %s", wait, error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, longest)
            else:
                return

    async def watch(self) -> None:
        """Ends processes whose call takes too much memory."""
        most = self.isolation.memory_bytes
        while True:
            self.show()
            await asyncio.sleep(LOOK)
            for worker in [*(worker for worker in self.workers if worker.busy), *self.for_sockets()]:
                if (memory := worker.memory_of_all()) > most and worker.why is None:
                    worker.condemn("memory", f"the worker process had {memory} bytes of memory, more than {most}")
                    worker.process.kill()

    def for_sockets(self) -> list[Worker]:
        """The processes that have WebSockets."""
        return [process.worker for pool in self.sockets.values() for process in pool.processes]

    def show(self) -> None:
        """Adds what has changed to the metrics: processes, those that are busy, calls that wait, bytes."""
        sockets = self.for_sockets()
        workers = [*self.workers, *sockets]
        busy = len(sockets) + sum(worker.busy for worker in self.workers)
        memory = sum(worker.memory() for worker in workers if not worker.over)
        now = (len(workers), busy, len(self.waiting) + len(self.last), memory)
        processes_changed(*(new - old for new, old in zip(now, self.shown, strict=True)))
        self.shown = now

    # -- calls -----------------------------------------------------------------------------------------------------

    async def acquire(self, number: int, nested: bool) -> Worker:
        """A process that is free. ``nested``: another call waits for this one, perhaps in the last of them.

        A function that ends one process after another would have the others wait for their successors: its calls take
        no more than half of the processes, and wait behind all other calls.
        """
        spoils = self.ends.get(number, 0) >= SPOILS
        while self.free and not (spoils and self.spoils_enough()):
            worker = self.free.popleft()
            # One may have ended while it was free.
            if worker.process.poll() is None:
                return self.taken(worker, spoils)
            self.replace(worker)
        if nested:
            # As for threads: what waits for one another must not wait for ever.
            raise Abort(503, "All processes of this function are busy.", headers={"Retry-After": "1"})
        place: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        (self.last if spoils else self.waiting).append(place)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release(place.result())
            raise

    def release(self, worker: Worker) -> None:
        """Gives a process to the call that has waited longest."""
        self.end_of_call(worker)
        for spoils, places in ((False, self.waiting), (True, self.last)):
            while places and not (spoils and self.spoils_enough()):
                place = places.popleft()
                if not place.done():
                    place.set_result(self.taken(worker, spoils))
                    return
        self.free.append(worker)

    def spoils_enough(self) -> bool:
        """True if half of the processes, or the only one, run calls of functions that end them."""
        return self.spoiling >= max(1, self.isolation.count // 2)

    def taken(self, worker: Worker, spoils: bool) -> Worker:
        """Notes that a call has a process."""
        worker.spoilt_soon = spoils
        self.spoiling += spoils
        return worker

    def end_of_call(self, worker: Worker) -> None:
        """Notes that it has it no longer."""
        worker.busy = False
        self.spoiling -= worker.spoilt_soon
        worker.spoilt_soon = False

    async def call(self, number: int, request: Request, ctx: AsyncContext) -> Response:
        """Runs a call in one of the processes."""
        if self.loop is not asyncio.get_running_loop():
            await self.move()
        parts = cast("messages.RequestParts", dismantle(request))
        body = b"" if parts["streamed"] else request.body
        worker = await self.acquire(number, ctx.nested)
        worker.busy = True
        answers = Answers(worker, ctx)
        response = None
        if parts["streamed"]:
            answers.content = aiter(request)
        try:
            inline, shared = messages.store(worker.requests, body)
            await worker.send(self.message(number, ctx, parts, inline, shared))
            answer = await answers.next()
            if isinstance(answer, messages.Result) and answer.kind != "stream":
                response = await _response(worker.responses, answer, self.isolation.response_bytes)
        except asyncio.CancelledError:
            # Its time is over, or nobody waits for it.
            answers.close()
            worker.condemn("time", "its time was over")
            worker.process.kill()
            self.spoilt(number, worker)
            raise
        except Exception as error:  # noqa: BLE001  # also whatever no response can be made of
            answers.close()
            self.spoilt(number, worker)
            if worker.process.returncode == -signal.SIGPROF:
                message = "%s was ended: its processor time is %g s"
                log.warning(message, ctx.name, self.isolation.cpu_seconds, extra=logs.about(ctx.name, ctx.log_id))
                raise TimeLimit(self.isolation.cpu_seconds) from None
            raise WorkerError(str(error)) from None
        self.ends.pop(number, None)
        if isinstance(answer, messages.Result):
            streams = answer.kind == "stream"
            if not streams:
                self.over(answers, answer.background)
            try:
                for tag in answer.tags:
                    ctx.tag(tag)
                for goal, value in answer.conversions:
                    ctx.convert(goal, value)
                if response is not None:
                    return response
                content = StreamedContent(answers, raised, lambda background: self.over(answers, background))
                # An iterator of either kind of pieces.
                pieces = cast("Any", content)
                if self.functions[number].interface:
                    # An application has begun its response, whose length is the one that it states.
                    return Response.begun(pieces, answer.status, answer.headers)
                return Response(pieces, answer.status, answer.headers)
            except BaseException:
                if streams:
                    self.over(answers, None)
                raise
        self.over(answers, answer.background if isinstance(answer, messages.Failed) else None)
        if isinstance(answer, messages.Failed):
            raise raised(answer)
        raise WorkerError("the worker process sent a message out of its order")

    async def socket(self, number: int, request: Request, ctx: AsyncContext, receive: Receive, send: Send) -> None:
        """Runs an application for a WebSocket in one of the processes for them."""
        if self.loop is not asyncio.get_running_loop():
            await self.move()
        if (sockets := self.sockets.get(number)) is None:
            sockets = self.sockets[number] = SocketPool(self, number)
        # Such a process has one function.
        call = self.message(0, ctx, cast("messages.RequestParts", dismantle(request)), b"", 0)
        await sockets.run(call, receive, send)

    def spoilt(self, number: int, worker: Worker) -> None:
        """Replaces a process that a call has ended."""
        self.ends[number] = self.ends.get(number, 0) + 1
        self.replace(worker)

    def message(
        self, number: int, ctx: AsyncContext, parts: messages.RequestParts, body: bytes, shared: int
    ) -> messages.Call:
        """The message of a call."""
        place = ctx.trace
        trace = (place.trace_id, place.span_id, place.sampled, place.traceparent) if place is not None else None
        bindings = bindings_of(ctx, [(binding.name, binding.kind) for binding in self.bindings])
        left = ctx.remaining()
        return messages.Call(number, ctx.name, parts, ctx.log_id, left, body, shared, trace, ctx.region, bindings)

    def over(self, answers: Answers, background: bool | None) -> None:
        """The process of a call is free again; with ``background`` when it has done what wait_until was given.

        ``None``: it cannot be used any more.
        """
        if background and not answers.ctx.wait_until(self.background(answers)):
            background = None
        if not background:
            answers.close()
            self.free_again(answers.worker, background is None)

    async def background(self, answers: Answers) -> None:
        """Waits until a process has done what wait_until was given."""
        worker, fit = answers.worker, False
        try:
            while isinstance(message := await answers.next(), messages.Failed):
                answers.failed(message)
                # One that fails without end must not keep the event loop.
                await asyncio.sleep(0)
            fit = isinstance(message, messages.Idle)
        finally:
            answers.close()
            if not fit:
                worker.condemn("time", "its work after the response took too long")
                worker.process.kill()
            self.free_again(worker, not fit)

    def free_again(self, worker: Worker, spoilt: bool) -> None:
        """Gives a process to another call, or replaces it."""
        if not worker.over and worker.memory() > self.isolation.memory_bytes:
            worker.condemn("memory", "the worker process has grown")
            spoilt = True
        if spoilt or worker.over:
            self.replace(worker)
        else:
            self.release(worker)

    async def move(self) -> None:
        """Another loop has replaced the one of these processes: their successors belong to it."""
        self.loop = asyncio.get_running_loop()
        old, self.workers, self.free = list(self.workers), set(), deque()
        self.waiting, self.last, self.spoiling = deque(), deque(), 0
        sockets, self.sockets = self.sockets, {}
        for connections in sockets.values():
            connections.abandon("the event loop was replaced")
        for worker in old:
            worker.condemn("stopped", "the event loop was replaced")
            worker.spoilt_soon = False
            worker.kill()
        for _ in range(self.isolation.count):
            self.keep(self.again())
        self.keep(self.watch())


async def _response(memory: int, result: messages.Result, most: int) -> Response:
    """The response of a result; ``ValueError`` where its content is not in the shared memory.

    A thread makes one of a large content, which takes two copies: other calls go on meanwhile.
    """

    def made(memory: int) -> Response:
        content = messages.load(memory, result.body, result.shared, most)
        kind = _TYPES.get(result.kind, "application/octet-stream")
        headers = result.headers if result.kind == "response" else [("content-type", kind)]
        return Response(content, result.status, headers)

    if result.shared <= AT_ONCE:
        return made(memory)
    # The process may end meanwhile, and the number of its descriptor become another one's.
    memory = os.dup(memory)

    def make() -> Response:
        try:
            return made(memory)
        finally:
            os.close(memory)

    response: Response = await settled_by(make, _beside)
    return response


def _beside(call: Callable[[], None]) -> None:
    """Has a thread of its own call this; where none can be started, this one does."""
    try:
        threading.Thread(target=call, name="edge-content", daemon=True).start()
    except RuntimeError:
        call()
