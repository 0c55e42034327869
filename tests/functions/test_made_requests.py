"""Requests and responses that functions make: methods and URLs as the Fetch standard has them, copies, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from edgerouter import (
    AsyncContext,
    Context,
    Edge,
    Request,
    Response,
)
from edgerouter.testing import running

from ..origins import Origin, Reply
from .applications import client_of


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("page", {}, "starts with /"),
        ("ftp://a.example/", {}, "http or https"),
        ("http://other.example/", {}, "not the host"),
        ("//other.example/", {}, "http or https"),
        ("http://127.0.0.1@other.example/", {}, "names a user"),
        ("http://127.0.0.1:1/", {}, "not the host"),
        ("http://127.0.0.1:x/", {}, "no valid host or port"),
        ("http://127.0.0.1:99999/", {}, "no valid host or port"),
        ("http://[::1", {}, "no valid host or port"),
        ("http://[zz]/", {}, "no valid host"),
        ("http://ann:hunter2@127.0.0.1:99999/", {}, "//…@127.0.0.1"),
        ("/a\0b", {}, "percent-encoded"),
        ("/", {"body": "a"}, "a GET has no body"),
        ("/", {"method": "head", "json": {}}, "a HEAD has no body"),
        ("/", {"method": "CONNECT"}, "no method"),
        ("/", {"method": "Trace"}, "no method"),
        ("/", {"method": "G T"}, "no method"),
        ("/", {"cache": "never"}, "must be default"),
        ("/", {"timeout": 0}, "timeout"),
        ("/", {"timeout": float("nan")}, "timeout"),
        ("/", {"method": "POST", "body": "a", "json": {}}, "combined"),
        ("/", {"headers": {"a b": "c"}}, "field name"),
        ("/", {"headers": {"a": "b\r\nc: d"}}, "line ends"),
        ("/", {"headers": {"a": 1}}, "value of a must be a str, not int: write str(value)"),
        ("/", {"headers": {1: "a"}}, "a name must be a str, not int"),
        ("/", {"headers": "a: b"}, "must be a mapping of names to texts, or pairs of both, not str"),
        ("/", {"headers": 5}, "must be a mapping of names to texts, or pairs of both, not int"),
        ("/", {"headers": [("a",)]}, "must be a mapping of names to texts, or pairs of both, not tuple"),
        ("/", {"header": {}}, "there is no header=: it takes method, headers"),
        ("/", {"method": "POST", "json": {"a": object()}}, "json cannot hold this value"),
        ("/", {"method": ""}, "no method"),
        ("/", {"method": 7}, "method is a str"),
        ("/", {"method": "POST", "body": 5}, "body is str or bytes, not int"),
        ("/", {"cache": None}, "cache is a word"),
    ],
)
def test_a_request_that_cannot_be_made_is_refused(url: str, options: dict[str, Any], message: str) -> None:
    edge = Edge("test")
    refused: list[str] = []

    @edge.function("/*")
    async def call(request: Request, ctx: AsyncContext) -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            await ctx.fetch(url, **options)
        refused.append(str(caught.value))
        return "refused"

    with running(edge) as served, client_of(served) as client:
        assert client.get("/").text == "refused"
    assert message in refused[0]


@pytest.mark.parametrize(
    ("given", "method"), [("post", "POST"), ("Get", "GET"), ("dElEtE", "DELETE"), ("patch", "patch"), ("x-y", "x-y")]
)
def test_the_method_of_a_request_is_spelled_as_the_fetch_standard_says(given: str, method: str) -> None:
    assert Request("https://a.example/", given).method == method


@pytest.mark.parametrize(
    ("url", "method", "message"),
    [
        ("/page", "GET", "must be absolute"),
        ("", "GET", "must be absolute"),
        ("ftp://a.example/", "GET", "http or https"),
        ("https://u:p@a.example/", "GET", "user name or password"),
        ("https://a.example:99999/", "GET", "port"),
        ("https://a.example:8o/", "GET", "port|character"),
        ("https://a.example/b\nc", "GET", "control character"),
        ("https://a b.example/", "GET", "xn--"),
        ("https://bücher.example/", "GET", "xn--"),
        ("https://a.example/%zz", "GET", "invalid escape"),
        ("https://a.example/", "connect", "no method of a request"),
        ("https://a.example/", "TRACE", "no method of a request"),
        ("https://a.example/", "a b", "no method of a request"),
        ("https://a.example/", "", "no method of a request"),
    ],
)
def test_a_request_that_cannot_be_is_a_value_error_with_the_reason(url: str, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Request(url, method)


@pytest.mark.parametrize(
    ("url", "spelling"),
    [
        ("https://a.example/ü b?q=ü b#ü", "https://a.example/%C3%BC%20b?q=%C3%BC%20b"),
        ("https://a.example?ü", "https://a.example/?%C3%BC"),
        ('https://a.example/<"{|}^`>\\', "https://a.example/%3C%22%7B%7C%7D%5E%60%3E%5C"),
        ("https://A.example:443/%C3%BC/../b", "https://a.example/b"),
    ],
)
def test_the_url_of_a_request_has_what_it_cannot_have_percent_encoded(url: str, spelling: str) -> None:
    assert Request(url).url == spelling


def test_a_path_with_any_characters_is_fetched() -> None:
    edge = Edge("test")

    @edge.function("/ü b")
    def place(request: Request, ctx: Context) -> str:
        return f"{request.path} {request.query['q']}"

    @edge.function("/")
    async def call(request: Request, ctx: AsyncContext) -> list[str]:
        urls = ["/ü b?q=ü b", "/%C3%BC%20b?q=%C3%BC+b", f"http://{request.headers['host']}/ü b?q=ü b"]
        return [(await ctx.fetch(url)).text() for url in urls]

    with running(edge) as served, client_of(served) as client:
        assert client.get("/").json() == ["/%C3%BC%20b ü b"] * 3


def test_requests_and_responses_are_made_of_others_and_cloned(origin: Origin) -> None:
    origin.default = Reply(200, {"x-a": "b"}, "the page")
    edge = Edge("test")
    edge.route("/page", to=edge.origin("o", origin.url))

    @edge.function("/", methods=["POST"])
    async def made(request: Request, ctx: AsyncContext) -> dict[str, Any]:
        found = await ctx.fetch("/page")
        kept = found.clone()
        kept.headers["x-a"] = "c"
        changed = Request(request, method="PUT", headers={"x-b": "c"})
        data = Request(Request("https://a.example/b", "POST", body="text"), json={"a": 1})
        copy = request.clone()
        with pytest.raises(ValueError, match="the response is not valid JSON"):
            found.json()
        with pytest.raises(ValueError, match="a GET has no body"):
            Request("https://a.example/", body="x")
        with pytest.raises(ValueError, match="cannot be combined"):
            Request("https://a.example/", "POST", body="x", json=1)
        with pytest.raises(RuntimeError, match="cannot be cloned"):
            Response(iter(["a"])).clone()
        return {
            "response": [found.ok, found.headers["x-a"], kept.headers["x-a"], kept.text()],
            "clone": [copy.method, copy.url == request.url, copy.text(), copy.headers["x-mine"]],
            "changed": [changed.method, dict(changed.headers), changed.text()],
            "data": [data.method, data.json(), data.headers["content-type"]],
            "version": request.http_version,
        }

    with running(edge) as served, client_of(served) as client:
        found = client.post("/", content="sent", headers={"x-mine": "1"}).json()
    assert found == {
        "response": [True, "b", "c", "the page"],
        "clone": ["POST", True, "sent", "1"],
        "changed": ["PUT", {"x-b": "c"}, "sent"],
        "data": ["POST", {"a": 1}, "application/json"],
        "version": "1.1",
    }
