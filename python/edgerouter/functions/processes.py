"""Worker processes for functions with ``isolation="process"``: a pool that belongs to one version of an application.

Processes are started anew, never forked. Each runs one call at a time, so that its end costs one call at most. One that
crashed, took too long, too much processor time or too much memory is ended, and another takes its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from edgerouter._core import Response, dismantle
from edgerouter.errors import Abort, EdgeError
from edgerouter.functions import TimeLimit, logs
from edgerouter.functions import process_messages as messages
from edgerouter.functions.process_answers import Answers, StreamedContent, bindings_of

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Request
    from edgerouter.bindings import Binding
    from edgerouter.isolation import Isolation

__all__ = ["ProcessPool", "WorkerError"]

log = logging.getLogger("edgerouter.functions")

#: Seconds between two looks at the memory of processes that run a call.
LOOK = 0.1
#: Seconds until a process that could not start is tried again, at first and at most.
AGAIN = (0.1, 5.0)
#: Seconds that an application has for the end of its lifespan.
LEAVE = 5.0
#: Processes that the calls of one function have ended in a row, from which on it takes no more than half of them.
SPOILS = 2
_PAGE = os.sysconf("SC_PAGE_SIZE")


class WorkerError(Exception):
    """A worker process ended during a call."""


class RemoteError(Exception):
    """The traceback in a worker process."""

    def __init__(self, trace: str) -> None:
        super().__init__(trace)
        self.trace = trace

    def __str__(self) -> str:
        return f"\n{self.trace}"


def _shared(name: str) -> int:
    """A piece of shared memory that has no name and ends with its processes."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Worker:
    """One process."""

    def __init__(self, pool: ProcessPool) -> None:
        self.pool = pool
        ours, theirs = socket.socketpair()
        self.sock = ours
        ours.setblocking(False)
        self.requests, self.responses = _shared("requests"), _shared("responses")
        passed = (theirs.fileno(), self.requests, self.responses)
        command = [sys.executable, "-m", "edgerouter.functions.process_worker", *map(str, passed)]
        try:
            self.process = subprocess.Popen(  # noqa: S603  # this interpreter, with numbers
                command, stdin=subprocess.DEVNULL, pass_fds=passed, start_new_session=True, env=_environment()
            )
        except OSError:
            self.close()
            raise
        finally:
            theirs.close()
        self.over = False
        #: Messages go one after another.
        self.sending = asyncio.Lock()
        #: The reason why it was ended during a call.
        self.why: str | None = None
        self.busy = False
        #: Its call is of a function that ends processes.
        self.spoilt_soon = False

    async def send(self, message: messages.ToWorker) -> None:
        """Sends a message; ``WorkerError`` when the process is gone."""
        try:
            await self.send_bytes(messages.encode(message))
        except OSError:
            raise WorkerError(self.ended()) from None

    async def send_bytes(self, message: bytes) -> None:
        """Sends a message that is encoded; ``OSError`` when the process is gone."""
        async with self.sending:
            if self.over:
                raise OSError("the process is gone")
            await asyncio.get_running_loop().sock_sendall(self.sock, message)

    async def exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        pieces = bytearray()
        while len(pieces) < count:
            try:
                piece = await loop.sock_recv(self.sock, count - len(pieces))
            except OSError:
                piece = b""
            if not piece:
                raise WorkerError(self.ended())
            pieces += piece
        return bytes(pieces)

    async def receive(self) -> messages.ToEdge:
        """The next message; records of its log are written by the way."""
        while True:
            length = int.from_bytes(await self.exactly(4), "big")
            if length > messages.MOST_MESSAGE:
                raise WorkerError("the worker process sent a message that is too large")
            try:
                message = messages.decode_to_edge(await self.exactly(length))
            except msgspec.MsgspecError as error:
                raise WorkerError(f"the worker process sent a message that cannot be read: {error}") from None
            if not isinstance(message, messages.Log):
                return message
            logging.getLogger(message.logger).log(message.level, "%s", message.message)

    async def leave(self) -> None:
        """Has an idle process end by itself, in a short time."""
        with contextlib.suppress(WorkerError, TimeoutError):
            async with asyncio.timeout(LEAVE):
                await self.send(messages.Leave())
                # It sends nothing any more but records of its log.
                await self.receive()

    def ended(self) -> str:
        """Why the process is gone, in words."""
        self.kill()
        if self.why is not None:
            return self.why
        code = self.process.wait()
        if code >= 0:
            return f"the worker process ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"the worker process was ended by {name}"

    def memory(self) -> int:
        """Its resident memory in bytes; 0 where it cannot be read."""
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_bytes().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0

    def kill(self) -> None:
        """Ends the process. A second time does nothing."""
        if not self.over:
            self.over = True
            # One that has ended by itself keeps the code of its end until it is waited for.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02 if self.why is None else 0)
            self.process.kill()
            self.process.wait()
            self.close()

    def close(self) -> None:
        self.sock.close()
        os.close(self.requests)
        os.close(self.responses)


def _environment() -> dict[str, str]:
    """The environment of a worker: that of the edge, without what would make it another program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EDGEROUTER_")}


class ProcessPool:
    """The processes of one edge and one ``Isolation``."""

    def __init__(self, isolation: Isolation, bindings: list[Binding]) -> None:
        self.isolation = isolation
        #: Those of the edge, which may be declared later.
        self.bindings = bindings
        self.functions: list[tuple[str, str, str, str, str]] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.workers: set[Worker] = set()
        self.free: deque[Worker] = deque()
        self.waiting: deque[asyncio.Future[Worker]] = deque()
        #: The processes that calls of a function have ended, since one of its calls went well.
        self.ends: dict[int, int] = {}
        #: Calls of functions that end processes: their number in processes, and those that wait behind all others.
        self.spoiling = 0
        self.last: deque[asyncio.Future[Worker]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopped = False
        #: Seconds for the start of all: imports may take a while.
        self.patience = 60.0

    def add(self, module: str, file: str, name: str, pattern: str, interface: str = "") -> int:
        """Adds a function, or an application at a path; gives its number."""
        self.functions.append((module, file, name, pattern, interface))
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
        if any(interface == "asgi" for *_, interface in self.functions):
            await asyncio.gather(*(worker.leave() for worker in self.workers if not worker.busy))
        for worker in list(self.workers):
            worker.why = "the edge stops"
            worker.kill()
        self.workers.clear()
        self.free.clear()

    def keep(self, work: object) -> None:
        """Makes it a task that is not forgotten."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def fresh(self) -> None:
        """A process that is ready for calls."""
        worker = Worker(self)
        self.workers.add(worker)
        try:
            await worker.send(messages.Start(sys.path.copy(), self.functions, self.isolation.cpu))
            answer = await worker.receive()
            if isinstance(answer, messages.Failed):
                raise WorkerError(f"{answer.name}: {answer.message}\n{answer.trace}")
        except BaseException:
            self.workers.discard(worker)
            worker.kill()
            raise
        self.release(worker)

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
            await asyncio.sleep(LOOK)
            for worker in [worker for worker in self.workers if worker.busy]:
                if (memory := worker.memory()) > most and worker.why is None:
                    worker.why = f"the worker process had {memory} bytes of memory, more than {most}"
                    worker.process.kill()

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
        if parts["streamed"]:
            answers.content = aiter(request)
        try:
            inline, shared = messages.store(worker.requests, body)
            await worker.send(self.message(number, ctx, parts, inline, shared))
            answer = await answers.next()
            if isinstance(answer, messages.Result):
                body = messages.load(worker.responses, answer.body, answer.shared, self.isolation.response_bytes)
        except asyncio.CancelledError:
            # Its time is over, or nobody waits for it.
            answers.close()
            worker.why = "its time was over"
            worker.process.kill()
            self.spoilt(number, worker)
            raise
        except (WorkerError, ValueError, OSError) as error:
            answers.close()
            self.spoilt(number, worker)
            if worker.process.returncode == -signal.SIGPROF:
                message = "%s was ended: its processor time is %g s"
                log.warning(message, ctx.name, self.isolation.cpu_seconds, extra=logs.about(ctx.name, ctx.log_id))
                raise TimeLimit from None
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
                if not streams:
                    return _response(answer, body)
                content = StreamedContent(answers, _raised, lambda background: self.over(answers, background))
                # An iterator of either kind of pieces.
                return Response(cast("Any", content), answer.status, answer.headers)
            except BaseException:
                if streams:
                    self.over(answers, None)
                raise
        self.over(answers, False if isinstance(answer, messages.Failed) else None)
        if isinstance(answer, messages.Failed):
            raise _raised(answer)
        raise WorkerError("the worker process sent a message out of its order")

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
            fit = isinstance(await answers.next(), messages.Idle)
        finally:
            answers.close()
            if not fit:
                worker.why = "its work after the response took too long"
                worker.process.kill()
            self.free_again(worker, not fit)

    def free_again(self, worker: Worker, spoilt: bool) -> None:
        """Gives a process to another call, or replaces it."""
        if spoilt or worker.over or worker.memory() > self.isolation.memory_bytes:
            self.replace(worker)
        else:
            self.release(worker)

    async def move(self) -> None:
        """Another loop has replaced the one of these processes: their successors belong to it."""
        self.loop = asyncio.get_running_loop()
        old, self.workers, self.free = list(self.workers), set(), deque()
        self.waiting, self.last, self.spoiling = deque(), deque(), 0
        for worker in old:
            worker.why = "the event loop was replaced"
            worker.spoilt_soon = False
            worker.kill()
        for _ in range(self.isolation.count):
            self.keep(self.again())
        self.keep(self.watch())


def _response(result: messages.Result, body: bytes) -> Response:
    if result.kind == "text":
        return Response.text(body.decode(), result.status)
    if result.kind == "response":
        return Response(body, result.status, result.headers)
    kind = "application/json" if result.kind == "json" else "application/octet-stream"
    return Response(body, result.status, {"content-type": kind})


def _raised(failed: messages.Failed) -> Exception:
    """The exception of a call, with its traceback as the cause."""
    if failed.abort is not None:
        status, detail, headers = failed.abort
        return Abort(status, detail, headers=headers)
    kind: type[Exception] = type(failed.name, (Exception,), {"__module__": "builtins"})
    error = kind(failed.message)
    error.__cause__ = RemoteError(failed.trace)
    return error
