"""Error pages that need no origin: files and text, beside the paths of other origins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, ErrorPage, Respond, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, wait_until
from ..processes import Process, free_port, reachable

Serve = Callable[[Edge], Running]


def checked(app: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "edgerouter", "check", str(app), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = json.loads(done.stdout)
    return [*found["problems"], *found.get("advice", [])]


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "errors" / "502.html"
    file.parent.mkdir()
    file.write_text("<h1>Zurück gleich</h1>", encoding="utf-8")
    return file


@pytest.mark.parametrize("policy", [cache.STANDARD, cache.DISABLED], ids=["cached", "passed"])
def test_a_file_and_a_text_stand_in_while_the_origin_is_down(
    origin: Origin, serve: Serve, page: Path, policy: cache.CachePolicy
) -> None:
    origin.kill()
    edge = Edge("test")
    edge.route("/file/*", to=edge.origin("first", origin.url), errors={502: ErrorPage(file=page)}, cache=policy)
    edge.route("/html/*", to="first", errors={502: ErrorPage(body="<p>Back soon.")}, cache=policy)
    edge.route("/text/*", to="first", errors={502: {"body": "Back soon."}}, cache=policy)
    edge.route(
        "/json/*",
        to="first",
        errors={502: ErrorPage(body='{"title":"down"}', content_type="application/problem+json")},
        cache=policy,
    )
    url = serve(edge).url
    for path, media_type, text in (
        ("file", "text/html; charset=utf-8", "<h1>Zurück gleich</h1>"),
        ("html", "text/html; charset=utf-8", "<p>Back soon."),
        ("text", "text/plain; charset=utf-8", "Back soon."),
        ("json", "application/problem+json", '{"title":"down"}'),
    ):
        fields = {"if-none-match": "*", "range": "bytes=0-1"}
        found = httpx.get(f"{url}/{path}/x", headers=fields)
        assert (found.status_code, found.headers["content-type"], found.text) == (502, media_type, text)
        assert found.headers["cache-control"] == "no-store"
        head = httpx.head(f"{url}/{path}/x")
        assert (head.status_code, head.content) == (502, b"")
        assert head.headers["content-length"] == found.headers["content-length"] == str(len(text.encode()))
        assert head.headers["content-type"] == media_type
        posted = httpx.post(f"{url}/{path}/x", content=b"form")
        assert (posted.status_code, posted.text) == (502, text), "a form gets the page, too"


def test_a_page_that_the_edge_holds_replaces_what_an_origin_says_and_keeps_what_the_status_needs(
    origin: Origin, serve: Serve
) -> None:
    origin.on("/busy", Reply(503, {"Retry-After": "7", "Set-Cookie": "a=1", "X-Powered-By": "x"}, "a stack trace"))
    origin.on("/who", Reply(401, {"WWW-Authenticate": "Basic"}, "no"))
    origin.on("/fine", Reply(200, {}, "fine"))
    edge = Edge("test")
    pages = {503: ErrorPage(body="busy"), 401: ErrorPage(body="who?")}
    edge.route("/*", to=edge.origin("first", origin.url), errors=pages)
    url = serve(edge).url
    busy = httpx.get(f"{url}/busy")
    assert (busy.status_code, busy.text, busy.headers["retry-after"]) == (503, "busy", "7")
    assert "set-cookie" not in busy.headers
    assert "x-powered-by" not in busy.headers
    who = httpx.get(f"{url}/who")
    assert (who.status_code, who.text, who.headers["www-authenticate"]) == (401, "who?", "Basic")
    assert httpx.get(f"{url}/fine").text == "fine"


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_a_plan_file_names_pages_relative_to_itself(
    origin: Origin, serve: Serve, page: Path, tmp_path: Path, kind: str
) -> None:
    origin.kill()
    plan = {
        "version": 1,
        "name": "test",
        "origins": [{"name": "first", "url": origin.url}],
        "routes": [{"pattern": "/*", "to": "first", "errors": {"502": {"file": "errors/502.html"}}}],
    }
    file = tmp_path / f"site.{kind}"
    toml = (
        f'version = 1\nname = "test"\n[[origins]]\nname = "first"\nurl = "{origin.url}"\n'
        '[[routes]]\npattern = "/*"\nto = "first"\nerrors = {502 = {file = "errors/502.html"}}\n'
    )
    file.write_text(toml if kind == "toml" else json.dumps(plan))
    found = httpx.get(f"{serve(Edge.from_file(file)).url}/x")
    assert (found.status_code, found.text) == (502, page.read_text(encoding="utf-8"))


APP = """
from edgerouter import Edge, ErrorPage

edge = Edge("test")
edge.route("/*", to=edge.origin("first", "{url}"), errors={{502: ErrorPage(file="errors/{name}"{more})}})
"""


def test_a_file_is_relative_to_the_application_and_its_change_is_a_reload(
    origin: Origin, page: Path, tmp_path: Path, run: Callable[..., Process]
) -> None:
    origin.kill()
    app = tmp_path / "app.py"
    app.write_text(APP.format(url=origin.url, name="502.html", more=""))
    port = free_port()
    run("run", str(app), "--listen", f"127.0.0.1:{port}", "--reload")
    wait_until(lambda: reachable(port), 60, "the listener")
    url = f"http://127.0.0.1:{port}/"
    assert httpx.get(url).text == page.read_text(encoding="utf-8")
    page.write_text("<h1>another</h1>")
    wait_until(lambda: httpx.get(url).text == "<h1>another</h1>", 60, "the reload")


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("503.html", "", "cannot be read: No such file or directory; a relative path starts at the folder of the file"),
        ("", "", "it is a folder; name a regular file"),
        ("pipe.html", "", "it is a pipe; name a regular file"),
        ("large.html", "", "is larger than 1048576 bytes"),
        ("page", "", "does not tell its media type; give content_type"),
        ("page.html.gz", "", "does not tell its media type; give content_type"),
        ("page", ', content_type="html"', "must be a media type"),
    ],
)
def test_check_says_what_is_wrong_with_a_file(page: Path, tmp_path: Path, name: str, more: str, message: str) -> None:
    os.mkfifo(page.parent / "pipe.html")
    (page.parent / "large.html").write_bytes(b"x" * ((1 << 20) + 1))
    (page.parent / "page").write_text("x")
    (page.parent / "page.html.gz").write_text("x")
    app = tmp_path / "app.py"
    app.write_text(APP.format(url="http://127.0.0.1:9", name=name, more=more))
    [problem] = checked(app)
    assert problem["path"].startswith("routes[0].errors.502")
    assert problem["place"].endswith("app.py:5")
    assert message in problem["message"]
    if not more:
        assert str(page.parent / name) in problem["value"]


def test_bytes_that_are_no_text_are_sent_as_they_are(origin: Origin, serve: Serve, tmp_path: Path) -> None:
    origin.kill()
    (tmp_path / "old.html").write_bytes(b"<p>Zur\xfcck")
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), errors={502: ErrorPage(file=tmp_path / "old.html")})
    found = httpx.get(serve(edge).url)
    assert (found.content, found.headers["content-type"]) == (b"<p>Zur\xfcck", "text/html")


@pytest.mark.parametrize(
    ("page", "field"),
    [
        (ErrorPage, "errors[502]"),
        ("502.html", "errors[502]"),
        ({"body": "x", "file": "x"}, "errors[502].file"),
        ({}, "errors[502].file"),
        ({"text": "x"}, "errors[502].text"),
        ({"body": 5}, "errors[502].body"),
    ],
)
def test_a_page_of_another_shape_is_refused_where_it_is_declared(page: Any, field: str) -> None:
    edge = Edge("test")
    with pytest.raises(ConfigError) as refused:
        edge.route("/*", to=edge.origin("first", "http://127.0.0.1:9"), errors={502: page})
    assert refused.value.problems[0].path == f"routes[0].{field}"


def test_check_warns_of_a_page_that_comes_from_the_origin_that_is_down(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    text = APP.format(url="http://127.0.0.1:9", name="502.html", more="")
    app.write_text(text.replace('ErrorPage(file="errors/502.html")', '"/502.html"'))
    [warning] = checked(app)
    assert warning["rule"] == "error-page"
    app.write_text(app.read_text() + 'edge.route("/502.html", respond="sorry")\n')
    assert checked(app) == []


def test_the_schema_of_a_plan_file_knows_all_forms() -> None:
    schema = Edge.schema()["$defs"]
    forms = schema["Route"]["properties"]["errors"]["additionalProperties"]
    assert forms == {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/ErrorPage"}]}
    assert set(schema["ErrorPage"]["properties"]) == {"file", "body", "content_type"}


KEPT = {
    "Cache-Control": "max-age=86400",
    "CDN-Cache-Control": "max-age=86400",
    "Expires": "Tue, 01 Jan 2030 00:00:00 GMT",
    "Edge-Control": "max-age=86400",
    "ETag": '"page"',
    "Last-Modified": "Thu, 26 Nov 2026 22:15:39 GMT",
}


@pytest.mark.parametrize("how", ["by an origin", "by a fixed response", "by a file"])
@pytest.mark.parametrize(
    ("error", "lifetime"),
    [({"Cache-Control": "no-store"}, "no-store"), ({"Cache-Control": "max-age=5"}, "max-age=5"), ({}, None)],
)
def test_a_page_that_may_be_kept_makes_no_error_that_may(
    origin: Origin, serve: Serve, tmp_path: Path, how: str, error: dict[str, str], lifetime: str | None
) -> None:
    origin.on("/gone", Reply(404, error, "gone"))
    origin.on("/pages/404.html", Reply(200, KEPT, "not there"))
    (tmp_path / "404.html").write_text("not there")
    edge = Edge("test")
    first = edge.origin("first", origin.url)
    edge.route("/*", to=first, errors={404: "/pages/404.html"}, cache=cache.CachePolicy(targets=["Edge-Control"]))
    match how:
        case "by an origin":
            edge.route("/pages/*", to=first)
        case "by a fixed response":
            edge.route("/pages/404.html", respond=Respond(body="not there", headers=KEPT))
        case "by a file":
            edge.files("/pages", tmp_path)
    client = httpx.Client(base_url=serve(edge).url)
    for _ in range(2):
        found = client.get("/gone")
        assert (found.status_code, found.text) == (404, "not there")
        assert found.headers.get("cache-control") == lifetime
        for field in ("cdn-cache-control", "expires", "edge-control", "etag", "last-modified"):
            assert field not in found.headers, field
    client.close()


def test_an_error_of_the_edge_has_a_page_and_is_not_kept(origin: Origin, second: Origin, serve: Serve) -> None:
    origin.kill()
    second.on("/pages/502.html", Reply(200, KEPT, "down"))
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url), errors={502: "/pages/502.html"})
    edge.route("/pages/*", to=edge.origin("second", second.url))
    found = httpx.get(f"{serve(edge).url}/x")
    assert (found.status_code, found.text, found.headers["cache-control"]) == (502, "down", "no-store")
