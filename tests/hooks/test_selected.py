"""Responses that are selected by what hooks read, seen from outside: reload, prefetching, warming, purges, warnings."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from edgerouter import Context, Edge, Request
from edgerouter.testing import Running

from ..origins import Origin, wait_until
from ..processes import free_port
from .variants import Made, Serve, article, echo, is_hit


def test_a_reload_keeps_what_was_selected_and_does_not_mix_it_with_what_another_hook_made(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.default = echo

    def plan(hooks: Callable[[Edge], object]) -> Edge:
        edge = Edge("test")
        hooks(edge)
        edge.route("/*", to=edge.origin("first", origin.url))
        return edge

    running = serve(plan(lambda edge: None))
    client = client_for(running)
    assert client.get("/page", headers={"cookie": "variant=a"}).text == "variant None"
    running.reload(plan(article))
    for _ in range(2):
        for variant in ("a", "b"):
            assert client.get("/page", headers={"cookie": f"variant={variant}"}).text == f"variant {variant}"
    running.reload(plan(article))
    for variant in ("a", "b"):
        response = client.get("/page", headers={"cookie": f"variant={variant}"})
        assert (response.text, is_hit(response)) == (f"variant {variant}", True)
    running.reload(plan(lambda edge: None))
    assert client.get("/page", headers={"cookie": "variant=b"}).text == "variant None"


def marking(origin: Origin) -> Edge:
    """A site whose hooks send the visitor's variant to the origin, which repeats it."""
    origin.default = echo
    edge = Edge("test")

    @edge.on("viewer_request", "/viewer")
    @edge.on("origin_request", "/origin")
    def mark(request: Request, ctx: Context) -> None:
        request.headers["x-hooked"] = request.cookies.get("variant", "-")

    edge.route("/*", to=edge.origin("first", origin.url))
    return edge


def test_a_prefetch_stores_for_the_visitors_that_its_hooks_make_it_for(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    edge = marking(origin)
    edge.prefetch(["/viewer", "/origin"], host="127.0.0.1", scheme="http")
    running = serve(edge)
    origin.wait_for(2)
    client = client_for(running)
    host = {"host": "127.0.0.1"}
    for path in ("/viewer", "/origin"):
        wait_until(lambda path=path: is_hit(client.get(path, headers=host)), what="the prefetched response")  # type: ignore[misc]
        assert client.get(path, headers=host).text == "variant -"
        assert client.get(path, headers={**host, "cookie": "variant=b"}).text == "variant b"
        assert client.get(path, headers=host).text == "variant -"


def test_warming_stores_for_the_visitors_that_the_hooks_make_it_for(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    edge = marking(origin)
    running = serve(edge)

    def warm(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "edgerouter", "warm", "--edge", running.url, "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    warm("/viewer", "/origin")
    warm("/viewer", "/origin", "-H", "Cookie: variant=b")
    assert len(origin.requests) == 4
    client = client_for(running)
    for path in ("/viewer", "/origin"):
        for cookie, variant in (("", "-"), ("variant=b", "b")):
            response = client.get(path, headers={"cookie": cookie} if cookie else {})
            assert (response.text, is_hit(response)) == (f"variant {variant}", True)
        response = client.get(path, headers={"cookie": "variant=c"})
        assert (response.text, is_hit(response)) == ("variant c", False)
    assert warm("/viewer", "/origin")["hits"] == 2


def test_a_field_with_another_value_for_every_request_is_warned_of_once(tmp_path: Path, origin: Origin) -> None:
    origin.default = echo
    app = tmp_path / "app.py"
    app.write_text(
        "from edgerouter import Edge\n"
        "edge = Edge('test')\n"
        f"edge.route('/*', to=edge.origin('first', {origin.url!r}))\n"
        "@edge.on('viewer_request', '/*')\n"
        "def number(request, ctx):\n"
        "    request.headers['x-hooked'] = request.headers.get('x-n', '')\n"
        "    request.headers['x-constant'] = '1'\n"
    )
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgerouter", "run", str(app), "--listen", f"127.0.0.1:{port}"],
            stderr=out,
            stdout=out,
        )
    try:
        url = f"http://127.0.0.1:{port}/page"
        wait_until(lambda: answers(url), what="the edge")
        with httpx.Client() as client:

            def warned() -> bool:
                # The minute may turn in the middle.
                for _ in range(1_200):
                    client.get(url, headers={"x-n": str(next(numbers))})
                return "different values in a minute" in log.read_text()

            numbers = itertools.count()
            wait_until(warned, 60, "the warning")
            warned()
        lines = [line for line in log.read_text().splitlines() if "different values in a minute" in line]
        assert len(lines) == 1 and "number" in lines[0] and "x-hooked" in lines[0]
    finally:
        process.terminate()
        process.wait(60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, headers={"x-n": str(uuid.uuid4())}).status_code == 200
    except httpx.HTTPError:
        return False


def test_what_hooks_had_a_part_in_is_looked_up_and_named_like_all_else(
    made: Made, origin: Origin, serve: Serve
) -> None:
    origin.default = echo
    edge = Edge("test")
    article(edge)
    edge.route("/*", to=edge.origin("first", origin.url))
    running = serve(edge)
    httpx.get(f"{running.url}/page", headers={"cookie": "variant=a"})
    asked = {"url": f"{running.url}/page", "header": "Cookie: variant=a"}
    told = httpx.get(f"{running.admin_url}/v1/cache/entry", params=asked).json()
    route, cookie = told["found"]["variant"]
    assert route.startswith("route /*, origin_request ") and route.endswith("handler") and cookie == "cookie: …"
    missing = httpx.get(f"{running.admin_url}/v1/cache/entry", params={**asked, "header": "Cookie: variant=b"}).json()
    assert missing["found"] is None
