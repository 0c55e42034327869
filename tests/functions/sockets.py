"""Clients of WebSockets."""

from __future__ import annotations

import contextlib
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from edgerouter.testing import Running

PATIENCE = 20


def to(served: Running, path: str, **options: Any) -> ClientConnection:
    """A connection."""
    url = f"ws{served.url.removeprefix('http')}{path}"
    socket: ClientConnection = connect(
        url, compression=None, ping_interval=None, open_timeout=PATIENCE, max_size=None, **options
    )
    return socket


def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Code and reason of the close, which comes at last."""
    with contextlib.suppress(ConnectionClosed):
        for _ in range(100):
            socket.recv(PATIENCE)
    return socket.close_code, socket.close_reason
