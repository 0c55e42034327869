"""A worker process as its edge has it: its start, its messages, its memory and its end."""

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
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edgerouter._core import process_ended
from edgerouter.errors import Abort
from edgerouter.functions import process_messages as messages

__all__ = ["LEAVE", "Worker", "WorkerError", "raised"]

#: Why a process ended.
Cause: TypeAlias = Literal["stopped", "crashed", "time", "cpu", "memory"]
#: Seconds that an application has for the end of its lifespan.
LEAVE = 5.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Processes started by a worker process whose memory is looked at.
_MOST_DESCENDANTS = 64


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


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have; the first ``_MOST_DESCENDANTS``."""
    found: list[int] = []
    parents = [pid]
    while parents and len(found) < _MOST_DESCENDANTS:
        parent = parents.pop()
        with contextlib.suppress(OSError):
            # Each thread has its own.
            for thread in Path(f"/proc/{parent}/task").iterdir():
                with contextlib.suppress(OSError):
                    children = (thread / "children").read_bytes().split()
                    found += map(int, children)
                    parents += map(int, children)
    return found[:_MOST_DESCENDANTS]


def _share(pid: int) -> int:
    """The resident memory of a process in bytes; of pages that it shares, as after a fork, its part."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
        return int(rollup.partition(b"\nPss:")[2].split(maxsplit=1)[0]) << 10
    except (OSError, IndexError, ValueError):
        return 0


class Worker:
    """One process."""

    def __init__(self) -> None:
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
        self.sends: asyncio.Task[None] | None = None
        #: The reason why it was ended during a call, and its word in the metrics.
        self.why: str | None = None
        self.cause: Cause | None = None
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
        """Sends a message that is encoded; ``OSError`` when the process is gone.

        It is sent as a whole even when the task that waits for it is cancelled: the process would take the beginning of
        the next message for the rest of it.
        """
        await self.sending.acquire()
        if self.over:
            self.sending.release()
            raise OSError("the process is gone")
        try:
            sent = self.sock.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.sending.release()
            raise
        if sent == len(message):
            self.sending.release()
            return
        loop = asyncio.get_running_loop()
        self.sends = loop.create_task(loop.sock_sendall(self.sock, memoryview(message)[sent:]))
        self.sends.add_done_callback(lambda _: self.sending.release())
        try:
            await asyncio.shield(self.sends)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.sends.cancelled() and task is not None and not task.cancelling():
                # Not this task: the process was ended meanwhile.
                raise OSError("the process is gone") from None
            raise

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
            except (msgspec.MsgspecError, RecursionError) as error:
                raise WorkerError(f"the worker process sent a message that cannot be read: {error}") from None
            if not isinstance(message, messages.Log):
                return message
            written(message)
            # One that logs without end must not keep the event loop.
            await asyncio.sleep(0)

    async def leave(self) -> None:
        """Has an idle process end by itself, in a short time."""
        self.condemn("stopped", "the edge stops")
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
        """Its resident memory in bytes, with what it has put into shared memory; 0 where it cannot be read."""
        try:
            shared = sum(os.fstat(memory).st_blocks * 512 for memory in (self.requests, self.responses))
            return int(Path(f"/proc/{self.process.pid}/statm").read_bytes().split()[1]) * _PAGE + shared
        except (OSError, IndexError, ValueError):
            return 0

    def memory_of_all(self) -> int:
        """The same with the processes that it has started, which takes too long for each call."""
        return self.memory() + sum(map(_share, _descendants(self.process.pid)))

    def condemn(self, cause: Cause, why: str) -> None:
        """Notes why it is ended; the first reason is the one that counts."""
        if self.why is None:
            self.cause, self.why = cause, why

    def kill(self) -> None:
        """Ends the process and those that its functions have started. A second time does nothing."""
        if not self.over:
            self.over = True
            # One that has ended by itself keeps the code of its end until it is waited for.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02 if self.why is None else 0)
            self.process.kill()
            # It leads the group of all that it has started, whose number no other process gets as long as one is left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            code = self.process.wait()
            process_ended(self.cause or ("cpu" if code == -signal.SIGPROF else "crashed"))
            self.send_no_more()
            self.close()

    def send_no_more(self) -> None:
        """Ends what is being sent, before the number of the socket's descriptor is another one's."""
        loop = asyncio._get_running_loop()
        if self.sends is not None and not self.sends.done() and self.sends.get_loop() is loop:
            loop.remove_writer(self.sock)
            self.sends.cancel()

    def close(self) -> None:
        self.sock.close()
        os.close(self.requests)
        os.close(self.responses)


def written(message: messages.Log) -> None:
    """Writes a record of a process to the log."""
    logger = logging.getLogger(message.logger)
    if logger.isEnabledFor(message.level):
        record = logger.makeRecord(message.logger, message.level, "", 0, "%s", (message.message,), None)
        record.exc_text = message.trace
        logger.handle(record)


def _environment() -> dict[str, str]:
    """The environment of a worker: that of the edge, without what would make it another program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EDGEROUTER_")}


def raised(failed: messages.Failed) -> Exception:
    """The exception of a call, with its traceback as the cause."""
    if failed.abort is not None:
        status, detail, headers = failed.abort
        return Abort(status, detail, headers=headers)
    kind: type[Exception] = type(failed.name, (Exception,), {"__module__": "builtins"})
    error = kind(failed.message)
    error.__cause__ = RemoteError(failed.trace)
    return error
