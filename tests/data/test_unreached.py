"""Calls for which no connection could be made have done nothing, and say so."""

from __future__ import annotations

import pytest

from edgerouter import BindingError, DataLimits, Edge, Limits

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
