"""A client of HTTP/2 that sends whatever a test gives it, well-formed or not, and keeps what comes back."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame

from ..certificates import Authority
from ..tls.clients import address_of

Field = tuple[str, str]


@dataclass
class Received:
    """A response as far as it has come."""

    headers: list[Field] = field(default_factory=list)
    interims: list[list[Field]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[Field] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.get(":status") or 0)

    def get(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)


def head(path: str = "/", method: str = "GET", host: str = "www.example.com", *more: Field) -> list[Field]:
    return [(":method", method), (":scheme", "https"), (":authority", host), (":path", path), *more]


class Client:
    """One connection. ``credit``: content that is taken is given back to the window at once.

    ``resets`` has the error codes of streams that were opened by frames and not by ``request``.
    """

    def __init__(self, sock: socket.socket, credit: bool = True, window: int | None = None) -> None:
        self.sock = sock
        self.scheme = "https" if isinstance(sock, ssl.SSLSocket) else "http"
        self.credit = credit
        self.responses: dict[int, Received] = {}
        self.goaway: int | None = None
        self.closed = False
        # The preface has settings of its own.
        self.unacknowledged = 1 if window is None else 2
        self.resets: dict[int, int] = {}
        self.unread = b""
        config = H2Configuration(
            client_side=True,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            split_outbound_cookies=False,
        )
        self.http = H2Connection(config)
        self.http.initiate_connection()
        if window is not None:
            self.http.update_settings({4: window})
        self.flush()

    def flush(self) -> None:
        data = self.http.data_to_send()
        if data:
            self.sock.sendall(data)

    def send(self, *frames: Frame | bytes) -> None:
        """Sends frames, or bytes, past the library."""
        self.flush()
        self.sock.sendall(b"".join(part if isinstance(part, bytes) else part.serialize() for part in frames))

    def section(self, fields: Sequence[Field]) -> bytes:
        """A field section, in this connection's compression."""
        return bytes(self.http.encoder.encode(self.fitting(fields)))

    def fitting(self, fields: Sequence[Field]) -> list[Field]:
        """Fields with the scheme of the connection in the place of ``https``."""
        return [(":scheme", self.scheme) if field == (":scheme", "https") else field for field in fields]

    def begin(self, fields: Sequence[Field]) -> int:
        """Makes a request that goes with what is sent next."""
        stream = self.http.get_next_available_stream_id()
        self.responses[stream] = Received()
        self.http.send_headers(stream, self.fitting(fields), end_stream=True)
        return stream

    def request(self, fields: Sequence[Field], body: bytes | None = None, end: bool = True) -> int:
        """Begins a request, with content that fits into the window."""
        stream = self.http.get_next_available_stream_id()
        self.responses[stream] = Received()
        self.http.send_headers(stream, self.fitting(fields), end_stream=end and body is None)
        if body is not None:
            while body:
                size = min(len(body), 16_384)
                self.http.send_data(stream, body[:size], end_stream=end and size == len(body))
                body = body[size:]
        self.flush()
        return stream

    def step(self) -> bool:
        """Takes what comes next; false at the end."""
        try:
            data = self.sock.recv(65_536)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b""
        if not data:
            self.closed = True
            return False
        self.unread += data
        while len(self.unread) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.unread[:9]))
            if len(self.unread) < 9 + length:
                break
            whole, self.unread = self.unread[: 9 + length], self.unread[9 + length :]
            self.receive(frame, whole)
        # A peer that has closed takes nothing more.
        with contextlib.suppress(OSError):
            self.flush()
        return True

    def receive(self, frame: Frame, whole: bytes) -> None:
        """Takes one frame; those that the library would refuse after its own fashion are kept from it."""
        if isinstance(frame, GoAwayFrame):
            self.goaway = int.from_bytes(whole[13:17], "big")
        elif frame.stream_id and frame.stream_id not in self.responses:
            if isinstance(frame, RstStreamFrame):
                self.resets[frame.stream_id] = int.from_bytes(whole[9:13], "big")
        else:
            for event in self.http.receive_data(whole):
                self.take(event)

    def take(self, event: Event) -> None:
        if isinstance(event, SettingsAcknowledged):
            self.unacknowledged -= 1
        stream = getattr(event, "stream_id", None)
        if stream is None or stream not in self.responses:
            return
        received = self.responses[stream]
        if isinstance(event, InformationalResponseReceived):
            received.interims.append(list(event.headers or []))  # type: ignore[arg-type]
        elif isinstance(event, ResponseReceived):
            received.headers = list(event.headers or [])  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            received.body += event.data or b""
            if self.credit:
                self.http.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        elif isinstance(event, TrailersReceived):
            received.trailers = list(event.headers or [])  # type: ignore[arg-type]
        elif isinstance(event, StreamEnded):
            received.ended = True
        elif isinstance(event, StreamReset):
            received.reset = int(event.error_code or 0)

    def response(self, stream: int) -> Received:
        """Waits for the end of a response, or of its stream."""
        received = self.responses[stream]
        while not received.ended and received.reset is None:
            assert self.step(), f"the connection ended: {self.goaway}"
        return received

    def get(self, path: str = "/", host: str = "www.example.com", *more: Field) -> Received:
        return self.response(self.request(head(path, "GET", host, *more)))

    def until_settled(self) -> None:
        """Waits until the edge has taken all settings."""
        while self.unacknowledged:
            assert self.step(), self.goaway

    def until_closed(self) -> int | None:
        """Waits for the end of the connection: the error code of its GOAWAY."""
        while self.step():
            pass
        return self.goaway


@contextlib.contextmanager
def http2(url: str, authority: Authority | None, name: str = "www.example.com", **more: object) -> Iterator[Client]:
    """A connection to the edge: over TLS by ALPN, or in plain text by prior knowledge."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(address_of(url), timeout=10))
        if authority is not None:
            context = authority.trusted()
            context.set_alpn_protocols(["h2"])
            secured = stack.enter_context(context.wrap_socket(sock, server_hostname=name))
            assert secured.selected_alpn_protocol() == "h2"
            sock = secured
        yield Client(sock, **more)  # type: ignore[arg-type]
