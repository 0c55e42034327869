"""Documents in SQLite files, on PostgreSQL and on Redis: versions, merge patches, and pages of what fields find."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import pytest

from edgerouter import AsyncContext, BindingError, ConfigError, Context, DataLimits, Edge, Request
from edgerouter.documents import merged
from edgerouter.functions import Documents

from ..metrics import metric
from .conftest import Asking, refused
from .servers import PostgresServer, RedisServer


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def carts(asking: Asking, request: pytest.FixtureRequest, tmp_path: Path) -> Asking:
    """A function with an empty collection, on each engine."""
    if request.param == "sqlite":
        url = f"sqlite:{tmp_path}/carts.db"
    elif request.param == "redis":
        redis: RedisServer = request.getfixturevalue("json_redis")
        redis.command("FLUSHALL")
        url = redis.url
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.empty()
    asking.open(url, kind="documents")
    return asking


@pytest.mark.parametrize(
    ("target", "patch", "want"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_rfc_7396_lists_in_appendix_a(target: object, patch: object, want: object) -> None:
    assert merged(target, patch) == want


def test_a_document_is_put_read_patched_and_removed(carts: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        missing = [carts.get("a"), carts.patch("a", {}), carts.delete("a")]
        first = carts.put("a", {"user": "ann", "items": [1, {"n": 1.5}], "note": "grüß ? 'dich'"})
        found = carts.get("a")
        patched = carts.patch("a", {"note": None, "total": {"eur": 5}})
        assert first is not None and found is not None and patched is not None
        again = carts.get("a")
        removed = [carts.delete("a"), carts.get("a")]
        anew = carts.put("a", {})
        assert anew is not None
        return [
            missing,
            (found.id, found.version == first, found.value),
            (patched.version > first, patched == again, patched.value),
            removed,
            anew > patched.version,
        ]

    assert carts.plain(question) == [
        [None, None, False],
        ["a", True, {"user": "ann", "items": [1, {"n": 1.5}], "note": "grüß ? 'dich'"}],
        [True, True, {"user": "ann", "items": [1, {"n": 1.5}], "total": {"eur": 5}}],
        [True, None],
        True,
    ]


def test_a_change_may_depend_on_the_version_that_was_read(carts: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        first = carts.put("a", {"n": 1}, if_absent=True)
        absent = carts.put("a", {"n": 2}, if_absent=True)
        second = carts.put("a", {"n": 3}, if_version=first)
        stale = [
            carts.put("a", {"n": 4}, if_version=first),
            carts.patch("a", {"n": 4}, if_version=first),
            carts.delete("a", if_version=first),
        ]
        patched = carts.patch("a", {"m": 1}, if_version=second)
        assert patched is not None
        return [absent, stale, patched.value, carts.delete("a", if_version=patched.version)]

    assert carts.plain(question) == [None, [None, None, False], {"n": 3, "m": 1}, True]


def test_no_patch_of_several_at_once_is_lost(carts: Asking) -> None:
    async def question(request: Request, ctx: AsyncContext) -> Any:
        carts = ctx.env.CARTS
        await carts.put("a", {})
        await asyncio.gather(*(carts.patch("a", {f"f{at}": at}) for at in range(8)))
        return (await carts.get("a")).value

    assert carts.awaited(question) == {f"f{at}": at for at in range(8)}


def test_fields_find_documents_page_by_page(carts: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        carts.index("user.name")
        for at in range(7):
            carts.put(f"{at}", {"user": {"name": "ann" if at % 2 else "bob"}, "open": at < 3, "n": at, "gone": None})
        carts.patch("6", {"price": 5.0})
        pages: list[list[str]] = []
        cursor = None

        def found(where: dict[str, Any]) -> list[str]:
            return [it.id for it in carts.find(where).documents]

        while True:
            page = carts.find({"user.name": "bob"}, cursor=cursor, limit=3)
            pages.append([it.id for it in page.documents])
            if (cursor := page.cursor) is None:
                break
        return [
            pages,
            [found({"user.name": "ann", "open": True}), found({"n": 5}), found({"n": True}), found({"n": "5"})],
            [found({"n": 5.0}), found({"price": 5}), found({"price": 5.0}), found({"price": 5.5})],
            [len(found({"gone": None})), found({"nothing": None}), len(found({}))],
            refused(lambda: carts.find({"a' = '": 1})),
            refused(lambda: carts.find({"a": [1]})),  # type: ignore[dict-item]
            refused(lambda: carts.find(limit=0)),
        ]

    assert carts.plain(question) == [
        [["0", "2", "4"], ["6"]],
        [["1"], ["5"], [], []],
        [["5"], ["6"], ["6"], []],
        [7, [], 7],
        "ValueError: find: \"a' = '\" is no field such as user, or user.name within an object",
        "TypeError: find: the value of a must be str, int, float, bool or None",
        "ValueError: find: limit: 0: must be from 1 to 1000; the cursor leads to further documents",
    ]


def test_what_is_no_document_is_refused(carts: Asking) -> None:
    wrong: dict[str, Callable[[Any], object]] = {
        "ValueError: key must have 1 to 512 bytes and no zero character": lambda carts: carts.put("", {}),
        "ValueError: key must have 1 to 512 bytes and no zero": lambda carts: carts.put("é" * 257, {}),
        "ValueError: key: has half a character (a surrogate)": lambda carts: carts.get("\ud800"),
        "TypeError: put: value must be a mapping, which is an object of JSON, not list": lambda carts: carts.put(
            "a", [1]
        ),
        "ValueError: put: value: Out of range float values are not JSON": lambda carts: carts.put("a", {"n": nan}),
        "ValueError: put: value: has half a character (a surrogate)": lambda carts: carts.put("a", {"n": "\ud800"}),
        "TypeError: put: value: Object of type object is not JSON": lambda carts: carts.put("a", {"n": object()}),
        "ValueError: CARTS: value: has 1048585 bytes, and limits.data.value_bytes is 1048576": lambda carts: carts.put(
            "a", {"n": "x" * (1 << 20) + "x"}
        ),
        "ValueError: put: give if_absent or if_version, not both": lambda carts: carts.put(
            "a", {}, if_absent=True, if_version=1
        ),
        "TypeError: if_version: must be an int, not str": lambda carts: carts.put("a", {}, if_version="1"),
        "TypeError: if_version: must be an int, not bool": lambda carts: carts.patch("a", {}, if_version=True),
        "ValueError: if_version: 1180591620717411303424: must be from 0": lambda carts: carts.delete(
            "a", if_version=2**70
        ),
        "TypeError: find: cursor must be that of a page before, a str, not int": lambda carts: carts.find(cursor=5),
        "TypeError: find: limit: must be an int, not float": lambda carts: carts.find(limit=1.5),
        "TypeError: find: must be given a mapping of fields and values, not list": lambda carts: carts.find([]),
        "TypeError: find: the name of a field must be a str, not int": lambda carts: carts.find({5: 1}),
        "ValueError: find: n: Out of range float values": lambda carts: carts.find({"n": nan}),
        "ValueError: find: 17 fields, and 16 are the most": lambda carts: carts.find({f"f{at}": 1 for at in range(17)}),
        "TypeError: index: the name of a field must be a str, not int": lambda carts: carts.index(5),
        "ValueError: index: 'a b' is no field": lambda carts: carts.index("a b"),
    }

    def question(request: Request, ctx: Context) -> Any:
        said = [refused(lambda call=call: call(ctx.env.CARTS)) for call in wrong.values()]  # type: ignore[misc]
        return [said, ctx.env.CARTS.find(cursor="").documents, repr(ctx.env.CARTS)]

    said, found, shown = carts.plain(question)
    assert not [pair for pair in zip(wrong, said, strict=True) if not pair[1].startswith(pair[0])]
    assert (found, shown) == ([], "<Documents CARTS>")


def test_values_are_read_back_as_they_were_put_or_refused(carts: Asking, request: pytest.FixtureRequest) -> None:
    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        value = {"é": 'a\n"\\ü', "n": -(2**63), "f": 1e-7, "e": {}, "l": [None, True, 0], "": {"": 1}, "a b": 1}
        carts.put("ü", value)
        found = carts.get("ü")
        assert found is not None
        zero = refused(lambda: carts.put("z", {"s": "a\0b", "backslash": "\\u0000"}))
        long = refused(lambda: carts.put("l", {"n": 2**70}))
        read = [it.value for it in (carts.get("z"), carts.get("l")) if it is not None]
        return [found.value == value, zero, long, read]

    same, zero, long, read = carts.plain(question)
    nothing = "nothing was raised"
    engine = request.node.callspec.params["carts"]
    assert same
    wants = {
        "sqlite": (nothing, nothing),
        "postgres": ("ValueError: value: has a zero character, which PostgreSQL cannot store in JSON", nothing),
        "redis": (nothing, "ValueError: value: 1180591620717411303424: has more than 64 bits"),
    }[engine]
    assert zero.startswith(wants[0]) and long.startswith(wants[1])
    kept = {"zero": {"s": "a\0b", "backslash": "\\u0000"}, "long": {"n": 2**70}}
    assert read == [value for value, want in zip(kept.values(), wants, strict=True) if want == nothing]


def test_documents_on_redis_are_json_for_others_and_found_by_their_indexes(
    asking: Asking, json_redis: RedisServer
) -> None:
    json_redis.command("FLUSHALL")
    running = asking.open(json_redis.url, kind="documents")

    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        # More than one script looks at.
        for at in range(700):
            carts.put(f"{at:03}", {"user": {"name": f"u{at % 350}"}, "n": at, "long": "x" * 600})
        before = [it.id for it in carts.find({"user.name": "u349"}).documents]
        carts.index("user.name")
        carts.index("long")
        carts.patch("349", {"user": {"name": "ann"}})
        carts.delete("699")
        carts.put("9", {"user": {"name": "ann"}, "n": 2**53 + 1})
        found = [it.id for it in carts.find({"user.name": "ann"}).documents]
        both = [it.id for it in carts.find({"user.name": "ann", "n": 2**53}).documents]
        pages, cursor = [], None
        while True:
            page = carts.find({"long": "x" * 600}, cursor=cursor, limit=300)
            pages.append(len(page.documents))
            if (cursor := page.cursor) is None:
                return [before, found, both, pages, carts.find({"user.name": "u349"}).documents]

    assert asking.plain(question) == [["349", "699"], ["349", "9"], [], [300, 300, 99], []]
    assert '{"user":{"name":"ann"},"n":349' in json_redis.command("JSON.GET", "documents:{CARTS}:at:349")
    assert (
        metric(
            running,
            "edgerouter_binding_operations_total",
            '{binding="CARTS",kind="documents",operation="put",result="ok"}',
        )
        > 700
    )

    # Nothing of the collection is left when its documents are gone, but the names of its indexes.
    def empty(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        while found := carts.find(limit=1_000).documents:
            for document in found:
                carts.delete(document.id, if_version=document.version)

    asking.plain(empty)
    assert json_redis.command("KEYS", "*").split("\r\n")[::2][1:] == ["documents:{CARTS}:indexes"]


def test_a_page_of_redis_ends_where_its_bytes_do(asking: Asking, json_redis: RedisServer) -> None:
    json_redis.command("FLUSHALL")
    limits = DataLimits(result_bytes=65_536, value_bytes=65_536)
    asking.open(json_redis.url, kind="documents", limits=limits)

    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        for at in range(4):
            carts.put(f"{at}", {"long": "x" * 30_000})
        first = carts.find()
        second = carts.find(cursor=first.cursor)
        return [[it.id for it in page.documents] for page in (first, second)]

    assert asking.plain(question) == [["0", "1"], ["2", "3"]]
    json_redis.command("JSON.SET", "documents:{CARTS}:at:0", "$", f'{{"long":"{"x" * 70_000}"}}')
    answer = asking.plain(lambda request, ctx: refused(lambda: ctx.env.CARTS.get("0")))
    assert answer.startswith("BindingError: CARTS: a document has more than 65536 bytes of JSON")
    assert asking.plain(lambda request, ctx: refused(lambda: ctx.env.CARTS.find())) == answer


def test_a_redis_server_without_json_refuses_the_first_call_with_the_remedy(asking: Asking, redis: RedisServer) -> None:
    asking.open(redis.url, kind="documents")

    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        calls: list[Callable[[], object]] = [
            lambda: carts.get("a"),
            lambda: carts.put("a", {}),
            lambda: carts.put("a", {}, if_version=1),
            lambda: carts.patch("a", {}),
            lambda: carts.delete("a"),
            lambda: carts.find(),
            lambda: carts.index("a"),
        ]
        return [refused(call) for call in calls]

    (said,) = set(asking.plain(question))
    assert said.startswith("BindingError: CARTS: the Redis server does not keep JSON (it has no JSON.SET)")
    assert "sqlite:FILE or postgresql://" in said
    assert redis.command("DBSIZE") == ":0\r\n"

    async def awaited(request: Request, ctx: AsyncContext) -> Any:
        try:
            await ctx.env.CARTS.get("a")
        except BindingError as error:
            return str(error)

    assert asking.awaited(awaited) == said.removeprefix("BindingError: ")
    redis.kill()
    assert "cannot be reached: the Redis server" in asking.plain(question)[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory:", "must be sqlite:FILE, postgresql://, or redis:// with its JSON module for documents"),
        ("mysql://u@localhost/d", "must be sqlite:FILE, postgresql://, or redis:// with its JSON module for documents"),
        ("redis://127.0.0.1:x/0", "is no URL of a Redis server"),
    ],
)
def test_engines_without_documents_are_refused_at_the_start(url: str, message: str) -> None:
    edge = Edge("shop")
    edge.documents("CARTS", url)
    with pytest.raises(ConfigError, match=message):
        edge.compile()
