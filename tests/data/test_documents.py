"""Documents in SQLite files and on PostgreSQL: versions, merge patches, and pages of what fields find."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edgerouter import AsyncContext, ConfigError, Context, Edge, Request
from edgerouter.documents import merged
from edgerouter.functions import Documents

from .conftest import Asking, refused
from .servers import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def carts(asking: Asking, request: pytest.FixtureRequest, tmp_path: Path) -> Asking:
    """A function with an empty collection, on each engine."""
    if request.param == "sqlite":
        url = f"sqlite:{tmp_path}/carts.db"
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
            [len(found({"gone": None})), found({"nothing": None}), len(found({}))],
            refused(lambda: carts.find({"a' = '": 1})),
            refused(lambda: carts.find({"a": [1]})),  # type: ignore[dict-item]
            refused(lambda: carts.find(limit=0)),
        ]

    assert carts.plain(question) == [
        [["0", "2", "4"], ["6"]],
        [["1"], ["5"], [], []],
        [7, [], 7],
        "ValueError: find: \"a' = '\" is no field such as user, or user.name within an object",
        "TypeError: find: the value of a must be str, int, float, bool or None",
        "ValueError: find: limit must be from 1 to 1000",
    ]


def test_what_is_no_document_is_refused(carts: Asking) -> None:
    def question(request: Request, ctx: Context) -> Any:
        carts: Documents = ctx.env.CARTS
        return [
            refused(lambda: carts.put("", {})),
            refused(lambda: carts.put("x" * 513, {})),
            refused(lambda: carts.put("a", [1])),  # type: ignore[arg-type]
            refused(lambda: carts.put("a", {"n": float("nan")})),
            refused(lambda: carts.put("a", {}, if_absent=True, if_version=1)),
        ]

    identifier = "ValueError: key must have 1 to 512 bytes and no zero character"
    both = "ValueError: put: give if_absent or if_version, not both"
    first, second, third, fourth, fifth = carts.plain(question)
    assert (first, second, fifth) == (identifier, identifier, both)
    assert third == "TypeError: put: value must be a mapping, which is an object of JSON, not list"
    assert fourth.startswith("ValueError: ")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory:", "must be sqlite:FILE or postgresql:// for documents"),
        ("mysql://u@localhost/d", "must be sqlite:FILE or postgresql:// for documents"),
        ("redis://127.0.0.1/0", "a Redis server keeps them only with its JSON module"),
    ],
)
def test_engines_without_documents_are_refused_at_the_start(url: str, message: str) -> None:
    edge = Edge("shop")
    edge.documents("CARTS", url)
    with pytest.raises(ConfigError, match=message):
        edge.compile()
