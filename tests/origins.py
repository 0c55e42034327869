"""A real origin for tests: sockets, threads, and answers that a test scripts byte by byte where it wants to."""

from __future__ import annotations

import contextlib
import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate


@dataclass
class Seen:
    """A request as the origin got it."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    raw: bytes
    trailers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.target.split("?", 1)[0]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known.lower() == name.lower()]


@dataclass
class Reply:
    """An answer. ``chunks`` streams with chunked framing; ``raw`` is sent as it stands and ends the connection."""

    status: int = 200
    headers: dict[str, str] | list[tuple[str, str]] = field(default_factory=dict)
    body: bytes | str = b""
    chunks: Iterable[bytes] | None = None
    raw: bytes | None = None
    date: bool = True
    close: bool = False

    def fields(self) -> list[tuple[str, str]]:
        return list(self.headers.items()) if isinstance(self.headers, dict) else list(self.headers)


Answer = Reply | Callable[["Seen"], Reply | None] | Callable[["Seen", socket.socket], None]


@contextlib.contextmanager
def raw_origin(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of an origin that handles each connection by ``answer``, on a thread of its own.

    The edge may close a connection without a request.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def received_until(sock: socket.socket, is_enough: Callable[[bytes], bool]) -> bytes | None:
    """The bytes of a connection, as far as they are enough; ``None`` if it ends before, perhaps without a request."""
    received = b""
    while not is_enough(received):
        more = sock.recv(4096)
        if not more:
            return None
        received += more
    return received


class Origin:
    """An HTTP/1.1 server on a free port of loopback. Every request is recorded in ``requests``."""

    def __init__(self, name: str = "origin") -> None:
        self.name = name
        self.requests: list[Seen] = []
        self.answers: dict[str, Answer] = {}
        self.default: Answer = Reply(404, {}, "not here")
        #: It requests the content that a client offers (``Expect``): without, the edge waits a second for that.
        self.continues = False
        self.changed = threading.Condition()
        self.connections: set[socket.socket] = set()
        # Bound as long as the origin lives, so that nobody takes its port while it is down.
        self.place = socket.socket()
        self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.place.bind(("127.0.0.1", 0))
        self.port: int = self.place.getsockname()[1]
        self.listener: socket.socket | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def kill(self) -> None:
        """Stops listening and drops every connection at once."""
        listener, self.listener = self.listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends it, and gives its port back."""
        self.kill()
        self.place.close()

    def on(self, path: str, answer: Answer) -> None:
        self.answers[path] = answer

    def count(self, path: str | None = None) -> int:
        return sum(1 for seen in list(self.requests) if path is None or seen.path == path)

    def wait_for(self, count: int, path: str | None = None, timeout: float = 30.0) -> None:
        """Waits until ``count`` requests (for ``path``) have come in."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.count(path) >= count, timeout):
                raise AssertionError(f"{self.name}: {self.count(path)} requests for {path}, expected {count}")

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if listener.family == socket.AF_INET:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            for seen in requests_on(connection, continues=self.continues):
                with self.changed:
                    self.requests.append(seen)
                    self.changed.notify_all()
                if not self._answer(connection, seen):
                    return
        except OSError:
            pass
        finally:
            self.connections.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket, seen: Seen) -> bool:
        answer = self.answers.get(seen.path, self.default)
        if not isinstance(answer, Reply):
            if len(inspect.signature(answer).parameters) >= 2:
                answer(seen, connection)  # type: ignore[call-arg]
                return False
            result = answer(seen)  # type: ignore[call-arg]
            if result is None:
                return False
            answer = result
        return self.send(connection, seen, answer)

    def send(self, connection: socket.socket, seen: Seen, reply: Reply) -> bool:
        if reply.raw is not None:
            connection.sendall(reply.raw)
            return False
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        lines = [f"HTTP/1.1 {reply.status} {'OK' if reply.status == 200 else 'Status'}"]
        names = {name.lower() for name, _ in reply.fields()}
        if reply.date and "date" not in names:
            lines.append(f"Date: {formatdate(usegmt=True)}")
        lines.append(f"X-Origin: {self.name}")
        lines += [f"{name}: {value}" for name, value in reply.fields()]
        bodiless = reply.status in (204, 304) or reply.status < 200
        if reply.chunks is not None:
            lines.append("Transfer-Encoding: chunked")
        elif not bodiless and "content-length" not in names:
            lines.append(f"Content-Length: {len(body)}")
        if reply.close:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if seen.method == "HEAD" or bodiless:
            connection.sendall(head)
        elif reply.chunks is not None:
            connection.sendall(head)
            for chunk in reply.chunks:
                if chunk:
                    connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        else:
            connection.sendall(head + body)
        return not reply.close


def requests_on(connection: socket.socket, read: Seen | None = None, *, continues: bool = False) -> Iterator[Seen]:
    """The requests of a connection to its end, after one that has been ``read``."""
    buffered = b""
    if read is not None:
        yield read
    while True:
        seen, buffered = read_request(connection, buffered, continues=continues)
        if seen is None:
            return
        yield seen


def read_request(connection: socket.socket, buffered: bytes, *, continues: bool = False) -> tuple[Seen | None, bytes]:
    while b"\r\n\r\n" not in buffered:
        more = connection.recv(65536)
        if not more:
            return None, b""
        buffered += more
    head, _, buffered = buffered.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, target, version = lines[0].split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
    lower = {name.lower(): value for name, value in headers}
    if continues and "expect" in lower:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = b""
    trailers = []
    if "chunked" in lower.get("transfer-encoding", "").lower():
        while True:
            while b"\r\n" not in buffered:
                buffered += more_of(connection)
            size, _, buffered = buffered.partition(b"\r\n")
            length = int(size.split(b";")[0], 16)
            if length == 0:
                break
            while len(buffered) < length + 2:
                buffered += more_of(connection)
            body += buffered[:length]
            buffered = buffered[length + 2 :]
        while True:
            while b"\r\n" not in buffered:
                buffered += more_of(connection)
            line, _, buffered = buffered.partition(b"\r\n")
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            trailers.append((name, value.strip()))
    else:
        length = int(lower.get("content-length", "0"))
        while len(buffered) < length:
            buffered += more_of(connection)
        body, buffered = buffered[:length], buffered[length:]
    return Seen(method, target, version, headers, body, head, trailers), buffered


def more_of(connection: socket.socket) -> bytes:
    more = connection.recv(65536)
    if not more:
        raise ConnectionError("the client went away in the middle of a request")
    return more


def wait_until(true: Callable[[], bool], timeout: float = 30.0, what: str = "the condition") -> None:
    """Waits for something that has no event of its own; fails loudly when it never comes."""
    began = time.monotonic()
    while not true():
        waited = time.monotonic() - began
        if waited > timeout:
            raise AssertionError(f"{what} did not come true within {timeout} s")
        # A long wait looks less often, as a look may cost more than the pause.
        time.sleep(min(max(0.005, waited / 10), 0.025))


def until_steady(value: Callable[[], float], what: str, timeout: float = 60.0, pause: float = 0.3) -> float:
    """Waits until a number is the same after a pause, for work whose end has no event; the value then."""
    seen = value()

    def is_steady() -> bool:
        nonlocal seen
        before = seen
        time.sleep(pause)
        seen = value()
        return seen == before

    wait_until(is_steady, timeout, f"{what} to stay the same")
    return seen
