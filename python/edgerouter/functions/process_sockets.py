"""WebSockets of applications in worker processes: the edge has the frames, messages of ASGI go over the channel.

A process for calls runs one at a time, which connections would keep for hours. They have processes of their own, one or
more for each application, which are started when connections come; each has many connections on one event loop. The
application requests each message of the client, and waits until each of its own is taken, so that both sides hold each
other back as in the edge's process.

A process may send whatever it likes. One that breaks the order is ended, as is one whose event loop does not turn for
as long as a call may take, one that computes for too long without a turn, and one that grows too large. Its connections
are closed with 1011 then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING

from edgerouter.functions import TimeLimit, worker_process
from edgerouter.functions import process_messages as messages
from edgerouter.functions.worker_process import LEAVE, WorkerError
from edgerouter.websocket import GoneError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from edgerouter.functions.processes import ProcessPool
    from edgerouter.functions.worker_process import Cause, Worker
    from edgerouter.websocket import Receive, Send

__all__ = ["SocketPool"]

log = logging.getLogger("edgerouter.functions")

#: Why connections end with their edge.
STOPS = "the edge stops"

#: Seconds between two looks at whether the event loop of a process turns, and the least that it may be held for.
BEAT = 1.0
#: Connections of a process whose client is gone and whose application goes on although it was cancelled.
MOST_DROPPED = 64
#: Messages of a connection that are under way in a direction: one, and one whose answer has only just been sent.
MOST_UNDER_WAY = 2


class Socket:
    """A connection of a process."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.receive, self.send = receive, send
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Messages that the application waits for, and its own that are not taken.
        self.wants = self.says = 0
        #: Nobody waits for the end of the application.
        self.dropped = False

    def end(self, error: BaseException | None) -> None:
        """The application has ended, or its process."""
        if self.over.done() or self.dropped:
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)


class SocketProcess:
    """A worker process and its connections."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.loop = asyncio.get_running_loop()
        self.sockets: dict[int, Socket] = {}
        self.count = 0
        self.dropped = 0
        #: Seconds for which its event loop may be held: as long as the handshake of one of its connections may take.
        self.patience = BEAT
        self.beaten: asyncio.Future[None] | None = None
        #: It has not turned for a while.
        self.held = False
        self.tasks: set[asyncio.Task[None]] = set()
        self.reading = asyncio.ensure_future(self.read())
        self.begin(self.beat())

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Makes it a task that is not forgotten."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def post(self, message: messages.ToWorker) -> None:
        """Sends a message as a whole, whatever happens meanwhile to the task that waits for it."""
        await asyncio.shield(self.begin(self.sent(message)))

    async def sent(self, message: messages.ToWorker) -> None:
        # A process that is gone is noticed where its messages are read.
        with contextlib.suppress(OSError):
            await self.worker.send_bytes(messages.encode(message))

    # -- connections -----------------------------------------------------------------------------------------------

    async def run(self, call: messages.Call, receive: Receive, send: Send) -> None:
        """Runs the application for a connection; raises what it raises."""
        self.count += 1
        call.socket = self.count
        socket = self.sockets[call.socket] = Socket(receive, send)
        self.patience = max(self.patience, call.left)
        try:
            await self.post(call)
            await socket.over
        except asyncio.CancelledError:
            if call.socket in self.sockets and not socket.dropped:
                self.drop(call.socket, socket)
            raise

    def drop(self, number: int, socket: Socket) -> None:
        """Has the application cancelled, and waits for it no more."""
        socket.dropped = True
        self.dropped += 1
        if self.dropped > MOST_DROPPED:
            self.kill("time", f"{self.dropped} WebSockets without a client went on although they were cancelled")
        else:
            self.begin(self.sent(messages.Drop(number)))

    async def read(self) -> None:
        """Takes the messages of the process until its end, which is that of its connections."""
        why = STOPS
        try:
            while True:
                self.take(await self.worker.receive())
        except (WorkerError, ValueError) as error:
            why = str(error)
        finally:
            # A process that breaks the order lives until here.
            self.kill("stopped" if why == STOPS else "crashed", why)
            self.worker.kill()
            self.end(self.worker.why or why)

    def end(self, why: str) -> None:
        sockets, self.sockets = self.sockets, {}
        for task in self.tasks:
            task.cancel()
        computed = self.worker.process.returncode == -signal.SIGPROF
        for socket in sockets.values():
            socket.end(TimeLimit("it used up its processor time") if computed else WorkerError(why))

    def take(self, message: messages.ToEdge) -> None:
        """Takes a message; ``ValueError`` if it breaks the order."""
        if isinstance(message, messages.Beat) and self.beaten is not None and not self.beaten.done():
            self.beaten.set_result(None)
            return
        if isinstance(message, (messages.Wanted, messages.SocketMessage, messages.Closed)):
            number = message.socket
            if (socket := self.sockets.get(number)) is not None:
                if isinstance(message, messages.Closed):
                    error = raised(message.failed)
                    del self.sockets[number]
                    self.dropped -= socket.dropped
                    socket.end(error)
                    return
                if isinstance(message, messages.Wanted) and socket.wants < MOST_UNDER_WAY:
                    socket.wants += 1
                    self.begin(self.received(number, socket))
                    return
                if isinstance(message, messages.SocketMessage) and socket.says < MOST_UNDER_WAY:
                    socket.says += 1
                    self.begin(self.said(number, socket, message))
                    return
        raise ValueError("the worker process sent a message out of its order")

    async def received(self, number: int, socket: Socket) -> None:
        """Sends the next message of a client."""
        message = dict(await socket.receive())
        await self.sent(messages.SocketMessage(number, message))
        socket.wants -= 1

    async def said(self, number: int, socket: Socket, message: messages.SocketMessage) -> None:
        """Gives a message to a client, and says so when there is room for another."""
        refused = None
        try:
            await socket.send(message.message)
        except Exception as error:  # noqa: BLE001  # whatever the message deserves
            # A key that is missing has no text of its own.
            refused = messages.Refused(type(error).__name__, str(error.args[0] if error.args else error))
        await self.sent(messages.Taken(number, refused))
        socket.says -= 1

    # -- life ------------------------------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Ends a process whose event loop does not turn."""
        while True:
            beaten = self.beaten = asyncio.get_running_loop().create_future()
            self.begin(self.sent(messages.Beat()))
            await asyncio.wait({beaten}, timeout=BEAT)
            self.held = not beaten.done()
            if self.held:
                # The answer may be there already, if it was the edge that got no time.
                await asyncio.wait({beaten}, timeout=self.patience)
            if not beaten.done():
                self.kill("time", f"the event loop of the worker process was held for {self.patience:g} s")
                return
            self.held = False
            await asyncio.sleep(BEAT)

    def kill(self, cause: Cause, why: str) -> None:
        """Ends the process; ``read`` sees it."""
        if self.worker.why is None and self.worker.process.poll() is None:
            self.worker.condemn(cause, why)
            self.worker.process.kill()

    async def stop(self) -> None:
        """Has the process end by itself, in a short time, with the lifespan of its application."""
        self.worker.cause = "stopped"
        self.begin(self.sent(messages.Leave()))
        await asyncio.wait({self.reading}, timeout=LEAVE)

    def abandon(self, why: str) -> None:
        """Ends it at once; its connections may belong to a loop that does not turn any more."""
        self.worker.condemn("stopped", why)
        self.worker.kill()
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.reading.cancel)


def raised(failed: messages.Failed | None) -> Exception | None:
    """The exception that ended an application."""
    if failed is None:
        return None
    return GoneError(failed.message) if failed.name == GoneError.__name__ else worker_process.raised(failed)


class SocketPool:
    """The processes for the connections of one application of a pool: as many as that has, at most."""

    def __init__(self, pool: ProcessPool, number: int) -> None:
        self.pool, self.number = pool, number
        self.processes: list[SocketProcess] = []
        self.starting: asyncio.Task[None] | None = None
        self.failure = ""

    async def run(self, call: messages.Call, receive: Receive, send: Send) -> None:
        """Runs the application for a connection, in the process with the fewest; raises what it raises."""
        if self.pool.stopped:
            raise WorkerError("the edge stops")
        turning = self.turning()
        more = len(self.processes) < self.pool.isolation.count and all(process.sockets for process in turning)
        if more and self.starting is None:
            self.starting = self.pool.keep(self.begin())
        if not turning and self.starting is not None:
            # Its start goes on when the client of this connection leaves.
            await asyncio.shield(self.starting)
            turning = self.turning()
        found = turning or self.processes
        if not found:
            raise WorkerError(self.failure or "the worker process ended at once")
        await min(found, key=lambda process: len(process.sockets)).run(call, receive, send)

    def turning(self) -> list[SocketProcess]:
        """The processes whose event loop is not held; forgets those that have ended."""
        self.processes = [process for process in self.processes if not process.worker.over]
        return [process for process in self.processes if not process.held]

    async def begin(self) -> None:
        """Starts a process, which imports this application only."""
        try:
            worker = await self.pool.begun([self.pool.functions[self.number]])
            self.processes.append(SocketProcess(worker))
        except (OSError, WorkerError) as error:
            self.failure = f"a worker process could not start: {error}"
            log.error("a worker process for WebSockets could not start: %s", error)
        finally:
            self.starting = None

    async def stop(self) -> None:
        """Has the processes end by themselves, in a short time."""
        await asyncio.gather(*(process.stop() for process in self.processes))

    def abandon(self, why: str) -> None:
        """Ends them at once."""
        for process in self.processes:
            process.abandon(why)
