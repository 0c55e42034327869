"""Parameters by annotation, results by class, repeated values and cookies: the comforts of functions."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import math
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import httpx
import msgspec
import pydantic
import pytest

from edgerouter import AsyncContext, ConfigError, Context, Edge, Request, Response
from edgerouter.functions import cookies
from edgerouter.testing import running


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Book:
    id: int
    printed: datetime.date


class Page(msgspec.Struct):
    number: int


class Model:
    """Stands for a pydantic model."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        return {"mode": mode}


def get(declare: Callable[[Edge], None], *paths: str) -> list[httpx.Response]:
    edge = Edge("test")
    declare(edge)
    with running(edge) as served, httpx.Client(base_url=served.url, timeout=20) as client:
        return [client.get(path) for path in paths]


def test_parameters_come_from_path_and_query_by_their_annotations() -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/books/{id}/{name}")
        def book(
            request: Request,
            ctx: Context,
            id: int,  # noqa: A002
            name: str,
            *,
            page: Annotated[int, msgspec.Meta(ge=1)] = 1,
            colour: Colour | None = None,
            sort: Literal["up", "down"] = "up",
            tags: list[str] = [],  # noqa: B006
            day: datetime.date | None = None,
            full: bool = False,
        ) -> dict[str, Any]:
            return {
                "id": id,
                "name": name,
                "page": page,
                "colour": colour,
                "sort": sort,
                "tags": tags,
                "day": day,
                "full": full,
            }

        @edge.function("/files/{rest:path}")
        def rest(request: Request, ctx: Context, rest: str, page: int = 1) -> list[Any]:
            return [rest, page]

        @edge.function("/async/{key}")
        async def awaited(request: Request, ctx: AsyncContext, key: uuid.UUID, q: str) -> list[str]:
            return [str(key), q]

    key = "12345678-1234-5678-1234-567812345678"
    found = get(
        declare,
        "/books/7/a%20b",
        "/books/7/x?page=2&colour=blue&sort=down&tags=a&tags=b%26&day=2026-01-31&full=true",
        "/books/seven/x",
        "/books/7.0/x",
        "/books/7/x?page=0",
        "/books/7/x?page=",
        "/books/7/x?colour=green",
        "/books/7/x?sort=sideways",
        f"/async/{key}?q=%C3%A4",
        f"/async/{key}",
        "/async/1?q=a",
        "/files/a/b%20c?page=2",
        "/files/",
    )
    plain = {"id": 7, "name": "a b", "page": 1, "colour": None, "sort": "up", "tags": [], "day": None, "full": False}
    assert found[0].json() == plain
    given = {"page": 2, "colour": "blue", "sort": "down", "tags": ["a", "b&"], "day": "2026-01-31", "full": True}
    assert found[1].json() == plain | {"name": "x"} | given
    assert [response.status_code for response in found[2:8]] == [404, 404, 400, 400, 400, 400]
    assert "page" in found[4].text and "colour" in found[6].text and "sort" in found[7].text
    assert found[8].json() == [key, "ä"]
    assert found[9].status_code == 400 and "q" in found[9].text
    assert found[10].status_code == 404
    assert [response.json() for response in found[11:]] == [["a/b c", 2], ["", 1]]


class Counted:
    def __call__(self, request: Request, ctx: Context, n: int = 1) -> dict[str, int]:
        return {"n": n}

    async def later(self, request: Request, ctx: AsyncContext, n: int) -> dict[str, int]:
        return {"n": n}


def stamped(request: Request, ctx: Context, stamp: str, n: int = 1) -> list[Any]:
    return [stamp, n]


def test_objects_methods_and_partial_functions_have_parameters_and_what_is_bound_is_not_for_clients() -> None:
    def declare(edge: Edge) -> None:
        edge.function("/object")(Counted())
        edge.function("/method")(Counted().later)
        edge.function("/partial")(functools.partial(stamped, stamp="x"))

    found = get(declare, "/object?n=2", "/method?n=3", "/partial?n=4&stamp=forged")
    assert [response.json() for response in found] == [{"n": 2}, {"n": 3}, ["x", 4]]


@pytest.mark.parametrize(
    ("annotation", "pattern", "message"),
    [
        (dict[str, str], "/a", "cannot be converted"),
        (Book, "/a", "cannot be converted"),
        (object, "/a", "cannot be converted"),
        (list[int], "/{x}", "one value in the path"),
        (list[int] | None, "/{x}", "one value in the path"),
        (Book | None, "/a", "cannot be converted"),
        (list[Book] | None, "/a", "cannot be converted"),
        (Annotated[int, pydantic.Field(ge=1)], "/a", "would not be checked; write msgspec.Meta"),
        (pydantic.PositiveInt | None, "/a", "would not be checked; write msgspec.Meta"),
        ("ForCheckersOnly", "/a", "cannot be read: name 'ForCheckersOnly' is not defined; import or define"),
    ],
)
def test_a_parameter_that_text_cannot_become_is_refused_when_it_is_declared(
    annotation: Any, pattern: str, message: str
) -> None:
    def named(request: Request, ctx: Context, x: Any) -> str:
        return "a"

    named.__annotations__["x"] = annotation
    with pytest.raises(ConfigError, match=f"x .*{message}"):
        Edge("test").function(pattern)(named)


def test_a_list_may_be_absent_and_names_for_type_checkers_are_not_needed() -> None:
    def listed(request: Request, ctx: Context, ids: list[int] | None = None) -> dict[str, Any]:
        return {"ids": ids}

    async def lines(request: Request, ctx: AsyncContext, count: int) -> AsyncIterator[str]:
        for number in range(count):
            yield f"{number}\n"

    # As the names of a module are that imports them for type checkers only.
    lines.__annotations__.update(request="_Unknown", ctx="_Unknown", **{"return": "_Unknown[str]"})

    def declare(edge: Edge) -> None:
        edge.function("/listed")(listed)
        edge.function("/lines/{count}")(lines)

    found = get(declare, "/listed", "/listed?ids=1&ids=2", "/listed?ids=x", "/lines/2")
    assert [response.json() for response in found[:2]] == [{"ids": None}, {"ids": [1, 2]}]
    assert found[2].status_code == 400 and "ids" in found[2].text
    assert found[3].text == "0\n1\n"


def test_a_parameter_in_the_place_of_the_request_or_the_context_is_refused() -> None:
    def first(number: int, page: int = 1) -> str:
        return "a"

    def second(request: Request, number: Any) -> str:
        return "a"

    def turned(ctx: Context, request: Request, number: Any) -> str:
        return "a"

    functions: list[Any] = [first, second, turned]
    for function, refused in zip(functions, ("number", "number", "ctx"), strict=True):
        with pytest.raises(ConfigError, match=rf"{refused} stands where .*takes \(request, ctx"):
            Edge("test").function("/books/{number}")(function)


def test_results_are_encoded_by_their_class_and_a_pair_has_the_status() -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/dataclass")
        def dataclass(request: Request, ctx: Context) -> Book:
            return Book(1, datetime.date(2026, 1, 31))

        @edge.function("/struct")
        async def struct(request: Request, ctx: AsyncContext) -> tuple[Page, int]:
            return Page(2), 201

        @edge.function("/model")
        def model(request: Request, ctx: Context) -> dict[str, Any]:
            return {"models": [Model()]}

        @edge.function("/model-alone")
        def alone(request: Request, ctx: Context) -> Model:
            return Model()

        @edge.function("/response")
        def response(request: Request, ctx: Context) -> tuple[Response, int]:
            return Response.text("gone"), 410

        @edge.function("/text")
        def text(request: Request, ctx: Context) -> tuple[str, int]:
            return "made", 201

        @edge.function("/no-status")
        def no_status(request: Request, ctx: Context) -> tuple[str, int]:
            return "made", 1

        @edge.function("/nothing")
        def nothing(request: Request, ctx: Context) -> tuple[None, int]:
            return None, 204

        @edge.function("/number")
        def number(request: Request, ctx: Context) -> tuple[Any, int]:
            return 7, 200

    paths = "/dataclass", "/struct", "/model", "/model-alone", "/response", "/text", "/no-status", "/number", "/nothing"
    found = get(declare, *paths)
    assert found[0].json() == {"id": 1, "printed": "2026-01-31"}
    assert (found[1].status_code, found[1].json()) == (201, {"number": 2})
    assert found[2].json() == {"models": [{"mode": "json"}]} and found[3].json() == {"mode": "json"}
    assert (found[4].status_code, found[4].text) == (410, "gone")
    assert (found[5].status_code, found[5].text) == (201, "made")
    assert found[6].status_code == found[7].status_code == 502
    assert (found[8].status_code, found[8].content) == (204, b"") and "content-type" not in found[8].headers


def test_repeated_parameters_and_cookies_are_all_given() -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/")
        def values(request: Request, ctx: Context) -> list[Any]:
            query = request.query
            return [query["a"], query.get_all("a"), query.get_all("b"), query.get_all("c"), len(query)]

    assert get(declare, "/?a=1&b=2&a=%2B&a=")[0].json() == ["1", ["1", "+", ""], ["2"], [], 2]


def test_cookies_are_set_and_forgotten() -> None:
    def declare(edge: Edge) -> None:
        @edge.function("/")
        def sets(request: Request, ctx: Context) -> Response:
            response = Response("a")
            response.set_cookie("plain", "v")
            expires = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
            response.set_cookie(
                "__Host-all",
                "x=y",
                max_age=60,
                expires=expires,
                secure=True,
                httponly=True,
                samesite="none",
                partitioned=True,
            )
            response.set_cookie("strict", "v", samesite="Strict")  # type: ignore[arg-type]
            response.delete_cookie("old", path="/a", domain="example.com")
            response.delete_cookie("__Host-all", partitioned=True)
            return response

    assert get(declare, "/")[0].headers.get_list("set-cookie") == [
        "plain=v; Path=/; SameSite=Lax",
        (
            "__Host-all=x=y; Max-Age=60; Expires=Sat, 31 Jan 2026 12:00:00 GMT; Path=/; Secure; HttpOnly; "
            "SameSite=None; Partitioned"
        ),
        "strict=v; Path=/; SameSite=Strict",
        "old=; Max-Age=0; Path=/a; Domain=example.com; SameSite=Lax",
        "__Host-all=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax; Partitioned",
    ]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a=b"}, "name"),
        ({"value": "a;b"}, "value"),
        ({"value": "a b"}, "value"),
        ({"value": "ä"}, "value"),
        ({"value": "a\r\nSet-Cookie: b=c"}, "value"),
        ({"path": "a"}, "path"),
        ({"path": "/;Domain=x"}, "path"),
        ({"domain": "a;b"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"max_age": 1.5}, "max_age"),
        ({"max_age": math.inf}, "max_age"),
        ({"max_age": math.nan}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"expires": datetime.datetime(2026, 1, 1)}, "expires"),  # noqa: DTZ001
        ({"samesite": "loose"}, "samesite"),
        ({"samesite": "none"}, "secure"),
        ({"samesite": "None"}, "secure"),
        ({"value": "v" * 4096}, "4097 bytes"),
        ({"path": "/" + "p" * 1024}, "1025 bytes"),
        ({"partitioned": True}, "secure"),
        ({"name": "__Secure-a"}, "secure"),
        ({"name": "__host-a"}, "secure"),
        ({"name": "__Http-a", "secure": True}, "httponly"),
        ({"name": "__Host-Http-a", "secure": True}, "httponly"),
        ({"name": "__Host-a", "secure": True, "path": "/b"}, "path"),
        ({"name": "__Host-a", "secure": True, "domain": "a.example"}, "domain"),
    ],
)
def test_a_cookie_that_clients_would_ignore_or_misread_is_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        cookies.line(**{"name": "a", **given})
