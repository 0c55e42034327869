"""WebSockets of mounted ASGI applications: the messages of ASGI on one side, bytes through pipes on the other.

The frames are read and written by ``WebSocketCodec``. A connection holds at most the messages of the client that wait
to be received (``HELD`` bytes and one message), the bytes that wait to be sent (``ROOM`` and one message), and answers
to pings of a client that does not read them (``ROOM`` and those of one piece).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from edgerouter._core import Response, WebSocketCodec
from edgerouter.errors import BodyError
from edgerouter.functions.streams import failed
from edgerouter.functions.written import bytes_of

if TYPE_CHECKING:
    from edgerouter._core import AsyncContext, Request

__all__ = ["GoneError", "answered", "are_open", "leave", "offered"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Coroutine[Any, Any, Message]]
Send: TypeAlias = Callable[[Message], Coroutine[Any, Any, None]]
#: An application that has its scope.
Application: TypeAlias = Callable[[Receive, Send], Coroutine[Any, Any, None]]

#: Bytes of messages that wait for the application before the client has to.
HELD = 1 << 20
#: Bytes that a message takes beside its content. Without it empty ones would wait in any number.
OVERHEAD = 512
#: Bytes that wait for the client before the application has to.
ROOM = 64 << 10
#: Bytes of the response by which an application denies a connection.
DENIAL = 1 << 20
#: Seconds without a byte of the client after which it is sent a ping, and again until it counts as gone.
PING = 20.0
#: Seconds for the client's part of a close, for an application whose client is gone, and again once it was cancelled.
GRACE = 1.0
#: Codes of the ends that a client's mistakes bring (RFC 6455 §7.4.1).
_BREACHES = (1002, 1007, 1009)

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class GoneError(OSError):
    """The client is gone: nothing can be sent to it."""


def refused(request: Request) -> Response | None:
    """The answer to a request that is no opening handshake (RFC 6455 §4.2.1)."""
    if request.headers.get("sec-websocket-version") != "13":
        return Response("The version of WebSocket must be 13.\n", 426, {"sec-websocket-version": "13"})
    try:
        key = base64.b64decode(request.headers.get("sec-websocket-key", ""), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 16:
        return Response("Sec-WebSocket-Key must have 16 bytes in base64.\n", 400)
    return None


def offered(request: Request) -> list[str]:
    """The subprotocols that the client offers."""
    lines = request.headers.get_all("sec-websocket-protocol")
    return [name for line in lines for name in (part.strip() for part in line.split(",")) if name]


async def answered(
    request: Request, tunnel: AsyncIterator[bytes], most: int, app: Application, ctx: AsyncContext
) -> Response:
    """The answer of an application to a handshake. Messages of the client have up to ``most`` bytes."""
    if (refusal := refused(request)) is not None:
        return refusal
    return await WebSocketCall(request, tunnel, most).response(app, ctx)


def are_open() -> bool:
    """If any connection of this process is open."""
    return bool(_open)


def leave(loops: Collection[asyncio.AbstractEventLoop]) -> None:
    """Begins the close of all connections on event loops whose server stops. May be called from any thread."""
    for call in list(_open):
        if call.loop in loops:
            # A loop that has ended has no connection.
            with contextlib.suppress(RuntimeError):
                call.loop.call_soon_threadsafe(call.leave)


class WebSocketCall:
    """One connection to an application."""

    def __init__(self, request: Request, tunnel: AsyncIterator[bytes], most: int) -> None:
        self.tunnel = tunnel
        self.key = request.headers.get("sec-websocket-key", "")
        self.offered = offered(request)
        self.codec = WebSocketCodec(most)
        self.loop = asyncio.get_running_loop()
        #: The application's answer to the handshake.
        self.answer: asyncio.Future[Response] = self.loop.create_future()
        self.accepted = False
        self.connected = False
        self.denial: tuple[int, list[tuple[str, str]]] | None = None
        self.denied = b""
        self.inbox: deque[tuple[Message, int]] = deque()
        self.held = 0
        #: Bytes of answers to pings that wait for the client.
        self.pongs = 0
        #: Code and reason, once the connection has ended.
        self.closed: tuple[int, str] | None = None
        #: The application has begun the close, or the server has, which stops.
        self.closing = False
        self.leaving = False
        self.heard = False
        self.running: asyncio.Future[None] | None = None
        self.arrived, self.taken, self.written, self.drained = (asyncio.Event() for _ in range(4))

    async def receive(self) -> Message:
        """The next message of the client."""
        if not self.connected:
            self.connected = True
            return {"type": "websocket.connect"}
        while not self.inbox and self.closed is None:
            self.arrived.clear()
            await self.arrived.wait()
        if self.inbox:
            message, size = self.inbox.popleft()
            self.held -= size
            self.taken.set()
            return message
        code, reason = self.closed or (1006, "")
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def send(self, message: Message) -> None:
        """Takes a message of the application."""
        kind = message["type"]
        if not self.answer.done():
            self.shake(kind, message)
        elif not self.accepted:
            raise RuntimeError(f"{kind} was sent after the connection was denied")
        elif kind == "websocket.send":
            await self.say(message)
        elif kind == "websocket.close":
            self.close(int(message.get("code") or 1000), str(message.get("reason") or ""))
        else:
            raise RuntimeError(f"{kind} is no message for a WebSocket that is open")

    def shake(self, kind: str, message: Message) -> None:
        """The application's part of the handshake."""
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers") or ()]
        if kind == "websocket.accept":
            self.accept(message.get("subprotocol"), fields)
        elif kind == "websocket.close":
            self.answer.set_result(Response("The application refuses this WebSocket.\n", 403))
        elif kind == "websocket.http.response.start":
            self.denial = (int(message["status"]), fields)
        elif kind == "websocket.http.response.body" and self.denial is not None:
            self.denied += bytes_of(message.get("body") or b"")
            if len(self.denied) > DENIAL:
                raise RuntimeError(f"the response that denies a WebSocket has more than {DENIAL} bytes")
            if not message.get("more_body", False):
                status, headers = self.denial
                self.answer.set_result(Response(self.denied, status, headers))
        else:
            raise RuntimeError(f"{kind} was sent before websocket.accept")

    def accept(self, subprotocol: str | None, fields: list[tuple[str, str]]) -> None:
        """Opens the connection."""
        if subprotocol is not None and subprotocol not in self.offered:
            raise RuntimeError(f"the subprotocol {subprotocol!r} is none that the client offers: {self.offered}")
        accept = base64.b64encode(hashlib.sha1(self.key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()
        fields = [(name, value) for name, value in fields if not name.lower().startswith("sec-websocket-")]
        fields.append(("sec-websocket-accept", accept))
        if subprotocol is not None:
            fields.append(("sec-websocket-protocol", subprotocol))
        self.accepted = True
        self.answer.set_result(Response.switched(self.frames(), fields))

    async def say(self, message: Message) -> None:
        """Sends a message, when there is room for it."""
        while self.codec.waiting > ROOM and self.closed is None:
            self.drained.clear()
            await self.drained.wait()
        if self.closed is not None:
            raise GoneError("the client is gone")
        if self.leaving:
            raise GoneError("the server is stopping")
        if self.closing:
            raise RuntimeError("websocket.send was sent after websocket.close")
        if (text := message.get("text")) is not None:
            self.codec.send_text(text)
        elif (content := message.get("bytes")) is not None:
            self.codec.send_bytes(bytes_of(content))
        else:
            raise RuntimeError("websocket.send has neither text nor bytes")
        self.written.set()

    def close(self, code: int, reason: str = "") -> None:
        """Begins the closing handshake, unless it has begun."""
        if not self.closing and self.closed is None:
            self.codec.close(code, reason)
            self.closing = True
            self.written.set()

    def leave(self) -> None:
        """Begins the closing handshake of a server that stops (RFC 6455 §7.4.1)."""
        if not self.closing:
            self.leaving = True
            self.close(1001, "the server is stopping")

    def ended(self, code: int, reason: str) -> None:
        """Nothing more comes of the client."""
        if self.closed is None:
            self.closed = (code, reason)
        for event in (self.arrived, self.taken, self.written, self.drained):
            event.set()

    async def read(self) -> None:
        """Takes what the client sends, as fast as the application receives it."""
        code, reason = 1006, ""
        with contextlib.suppress(BodyError):
            async for piece in self.tunnel:
                self.heard = True
                before = self.codec.waiting
                arrived = self.codec.feed(piece)
                self.pongs += self.codec.waiting - before
                for kind, value in arrived:
                    if kind in ("text", "bytes"):
                        size = OVERHEAD + len(value)
                        self.inbox.append(({"type": "websocket.receive", kind: value}, size))
                        self.held += size
                        self.arrived.set()
                    elif kind == "close":
                        code, reason = value
                self.written.set()
                if code != 1006:
                    break
                while self.held > HELD and self.closed is None:
                    self.taken.clear()
                    await self.taken.wait()
                while self.pongs > ROOM and self.closed is None:
                    self.drained.clear()
                    await self.drained.wait()
        self.ended(code, reason)
        if code in _BREACHES:
            # A connection that is closed with bytes unread is reset, and the client would never read why.
            with contextlib.suppress(BodyError):
                async for _ in self.tunnel:
                    pass

    async def beat(self) -> None:
        """Pings a client that is silent, and gives up one that stays so."""
        pinged = False
        while self.closed is None:
            self.heard = False
            await asyncio.sleep(PING)
            # A client that waits for the application is not sent one.
            if self.heard or self.held > HELD:
                pinged = False
            elif pinged:
                self.close(1011, "no answer to a ping")
                self.ended(1006, "")
            else:
                pinged = True
                with contextlib.suppress(RuntimeError):
                    self.codec.ping()
                self.written.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """The bytes for the client, until both sides have closed."""
        _open.add(self)
        reading, beating = asyncio.create_task(self.read()), asyncio.create_task(self.beat())
        until: float | None = None
        try:
            while True:
                self.written.clear()
                if piece := self.codec.take():
                    self.pongs = 0
                    self.drained.set()
                    yield piece
                elif self.closed is not None:
                    if self.closed[0] in _BREACHES:
                        await asyncio.wait({reading}, timeout=GRACE)
                    return
                elif not self.closing:
                    await self.written.wait()
                else:
                    # The client's part of the close.
                    until = until or self.loop.time() + GRACE
                    try:
                        await asyncio.wait_for(self.written.wait(), max(0.0, until - self.loop.time()))
                    except TimeoutError:
                        return
        finally:
            _open.discard(self)
            self.ended(1006, "")
            reading.cancel()
            beating.cancel()
            for _ in range(2):
                if self.running is not None and not self.running.done():
                    await asyncio.wait({self.running}, timeout=GRACE)
                    self.running.cancel()

    async def response(self, app: Application, ctx: AsyncContext) -> Response:
        """Runs the application until it answers the handshake; the connection goes on beside it."""
        self.running = running = asyncio.ensure_future(app(self.receive, self.send))
        try:
            either: set[asyncio.Future[Any]] = {running, self.answer}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self.answer.done():
                running.result()
                raise RuntimeError("the ASGI application ended without an answer to the WebSocket")
        except BaseException:
            self.ended(1006, "")
            running.cancel()
            raise
        if not self.accepted:
            self.ended(1006, "")

        def over(task: asyncio.Future[Any]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, GoneError):
                failed(ctx, error)
            self.close(1000 if error is None else 1011)

        running.add_done_callback(over)
        if not self.accepted and not running.done() and not ctx.wait_until(running):
            running.cancel()
        return self.answer.result()


#: Connections that are open, of all servers of the process.
_open: set[WebSocketCall] = set()
