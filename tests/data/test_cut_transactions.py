"""Connections to database servers that end while a transaction does: it took effect as a whole or not at all, and the
call does not claim to know."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from edgerouter import BindingError, Edge

from ..origins import raw_origin
from .servers import DatabaseServer


def cutting(port: int, cut: threading.Event, *, reaches: bool) -> Callable[[socket.socket], None]:
    """Passes bytes to the server and back. Once ``cut`` is set, a connection ends at its ``COMMIT``.

    ``reaches``: behind it, when the server has answered.
    """

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for source, sink in ((client, server), (server, client)):
                    if source not in readable:
                        continue
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client and cut.is_set() and b"COMMIT" in data.upper():
                        if reaches:
                            server.sendall(data)
                            server.recv(65536)
                        return
                    sink.sendall(data)

    return serve


@pytest.mark.parametrize("reaches", [False, True], ids=["before-the-server", "behind-the-server"])
def test_a_transaction_that_is_cut_off_at_its_end_is_whole_or_nothing_and_in_doubt(
    database_server: DatabaseServer, reaches: bool
) -> None:
    url, cut = database_server.empty(), threading.Event()
    port = urlsplit(url).port
    assert port is not None
    with raw_origin(cutting(port, cut, reaches=reaches)) as passing:
        edge = Edge("shop")
        edge.database("DB", url.replace(f":{port}/", f":{urlsplit(passing).port}/"))
        with edge.bindings() as env:
            env.DB.exec("CREATE TABLE orders (id INT)")
            insert = env.DB.prepare("INSERT INTO orders VALUES (?)")
            env.DB.batch([insert.bind(1), insert.bind(2)])
            cut.set()
            with pytest.raises(BindingError, match="connection closed") as caught:
                env.DB.batch([insert.bind(3), insert.bind(4)])
            assert caught.value.in_doubt
            cut.clear()
            assert env.DB.prepare("SELECT COUNT(*) AS n FROM orders").first("n") == (4 if reaches else 2)
