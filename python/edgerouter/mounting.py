"""Web applications of other frameworks behind the edge: ASGI 3.0 and WSGI (PEP 3333), in this process.

An application is called as a function is, on the event loop or on a thread, with what the edge has cleaned: its routes,
tokens, limits and hooks come first. Its responses are streamed where it streams them.
"""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import unquote, unquote_to_bytes

from edgerouter.errors import ConfigError, EdgeError, Problem

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from edgerouter._core import AsyncContext, Context, Request, Response

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


def fields(request: Request) -> Iterator[tuple[str, str]]:
    """All field lines."""
    for name in dict.fromkeys(name.lower() for name in request.headers):
        for value in request.headers.get_all(name):
            yield name, value


def port_of(request: Request) -> int:
    """The port of its URL."""
    _, _, rest = request.url.partition("://")
    authority = rest.partition("/")[0]
    _, colon, port = authority.rpartition(":")
    if colon and port.isdigit():
        return int(port)
    return 443 if request.scheme == "https" else 80


class AsgiMount:
    """An ASGI application at a path."""

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
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.scheme,
            "path": unquote(request.path),
            "raw_path": request.path.encode(),
            "query_string": request.query_string.encode(),
            "root_path": self.root,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields(request)],
            "client": (request.client, 0),
            "server": (request.host, port_of(request)),
            "state": self.state.copy(),
        }

    def socket_scope(self, request: Request, subprotocols: list[str]) -> dict[str, Any]:
        """The connection scope of a WebSocket."""
        scope = self.scope(request)
        del scope["method"]
        scheme = "wss" if request.scheme == "https" else "ws"
        extensions: dict[str, Any] = {"websocket.http.response": {}}
        return scope | {
            "type": "websocket",
            "scheme": scheme,
            "subprotocols": subprotocols,
            "extensions": extensions,
        }

    async def __call__(self, request: Request, ctx: AsyncContext) -> Response:
        """Calls the application; returns when its response begins."""
        if (tunnel := request.take_tunnel()) is not None:
            from edgerouter.websocket import WebSocketCall, refused

            if (refusal := refused(request)) is not None:
                return refusal
            socket = WebSocketCall(request, tunnel, self.message_bytes)
            return await socket.response(self.app, self.socket_scope(request, socket.offered), ctx)
        call = AsgiCall(request)
        return await call.response(self.app, self.scope(request), ctx)


class AsgiCall:
    """One request to an ASGI application."""

    def __init__(self, request: Request) -> None:
        import asyncio

        self.pieces = aiter(request)
        self.received = False
        self.disconnected = asyncio.Event()
        self.head: Message | None = None
        self.sent: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self.begun = False
        self.is_whole = False
        self.over = False

    async def receive(self) -> Message:
        """The next message of the client."""
        if not self.received and not self.disconnected.is_set():
            async for piece in self.pieces:
                return {"type": "http.request", "body": piece, "more_body": True}
            self.received = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.disconnected.wait()
        return {"type": "http.disconnect"}

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
            if self.disconnected.is_set():
                raise OSError("the client is gone")
            more = bool(message.get("more_body", False))
            self.over = not more
            body = bytes(message.get("body", b""))
            if not self.begun:
                self.is_whole = not more
            if body or not more:
                self.begun = True
                await self.sent.put(body)
            if not more and not self.is_whole:
                await self.sent.put(None)
        else:
            raise RuntimeError(f"{kind} is no message of an HTTP response that this server offers")

    async def response(self, app: Callable[..., Any], scope: Message, ctx: AsyncContext) -> Response:
        """Runs the application until its response begins; the rest goes on beside it."""
        import asyncio

        from edgerouter._core import Response

        running = asyncio.ensure_future(app(scope, self.receive, self.send))
        first = asyncio.ensure_future(self.sent.get())
        try:
            await asyncio.wait({running, first}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                if running.done() and not running.cancelled() and (error := running.exception()) is not None:
                    raise error
                raise RuntimeError("the ASGI application ended without a response")
        except BaseException:
            first.cancel()
            self.disconnected.set()
            running.cancel()
            raise
        assert self.head is not None  # ``send`` puts nothing before it
        head = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.head.get("headers", ())]
        status = int(self.head["status"])
        if self.is_whole:
            self.disconnected.set()
            # Its background tasks; or a failure, which it has answered itself and which is logged.
            goes_on = not running.done() or running.exception() is not None
            if goes_on and not ctx.wait_until(running):
                running.cancel()
            return Response(first.result(), status, head)
        return Response(self.rest(first.result(), running), status, head)

    async def rest(self, first: bytes | None, running: asyncio.Future[Any]) -> AsyncIterator[bytes]:
        """The content that follows; an application that fails breaks it off."""
        import asyncio

        try:
            piece = first
            while piece is not None:
                if piece:
                    yield piece
                following = asyncio.ensure_future(self.sent.get())
                await asyncio.wait({running, following}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    # The exception of the application, if it has one.
                    running.result()
                    if self.sent.empty():
                        raise RuntimeError("the ASGI application ended without the end of its response")
                    piece = self.sent.get_nowait()
                else:
                    piece = following.result()
            self.disconnected.set()
            # Background tasks of the application.
            await running
        finally:
            # The application sees that the client is gone, and may clean up.
            self.disconnected.set()
            for _ in range(2):
                if not running.done():
                    await asyncio.wait({running}, timeout=_GRACE)
                    running.cancel()


class Lifespan:
    """The lifespan of an ASGI application."""

    def __init__(self, app: Callable[..., Any], state: dict[str, Any]) -> None:
        import asyncio

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
        import asyncio

        assert self.running is not None
        answer = asyncio.ensure_future(self.answers.get())
        await asyncio.wait({self.running, answer}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        return None

    async def start(self) -> None:
        """Returns when the application has started; ``EdgeError`` when it says that it could not."""
        import asyncio

        self.running = asyncio.create_task(self.run())
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

    def __init__(self, app: Callable[..., Iterable[bytes]], root: str) -> None:
        self.app = app
        self.root = root

    def environ(self, request: Request) -> dict[str, Any]:
        """The environment of a request (PEP 3333)."""
        path = unquote_to_bytes(request.path).decode("latin-1")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": self.root,
            "PATH_INFO": path.removeprefix(self.root),
            "QUERY_STRING": request.query_string,
            "SERVER_NAME": request.host,
            "SERVER_PORT": str(port_of(request)),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": request.client,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.scheme,
            "wsgi.input": io.BufferedReader(Pieces(request)),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in fields(request):
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
        from edgerouter._core import Response

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
        return Response(_following(before, pieces, content), number, headers)


def _following(first: bytes, pieces: Iterator[bytes], content: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield first
        yield from pieces
    finally:
        _close(content)


def _close(content: object) -> None:
    if (close := getattr(content, "close", None)) is not None:
        close()
