"""Origins of tests: servers on free ports of loopback that reply as a test says, and fail as it wants."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import unquote

__all__ = ["FakeOrigin", "Fault", "Received", "Reply"]

Fault: TypeAlias = Literal["refuse", "reset", "truncate", "garbage", "stall"]
_FAULTS = ("refuse", "reset", "truncate", "garbage", "stall")
#: Requests that an origin remembers.
_REMEMBERED = 10_000
_HEAD = 1 << 17


class Received(NamedTuple):
    """A request as an origin received it."""

    method: str
    """As in the request line."""
    target: str
    """Path and query, as in the request line."""
    fields: tuple[tuple[str, str], ...]
    """Names and values, in their order."""
    body: bytes
    """The whole body."""

    @property
    def path(self) -> str:
        """Its path, decoded."""
        return unquote(self.target.partition("?")[0])

    @property
    def query_string(self) -> str:
        """Its query without the ``?``."""
        return self.target.partition("?")[2]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a field."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Reply:
    """A response of an origin. ``Date`` and the length are added unless ``headers`` has them."""

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        body: str | bytes | Iterable[bytes] = b"",
    ) -> None:
        self.status = status
        self.headers = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        self.body: bytes | Iterable[bytes] = body.encode() if isinstance(body, str) else body
        """Bytes, or pieces that are sent in chunks."""

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """A reply in JSON."""
        return cls(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value))


Answer: TypeAlias = Reply | str | bytes | int | Callable[[Received], "Reply | str | bytes | int"]


class FakeOrigin:
    """An HTTP/1.1 server on a free port of loopback, which replies as ``on`` says and remembers each request.

    A reply is a ``Reply``, text or bytes with status 200, a status, or a function of the request that gives one of
    these. A path without a reply is answered with 404. The server starts when it is made, and ``close`` ends it.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer] | Callable[[Received], Reply | str | bytes | int] | None = None,
        *,
        name: str = "origin",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.clock = clock
        #: The requests, oldest first.
        self.requests: deque[Received] = deque(maxlen=_REMEMBERED)
        self._answers: dict[str, Answer] = {}
        self._changed = threading.Condition()
        self._connections = set[socket.socket]()
        self._faults = deque[Fault]()
        self._standing: Fault | None = None
        self._resumed = threading.Event()
        self._listener: socket.socket | None = None
        self._port = 0
        if callable(answers):
            self._answers["*"] = answers
        elif answers is not None and not isinstance(answers, Mapping):
            raise TypeError(
                f"{name}: the replies are a mapping of paths, or a function of the request, "
                f"not {type(answers).__name__}"
            )
        else:
            for path, answer in (answers or {}).items():
                self.on(path, answer)
        self._open()

    def __repr__(self) -> str:
        return f"<FakeOrigin {self.name!r}: {len(self.requests)} requests>"

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._port}"

    def on(self, path: str, answer: Answer) -> None:
        """Sets the reply for a path, or for a pattern of paths with ``*``. The last one that matches is used."""
        if not isinstance(path, str) or not path.startswith(("/", "*")):
            raise ValueError(f"{self.name}: {path!r} must be a path, such as /page or /api/*")
        if not callable(answer):
            _reply(answer)
        self._answers.pop(path, None)
        self._answers[path] = answer

    def count(self, path: str | None = None) -> int:
        """The requests, or those of a path."""
        return sum(1 for request in list(self.requests) if path is None or request.path == path)

    def wait_for(self, count: int, path: str | None = None, timeout: float = 10.0) -> None:
        """Waits until as many requests have been received; ``AssertionError`` after ``timeout``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.count(path) >= count, timeout):
                raise AssertionError(f"{self.name} received {self.count(path)} requests, and {count} were expected")

    def fault(self, kind: Fault | None, times: int | None = None) -> None:
        """Makes the next ``times`` requests fail, or all until ``fault(None)``.

        ``refuse``  nothing listens; ``times`` does not apply
        ``reset``  the connection is reset in the place of a response
        ``truncate``  the connection ends in the middle of the body
        ``garbage``  the head of the response is not HTTP
        ``stall``  no response comes until ``fault(None)``
        """
        if kind is not None and kind not in _FAULTS:
            raise ValueError(f"fault: {kind!r} must be one of {', '.join(_FAULTS)}, or None")
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise ValueError(f"fault: times {times!r} must be a number of requests, 1 or more")
        self._faults.clear()
        self._standing = None
        self._resumed.set()
        if kind == "refuse":
            self._close()
            return
        self._open()
        self._resumed = threading.Event()
        if times is None:
            self._standing = kind
        elif kind is not None:
            self._faults.extend([kind] * times)

    def close(self) -> None:
        """Ends it and its connections."""
        self._resumed.set()
        self._close()

    def __enter__(self) -> FakeOrigin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the server ------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
            self._port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), name="fake-origin", daemon=True).start()

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="fake-origin", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = connection.makefile("rb")
            with stream:
                while (request := _read(stream)) is not None and self._reply(connection, request):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            self._connections.discard(connection)
            connection.close()

    def _reply(self, connection: socket.socket, request: Received) -> bool:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        fault = self._faults.popleft() if self._faults else self._standing
        if fault == "stall":
            self._resumed.wait()
        elif fault == "garbage":
            # On a kept connection, bytes without a status line would be the end of the response before.
            connection.sendall(b"HTTP/1.1 200 Fake\r\nthis is no field\r\n\r\n")
            return False
        elif fault == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        reply = self._answer(request)
        pieces = None if isinstance(reply.body, bytes) else reply.body
        body = reply.body if isinstance(reply.body, bytes) else b""
        names = {name.lower() for name, _ in reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Fake"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        if "date" not in names:
            lines.append(f"Date: {formatdate(self.clock(), usegmt=True)}")
        bodiless = request.method == "HEAD" or reply.status in (204, 304)
        if pieces is not None:
            lines.append("Transfer-Encoding: chunked")
        elif "content-length" not in names and reply.status not in (204, 304):
            # Half of what is promised, but for at least a byte.
            lines.append(f"Content-Length: {max(2 * len(body), 1) if fault == 'truncate' else len(body)}")
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if not bodiless:
            for piece in pieces or ():
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
                if fault == "truncate":
                    return False
            connection.sendall(b"0\r\n\r\n" if pieces is not None else body)
        return fault != "truncate"

    def _answer(self, request: Received) -> Reply:
        found = [answer for pattern, answer in self._answers.items() if fnmatchcase(request.path, pattern)]
        if not found:
            return Reply(404, {"content-type": "text/plain"}, f"{self.name} has no reply for {request.path}")
        answer = found[-1]
        try:
            return _reply(answer(request) if callable(answer) else answer)
        except Exception as error:  # noqa: BLE001  # whatever the test's function raises
            return Reply(500, {"content-type": "text/plain"}, f"{self.name}: {type(error).__name__}: {error}")


def _reply(given: Reply | str | bytes | int) -> Reply:
    if isinstance(given, int) and not isinstance(given, bool):
        if not 200 <= given <= 599:
            raise ValueError(f"{given} is no status of a reply, which is from 200 to 599")
        return Reply(given)
    if isinstance(given, (str, bytes)):
        return Reply(body=given)
    if not isinstance(given, Reply):
        raise TypeError(f"{given!r:.80} is no reply: give a Reply, such as Reply.json(...), text, bytes or a status")
    return given


def _read(stream: Any) -> Received | None:
    """The next request of a connection; ``None`` at its end."""
    line = stream.readline(_HEAD)
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    fields = []
    while (line := stream.readline(_HEAD)) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        fields.append((name, value.strip()))
    lower = {name.lower(): value for name, value in fields}
    body = b""
    if "chunked" in lower.get("transfer-encoding", ""):
        while size := int(stream.readline(_HEAD).split(b";")[0], 16):
            body += stream.read(size)
            stream.readline(_HEAD)
        while stream.readline(_HEAD) not in (b"\r\n", b""):
            pass
    else:
        body = stream.read(int(lower.get("content-length", "0")))
    return Received(method, target, tuple(fields), body)
