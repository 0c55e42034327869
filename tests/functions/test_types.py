"""Type checkers know handlers, with the signatures that decorators take and what the contexts have, and policies."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Each line that a type checker must refuse ends with ``# error``.
SOURCE = """
from typing import Any

from edgerouter import AsyncContext, Context, Edge, Request, Response

edge = Edge("a")


@edge.function("/untyped")
def untyped(request, ctx):  # type: ignore[no-untyped-def]
    return 1


@edge.function("/async")
async def coroutine(request: Request, ctx: AsyncContext) -> Response:
    found: Response | None = await ctx.cache.match(request)
    stored: bool = await ctx.cache.put(request, Response("a"))
    other = await ctx.caches.open("other")
    forgot: bool = await other.delete(request)
    ctx.log.info("%s %s", ctx.name, ctx.request_id)
    return found or Response(f"{stored} {forgot}")


@edge.function("/plain", serial=True)
def plain(request: Request, ctx: Context) -> dict[str, int]:
    found: Response | None = ctx.cache.match(request)
    return {"status": found.status if found else 0}


@edge.function("/bytes")
async def some_bytes(request: Request, ctx: AsyncContext) -> bytes:
    return request.body


@edge.function("/wrong-context")  # error
async def wrong_context(request: Request, ctx: Context) -> Response:
    return Response("a")


@edge.function("/wrong-context")  # error
def awaits(request: Request, ctx: AsyncContext) -> Response:
    return Response("a")


@edge.function("/wrong-result")  # error
def wrong_result(request: Request, ctx: Context) -> int:
    return 1


@edge.function("/one-argument")  # error
def one_argument(request: Request) -> str:
    return ""


@edge.on("viewer_request", "/*")
def viewer_request(request: Request, ctx: Context) -> None:
    request.headers["x-a"] = "1"


@edge.on("origin_request")
async def origin_request(request: Request, ctx: AsyncContext) -> Response | None:
    return await ctx.cache.match(request)


@edge.on("viewer_response")
def viewer_response(request: Request, response: Response, ctx: Context) -> Response:
    return response


@edge.on("viewer_response")  # error
def no_response(request: Request, ctx: Context) -> None: ...


@edge.on("viewer_request")  # error
def a_response(request: Request, response: Response, ctx: Context) -> None: ...


@edge.on("viewer_request")  # error
async def text(request: Request, ctx: AsyncContext) -> str:
    return ""


def helper(ctx: Context | AsyncContext) -> str:
    return f"{ctx.name} {ctx.phase} {ctx.remaining()} {ctx.wait_until(print)}"


async def forgets_to_await(ctx: AsyncContext) -> bool:
    return ctx.cache.put("http://a/", Response("a"))  # error


def awaits_nothing(ctx: Context) -> Any:
    return ctx.cache.match("http://a/").status  # error
"""


def test_handlers_signatures_and_what_they_await_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "handlers.py"
    file.write_text(SOURCE)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run([*command, str(file)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    refused = {int(line) for line in re.findall(r"^.*handlers\.py:(\d+): error", checked.stdout, re.MULTILINE)}
    expected = {number for number, line in enumerate(SOURCE.splitlines(), 1) if line.endswith("# error")}
    assert refused == expected, checked.stdout + checked.stderr


#: The same for declarations.
DECLARED = """
from pathlib import Path

from edgerouter import CachePolicy, DiskCache, Edge, Experiment, GeoPolicy, Health, Redirect, cache

edge = Edge("a", disk_cache=DiskCache(Path("/var/cache/a"), size="1GiB"))
GeoPolicy(Path("a.mmdb"))
site = edge.origin("a", "http://a", health=Health("/healthz"))
seconds: str = CachePolicy(ttl=5).ttl  # error
edge.route("/*", to=site, cache=cache.OPTIMIZED)
edge.route("/*", to=site, cache=60)  # error
edge.route("/*", to=site, cache=CachePolicy.OPTIMIZED)  # error
CachePolicy(60)  # error
CachePolicy(ttl="1h")  # error
CachePolicy(max_age=60)  # error
Experiment("a", variants=["a", "b"])  # error
Redirect("/a", status=200)  # error
edge.origin("b", "http://b", timeout=5)  # error
"""


def test_declarations_are_checked(tmp_path: Path) -> None:
    source = tmp_path / "declared.py"
    source.write_text(DECLARED)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(source)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False).stdout
    refused = {int(found[1]) for found in re.finditer(r"declared\.py:(\d+): error", said)}
    assert refused == {at for at, line in enumerate(DECLARED.splitlines(), 1) if line.endswith("# error")}, said


def test_no_metaclass_takes_the_arguments_of_values_where_editors_look() -> None:
    """Pyright gives a value the type and the arguments of its metaclass's ``__call__``, and mypy does not."""
    tree = ast.parse((ROOT / "python/edgerouter/checks.py").read_text())
    [kind] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "_Kind"]
    shown = [node for node in kind.body if isinstance(node, ast.FunctionDef)]
    hidden = [node for node in kind.body if isinstance(node, ast.If)]
    assert not shown and [ast.unparse(node.test) for node in hidden] == ["not TYPE_CHECKING"]
