"""Servers of key-value stores that fail: down, frozen, with another password, or with a folder that is not there."""

from __future__ import annotations

import asyncio
import re
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from edgerouter import AsyncContext, DataLimits, Request, env

from ..metrics import metric
from ..origins import raw_origin, wait_until
from .conftest import Asking, refused
from .servers import RedisServer

GETS = '{{binding="KV",kind="kv",operation="get",result="{}"}}'


def test_a_server_that_is_down_fails_the_call_only_and_is_used_again_when_it_is_back(
    asking: Asking, redis: RedisServer
) -> None:
    running = asking.open(redis.url)
    assert asking.plain(lambda request, ctx: ctx.env.KV.put("k", "1")) is True
    redis.kill()
    text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k")))
    assert text.startswith("BindingError: KV: cannot be reached: the Redis server: ")
    assert metric(running, "edgerouter_binding_up", '{binding="KV",kind="kv"}') == 0
    redis.start()
    wait_until(
        lambda: "BindingError" not in str(asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k"))))
    )
    assert asking.plain(lambda request, ctx: ctx.env.KV.add("n")) == 1
    assert metric(running, "edgerouter_binding_up", '{binding="KV",kind="kv"}') == 1


def test_a_server_that_wants_a_password_it_did_not_want_before_is_out_of_reach(
    asking: Asking, redis: RedisServer, standard_error: Callable[[], str]
) -> None:
    running = asking.open(redis.url)
    assert asking.plain(lambda request, ctx: ctx.env.KV.put("k", "1")) is True
    redis.kill()
    redis.options = ("--requirepass", "sesame")
    redis.start()
    up = '{binding="KV",kind="kv"}'
    texts = []

    def is_refused() -> bool:
        texts.append(str(asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k")))))
        return "Authentication required" in texts[-1]

    wait_until(is_refused, what="the server's answer")
    for _ in range(20):
        assert is_refused()
    assert texts[-1].startswith("BindingError: KV: cannot be reached: the Redis server: ")
    assert metric(running, "edgerouter_binding_up", up) == 0
    redis.kill()
    redis.options = ()
    redis.start()
    wait_until(
        lambda: "BindingError" not in str(asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k"))))
    )
    assert metric(running, "edgerouter_binding_up", up) == 1

    def is_said() -> bool:
        # An operation says so, once a second has passed without a failure.
        assert asking.plain(lambda request, ctx: ctx.env.KV.add("n")) > 0
        return "a binding can be reached again" in standard_error()

    wait_until(is_said, what="the line")
    assert standard_error().count("a binding can be reached again") == 1


def test_a_server_that_refuses_changes_is_in_the_log_and_a_former_primary_is_left(
    asking: Asking, redis: RedisServer, standard_error: Callable[[], str]
) -> None:
    asking.open(redis.url)
    assert asking.plain(lambda request, ctx: ctx.env.KV.put("k", "1")) is True
    redis.command("CONFIG", "SET", "maxmemory", "1")
    assert "OOM" in str(asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.put("k", "2"))))
    redis.command("CONFIG", "SET", "maxmemory", "0")
    redis.command("REPLICAOF", "127.0.0.1", "1")
    before = redis.command("INFO", "stats").split("total_connections_received:")[1].split()[0]
    assert "read only replica" in str(asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.put("k", "2"))))
    # It reads all the same, by a connection to whatever server the name leads to now.
    assert asking.plain(lambda request, ctx: ctx.env.KV.get("k")) == "1"
    after = redis.command("INFO", "stats").split("total_connections_received:")[1].split()[0]
    assert int(after) - int(before) == 2

    def is_said() -> bool:
        text = standard_error()
        line = "a Redis server refuses operations; calls of it fail"
        first = re.search(rf"{line} host=127.0.0.1:{redis.port} error=.*OOM", text)
        # Within the same second others are counted.
        others = re.search(rf"{line} (host=.*read only replica|\(repeated\) of=127.0.0.1:{redis.port} )", text)
        return first is not None and others is not None

    wait_until(is_said, what="both refusals in the log")


def test_a_frozen_server_costs_the_time_of_an_operation_and_no_worker(asking: Asking, redis: RedisServer) -> None:
    running = asking.open(redis.url, limits=DataLimits(timeout=1, operations=4))
    asking.plain(lambda request, ctx: ctx.env.KV.put("k", "1"))
    redis.freeze()
    try:
        text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k")))
        assert text == (
            "BindingError: KV: no answer within 1 s (limits.data.timeout); whether it took effect is not known"
        )

        async def many(request: Request, ctx: AsyncContext) -> Any:
            calls = [ctx.env.KV.get("k") for _ in range(10)]
            failed = await asyncio.gather(*calls, return_exceptions=True)
            return sorted({str(error).split(" are ")[0] for error in failed})

        # The new connection gets no reply either: those that wait for it have done nothing.
        busy, unreached = asking.awaited(many)
        assert busy == "KV: 4 operations"
        assert unreached.startswith("KV: cannot be reached: the Redis server: ")
    finally:
        redis.go_on()
    wait_until(
        lambda: bool(asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k"))) == "nothing was raised")
    )
    assert metric(running, "edgerouter_binding_operations_total", GETS.format("timed-out")) >= 1
    assert metric(running, "edgerouter_binding_operations_total", GETS.format("unreachable")) >= 4
    assert metric(running, "edgerouter_binding_operations_total", GETS.format("busy")) == 6
    under_way = '{binding="KV",kind="kv"}'
    wait_until(lambda: metric(running, "edgerouter_binding_operations_under_way", under_way) == 0, what="their end")


def test_a_server_that_is_gone_without_a_word_is_left_for_the_one_in_its_place(
    asking: Asking, redis: RedisServer
) -> None:
    is_gone = threading.Event()

    def pass_on(client: socket.socket) -> None:
        """A way to the server. Those from before it was gone carry nothing more, and nobody says so."""
        is_old = not is_gone.is_set()
        with client, socket.create_connection(("127.0.0.1", redis.port)) as server:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65_536)
                    if not data:
                        return
                    if not (is_old and is_gone.is_set()):
                        (server if source is client else client).sendall(data)

    with raw_origin(pass_on) as url:
        running = asking.open(url.replace("http:", "redis:"), limits=DataLimits(timeout=1))
        assert asking.plain(lambda request, ctx: ctx.env.KV.put("k", "1")) is True
        is_gone.set()
        text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k")))
        assert text.startswith("BindingError: KV: no answer within 1 s")
        assert asking.plain(lambda request, ctx: ctx.env.KV.get("k")) == "1"
        assert metric(running, "edgerouter_binding_up", '{binding="KV",kind="kv"}') == 1


def test_a_folder_that_is_not_there_is_an_error_of_the_call(asking: Asking, tmp_path: Any) -> None:
    asking.open(f"sqlite:{tmp_path}/later/kv.db")
    text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("k")))
    assert text == (
        f"BindingError: KV: cannot be reached: {tmp_path}/later/kv.db: cannot be opened; its folder must exist, and "
        "this user must be allowed to write in it"
    )
    (tmp_path / "later").mkdir()
    assert asking.plain(lambda request, ctx: ctx.env.KV.put("k", "1")) is True


def test_a_password_in_the_environment_opens_the_server_and_is_never_shown(
    asking: Asking, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RedisServer(tmp_path, "--requirepass", "hunter2")
    try:
        monkeypatch.setenv("KV_URL", f"redis://:hunter2@127.0.0.1:{server.port}/0")
        running = asking.open(env("KV_URL"))  # type: ignore[arg-type]
        assert asking.plain(lambda request, ctx: ctx.env.KV.add("n")) == 1
        shown = (
            repr(running.server._edge.to_dict()) + running.server.metrics() + repr(asking.edge("redis://:hunter2@h/0"))
        )
        assert "hunter2" not in shown
    finally:
        server.kill()
