"""The WebSockets of a worker process: many connections to one application, on one event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

from edgerouter.functions import process_messages as messages
from edgerouter.functions.process_calls import raised

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgerouter.functions.process_worker import Channel
    from edgerouter.mounting import AsgiMount
    from edgerouter.websocket import Message

__all__ = ["Connections"]

#: Seconds that connections have to end when the process does.
LEAVE = 2.0


class Connection:
    """The two callables of ASGI for one connection."""

    def __init__(self, channel: Channel, number: int) -> None:
        self.channel, self.number = channel, number
        self.receiving, self.sending = asyncio.Lock(), asyncio.Lock()
        #: The message that was requested: a task that is cancelled leaves it to the next.
        self.coming: asyncio.Future[Message] | None = None
        self.going: asyncio.Future[messages.Refused | None] | None = None
        self.running: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """The next message of the client."""
        async with self.receiving:
            if self.coming is None:
                self.coming = asyncio.get_running_loop().create_future()
                self.channel.send(messages.Wanted(self.number))
            message = await asyncio.shield(self.coming)
            self.coming = None
            return message

    async def send(self, message: Message) -> None:
        """Takes a message of the application, when its edge has room for it."""
        async with self.sending:
            if self.going is not None:
                # The task that sent it was cancelled.
                await asyncio.shield(self.going)
                self.going = None
            self.channel.send(messages.SocketMessage(self.number, sendable(message)))
            self.going = asyncio.get_running_loop().create_future()
            refused = await asyncio.shield(self.going)
            self.going = None
            if refused is not None:
                raise raised(refused)


def sendable(message: Message) -> dict[str, Any]:
    """A message as plain values."""
    plain = dict(message)
    if (fields := plain.get("headers")) is not None:
        plain["headers"] = [(bytes(name), bytes(value)) for name, value in fields]
    return plain


class Connections:
    """All connections of the process, from the first on."""

    def __init__(
        self,
        channel: Channel,
        cpu: float,
        app: AsgiMount,
        request_of: Callable[[messages.Call], Any],
        failure_of: Callable[[BaseException], messages.Failed],
    ) -> None:
        self.channel, self.cpu, self.app = channel, cpu, app
        self.request_of, self.failure_of = request_of, failure_of
        self.open: dict[int, Connection] = {}
        self.leaving = asyncio.Event()

    async def serve(self, first: messages.Call) -> None:
        """Serves until its edge has the process leave."""
        loop = asyncio.get_running_loop()
        self.channel.read_by(loop, self.readable)
        turning = asyncio.ensure_future(self.turn())
        self.take(first)
        await self.leaving.wait()
        tasks = [one.running for one in self.open.values() if one.running is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=LEAVE)
            for task in late:
                task.cancel()
        turning.cancel()
        loop.remove_reader(self.channel.sock)

    async def turn(self) -> None:
        """Puts off the kernel's end of a process whose event loop computes for too long without a turn."""
        while True:
            signal.setitimer(signal.ITIMER_PROF, self.cpu)
            await asyncio.sleep(min(1.0, self.cpu / 4))

    def readable(self) -> None:
        """Takes a message of the edge."""
        self.take(self.channel.receive())

    def take(self, message: messages.ToWorker) -> None:
        if isinstance(message, messages.Beat):
            self.channel.send(message)
        elif isinstance(message, messages.Leave):
            self.leaving.set()
        elif isinstance(message, messages.Call):
            connection = self.open[message.socket] = Connection(self.channel, message.socket)
            connection.running = asyncio.ensure_future(self.run(message, connection))
        elif isinstance(message, (messages.SocketMessage, messages.Taken, messages.Drop)):
            if (found := self.open.get(message.socket)) is None:
                return
            if isinstance(message, messages.Drop):
                if found.running is not None:
                    found.running.cancel()
            elif isinstance(message, messages.Taken):
                if found.going is not None:
                    found.going.set_result(message.error)
            elif found.coming is not None:
                found.coming.set_result(message.message)

    async def run(self, call: messages.Call, connection: Connection) -> None:
        """Runs the application for a connection."""
        failed = None
        try:
            await self.app.socket(self.request_of(call), connection.receive, connection.send)
        except asyncio.CancelledError:
            # Its client is gone, and it had its time for that.
            pass
        except SystemExit as error:
            os._exit(error.code if isinstance(error.code, int) else 1)
        except BaseException as error:  # noqa: BLE001  # whatever an application raises
            failed = self.failure_of(error)
        del self.open[call.socket]
        self.channel.send(messages.Closed(call.socket, failed))
