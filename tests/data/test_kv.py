"""Key-value stores that functions are bound to: the same operations on each engine, in plain and in async callables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from math import inf, nan
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, BindingError, ConfigError, Context, DataLimits, Edge, Request, env
from edgerouter.functions import Kv

from ..metrics import metric
from ..origins import wait_until
from .conftest import Asking, locked, refused
from .servers import RedisServer

GETS = '{{binding="KV",kind="kv",operation="get",result="{}"}}'


def test_a_value_is_read_as_text_json_bytes_or_a_stream(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        kv.put("text", "grüß dich\0")
        kv.put("json", {"weights": [1, 2.5], "on": True})
        kv.put("bytes", b"\xff" * 200_000)
        stream = kv.get("bytes", "stream")
        assert stream is not None
        return [
            kv.get("text"),
            kv.get("json", "json"),
            kv.get("json"),
            len(kv.get("bytes", "bytes") or b""),
            [len(piece) for piece in stream],
            kv.get("absent"),
            kv.get("absent", "json"),
            refused(lambda: kv.get("bytes")),
            refused(lambda: kv.get("text", "json")).split(": is")[0],
        ]

    assert asking.plain(question) == [
        "grüß dich\0",
        {"weights": [1, 2.5], "on": True},
        '{"weights":[1,2.5],"on":true}',
        200_000,
        [65_536, 65_536, 65_536, 3_392],
        None,
        None,
        "BindingError: KV: the value of 'bytes': is no text in UTF-8; read it with type=\"bytes\"".replace("'", '"', 2),
        'BindingError: KV: the value of "text"',
    ]


def test_an_async_function_awaits_what_a_plain_one_calls(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)

    async def question(request: Request, ctx: AsyncContext) -> Any:
        kv = ctx.env.KV
        await asyncio.gather(*(kv.put(f"key:{at}", {"at": at}, metadata={"n": at}) for at in range(20)))
        found = await asyncio.gather(*(kv.get(f"key:{at}", "json") for at in range(20)))
        entry = await kv.entry("key:7")
        stream = await kv.get("key:7", "stream")
        return [
            [value["at"] for value in found],
            entry.metadata,
            entry.json(),
            [piece.decode() async for piece in stream],
            await kv.delete("key:7"),
            await kv.delete("key:7"),
            await kv.get("key:7"),
            len((await kv.list("key:")).keys),
            await kv.add("count", 5),
        ]

    assert asking.awaited(question) == [
        [*range(20)],
        {"n": 7},
        {"at": 7},
        ['{"at":7}'],
        True,
        False,
        None,
        19,
        5,
    ]


def test_an_entry_has_its_metadata_its_version_and_its_end(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        kv.put("with", "1", metadata={"by": "ops"}, ttl=timedelta(hours=1))
        kv.put("without", "2")
        first, second = kv.entry("with"), kv.entry("without")
        assert first and second
        kv.put("with", "3")
        third = kv.entry("with")
        assert third
        return [
            (first.text(), first.metadata, first.expires is not None, bool(first.version)),
            (second.value.decode(), second.metadata, second.expires),
            (third.text(), third.metadata, third.expires, third.version != first.version),
            kv.entry("absent"),
        ]

    assert asking.plain(question) == [
        ["1", {"by": "ops"}, True, True],
        ["2", None, None],
        ["3", None, None, True],
        None,
    ]


def test_a_put_with_a_condition_changes_nothing_where_it_does_not_hold(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        first = kv.put("k", "1", if_absent=True)
        second = kv.put("k", "2", if_absent=True)
        entry = kv.entry("k")
        assert entry
        third = kv.put("k", "3", if_version=entry.version, metadata={"a": 1})
        fourth = kv.put("k", "4", if_version=entry.version)
        entry = kv.entry("k")
        assert entry
        fifth = kv.put("k", "5", if_version=entry.version)
        sixth = kv.put("absent", "6", if_version=entry.version)
        both = refused(lambda: kv.put("k", "7", if_absent=True, if_version="1"))
        return [first, second, third, fourth, fifth, sixth, kv.get("k"), kv.get("absent"), both]

    both = "ValueError: if_version: cannot hold together with if_absent; give one of them"
    assert asking.plain(question) == [True, False, True, False, True, False, "5", None, both]


def test_a_version_lets_one_of_many_writers_win(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)
    asking.plain(lambda request, ctx: ctx.env.KV.put("k", "0"))

    def increment(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        for tries in range(1_000):
            entry = kv.entry("k")
            assert entry
            if kv.put("k", str(int(entry.text()) + 1), if_version=entry.version):
                return tries
        return None

    asking.questions.append(increment)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: asking.client.get("/plain").status_code, range(40)))
    assert got == [200] * 40
    assert asking.plain(lambda request, ctx: ctx.env.KV.get("k")) == "40"


def test_a_counter_counts_each_of_many_additions(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url, limits=DataLimits(timeout=60))

    async def question(request: Request, ctx: AsyncContext) -> Any:
        kv = ctx.env.KV
        numbers = await asyncio.gather(*(kv.add("hits") for _ in range(100)))
        text = await kv.get("hits")
        await kv.put("word", "seven")
        await kv.put("large", str(2**63 - 1))
        failed = [await asyncio.gather(kv.add(key), return_exceptions=True) for key in ("word", "large")]
        return [
            sorted(numbers) == [*range(1, 101)],
            text,
            await kv.add("hits", -100),
            [type(error).__name__ for [error] in failed],
        ]

    assert asking.awaited(question) == [True, "100", 0, ["BindingError", "BindingError"]]


def test_a_counter_is_exact_in_all_of_its_64_bits(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        kv.put("described", str(2**60), metadata={"of": "a hash"})
        return [kv.add("large", 2**62), kv.add("large", 2**61 + 1), kv.add("low", -(2**63)), kv.add("described", 3)]

    assert asking.plain(question) == [2**62, 2**62 + 2**61 + 1, -(2**63), 2**60 + 3]


def test_pages_of_keys_lead_to_every_key_of_a_prefix(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        for at in range(50):
            kv.put(f"user:{at}", "")
        for other in ("user", "usér:1", "user;1", "user*", "zebra"):
            kv.put(other, "")
        found: list[str] = []
        page = kv.list("user:", limit=7)
        found += page.keys
        while page.cursor is not None:
            page = kv.list("user:", cursor=page.cursor, limit=7)
            found += page.keys
        return [sorted(set(found)), sorted(kv.list("user*").keys), sorted(kv.list("none").keys), len(kv.list().keys)]

    users = sorted(f"user:{at}" for at in range(50))
    assert asking.plain(question) == [users, ["user*"], [], 55]


@pytest.mark.parametrize("kv_url", ["memory", "sqlite", "dynamodb"], indirect=True)
def test_an_entry_is_gone_when_its_time_has_ended(asking: Asking, kv_url: str) -> None:
    running = asking.open(kv_url)

    def put(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        kv.put("short", "1", ttl=60)
        kv.put("long", "2", ttl=3_600)
        kv.add("count", ttl=60)
        return kv.add("count", ttl=3_600)

    def look(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        return [kv.get("short"), kv.get("long"), kv.list().keys, kv.delete("short"), kv.add("count")]

    assert asking.plain(put) == 2
    running.set_clock(30)
    assert asking.plain(look)[:3] == ["1", "2", ["count", "long", "short"]]
    running.set_clock(61)
    assert asking.plain(look) == [None, "2", ["long"], False, 1]
    assert asking.plain(lambda request, ctx: ctx.env.KV.put("long", "3", if_absent=True)) is False
    running.set_clock(3_601)
    assert asking.plain(lambda request, ctx: ctx.env.KV.put("long", "3", if_absent=True)) is True


def test_an_entry_in_redis_expires_by_the_server_and_is_read_by_other_programs(
    asking: Asking, redis: RedisServer
) -> None:
    asking.open(redis.url)
    asking.plain(lambda request, ctx: ctx.env.KV.put("k", "value", ttl=100))
    assert redis.command("GET", "k") == "$5\r\nvalue\r\n"
    assert 90_000 < int(redis.command("PTTL", "k")[1:]) <= 100_000
    asking.plain(lambda request, ctx: ctx.env.KV.put("k", "value", ttl=100, metadata={"a": 1}))
    assert redis.command("HGET", "k", "metadata") == '$7\r\n{"a":1}\r\n'
    assert 90_000 < int(redis.command("PTTL", "k")[1:]) <= 100_000
    asking.plain(lambda request, ctx: ctx.env.KV.add("n", ttl=100))
    asking.plain(lambda request, ctx: ctx.env.KV.add("n", ttl=900))
    assert 90_000 < int(redis.command("PTTL", "n")[1:]) <= 100_000
    redis.command("SET", "other", "from elsewhere")
    assert asking.plain(lambda request, ctx: ctx.env.KV.get("other")) == "from elsewhere"
    redis.command("RPUSH", "list", "1")
    text = asking.plain(lambda request, ctx: refused(lambda: ctx.env.KV.get("list")))
    assert text.startswith("BindingError: KV: the key holds another type of Redis")
    redis.command("SET", "large", "x" * 5_000)


def test_arguments_out_of_bounds_are_refused_with_field_value_and_remedy(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url, limits=DataLimits(value_bytes=1_000))

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        return [
            refused(lambda: kv.get("")),
            refused(lambda: kv.get("é" * 257)),
            refused(lambda: kv.get("k", "yaml")),  # type: ignore[call-overload]
            refused(lambda: kv.put("k", "x" * 1_001)),
            refused(lambda: kv.put("k", "x", ttl=0)),
            refused(lambda: kv.put("k", "x", ttl=-1)),
            refused(lambda: kv.put("k", "x", metadata="m" * 1_100)),
            refused(lambda: kv.put("k", object())),
            refused(lambda: kv.list(limit=1_001)),
            refused(lambda: kv.list(cursor="!")),
            refused(lambda: ctx.env.CARTS),
        ]

    texts = asking.plain(question)
    for text, start in zip(
        texts,
        [
            "ValueError: KV: key: is empty",
            "ValueError: KV: key: has 514 bytes, and 512 are the most",
            'ValueError: type: "yaml": must be "text"',
            "ValueError: KV: value: has 1001 bytes, and limits.data.value_bytes is 1000; raise it",
            "ValueError: KV: ttl: 0.0 s: must be from 0.001 seconds",
            "ValueError: ttl: -1.0 s: must be from 0.001 seconds to a hundred years; None never expires",
            "ValueError: KV: metadata: has 1102 bytes as JSON, and 1024 are the most",
            "TypeError: value: must be str, bytes, or what JSON can hold",
            "ValueError: KV: limit: 1001: must be from 1 to 1000",
            "ValueError: KV: cursor: is none of this store",
            "AttributeError: CARTS: no binding has this name, and there are KV; declare it",
        ],
        strict=True,
    ):
        assert text.startswith(start), text


def test_numbers_without_json_and_times_without_an_end_are_refused(asking: Asking) -> None:
    asking.open("memory:")

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        values = [nan, {"n": nan}, [[inf]], {"d": {"n": -inf}}, {"at": datetime(2026, 1, 1, tzinfo=UTC), "n": nan}]
        lives = [inf, nan, 1e300, 10**400, timedelta(days=-1)]
        return [
            [refused(lambda value=value: kv.put("k", value)) for value in values],  # type: ignore[misc]
            [
                refused(lambda: kv.put("k", "x", metadata={"n": nan})),
                refused(lambda: kv.put("k", "x", metadata={1j: 2})),
            ],
            [refused(lambda life=life: kv.put("k", "x", ttl=life)).split(": must")[0] for life in lives],  # type: ignore[misc]
            [
                refused(lambda: kv.add("k", ttl=True)),
                refused(lambda: kv.list(limit=-1)),
                refused(lambda: kv.list(limit=2**64)),
                refused(lambda: kv.add("k", 2**63)),
                refused(lambda: kv.add("k", by=-(2**63) - 1)),
                refused(lambda: kv.add("k", 1.5)).split(":")[0],  # type: ignore[arg-type]
            ],
            [kv.put("k", {"n": None, "nan": "null", "at": datetime(2026, 1, 1, tzinfo=UTC)}), kv.get("k")],
            [kv.list("k", cursor="").keys, kv.list().cursor],
        ]

    values, metadata, lives, others, kept, listed = asking.plain(question)
    rule = "has a number that JSON does not have (NaN or infinity); store None or text in its place"
    assert set(values) == {f"ValueError: value: {rule}"}
    assert metadata[0] == f"ValueError: metadata: {rule}"
    assert metadata[1].startswith("TypeError: metadata: must be what JSON can hold: ")
    assert lives == [f"ValueError: ttl: {shown} s" for shown in ("inf", "NaN", "1e300", "inf", "-86400.0")]
    assert others[0] == "TypeError: ttl: must be seconds or a timedelta, not bool"
    assert others[1:3] == [f"ValueError: limit: {limit}: must be from 1 to 1000" for limit in (-1, 2**64)]
    beyond = [f"ValueError: by: {by}: must be a whole number of 64 bits" for by in (2**63, -(2**63) - 1)]
    assert others[3:] == [*beyond, "TypeError"]
    assert kept == [True, '{"n":null,"nan":"null","at":"2026-01-01T00:00:00Z"}']
    assert listed == [["k"], None]


def test_a_full_store_in_memory_refuses_a_put(asking: Asking) -> None:
    asking.open("memory:", limits=DataLimits(store_entries=2))

    def question(request: Request, ctx: Context) -> Any:
        kv: Kv = ctx.env.KV
        kv.put("a", "1")
        kv.put("b", "1")
        kv.put("b", "2")
        return refused(lambda: kv.put("c", "1"))

    assert asking.plain(question).startswith(
        "BindingError: KV: has no room for this: there are as many entries as limits.data.store_entries allows"
    )


def test_an_operation_is_awaited_by_one_task_and_a_cancelled_one_leaves_it_to_the_next(
    asking: Asking, tmp_path: Path
) -> None:
    asking.open(f"sqlite:{tmp_path}/kv.db")
    asking.plain(lambda request, ctx: ctx.env.KV.put("a", "1"))
    with locked(tmp_path / "kv.db") as unlock:

        async def question(request: Request, ctx: AsyncContext) -> Any:
            operation = ctx.env.KV.put("a", "2")

            async def awaited() -> None:
                await operation

            found = []
            for patience in (0.01, 0.5):
                try:
                    await asyncio.wait_for(awaited(), patience)
                except (RuntimeError, TimeoutError) as error:
                    found.append(type(error).__name__)
                if len(found) == 1:
                    first = asyncio.create_task(awaited())
                    await asyncio.sleep(0)
            unlock()
            await first
            return [*found, await ctx.env.KV.get("a")]

        assert asking.awaited(question) == ["TimeoutError", "RuntimeError", "2"]


def test_data_outlives_a_restart_in_a_file_and_stores_of_other_names_are_apart(
    asking: Asking, tmp_path: Any, serve: Any, client_for: Any
) -> None:
    url = f"sqlite:{tmp_path}/kv.db"
    running = asking.open(url)
    asking.plain(lambda request, ctx: ctx.env.KV.put("k", "kept"))
    running.server.stop(1)
    edge = asking.edge(url)
    edge.kv("OTHER", url)
    asking.running = serve(edge)
    asking.client = client_for(asking.running)
    assert asking.plain(lambda request, ctx: [ctx.env.KV.get("k"), ctx.env.OTHER.get("k")]) == ["kept", None]
    assert asking.plain(lambda request, ctx: [sorted(dir(ctx.env)), "KV" in ctx.env]) == [["KV", "OTHER"], True]


def test_a_reload_keeps_a_store_that_stays_the_same_and_closes_one_that_goes(asking: Asking) -> None:
    running = asking.open("memory:")
    kept: list[Kv] = []

    def keep(request: Request, ctx: Context) -> Any:
        kept.append(ctx.env.KV)
        return kept[-1].put("k", "kept")

    asking.plain(keep)
    running.reload(asking.edge("memory:"))
    assert asking.plain(lambda request, ctx: ctx.env.KV.get("k")) == "kept"
    running.reload(asking.edge("memory:", limits=DataLimits(store_entries=5)))
    assert asking.plain(lambda request, ctx: ctx.env.KV.get("k")) is None
    asking.plain(keep)
    running.server.stop(1)
    with pytest.raises(BindingError, match="KV: is closed: the edge has stopped"):
        kept[-1].get("k")


def test_the_read_cache_answers_for_its_time_and_sees_changes_of_this_edge_at_once(
    asking: Asking, redis: RedisServer
) -> None:
    running = asking.open(redis.url, staleness=3_600)
    get = lambda request, ctx: ctx.env.KV.get("k")  # noqa: E731
    assert asking.plain(get) is None
    redis.command("SET", "k", "elsewhere")
    assert asking.plain(get) is None
    assert asking.plain(lambda request, ctx: ctx.env.KV.entry("k").text()) == "elsewhere"
    asking.plain(lambda request, ctx: ctx.env.KV.put("k", "here"))
    assert asking.plain(get) == "here"
    redis.kill()
    assert asking.plain(get) == "here"
    assert metric(running, "edgerouter_binding_cache_total", '{binding="KV",result="hit"}') >= 2


def test_an_inline_function_reads_memory_and_is_refused_what_would_wait(
    serve: Any, client_for: Any, tmp_path: Any
) -> None:
    edge = Edge("test")
    edge.kv("FAST", "memory:")
    edge.kv("SLOW", f"sqlite:{tmp_path}/kv.db")

    @edge.function("/fast", inline=True)
    def fast(request: Request, ctx: Context) -> str:
        return str(ctx.env.FAST.add("n"))

    @edge.function("/slow", inline=True)
    async def slow(request: Request, ctx: AsyncContext) -> str:
        try:
            return str(await ctx.env.SLOW.get("n"))
        except BindingError as error:
            return str(error)

    client: httpx.Client = client_for(serve(edge))
    assert [client.get("/fast").text for _ in range(3)] == ["1", "2", "3"]
    assert client.get("/slow").text == (
        "SLOW: a callable with inline=True cannot wait for a file or server; remove inline=True, or bind memory:"
    )


def test_work_after_the_response_uses_the_store(asking: Asking, kv_url: str) -> None:
    asking.open(kv_url)

    async def question(request: Request, ctx: AsyncContext) -> Any:
        return ctx.wait_until(ctx.env.KV.put("later", "1"))

    assert asking.awaited(question) is True
    wait_until(lambda: asking.plain(lambda request, ctx: ctx.env.KV.get("later")) == "1")


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda edge: edge.kv("2kv", "memory:"), r"Binding.name: \"2kv\": must be a name for ctx.env"),
        (lambda edge: edge.kv("KV", 7), "Binding.url: must be a URL such as"),
        (lambda edge: edge.kv("KV", "memory:", staleness=-1), "Binding.staleness: -1: must be ≥ 0 seconds"),
        (
            lambda edge: edge.kv("KV", "mongodb://:hunter2@h"),
            r"bindings\[0\].url: must be memory:, sqlite:FILE, or the URL",
        ),
        (lambda edge: edge.kv("KV", "redis://:hunter2@[::"), r"bindings\[0\].url: is no URL of a Redis server"),
        (lambda edge: edge.kv("KV", "memory:", staleness=5), r"bindings\[0\].staleness: 5.*has no effect on memory:"),
        (
            lambda edge: (edge.kv("KV", "memory:"), edge.kv("KV", "memory:")),
            r"bindings\[1\].name: \"KV\": is the name of an",
        ),
        (
            lambda edge: edge.kv("KV", env("NOT_SET_AT_ALL")),
            r"bindings\[0\].url: environment variable NOT_SET_AT_ALL: is not",
        ),
    ],
    ids=["name", "url", "staleness", "engine", "server", "staleness of memory", "doubled", "unset secret"],
)
def test_a_binding_that_cannot_work_is_refused_with_its_field(declare: Callable[[Edge], object], message: str) -> None:
    edge = Edge("test")

    def compiled() -> None:
        declare(edge)
        edge.compile()

    with pytest.raises(ConfigError, match=message) as refusal:
        compiled()
    assert "hunter2" not in str(refusal.value)
