"""Web applications of other frameworks behind the edge: ASGI 3.0 and WSGI (PEP 3333), in this process.

An application is called as a function is, on the event loop or on a thread, with what the edge has cleaned: its routes,
tokens, limits and hooks come first. Its responses are streamed where it streams them.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from edgerouter._core import Response, asgi_response, asgi_scope, server_of
from edgerouter.errors import ConfigError, EdgeError, Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from edgerouter._core import AsyncContext, Context, Request

__all__ = ["AsgiMount", "Interface", "WsgiMount", "interface_of"]

Interface: TypeAlias = Literal["asgi", "wsgi"]
Message: TypeAlias = MutableMapping[str, Any]

#: Pieces of a response that wait for the client, beside those in the pipe.
_WAITING = 2
#: Seconds that an application has after its client is gone, and again after it was cancelled.
_GRACE = 1.0


def interface_of(app: object) -> Interface | None:
    """The interface that a callable has; ``None``: neither."""
    if not callable(app):
        return None
    kinds = (app, type(app).__call__)
    if any(inspect.iscoroutinefunction(kind) for kind in kinds):
        return "asgi"
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = [it for it in parameters if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD)]
    required = [it for it in positional if it.default is it.empty]
    if len(required) == 3:
        return "asgi"
    return "wsgi" if len(required) == 2 else None


def refuse(path: object, message: str) -> ConfigError:
    """A problem with ``Edge.mount``."""
    return ConfigError([Problem("mount", str(path), message)])


class AsgiMount:
    """An ASGI application at a path."""

    #: It awaits the content of its requests in pieces.
    content_as_wanted = True

    def __init__(self, app: Callable[..., Any], root: str, message_bytes: int = 1 << 20) -> None:
        self.app = app
        self.root = root
        self.message_bytes = message_bytes
        self.state: dict[str, Any] = {}
        self.lifespan: Lifespan | None = None

    async def start(self) -> None:
        """Starts the application's lifespan, if it has one."""
        self.lifespan = Lifespan(self.app, self.state)
        await self.lifespan.start()

    async def stop(self) -> None:
        """Ends its lifespan."""
        if self.lifespan is not None:
            await self.lifespan.stop()

    def scope(self, request: Request) -> dict[str, Any]:
        """The connection scope of a request."""
        return asgi_scope(request, self.root, self.state)

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
        await AsgiCall(request, ctx).run(self.app, self.scope(request))
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
    head: Message | None = None
    begun = False
    rest: asyncio.Queue[bytes | None] | None = None
    over = False
    failure: BaseException | None = None

    def __init__(self, request: Request, ctx: AsyncContext) -> None:
        self.request = request
        self.ctx = ctx

    async def receive(self) -> Message:
        """The next message of the client."""
        if not self.received and not self.gone:
            if self.pieces is None:
                self.pieces = aiter(self.request)
            async for piece in self.pieces:
                return {"type": "http.request", "body": piece, "more_body": True}
            self.received = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self.gone:
            if self.wait_for_gone is None:
                self.wait_for_gone = asyncio.get_running_loop().create_future()
            await asyncio.shield(self.wait_for_gone)
        return {"type": "http.disconnect"}

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
            if self.head is None:
                raise RuntimeError("http.response.body was sent before http.response.start")
            if self.over:
                raise RuntimeError("http.response.body was sent after the last one")
            if self.gone:
                raise OSError("the client is gone")
            more = bool(message.get("more_body", False))
            self.over = not more
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = bytes(body)
            if self.rest is not None:
                if body:
                    await self.rest.put(body)
                if not more:
                    await self.rest.put(None)
            elif body or not more:
                self.begin(body, more)
        else:
            raise RuntimeError(f"{kind} is no message of an HTTP response that this server offers")

    def begin(self, body: bytes, more: bool) -> None:
        """Answers with the head and the first or only piece."""
        assert self.head is not None  # the beginning comes after it
        content: bytes | AsyncIterator[bytes] = body
        if more:
            if self.pieces is None:
                # The request ends with the call, its body does not.
                self.pieces = aiter(self.request)
            self.rest = asyncio.Queue(_WAITING)
            content = self.following(body, self.rest)
        response = asgi_response(int(self.head["status"]), self.head.get("headers", ()), content)
        self.begun = True
        self.ctx._answer(response)
        if not more:
            self.leave()

    async def run(self, app: Callable[..., Any], scope: Message) -> None:
        """Runs the application to its end; raises what it raises before its response begins."""
        self.task = asyncio.current_task()
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            self.leave()
            if not self.begun:
                raise
            if isinstance(error, asyncio.CancelledError):
                if self.rest is not None and not self.over:
                    self.failed(RuntimeError("the ASGI application was cancelled"))
                raise
            self.failed(error)
        if not self.begun:
            raise RuntimeError("the ASGI application ended without a response")
        if self.rest is not None and not self.over:
            self.failed(RuntimeError("the ASGI application ended without the end of its response"))

    def failed(self, error: BaseException) -> None:
        """Breaks off the response that is streamed, or logs a failure after the response, which costs nobody more."""
        if self.rest is None or self.over:
            self.ctx.wait_until(_raised(error))
        elif self.failure is None:
            self.failure = error
            # A full queue has a reader that is not waiting.
            if self.rest.empty():
                self.rest.put_nowait(None)

    async def following(self, first: bytes, rest: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        """All content of a streamed response; an application that fails breaks it off."""
        task = self.task
        assert task is not None  # it is what sends
        try:
            yield first
            while True:
                ended = self.failure is not None or task.done()
                piece = rest.get_nowait() if not rest.empty() else None if ended else await rest.get()
                if piece is None:
                    break
                yield piece
            if not self.over:
                raise self.failure or RuntimeError("the ASGI application ended without the end of its response")
        finally:
            # The application sees that the client is gone, or has all, and may clean up.
            self.leave()
            if self.over:
                if not task.done() and not self.ctx.wait_until(task):
                    task.cancel()
            else:
                for _ in range(2):
                    if not task.done():
                        await asyncio.wait({task}, timeout=_GRACE)
                        task.cancel()


async def _raised(error: BaseException) -> None:
    raise error


class Lifespan:
    """The lifespan of an ASGI application."""

    def __init__(self, app: Callable[..., Any], state: dict[str, Any]) -> None:
        self.app = app
        self.state = state
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
        await asyncio.wait({self.running, answer}, return_when=asyncio.FIRST_COMPLETED)
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
            raise EdgeError(f"the ASGI application could not start: {answer.get('message') or 'it gave no reason'}")

    async def stop(self) -> None:
        """Returns when the application has stopped."""
        if self.running is None or self.running.done():
            return
        await self.to_app.put({"type": "lifespan.shutdown"})
        answer = await self.answer()
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            raise EdgeError(f"the ASGI application could not stop: {answer.get('message') or 'it gave no reason'}")
        await self.running


class Pieces(io.RawIOBase):
    """The content of a request as a file that is read."""

    def __init__(self, request: Request) -> None:
        self.pieces = iter(request)
        self.left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.left:
            self.left = next(self.pieces, b"")
        count = min(len(buffer), len(self.left))
        buffer[:count] = self.left[:count]
        self.left = self.left[count:]
        return count


class WsgiMount:
    """A WSGI application at a path."""

    def __init__(self, app: Callable[..., Iterable[bytes]], root: str, *, alone: bool = False) -> None:
        self.app = app
        self.root = root
        #: It runs one call at a time, in one of several processes.
        self.alone = alone

    def environ(self, request: Request) -> dict[str, Any]:
        """The environment of a request (PEP 3333)."""
        path = unquote_to_bytes(request.path).decode("latin-1")
        host, port = server_of(request)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": self.root,
            "PATH_INFO": path.removeprefix(self.root),
            "QUERY_STRING": request.query_string,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
            "REMOTE_ADDR": request.client,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.scheme,
            "wsgi.input": io.BufferedReader(Pieces(request)),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": not self.alone,
            "wsgi.multiprocess": self.alone,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            # A field with an underscore would pass for the one with a hyphen.
            if "_" in name:
                continue
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            joint = "; " if name == "cookie" else ","
            environ[key] = f"{environ[key]}{joint}{value}" if key in environ else value
        return environ

    def __call__(self, request: Request, ctx: Context) -> Response:
        """Calls the application; its content is streamed unless it is one piece."""
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            if begun and exc_info is None:
                raise RuntimeError("start_response was called before, and without exc_info")
            begun[:] = [(status, list(headers))]
            return written.append

        content = self.app(self.environ(request), start_response)
        pieces = iter(content)
        try:
            first = next(pieces, None)
            if not begun:
                raise RuntimeError("the WSGI application gave content without a call of start_response")
        except BaseException:
            _close(content)
            raise
        status, headers = begun[0]
        number = int(status.split(" ", 1)[0])
        before = b"".join(written) + (first or b"")
        if first is None or (isinstance(content, (list, tuple)) and len(content) == 1):
            _close(content)
            return Response(before, number, headers)
        return Response.begun(_following(before, pieces, content), number, headers)


def _following(first: bytes, pieces: Iterator[bytes], content: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from pieces
    finally:
        _close(content)


def _close(content: object) -> None:
    if (close := getattr(content, "close", None)) is not None:
        close()
