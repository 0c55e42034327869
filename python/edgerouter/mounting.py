"""Web applications of other frameworks behind the edge: ASGI 3.0. Those of WSGI are in ``wsgi``.

An application is called as a function is, on the event loop of functions, with what the edge has cleaned: its routes,
tokens, limits and hooks come first. Its responses are streamed where it streams them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import unquote

from edgerouter._core import asgi_response, asgi_scope
from edgerouter.checks import shown
from edgerouter.errors import BodyError, ConfigError, EdgeError, Problem
from edgerouter.functions.late import raising
from edgerouter.functions.sent_files import SentFile
from edgerouter.functions.written import Handed, Written, bytes_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edgerouter._core import AsyncContext, Request, Response
    from edgerouter.functions.written import Sink

__all__ = ["AsgiMount", "Interface", "interface_of"]

Interface: TypeAlias = Literal["asgi", "wsgi"]
Message: TypeAlias = MutableMapping[str, Any]

OTHER_LENGTH = "the content of the response has another length than its content-length"
#: Seconds that an application has after its client is gone, and again after it was cancelled.
_GRACE = 1.0


def interface_of(app: object) -> Interface | None:
    """The interface that a callable has; ``None``: neither."""
    if not callable(app):
        return None
    awaits = any(inspect.iscoroutinefunction(kind) for kind in (app, type(app).__call__))
    try:
        signature = inspect.signature(app)
        if awaits:
            signature.bind("scope", "receive", "send")
            return "asgi"
    except (TypeError, ValueError):
        return None
    parameters = signature.parameters.values()
    positional = [it for it in parameters if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)]
    required = [it for it in positional if it.default is it.empty]
    if len(required) == 3:
        return "asgi"
    return "wsgi" if len(required) == 2 else None


def refuse(path: object, message: str) -> ConfigError:
    """A problem with ``Edge.mount``."""
    return ConfigError([Problem("mount", path if isinstance(path, str) else shown(path), message)])


class AsgiMount:
    """An ASGI application at a path."""

    #: It awaits the content of its requests in pieces.
    content_as_wanted = True

    def __init__(
        self,
        app: Callable[..., Any],
        root: str,
        message_bytes: int = 1 << 20,
        *,
        in_process: bool = False,
        sends_files: bool = False,
    ) -> None:
        self.app = app
        #: It may have files sent, which a middleware that changes content does not see.
        self.sends_files = sends_files
        #: As ``path`` of a scope has it.
        self.root = unquote(root)
        #: It is called in a process of its own.
        self.in_process = in_process
        self.message_bytes = message_bytes
        self.state: dict[str, Any] = {}
        self.lifespan: Lifespan | None = None

    async def start(self) -> None:
        """Starts the application's lifespan, if it has one."""
        self.lifespan = Lifespan(self.app, self.state, self.root or "/")
        await self.lifespan.start()

    async def stop(self) -> None:
        """Ends its lifespan."""
        if self.lifespan is not None:
            await self.lifespan.stop()

    def scope(self, request: Request) -> dict[str, Any]:
        """The connection scope of a request."""
        scope = asgi_scope(request, self.root, self.state)
        extensions: dict[str, dict[str, Any]] = {"http.response.trailers": {}, "http.response.early_hint": {}}
        scope["extensions"] = extensions
        if self.sends_files:
            extensions["http.response.pathsend"] = {}
        return scope

    def socket_scope(self, request: Request) -> dict[str, Any]:
        """The connection scope of a WebSocket."""
        from edgerouter.websocket import offered

        scope = self.scope(request)
        del scope["method"]
        scheme = "wss" if request.scheme == "https" else "ws"
        extensions: dict[str, Any] = {"websocket.http.response": {}}
        return scope | {
            "type": "websocket",
            "scheme": scheme,
            "subprotocols": offered(request),
            "extensions": extensions,
        }

    async def socket(self, request: Request, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
        """Calls the application for a WebSocket."""
        await self.app(self.socket_scope(request), receive, send)

    async def __call__(self, request: Request, ctx: AsyncContext) -> Response | None:
        """Calls the application, which answers before its end."""
        if (tunnel := request.take_tunnel()) is not None:
            from edgerouter.websocket import answered

            return await answered(request, tunnel, self.message_bytes, partial(self.socket, request), ctx)
        call = AsgiCall(request, ctx, self.in_process)
        call.sends_files = self.sends_files
        await call.run(self.app, self.scope(request))
        return None


class AsgiCall:
    """One request to an ASGI application, which runs in the task of its call and answers it when its response begins.

    Parts that only a body or a streamed response needs are made when they are needed.
    """

    task: asyncio.Task[Any] | None = None
    pieces: AsyncIterator[bytes] | None = None
    received = False
    gone = False
    wait_for_gone: asyncio.Future[None] | None = None
    #: The content of the request broke off, which is the answer if the application gives none.
    broken: BodyError | None = None
    head: Message | None = None
    begun = False
    to_head = False
    #: Bytes that are still to come, where the application states the length.
    missing: int | None = None
    written: Written | None = None
    sink: Sink | None = None
    over = False
    #: Those that were sent, where trailers end the response; they are all that is missing.
    trailers: list[Any] | None = None
    trailers_due = False
    leaves = False
    sends_files = False
    room: asyncio.Lock | None = None

    def __init__(self, request: Request, ctx: AsyncContext, in_process: bool) -> None:
        self.request = request
        self.ctx = ctx
        self.in_process = in_process

    async def receive(self) -> Message:
        """The next message of the client."""
        if not self.received and not self.gone:
            if self.pieces is None:
                self.pieces = aiter(self.request)
            try:
                async for piece in self.pieces:
                    return {"type": "http.request", "body": piece, "more_body": True}
            except BodyError as error:
                self.broken = error
                self.leave()
            else:
                self.received = True
                return {"type": "http.request", "body": b"", "more_body": False}
        if not self.gone:
            await asyncio.shield(self.when_gone())
        return {"type": "http.disconnect"}

    def when_gone(self) -> asyncio.Future[None]:
        """The time when the client is gone, or has all."""
        if self.wait_for_gone is None:
            loop = asyncio.get_running_loop()
            self.wait_for_gone = loop.create_future()
            if not self.begun and not self.ctx._when_gone(_soon(loop, self.leave_unanswered)):
                self.leave()
        return self.wait_for_gone

    def leave_unanswered(self) -> None:
        """Notes that nobody waits for an answer. The sink of a response that has begun sees that by itself."""
        if not self.begun:
            self.leave()

    def leave(self) -> None:
        """Notes that the client is gone, or has all."""
        self.gone = True
        if self.wait_for_gone is not None and not self.wait_for_gone.done():
            self.wait_for_gone.set_result(None)

    async def send(self, message: Message) -> None:
        """Takes a message of the application."""
        kind = message["type"]
        if kind == "http.response.start":
            if self.head is not None:
                raise RuntimeError("http.response.start was sent before")
            self.head = message
        elif kind == "http.response.body":
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = bytes_of(body)
            await self.content(self.content_head(kind), body, bool(message.get("more_body", False)))
        elif kind == "http.response.pathsend" and self.sends_files:
            await self.send_file(self.content_head(kind), message["path"])
        elif kind == "http.response.trailers":
            self.send_trailers(message)
        elif kind == "http.response.early_hint":
            self.send_hints(message["links"])
        else:
            raise RuntimeError(f"{kind} is no message of an HTTP response that this server offers")

    def content_head(self, kind: str) -> Message:
        """The head, for a message with content."""
        if self.head is None:
            raise RuntimeError(f"{kind} was sent before http.response.start")
        if self.over or self.trailers_due:
            raise RuntimeError(f"{kind} was sent after the last one")
        return self.head

    def send_hints(self, links: Iterable[Any]) -> None:
        """Sends a 103 with links ahead of the response."""
        if self.head is not None:
            raise RuntimeError("http.response.early_hint was sent after http.response.start")
        given = [bytes_of(link).decode("latin-1") for link in links]
        if given and not self.gone:
            self.ctx.early_hints(*given)

    def send_trailers(self, message: Message) -> None:
        """Takes trailers, and ends the response with the last of them."""
        if self.head is None or not self.head.get("trailers", False):
            raise RuntimeError("http.response.trailers was sent, and http.response.start has no trailers: True")
        if not self.over and not self.trailers_due:
            raise RuntimeError("http.response.trailers was sent before the last http.response.body")
        if self.trailers_due and self.sink is not None and self.trailers is not None:
            if self.gone:
                raise OSError("the client is gone")
            self.trailers += message.get("headers", ())
            if not message.get("more_trailers", False):
                self.end(self.sink)

    async def content(self, head: Message, body: bytes, more: bool) -> None:
        """Sends a piece of the content."""
        if self.begun and self.sink is None:
            # Its first piece was the whole, or nobody wants one.
            if body and not self.to_head:
                raise RuntimeError(OTHER_LENGTH)
            self.over = not more
            await asyncio.sleep(0)
        elif self.gone:
            raise OSError("the client is gone")
        else:
            sink = self.sink or self.begin(head, body, more)
            if sink is not None:
                await self.put(sink, body, more)

    async def send_file(self, head: Message, path: object) -> None:
        """Sends a file as the content, or as the rest of it."""
        file = await SentFile.opened(path)
        if not self.begun:
            fields = head["headers"] = list(head.get("headers", ()))
            if _stated(fields) not in (None, file.size) or self.request.method == "HEAD":
                file.close()
                if self.request.method != "HEAD":
                    raise RuntimeError(OTHER_LENGTH)
                await self.content(head, b"", False)
                return
        async with contextlib.aclosing(file.pieces()) as pieces:
            async for piece, more in pieces:
                await self.content(head, piece, more)

    def begin(self, head: Message, body: bytes, more: bool) -> Sink | None:
        """Answers with the head and all of the content, or gives the sink for its pieces."""
        status, fields = int(head["status"]), head.get("headers", ())
        ends_in_trailers = bool(head.get("trailers", False))
        if more or ends_in_trailers:
            fields = list(fields)
            self.missing = _stated(fields)
            self.to_head = self.request.method == "HEAD"
            # None follow content of a stated length, as HTTP/1.1 frames it.
            ends_in_trailers = ends_in_trailers and self.missing is None and not self.to_head
        if not (more or ends_in_trailers) or self.to_head or self.missing == len(body):
            # Content is dropped as it comes, so that the application runs to its end for HEAD, too.
            response = asgi_response(status, fields, b"" if self.to_head else body)
            self.begun = True
            self.over = not more
            self.ctx._answer(response)
            self.leave()
            return None
        if self.pieces is None:
            # The request ends with the call, its body does not.
            self.pieces = aiter(self.request)
        if ends_in_trailers:
            self.trailers = []
        self.written = written = Written(Handed() if self.in_process else None)
        response = asgi_response(status, fields, written)
        self.begun = True
        self.ctx._answer(response)
        self.sink = sink = written.sink
        loop = asyncio.get_running_loop()
        if sink is None or not sink.when_unwanted(_soon(loop, self.left)):
            # It was answered otherwise, or its client has left.
            self.left()
            raise OSError("the client is gone")
        sink.turns_with(loop)
        return sink

    async def put(self, sink: Sink, body: bytes, more: bool) -> None:
        """Sends a piece, and waits for room for the next."""
        if self.missing is not None:
            self.missing -= len(body)
            if self.missing < 0 or (self.missing and not more):
                raise RuntimeError(OTHER_LENGTH)
        room = sink.put(body)
        if room is None:
            self.left()
            raise OSError("the client is gone")
        if not more:
            if self.trailers is not None:
                self.trailers_due = True
            else:
                self.end(sink)
        elif not room:
            if self.room is None:
                self.room = asyncio.Lock()
            # Several tasks may send, and one can wait.
            async with self.room:
                if (wait := sink.room()) is not None:
                    await wait

    def end(self, sink: Sink) -> None:
        """Ends the response."""
        sink.end(True, self.trailers or None)
        self.over = True
        # The application sees that its client has all, and may go on as work after the response.
        self.leave()
        asyncio.get_running_loop().call_soon(self.goes_on)

    def goes_on(self) -> None:
        """Bounds what the application still does after its streamed response."""
        task = self.task
        if task is not None and not task.done() and not self.ctx.wait_until(task):
            task.cancel()

    def left(self) -> None:
        """Gives the application a short time to end: its client has left."""
        if not self.over and not self.leaves:
            self.leaves = True
            self.leave()
            asyncio.get_running_loop().call_later(_GRACE, self.expire, True)

    def expire(self, again: bool) -> None:
        """Cancels an application whose client is gone; one that goes on all the same is cancelled ``again``."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            if again:
                asyncio.get_running_loop().call_later(_GRACE, self.expire, False)

    async def run(self, app: Callable[..., Any], scope: Message) -> None:
        """Runs the application to its end; raises what it raises before its response begins."""
        self.task = asyncio.current_task()
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            if not self.begun:
                if self.broken is not None and isinstance(error, Exception):
                    raise self.broken from error
                if self.gone and isinstance(error, OSError):
                    return self.unanswered()
                self.leave()
                raise
            self.failed(error, scope)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            if not self.begun:
                return self.unanswered()
            if self.sink is not None and not self.over:
                self.failed(RuntimeError("the ASGI application ended without the end of its response"), scope)

    def unanswered(self) -> None:
        """Ends a call whose application gave no response."""
        if self.broken is not None:
            raise self.broken
        if not self.gone:
            raise RuntimeError("the ASGI application ended without a response")
        # Nobody waits for one.
        self.ctx._answer(asgi_response(503, (), b""))

    def failed(self, error: BaseException, scope: Message) -> None:
        """Breaks off the response that is streamed, or logs a failure after the response, which costs nobody more."""
        if self.written is None or self.over:
            if not isinstance(error, asyncio.CancelledError):
                # The request is over.
                request = f"{scope['method']} {scope['raw_path'].decode('latin-1')}"
                self.ctx.wait_until(raising(f"{request}, after its response", error))
        elif self.gone or isinstance(error, asyncio.CancelledError):
            self.written.break_off(None, self.ctx)
        else:
            self.written.break_off(error, self.ctx)
        self.leave()


def _stated(fields: list[Any]) -> int | None:
    """The length that the fields of a response state, if they do so once."""
    found = [field[1] for field in fields if field[0].lower() == b"content-length"]
    return int(found[0]) if len(found) == 1 and found[0].isdigit() else None


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> Callable[[], None]:
    """Has an event loop make a call, on any thread."""

    def soon() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(call)

    return soon


class Lifespan:
    """The lifespan of an ASGI application."""

    def __init__(self, app: Callable[..., Any], state: dict[str, Any], root: str) -> None:
        self.app = app
        self.state = state
        self.root = root
        self.to_app: asyncio.Queue[Message] = asyncio.Queue()
        self.answers: asyncio.Queue[Message] = asyncio.Queue()
        self.running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Ends with the application's own part; one that knows no lifespan raises at once."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self.app(scope, self.to_app.get, self.answers.put)

    async def answer(self) -> Message | None:
        """The application's next message; ``None``: it ended without one."""
        assert self.running is not None
        answer = asyncio.ensure_future(self.answers.get())
        try:
            await asyncio.wait({self.running, answer}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # Its time is over.
            self.running.cancel()
            answer.cancel()
            raise
        if answer.done():
            return answer.result()
        answer.cancel()
        return None

    async def start(self) -> None:
        """Returns when the application has started; ``EdgeError`` when it says that it could not."""
        self.running = asyncio.create_task(self.run())
        # An error of a later step is nobody's: asyncio would log it whenever the task is freed, amid other work.
        self.running.add_done_callback(lambda task: task.cancelled() or task.exception())
        await self.to_app.put({"type": "lifespan.startup"})
        answer = await self.answer()
        if answer is None:
            # It has no lifespan, and says so by an exception.
            self.running.exception()
            self.running = None
        elif answer["type"] == "lifespan.startup.failed":
            reason = answer.get("message") or "it gave no reason"
            raise EdgeError(f"the ASGI application at {self.root} could not start: {reason}")

    async def stop(self) -> None:
        """Returns when the application has stopped."""
        if self.running is None or self.running.done():
            return
        await self.to_app.put({"type": "lifespan.shutdown"})
        answer = await self.answer()
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            raise EdgeError(f"the ASGI application could not stop: {answer.get('message') or 'it gave no reason'}")
        await self.running
