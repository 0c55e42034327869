"""Calls for which no connection could be made have done nothing, and say so."""

from __future__ import annotations

import socket

import pytest

from edgerouter import BindingError, DataLimits, Edge, Limits

from ..origins import raw_origin
from ..processes import free_port


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "redis"])
def test_a_call_that_reaches_no_server_is_not_in_doubt(scheme: str) -> None:
    edge = Edge("shop", limits=Limits(data=DataLimits(timeout=30)))
    place = f"127.0.0.1:{free_port()}"
    if scheme == "redis":
        edge.kv("KV", f"redis://{place}/0")
    else:
        edge.database("DB", f"{scheme}://user:word@{place}/shop?sslmode=disable")
    with edge.bindings() as env:
        # The second one fails with the reason of the first, without an attempt of its own.
        for _ in range(2):
            with pytest.raises(BindingError, match=r"cannot be reached: .*[Cc]onnection refused") as caught:
                env.KV.put("key", "value") if scheme == "redis" else env.DB.exec("DELETE FROM orders")
            assert not caught.value.in_doubt


def test_a_call_that_waited_for_a_silent_redis_server_has_done_nothing() -> None:
    def silent(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with raw_origin(silent) as url:
        edge = Edge("shop", limits=Limits(data=DataLimits(timeout=1)))
        edge.kv("KV", url.replace("http:", "redis:"))
        with edge.bindings() as env, pytest.raises(BindingError, match=r"cannot be reached: .*timed out") as caught:
            env.KV.put("key", "value")
        assert not caught.value.in_doubt


def test_a_server_of_another_protocol_is_named_in_one_line() -> None:
    def web(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        connection.close()

    with raw_origin(web) as url:
        edge = Edge("shop")
        edge.kv("KV", url.replace("http:", "redis:"))
        with edge.bindings() as env, pytest.raises(BindingError) as caught:
            env.KV.get("key")
        assert str(caught.value) == (
            "KV: cannot be reached: the Redis server: sent a reply that no Redis server sends; check host and port"
        )
