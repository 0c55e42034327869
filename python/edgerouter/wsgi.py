"""Applications of WSGI (PEP 3333) behind the edge, each called on a thread of functions as a plain function is."""

from __future__ import annotations

import contextvars
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from edgerouter._core import Response, may_have_content, server_of
from edgerouter.errors import BodyError
from edgerouter.functions import logs
from edgerouter.mounting import OTHER_LENGTH

if TYPE_CHECKING:
    from edgerouter._core import Context, Request

__all__ = ["WsgiMount"]


class Pieces(io.RawIOBase):
    """The content of a request as a file that is read."""

    def __init__(self, request: Request) -> None:
        self.pieces = iter(request)
        self.left = b""
        #: It broke off, which is the answer if the application gives none.
        self.broken: BodyError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.left:
            try:
                self.left = next(self.pieces, b"")
            except BodyError as error:
                self.broken = error
                # Frameworks expect the same of any server.
                raise OSError(str(error)) from error
        count = min(len(buffer), len(self.left))
        buffer[:count] = self.left[:count]
        self.left = self.left[count:]
        return count


class WsgiMount:
    """A WSGI application at a path."""

    def __init__(self, app: Callable[..., Iterable[bytes]], root: str, *, alone: bool = False) -> None:
        self.app = app
        #: As the environment has it: bytes as characters.
        self.root = unquote_to_bytes(root).decode("latin-1")
        #: It runs one call at a time, in one of several processes.
        self.alone = alone

    def environ(self, request: Request, content: Pieces) -> dict[str, Any]:
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
            "wsgi.input": io.BufferedReader(content),
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
        """Calls the application; its content is streamed unless all of it is there."""
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []
        answered = False

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], None]:
            if answered and exc_info is not None:
                # The head is sent (PEP 3333, "The start_response() Callable").
                raise exc_info[1].with_traceback(exc_info[2])
            if begun and exc_info is None:
                raise RuntimeError("start_response was called before, and without exc_info")
            begun[:] = [(status, list(headers))]
            return written.append

        # Each step on whatever thread has the same context: frameworks keep the request of a stream in it.
        step = contextvars.copy_context().run
        source = Pieces(request)
        content: Iterable[bytes] = ()
        try:
            content = step(self.app, self.environ(request, source), start_response)
            pieces = step(iter, content)
            first = step(next, pieces, None)
            if not begun:
                raise RuntimeError("the WSGI application gave content without a call of start_response")
            status, headers = begun[0]
            number = int(status.split(" ", 1)[0])
            before = b"".join(written) + (first or b"")
            whole = first is None
            if isinstance(content, (list, tuple)):
                before, whole = before + b"".join(pieces), True
            length = _stated(headers)
            if not whole and length == len(before):
                # The code behind its last piece runs, too.
                step(next, pieces, None)
                whole = True
            if whole and length not in (None, len(before)) and request.method != "HEAD" and may_have_content(number):
                raise RuntimeError(OTHER_LENGTH)
        except BaseException as error:
            _close(content, step)
            if source.broken is not None and isinstance(error, Exception):
                raise source.broken from error
            raise
        if whole:
            _close(content, step)
            # Content of these statuses is dropped, as a stream of it is.
            return Response(before if may_have_content(number) else b"", number, headers)
        answered = True
        step(logs.CURRENT.set, ctx)
        left = None if length is None or request.method == "HEAD" else length - len(before)
        return Response.begun(_following(before, pieces, content, step, left), number, headers)


def _stated(headers: list[tuple[str, str]]) -> int | None:
    """The length that a response states, if it does so once."""
    found = [value for name, value in headers if name.lower() == "content-length"]
    return int(found[0]) if len(found) == 1 and found[0].isascii() and found[0].isdigit() else None


def _following(
    first: bytes, pieces: Iterator[bytes], content: object, step: Callable[..., Any], left: int | None
) -> Iterator[bytes]:
    """All content, of which ``left`` bytes follow the first piece."""
    try:
        yield first
        while (piece := step(next, pieces, None)) is not None:
            if not isinstance(piece, bytes):
                raise TypeError(f"a WSGI application gives bytes, not {type(piece).__name__}")
            if left is not None and (left := left - len(piece)) < 0:
                raise RuntimeError(OTHER_LENGTH)
            yield piece
        if left:
            raise RuntimeError(OTHER_LENGTH)
    finally:
        _close(content, step)


def _close(content: object, step: Callable[..., Any]) -> None:
    if (close := getattr(content, "close", None)) is not None:
        step(close)
