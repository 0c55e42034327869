"""A worker process: ``python -m edgerouter.functions.process_worker SOCKET REQUESTS RESPONSES`` (descriptors).

It imports the modules of its functions once and then runs one call at a time, or the WebSockets of one application. It
ends with the socket of its edge.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import importlib.util
import inspect
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from edgerouter.callables import is_async
from edgerouter.functions import process_messages as messages
from edgerouter.functions.logs import encodable, trace_of
from edgerouter.functions.parameters import filled
from edgerouter.functions.process_calls import EdgeCalls
from edgerouter.functions.process_connections import Connections
from edgerouter.functions.process_context import MOST_PIECE, RequestContent, WorkerContext
from edgerouter.functions.process_results import Streamed, failure_of, result_of
from edgerouter.functions.written import Written
from edgerouter.mounting import AsgiMount
from edgerouter.wsgi import WsgiMount

__all__ = ["Channel"]


#: Characters or bytes of a piece that goes in one message, which a character of four bytes must not exceed.
PART = 512 << 10


class Channel:
    """The socket to the edge."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lock = threading.Lock()
        self.process = os.getpid()

    def send(self, message: messages.ToEdge) -> None:
        """Sends a message. Records of logs come from any thread.

        A process that the function has forked ends here: its parent answers the call.
        """
        if os.getpid() != self.process:
            if isinstance(message, messages.Log):
                return
            leave()
        encoded = messages.encode(message)
        if len(encoded) > messages.MOST_MESSAGE:
            most = messages.MOST_MESSAGE
            raise ValueError(f"a message to the edge has {len(encoded)} bytes, more than {most}: send it in parts")
        with self.lock:
            self.sock.sendall(encoded)

    def receive(self) -> messages.ToWorker:
        """The next message. The process ends when the edge is gone."""
        length = int.from_bytes(self.exactly(4), "big")
        return messages.decode_to_worker(self.exactly(length))

    def read_by(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        """Has an event loop call this when there is a message."""
        loop.add_reader(self.sock, readable)
        # Messages are read and written as a whole. libuv (uvloop) has made it a socket that does not wait.
        os.set_blocking(self.sock.fileno(), True)

    def exactly(self, count: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < count:
            piece = self.sock.recv(count - len(pieces))
            if not piece:
                leave()
            pieces += piece
        return bytes(pieces)


def leave() -> NoReturn:
    """Ends the process at once, without the handlers that modules have registered for its end.

    The processes that its functions have started end with it. They are of its group, which it leads.
    """
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def cut_off(*descriptors: int) -> None:
    """Takes the channel and the shared memory from a process that a function has forked.

    It would answer calls, and keep the end of the edge from being seen.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def turn(runner: asyncio.Runner, work: Coroutine[Any, Any, None], scope: contextvars.Context) -> None:
    """Runs a step of a call on the event loop, in the context of the call.

    A task that raises ``KeyboardInterrupt`` ends the loop amid its other tasks, which would go on in the next call: the
    process ends instead, as with an exit.
    """
    try:
        runner.run(work, context=scope)
    except KeyboardInterrupt:
        logging.getLogger("edgerouter.functions").exception("a worker process ends, as a task raised KeyboardInterrupt")
        os._exit(1)


class Forward(logging.Handler):
    """Has the edge write the records: they are lines of its log."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(logging.INFO)
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message, trace = encodable(record.getMessage())[:65_536], trace_of(record)
            trace = trace and encodable(trace)[-262_144:]
            self.channel.send(messages.Log(record.name, record.levelno, message, trace))
        except Exception:  # noqa: BLE001  # the log of a log
            self.handleError(record)


def imported(module: str, file: str, name: str) -> Callable[..., Any]:
    """The function at a place, from a module that is imported as the edge's process did."""
    # Here ``__main__`` is this module.
    found = sys.modules.get(module) if module != "__main__" else None
    if found is None:
        spec = importlib.util.find_spec(module) if module != "__main__" else None
        if spec is not None and spec.origin is not None and Path(spec.origin).samefile(file):
            found = importlib.import_module(module)
        else:
            # A program's own file must not run as a program again.
            alias = "__edgerouter_main__" if module == "__main__" else module
            if (known := sys.modules.get(alias)) is not None:
                found = known
            else:
                spec = importlib.util.spec_from_file_location(alias, file)
                if spec is None or spec.loader is None:
                    raise ImportError(f"{file} cannot be loaded as a Python file")
                found = importlib.util.module_from_spec(spec)
                sys.modules[alias] = found
                spec.loader.exec_module(found)
    value: Any = found
    for part in name.split("."):
        value = getattr(value, part)
    function: Callable[..., Any] = value
    return function


class Worker:
    """Runs the calls of its edge, one at a time."""

    def __init__(self, channel: Channel, requests: int, responses: int, start: messages.Start) -> None:
        self.channel, self.requests, self.responses = channel, requests, responses
        self.edge_calls = EdgeCalls(channel)
        self.cpu = start.cpu
        self.functions: list[tuple[Callable[..., Any], bool]] = []
        #: Applications, by their place and path: one that is behind two patterns starts once.
        self.applications: dict[messages.Imported, AsgiMount | WsgiMount] = {}
        for place in start.functions:
            function = imported(place.module, place.file, place.name)
            function = self.mounted(place, function) if place.interface else filled(function, place.pattern, place.name)
            self.functions.append((function, is_async(function)))

    def mounted(self, place: messages.Imported, app: Callable[..., Any]) -> AsgiMount | WsgiMount:
        """An application at its path."""
        found = self.applications.get(place)
        if found is None:
            if place.interface == "asgi":
                found = AsgiMount(app, place.pattern, in_process=True, sends_files=place.sends_files)
            else:
                found = WsgiMount(app, place.pattern, alone=True)
            self.applications[place] = found
        return found

    def serve(self) -> NoReturn:
        """Runs calls until the edge is gone."""
        lifespans = [app for app in self.applications.values() if isinstance(app, AsgiMount)]
        with asyncio.Runner() as runner:
            try:
                for app in lifespans:
                    runner.run(app.start())
            except Exception as error:  # noqa: BLE001  # whatever an application raises
                self.channel.send(failure_of(error))
                leave()
            self.channel.send(messages.Ready())
            while True:
                call = self.edge_calls.next_call()
                if call is None:
                    for app in reversed(lifespans):
                        runner.run(app.stop())
                    leave()
                if call.socket:
                    runner.run(self.sockets(call))
                    continue
                # The kernel ends a process that takes more, wherever it is.
                signal.setitimer(signal.ITIMER_PROF, self.cpu)
                function, awaits = self.functions[call.function]
                context = WorkerContext(call, self.edge_calls, awaits)
                try:
                    # Other calls do not see the values that it sets there.
                    scope = contextvars.copy_context()
                    if awaits:
                        begin = partial(self.called, function, call, context)
                        turn(runner, self.awaited(begin, context, scope), scope)
                    else:
                        scope.run(self.plain, function, call, context, runner)
                    if context.works:
                        signal.setitimer(signal.ITIMER_PROF, self.cpu)
                        turn(runner, self.background(context), scope)
                        self.channel.send(messages.Idle())
                except SystemExit as error:
                    os._exit(error.code if isinstance(error.code, int) else 1)
                signal.setitimer(signal.ITIMER_PROF, 0)
                context.line.over = True
                del call, context, scope

    async def sockets(self, call: messages.Call) -> None:
        """Serves WebSockets, of which this is the first, until there are no more."""
        app, _ = self.functions[call.function]
        assert isinstance(app, AsgiMount)  # no other has WebSockets
        await Connections(self.channel, self.cpu, app, self.request_of, failure_of).serve(call)
        self.edge_calls.leaving = True

    def request_of(self, call: messages.Call, context: WorkerContext | None = None) -> Any:
        """The request of a call."""
        from edgerouter._core import assemble

        body = messages.load(self.requests, call.body, call.shared, MOST_PIECE)
        source = None
        if context is not None and call.request["streamed"]:
            source = RequestContent(context.line, self.requests)
        return assemble(dict(call.request), body, source)

    def called(self, function: Callable[..., Any], call: messages.Call, context: WorkerContext) -> Any:
        """The value that a function returns for its call."""
        return function(self.request_of(call, context), context)

    def ended(self, context: WorkerContext, value: Any) -> Any:
        """Sends the result; the iterator of a streamed one."""
        result = result_of(value, self.responses)
        iterator = None
        if isinstance(result, Streamed):
            iterator = result.iterator
            result = messages.Result("stream", result.status, result.headers, b"")
        result.tags, result.conversions = context.tags, context.conversions
        # The works of a stream may begin later.
        result.background = bool(context.works)
        self.channel.send(result)
        return iterator

    def failed(self, context: WorkerContext, error: BaseException) -> None:
        """Sends what a function has raised in place of its result. An exit ends the process."""
        if isinstance(error, SystemExit):
            raise error
        self.channel.send(failure_of(error, background=bool(context.works)))

    def plain(
        self, function: Callable[..., Any], call: messages.Call, context: WorkerContext, runner: asyncio.Runner
    ) -> None:
        """Runs a plain function; what it returns may have to be awaited."""
        try:
            value = self.called(function, call, context)
            scope = contextvars.copy_context()
            if inspect.isawaitable(value):
                turn(runner, self.awaited(lambda: value, context, scope), scope)
                return
            iterator = self.ended(context, value)
            if iterator is None:
                return
            if hasattr(iterator, "__aiter__"):
                with self.reading(runner.get_loop()):
                    turn(runner, self.streamed(iterator, context, scope), scope)
                return
            pieces = iter(iterator)
            try:
                for piece in pieces:
                    if self.edge_calls.is_stopped():
                        break
                    self.put(piece)
            finally:
                if (close := getattr(pieces, "close", None)) is not None:
                    close()
            self.channel.send(messages.End(bool(context.works)))
        except BaseException as error:  # noqa: BLE001  # whatever a function raises
            self.failed(context, error)

    async def awaited(
        self, begin: Callable[[], Awaitable[Any]], context: WorkerContext, scope: contextvars.Context
    ) -> None:
        """Runs what an async function, or a plain one, gives to be awaited."""
        with self.reading():
            try:
                iterator = self.ended(context, await self.value(begin, context, scope))
                if iterator is not None:
                    await self.streamed(iterator, context, scope)
            except BaseException as error:  # noqa: BLE001  # whatever a function raises
                self.failed(context, error)

    async def streamed(self, iterator: Any, context: WorkerContext, scope: contextvars.Context) -> None:
        """Sends what an iterator gives, until the client leaves."""
        task = asyncio.get_running_loop().create_task(self.pieces(iterator), context=scope)
        self.edge_calls.on_stop = task.cancel
        if self.edge_calls.stopped:
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not self.edge_calls.stopped:
                raise
        finally:
            self.edge_calls.on_stop = None
        trailers = iterator.trailers if isinstance(iterator, Written) else None
        self.channel.send(messages.End(bool(context.works), trailers or []))

    async def value(
        self, begin: Callable[[], Awaitable[Any]], context: WorkerContext, scope: contextvars.Context
    ) -> Any:
        """Its value, or the one that it answers with before its end: then the rest is work after the response."""
        loop = asyncio.get_running_loop()
        answered = context.answered = loop.create_future()
        begun = begin()
        running = loop.create_task(begun, context=scope) if inspect.iscoroutine(begun) else asyncio.ensure_future(begun)
        await asyncio.wait({running, answered}, return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            answered.cancel()
            return running.result()
        if not running.done():
            context.works.append((running, scope))
        return answered.result()

    async def pieces(self, iterator: Any) -> None:
        if not hasattr(iterator, "__aiter__"):
            for piece in iterator:
                await asyncio.to_thread(self.put, piece)
            return
        pieces = aiter(iterator)
        try:
            async for piece in pieces:
                # The channel may wait for the client, and other tasks go on.
                await asyncio.to_thread(self.put, piece)
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()

    def put(self, piece: Any) -> None:
        """Sends a piece, in parts that a message takes."""
        text = isinstance(piece, str)
        if not text and not isinstance(piece, (bytes, bytearray, memoryview)):
            raise TypeError(f"a piece is str or bytes, not {type(piece).__name__}: convert it, or give none")
        for at in range(0, len(piece), PART):
            part = piece[at : at + PART]
            self.channel.send(messages.Piece(part.encode() if text else bytes(part), text))

    async def background(self, context: WorkerContext) -> None:
        """Runs what wait_until was given, and is given meanwhile. The edge logs the failures."""

        async def run(work: Any) -> None:
            try:
                done = work if inspect.isawaitable(work) else await asyncio.to_thread(work)
                if inspect.isawaitable(done):
                    await done
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it raises
                self.channel.send(failure_of(error))

        tasks: set[asyncio.Task[None]] = set()

        def begin() -> None:
            while context.works and context.work_comes is not None:
                work, scope = context.works.pop(0)
                tasks.add(loop.create_task(run(work), context=scope))

        loop = asyncio.get_running_loop()
        # Work on a thread gives some, too.
        context.work_comes = partial(loop.call_soon_threadsafe, begin)
        with self.reading() if context.line.awaits else contextlib.nullcontext():
            begin()
            while tasks:
                done, _ = await asyncio.wait(tasks)
                tasks -= done
            context.work_comes = None
            context.line.over = True

    @contextlib.contextmanager
    def reading(self, loop: asyncio.AbstractEventLoop | None = None) -> Iterator[None]:
        """Has an event loop, the running one, take the messages of the edge."""
        loop = loop or asyncio.get_running_loop()
        self.channel.read_by(loop, self.edge_calls.readable)
        try:
            yield
        finally:
            loop.remove_reader(self.channel.sock)


def main() -> NoReturn:
    """Takes the first message, imports and serves."""
    sock, requests, responses = (int(argument) for argument in sys.argv[1:4])
    # The terminal's Ctrl-C is for the edge, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    channel = Channel(socket.socket(fileno=sock))
    os.register_at_fork(after_in_child=partial(cut_off, sock, requests, responses))
    start = channel.receive()
    if not isinstance(start, messages.Start):
        leave()
    sys.path[:] = start.path
    root = logging.getLogger()
    root.addHandler(Forward(channel))
    root.setLevel(logging.INFO)
    try:
        worker = Worker(channel, requests, responses, start)
    except Exception as error:  # noqa: BLE001  # whatever the import of a module raises
        channel.send(failure_of(error))
        leave()
    worker.serve()


if __name__ == "__main__":
    main()
