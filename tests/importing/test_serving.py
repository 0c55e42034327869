"""The distributions of a published article, imported by the command and served by a real edge over TLS and without."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from ..origins import Origin, Reply
from ..processes import Process, command
from ..responses import is_hit
from .samples import FIXTURES

Serve = Callable[..., tuple[httpx.Client, httpx.Client]]


@pytest.fixture
def serve_import(tmp_path: Path, run: Callable[..., Process]) -> Iterator[Serve]:
    """``serve_import(file, **{name: url})`` imports a fixture and serves it. Gives a client over http and one over
    https."""
    home = {"XDG_DATA_HOME": str(tmp_path / "data")}
    with ExitStack() as stack:

        def make(file: str, **origins: str) -> tuple[httpx.Client, httpx.Client]:
            app = tmp_path / "app.py"
            options = [
                part for name, url in origins.items() for part in ("--origin", f"{name.replace('_', '-')}={url}")
            ]
            done = command("import", str(FIXTURES / file), "-o", str(app), *options)
            assert done.returncode == 3, done.stderr
            assert command("check", str(app)).returncode == 0
            plain = run("run", str(app), "--listen", "127.0.0.1:0", env=home)
            secure = run("run", str(app), "--listen", "127.0.0.1:0", "--tls-self-signed", env=home)
            urls = [it.wait_for(r"(https?://127\.0\.0\.1:\d+)")[1] for it in (plain, secure)]
            authority = tmp_path / "data" / "edgerouter" / "development-ca" / "ca.pem"
            context = ssl.create_default_context(cafile=str(authority))
            first, second = (
                stack.enter_context(httpx.Client(base_url=url, verify=context, timeout=10.0)) for url in urls
            )
            return first, second

        yield make


def test_the_distribution_of_a_template_redirects_caches_and_passes_its_api_by(
    serve_import: Serve, origin: Origin
) -> None:
    origin.default = Reply(200, {"content-type": "text/css"}, "x" * 2000)
    plain, secure = serve_import("article-cloudfront.yaml", MyOrigin=origin.url)

    redirected = plain.get("/static/site.css")
    assert (redirected.status_code, redirected.headers["location"].split(":")[0]) == (301, "https")
    assert plain.get("/api/users").status_code == 403
    assert origin.count() == 0

    assert not is_hit(secure.get("/static/site.css?v=1"))
    assert is_hit(secure.get("/static/site.css?v=2"))
    for _ in range(2):
        assert not is_hit(secure.get("/api/users"))
    assert origin.count("/api/users") == 2

    page = secure.get("/", headers={"accept-encoding": "gzip"})
    assert (page.status_code, page.headers["content-encoding"]) == (200, "gzip")
    assert origin.count("/index.html") == 1
    assert is_hit(secure.get("/", headers={"accept-encoding": "gzip"}))


def test_the_origin_group_of_terraform_fails_over_on_its_statuses_and_on_a_dead_server(
    serve_import: Serve, origin: Origin, second: Origin
) -> None:
    second.default = Reply(200, {"cache-control": "no-store"}, "from the second")
    plain, secure = serve_import("article-terraform.tf", primary=origin.url, secondary=second.url)
    assert plain.get("/").status_code == 301
    origin.default = Reply(200, {"cache-control": "no-store"}, "from the first")
    assert secure.get("/fine").text == "from the first"
    origin.default = Reply(410, {"cache-control": "no-store"}, "gone")
    assert secure.get("/gone").status_code == 410
    for status in (403, 404, 500, 502, 503, 504):
        origin.default = Reply(status, {}, "no")
        assert secure.get(f"/{status}").text == "from the second"
    assert origin.count("/403") == origin.count("/404") == origin.count("/500") == 1
    origin.kill()
    assert secure.get("/dead").text == "from the second"


def test_a_zone_with_a_worker_that_caches_is_served_from_the_cache(serve_import: Serve, origin: Origin) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60"}, "made")
    plain, _ = serve_import("article-cloudflare.yaml", **{"example.com": origin.url})
    for host in ("www.example.com", "cdn.example.com"):
        assert not is_hit(plain.get("/static/site.css", headers={"host": host}))
        assert is_hit(plain.get("/static/site.css", headers={"host": host}))
    assert [request.get("host") for request in origin.requests] == ["www.example.com", "cdn.example.com"]
    assert plain.get("/page", headers={"host": "example.com"}).text == "made"
    assert plain.get("/static/site.css", headers={"host": "www.example.net"}).status_code == 404
