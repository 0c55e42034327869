"""How a callable says where it runs, and which declarations are refused."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import AsyncContext, Context, Edge, Plugin, Request, Response
from edgerouter.application import FileApplication
from edgerouter.errors import ConfigError, EdgeError
from edgerouter.testing import Running

Serve = Callable[[Edge], Running]
ClientFor = Callable[[Running], httpx.Client]


def test_an_option_for_functions_that_wait_is_refused() -> None:
    """Plain functions may always wait."""
    given: dict[str, Any] = {"blocking": True}
    with pytest.raises(ConfigError, match=r"Edge\.function\.blocking: no such argument; there are pattern"):
        Edge("test").function("/", **given)
    with pytest.raises(ConfigError, match=r"Edge\.on\.blocking: no such argument; there are phase"):
        Edge("test").on("viewer_request", **given)


async def coroutine(request: Request, ctx: AsyncContext) -> str:
    return ""


def plain(request: Request, ctx: Context) -> str:
    return ""


def generator(request: Request, ctx: Context) -> Iterator[str]:
    yield ""


async def async_generator(request: Request, ctx: AsyncContext) -> Any:
    yield ""


class Streams:
    def __call__(self, request: Request, ctx: Context) -> Iterator[str]:
        yield ""


@pytest.mark.parametrize(
    ("function", "mode", "message"),
    [
        (coroutine, {"serial": True}, "is async, which serial=True contradicts"),
        (plain, {"inline": True, "serial": True}, "cannot be combined with serial"),
        (async_generator, {"serial": True}, "is a"),
    ],
)
def test_what_contradicts_the_callable_is_refused(function: Any, mode: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Edge("test").function("/", **mode)(function)
    with pytest.raises(ConfigError, match=message):
        Edge("test").on("viewer_request", **mode)(function)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda edge: edge.function("/", timeout="5")(plain), r'function\.timeout: "5": must be seconds'),
        (lambda edge: edge.on("viewer_request", fail="half")(plain), r'on\.fail: "half": must be one of open, closed'),
        (lambda edge: edge.on("start", timeout="5")(lambda: None), r'on\.timeout: "5": must be seconds'),
        (lambda edge: edge.schedule("* * * * *", timeout=0)(lambda: None), r"schedule\.timeout: 0: must be > 0"),
        (lambda edge: edge.schedule("* * * * *")(lambda job: None), r"must take no arguments, and takes \(job\)"),
    ],
    ids=["function", "hook", "start", "schedule", "arguments"],
)
def test_a_wrong_option_has_the_name_of_its_decorator(declare: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        declare(Edge("test"))


@pytest.mark.parametrize("function", [generator, functools.partial(generator), async_generator, Streams()])
def test_a_generator_is_a_function_that_streams_and_no_hook(function: Any, serve: Serve, client_for: ClientFor) -> None:
    edge = Edge("test")
    edge.function("/")(function)
    assert client_for(serve(edge)).get("/").text == ""
    with pytest.raises(ConfigError, match="is a generator, and hooks do not stream"):
        edge.on("viewer_request")(function)


def test_a_decorator_without_parentheses_is_refused_at_the_users_line(tmp_path: Path) -> None:
    for name, decorated in [("function", "edge.function"), ("on", "edge.on")]:
        (tmp_path / "app.py").write_text(
            f'from edgerouter import Edge\nedge = Edge("a")\n\n@{decorated}\ndef page(request, ctx):\n    return ""\n'
        )
        with pytest.raises(EdgeError, match="parentheses") as caught:
            FileApplication("app.py", folder=tmp_path).load()
        assert "app.py:4" in str(caught.value) and f"@edge.{name}(" in str(caught.value)


def test_a_plugin_says_that_its_hooks_are_serial(serve: Serve, client_for: ClientFor) -> None:
    class Names(Plugin):
        def viewer_request(self, request: Request, ctx: Context) -> Response:
            return Response(threading.current_thread().name)

    plugin = Names()
    plugin.serial = True
    edge = Edge("test")
    edge.route("/", respond="")
    edge.use(plugin)
    assert client_for(serve(edge)).get("/").text.startswith("edge-serial-")
