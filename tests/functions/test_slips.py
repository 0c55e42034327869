"""Words of other frameworks and forgotten awaits: what a developer is shown ends with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import httpx
import pytest

from edgerouter import AsyncContext, Context, Edge, Request, Response
from edgerouter.server import Server
from edgerouter.settings import Settings

#: The class as one sees it who has no types.
MADE: Any = Response
#: Slips of people who come from Flask, Django or FastAPI, and the end of the error in the log.
PLAIN: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "Flask's query": (lambda request, ctx: request.args["q"], "no attribute 'args'; write request.query[\"name\"]"),
    "Django's query": (lambda request, ctx: request.GET["q"], "no attribute 'GET'; write request.query[\"name\"]"),
    "FastAPI's query": (lambda request, ctx: request.query_params, "'query_params'; write request.query[\"name\"]"),
    "Flask's address": (lambda request, ctx: request.remote_addr, "'remote_addr'; write request.client"),
    "Django's cookies": (lambda request, ctx: request.COOKIES, "'COOKIES'; write request.cookies[\"name\"]"),
    "a status of Flask": (lambda request, ctx: MADE("x", status_code=404), "argument 'status_code'; write status"),
    "a type of Flask": (lambda request, ctx: MADE("x", mimetype="a/b"), 'write headers={"content-type": "..."}'),
    # From CPython 3.13 on the error has more words between the two.
    "an assigned status": (lambda request, ctx: setattr(Response(""), "status_code", 1), "; write status"),
    "a property of Flask": (lambda request, ctx: request.json["a"], "is it called, with parentheses?"),
    "a near name": (lambda request, ctx: request.geo.country_code, "'country_code'; did you mean country?"),
    "a key": (lambda request, ctx: request.json().a, "'dict' object has no attribute 'a'; it is a key: write [\"a\"]"),
    "a store": (lambda request, ctx: ctx.kv, "'kv'; write ctx.env.NAME, which edge.kv(\"NAME\", ...) declares"),
    "a method": (lambda request, ctx: request.text, "returned builtin_function_or_method, expected a Response"),
    "a call that is not made": (lambda request, ctx: request.text, ": is it called, with parentheses?"),
    "a tuple of Flask": (lambda request, ctx: ("x", 200, {}), ": fields go into Response(body, status, headers)"),
    "a class": (lambda request, ctx: Response, "returned type, expected a Response"),
}


async def _subscribed(ctx: Any) -> Any:
    return ctx.fetch("http://127.0.0.1:1/")["a"]


async def _awaited_data(request: Any) -> Any:
    return await request.json()


async def _unsent(ctx: Any) -> Any:
    return Response(ctx.cache.match("http://a.example/"))


async def _returned(ctx: Any) -> Any:
    return ctx.cache.match("http://a.example/")


async def _read(ctx: Any) -> Any:
    return ctx.env.KV.get("a")


ASYNC: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "a fetch without await": (lambda request, ctx: _subscribed(ctx), "is not subscriptable; is an await missing?"),
    "await of a value": (lambda request, ctx: _awaited_data(request), "; leave await out: it is here already"),
    "a body without await": (lambda request, ctx: _unsent(ctx), "; await it"),
    "a match without await": (lambda request, ctx: _returned(ctx), ": await it"),
    "a value without await": (lambda request, ctx: _read(ctx), ": await it"),
}


def called(edge: Edge) -> httpx.Response:
    """The response to a developer, with the traceback."""
    server = Server.start(edge, Settings(listen="127.0.0.1:0", debug_errors=True))
    try:
        return httpx.post(f"{server.urls[0]}/a", content=b'{"a": 1}')
    finally:
        server.stop(1)


@pytest.mark.parametrize("slip", PLAIN)
def test_a_word_of_another_framework_is_answered_with_ours(slip: str) -> None:
    wrong, remedy = PLAIN[slip]
    edge = Edge("test")

    @edge.function("/a")
    def function(request: Request, ctx: Context) -> Any:
        return wrong(request, ctx)

    response = called(edge)
    assert (response.status_code, remedy in response.text) == (502, True), response.text


@pytest.mark.filterwarnings("ignore:coroutine 'ctx.fetch' was never awaited")
@pytest.mark.parametrize("slip", ASYNC)
def test_an_await_that_is_missing_or_too_many_is_named(slip: str) -> None:
    wrong, remedy = ASYNC[slip]
    edge = Edge("test")
    edge.kv("KV", "memory:")

    @edge.function("/a")
    async def function(request: Request, ctx: AsyncContext) -> Any:
        return await wrong(request, ctx)

    response = called(edge)
    # An operation that nobody awaits is no stream of nothing.
    assert (response.status_code, remedy in response.text) == (502, True), response.text


def test_a_response_of_another_framework_is_named_with_its_module() -> None:
    edge = Edge("test")

    @edge.function("/a")
    def function(request: Request, ctx: Context) -> Any:
        return flask.Response("x")

    text = called(edge).text
    assert "returned flask.wrappers.Response, expected a Response" in text
    assert "for an application that edge.mount serves" in text
