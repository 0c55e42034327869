"""The messages between an edge and its worker processes: msgpack after its length, never pickle.

A call goes to the worker, and a result or failure comes back. In between the worker may call its edge (for a
response of ``ctx.fetch``, a value of ``ctx.env``), each time with a number that the reply has, too. After a result of
the kind ``stream`` pieces follow, and after one with ``background`` the failures of its work, and a message that it is
over.

A process for WebSockets has many calls at a time, each with the number of its connection, which its messages have, too.

The content of a request that is not read before its call stays in the edge: the worker requests each piece when it
wants it, so that a function that never reads has none sent, and a slow one holds its client back.

A call of the edge for whose reply nobody waits any more is cancelled there, and has no reply.

A content that is larger than ``INLINE`` bytes is in shared memory, one piece for each direction, which both have open
from the start. They read and write it by position, so that a process that shortens it harms nobody else.
"""

from __future__ import annotations

import os
from typing import Any, TypedDict

import msgspec

__all__ = [
    "INLINE",
    "MOST_EDGE_CALLS",
    "MOST_MESSAGE",
    "Beat",
    "Call",
    "Cancel",
    "Closed",
    "Drop",
    "EdgeCall",
    "End",
    "Failed",
    "Idle",
    "Imported",
    "Leave",
    "Log",
    "Piece",
    "Ready",
    "Refused",
    "Reply",
    "Result",
    "SocketMessage",
    "Start",
    "Stop",
    "Taken",
    "ToEdge",
    "ToWorker",
    "Wanted",
    "decode_to_edge",
    "decode_to_worker",
    "encode",
    "load",
    "store",
]

#: Bytes of a content that goes in the message itself.
INLINE = 16 << 10
#: Bytes of a message.
MOST_MESSAGE = 4 << 20
#: Calls that a function makes of its edge at a time.
MOST_EDGE_CALLS = 64

Pairs = list[tuple[str, str]]
#: Country, region, city, latitude, longitude, time zone, number of the network, member of the European Union.
Place = tuple[str | None, str | None, str | None, float | None, float | None, str | None, int | None, bool | None]


class Imported(msgspec.Struct, frozen=True):
    """A function or an application that a worker imports."""

    module: str
    file: str
    name: str
    """Its qualified name."""
    pattern: str
    """Of an application its path."""
    interface: str = ""
    """``asgi`` or ``wsgi`` of an application."""
    sends_files: bool = False
    """It may have files sent."""


class Start(msgspec.Struct, tag="start"):
    """The first message: the functions that the worker imports."""

    path: list[str]
    functions: list[Imported]
    cpu: float
    """Seconds of processor time of a call."""


class RequestParts(TypedDict):
    """The parts of a request, as ``dismantle`` gives them."""

    method: str
    version: str
    scheme: str
    host: str
    port: int | None
    path: str
    query: str | None
    headers: Pairs
    client: str
    params: Pairs
    claims: str | None
    variants: list[tuple[str, str, str | None]]
    place: Place | None
    id: int
    streamed: bool
    """The worker requests the content, piece by piece."""


class Call(msgspec.Struct, tag="call"):
    """A call."""

    function: int
    name: str
    request: RequestParts
    request_id: str
    left: float
    body: bytes
    shared: int = 0
    """Bytes of the content in shared memory, in the place of ``body``."""
    trace: tuple[str, str, bool, str] | None = None
    """Its place: trace, span, kept, the value of ``traceparent``."""
    region: str | None = None
    bindings: list[tuple[str, str, str]] = []
    """Name, kind and dialect of each."""
    socket: int = 0
    """The number of a WebSocket."""


class Refused(msgspec.Struct):
    """The exception of the edge, in the place of a value."""

    name: str
    message: str
    constraint: str | None = None
    in_doubt: bool = False


class Reply(msgspec.Struct, tag="reply"):
    """The answer to an ``EdgeCall``."""

    number: int
    value: Any = None
    error: Refused | None = None


class Leave(msgspec.Struct, tag="leave"):
    """There will be no further call."""


class Stop(msgspec.Struct, tag="stop"):
    """Nobody wants the rest of a content."""


class SocketMessage(msgspec.Struct, tag="socket-message"):
    """A message of ASGI on a WebSocket: of the client after a ``Wanted``, or of the application."""

    socket: int
    message: dict[str, Any]


class Taken(msgspec.Struct, tag="taken"):
    """The application's message was taken: there is room for another."""

    socket: int
    error: Refused | None = None


class Drop(msgspec.Struct, tag="drop"):
    """Nobody waits for the application of a WebSocket."""

    socket: int


class Beat(msgspec.Struct, tag="beat"):
    """To be answered with the same by an event loop that turns."""


ToWorker = Start | Call | Reply | Stop | Leave | SocketMessage | Taken | Drop | Beat


class Ready(msgspec.Struct, tag="ready"):
    """The worker has imported the functions."""


class Result(msgspec.Struct, tag="result"):
    """The outcome of a call that returned."""

    kind: str
    """``response``, ``text``, ``bytes``, ``json`` or ``stream``."""
    status: int
    headers: Pairs
    body: bytes
    shared: int = 0
    tags: list[str] = []
    conversions: list[tuple[str, float]] = []
    background: bool = False
    """Work of ``wait_until`` follows."""


class EdgeCall(msgspec.Struct, tag="edge-call"):
    """A thing that only the edge has."""

    number: int
    what: str
    arguments: dict[str, Any]


class Cancel(msgspec.Struct, tag="cancel"):
    """Nobody waits for the reply to an ``EdgeCall`` any more."""

    number: int


class Piece(msgspec.Struct, tag="piece"):
    """A piece of a content."""

    content: bytes
    text: bool = False
    """It is text in UTF-8."""


class End(msgspec.Struct, tag="end"):
    """A content is complete."""

    background: bool = False
    """Work of ``wait_until`` follows."""
    trailers: list[tuple[bytes, bytes]] = []
    """Fields behind it."""


class Idle(msgspec.Struct, tag="idle"):
    """The work of ``wait_until`` is over."""


class Failed(msgspec.Struct, tag="failed"):
    """The exception of a call, of the start, or of work after the response."""

    name: str
    message: str
    trace: str
    abort: tuple[int, str, dict[str, str] | None] | None = None
    background: bool = False
    """Work of ``wait_until`` follows."""
    what: str = ""
    """The part of an application's call that raised it after the response."""


class Log(msgspec.Struct, tag="log"):
    """A record of a logger."""

    logger: str
    level: int
    message: str
    trace: str | None = None
    """Its traceback."""


class Wanted(msgspec.Struct, tag="wanted"):
    """The application waits for a message of its WebSocket's client."""

    socket: int


class Closed(msgspec.Struct, tag="closed"):
    """The application of a WebSocket has ended."""

    socket: int
    failed: Failed | None = None


ToEdge = Ready | Result | Failed | Log | EdgeCall | Cancel | Piece | End | Idle | SocketMessage | Wanted | Closed | Beat

_encoder = msgspec.msgpack.Encoder()
_to_edge = msgspec.msgpack.Decoder(ToEdge)
_to_worker = msgspec.msgpack.Decoder(ToWorker)


def encode(message: ToWorker | ToEdge) -> bytes:
    """A message as it is sent."""
    content = _encoder.encode(message)
    return len(content).to_bytes(4, "big") + content


def decode_to_edge(content: bytes) -> ToEdge:
    """A message of a worker."""
    message: ToEdge = _to_edge.decode(content)
    return message


def decode_to_worker(content: bytes) -> ToWorker:
    """A message of the edge."""
    message: ToWorker = _to_worker.decode(content)
    return message


def store(memory: int, content: bytes) -> tuple[bytes, int]:
    """The parts of a message that carry a content."""
    if len(content) <= INLINE:
        return content, 0
    at = 0
    view = memoryview(content)
    while at < len(content):
        at += os.pwrite(memory, view[at:], at)
    return b"", len(content)


def load(memory: int, body: bytes, shared: int, most: int) -> bytes:
    """The content of a message; ``ValueError`` where it is not there."""
    if not shared:
        return body
    if not 0 <= shared <= most:
        raise ValueError(f"a content of {shared} bytes is larger than {most}")
    pieces = []
    at = 0
    while at < shared:
        piece = os.pread(memory, shared - at, at)
        if not piece:
            raise ValueError("the shared memory has less than the message says")
        pieces.append(piece)
        at += len(piece)
    # The memory of a large content is free again.
    os.ftruncate(memory, 0)
    return b"".join(pieces)
