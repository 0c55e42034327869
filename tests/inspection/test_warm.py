"""`edgerouter warm`: from sitemaps, lists and logs, through the edge, with counts, bounds and clear mistakes."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgerouter import Edge
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen

Serve = Callable[[Edge], Running]
Warm = Callable[..., dict[str, Any]]

SITEMAP = (
    '<?xml version="1.0" encoding="UTF-8"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</urlset>'
)
INDEX = '<sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</sitemapindex>'


def sitemap(*urls: str) -> str:
    return SITEMAP.format("".join(f"<url><loc>\n {url} </loc><priority>0.5</priority></url>" for url in urls))


def index(*urls: str) -> str:
    return INDEX.format("".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EDGEROUTER_")}
    return subprocess.run(
        [sys.executable, "-m", "edgerouter", "warm", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean,
        check=False,
    )


@pytest.fixture
def edge(origin: Origin, serve: Serve) -> Running:
    origin.default = Reply(200, {"Cache-Control": "max-age=600"}, "page")
    made = Edge("test")
    made.route("/*", to=made.origin("first", origin.url, host="viewer"))
    return serve(made)


@pytest.fixture
def warm(edge: Running) -> Warm:
    def made(*arguments: str, code: int = 0) -> dict[str, Any]:
        done = run("--edge", edge.url, "--json", *arguments)
        assert done.returncode == code, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return made


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["hits"], found["misses"], found["passes"], found["errors"]


def asked(origin: Origin) -> list[str]:
    return [seen.target for seen in origin.requests]


def test_a_second_run_finds_what_the_first_one_brought(warm: Warm, origin: Origin) -> None:
    urls = ("/a", "/b?x=1", "http://www.example.com/c", "/a")
    first, second = warm(*urls), warm(*urls)
    assert (first["urls"], counts(first), counts(second)) == (3, (0, 3, 0, 0), (3, 0, 0, 0))
    assert sorted(asked(origin)) == ["/a", "/b?x=1", "/c"]
    assert first["bytes"] == 12


def test_a_url_is_asked_for_under_its_own_host(warm: Warm, origin: Origin) -> None:
    warm("http://www.example.com:8000/c#part", "-H", "Accept-Language: de", "-H", "user-agent: me")
    [seen] = origin.requests
    assert (seen.target, seen.get("host"), seen.get("accept-language")) == ("/c", "www.example.com:8000", "de")
    assert seen.all("user-agent") == ["me"]


def test_sitemaps_are_read_from_files_and_through_the_edge(warm: Warm, origin: Origin, tmp_path: Path) -> None:
    base = "http://www.example.com"
    origin.on("/index.xml", Reply(200, {}, index(f"{base}/one.xml", f"{base}/two.xml.gz", f"{base}/index.xml")))
    origin.on("/one.xml", Reply(200, {}, sitemap(f"{base}/a", f"{base}/b?x=1&amp;y=2")))
    origin.on("/two.xml.gz", Reply(200, {}, gzip.compress(sitemap(f"{base}/c").encode())))
    found = warm("--sitemap", f"{base}/index.xml")
    assert (found["urls"], counts(found)) == (3, (0, 3, 0, 0))
    assert {"/a", "/b?x=1&y=2", "/c"} <= set(asked(origin))
    packed = tmp_path / "map"
    packed.write_bytes(gzip.compress(sitemap(f"{base}/a", f"{base}/d").encode()))
    assert counts(warm("--sitemap", str(packed))) == (1, 1, 0, 0)


def test_an_image_in_a_sitemap_is_no_page(warm: Warm, origin: Origin, tmp_path: Path) -> None:
    entry = "<url><loc>http://h/a</loc><image><loc>http://h/a.png</loc></image></url>"
    (tmp_path / "map.xml").write_text(SITEMAP.format(entry))
    assert warm("--sitemap", str(tmp_path / "map.xml"))["urls"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('<!DOCTYPE urlset [<!ENTITY a "aaaa">]><urlset>&a;</urlset>', "document type declaration"),
        ('<!DOCTYPE urlset SYSTEM "file:///etc/passwd"><urlset/>', "document type declaration"),
        ("<html></html>", "is no sitemap: its root is <html>"),
        ("<urlset><url>", "line 1: not XML"),
        ("not xml", "line 1: not XML"),
        (sitemap("ftp://h/a"), "is no URL to ask for"),
        (sitemap("http://me:pw@h/a"), "is no URL to ask for"),
        (index("file:///etc/passwd"), "is no http or https URL"),
        ("<urlset>" + "<a>" * 40 + "</a>" * 40 + "</urlset>", "nested more than 32 deep"),
        (b"\x1f\x8bnot gzip", "not readable as gzip"),
        (gzip.compress(b"<urlset>" + b" " * (51 << 20) + b"</urlset>"), "larger than 50 MiB"),
    ],
)
def test_a_bad_sitemap_is_refused_and_nothing_is_asked_for(
    edge: Running, origin: Origin, tmp_path: Path, content: str | bytes, reason: str
) -> None:
    file = tmp_path / "map.xml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    done = run("--edge", edge.url, "--sitemap", str(file))
    assert done.returncode == 1 and reason in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert origin.requests == []


def test_a_sitemap_leads_to_its_own_site_only(edge: Running, origin: Origin) -> None:
    origin.on("/index.xml", Reply(200, {}, index("http://other.example/map.xml")))
    done = run("--edge", edge.url, "--sitemap", "http://www.example.com/index.xml")
    assert done.returncode == 1 and "names a sitemap of another site" in done.stderr
    assert asked(origin) == ["/index.xml"]
    origin.on("/gone.xml", Reply(404, {}, ""))
    done = run("--edge", edge.url, "--sitemap", "http://www.example.com/gone.xml")
    assert done.returncode == 1 and "the edge answered 404" in done.stderr


def test_a_list_has_comments_and_blank_lines(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "urls").write_text("# ours\n\n/a\nhttp://www.example.com/b\r\n  /c  \n")
    assert warm("--list", str(tmp_path / "urls"))["urls"] == 3


def test_a_log_gives_what_is_asked_for_most(warm: Warm, origin: Origin, tmp_path: Path) -> None:
    def line(target: str, method: str = "GET", status: int = 200, rest: str = ' "-" "curl/8"') -> str:
        return f'203.0.113.9 - - [24/Nov/2026:10:00:00 +0000] "{method} {target} HTTP/1.1" {status} 12{rest}\n'

    log = line("/rare", rest="") + line("/often") * 3 + line("/some") * 2
    log += line("/posted", method="POST") * 9 + line("/missing", status=404) * 9 + "nonsense\n"
    (tmp_path / "access.log").write_text(log)
    (tmp_path / "access.log.gz").write_bytes(gzip.compress(log.encode()))
    assert warm("--log", str(tmp_path / "access.log"), "--top", "2", "--concurrency", "1")["urls"] == 2
    assert asked(origin) == ["/often", "/some"]
    assert counts(warm("--log", str(tmp_path / "access.log.gz"))) == (2, 1, 0, 0)
    (tmp_path / "not.log").write_text("nonsense\n")
    assert run("--log", str(tmp_path / "not.log")).returncode == 1


def test_errors_are_counted_told_and_in_the_exit_code(edge: Running, warm: Warm, origin: Origin) -> None:
    origin.on("/broken", Reply(500, {}, "no"))
    origin.on("/cut", Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"))
    origin.on("/mine", Reply(200, {"Cache-Control": "private"}, "mine"))
    found = warm("/broken", "/cut", "/good", "/mine", code=1)
    assert counts(found) == (0, 2, 0, 2)
    assert sorted(failure.partition(": ")[0].removeprefix(edge.url) for failure in found["failures"]) == [
        "/broken",
        "/cut",
    ]
    done = run("--edge", edge.url, "/broken")
    assert done.returncode == 1 and f"error: {edge.url}/broken: 500" in done.stderr
    assert "1 URLs in" in done.stdout and "1 errors" in done.stdout


def test_no_more_are_under_way_than_allowed_and_they_are_together(warm: Warm, origin: Origin) -> None:
    together = threading.Barrier(3)

    def answer(seen: Seen) -> Reply:
        together.wait(10)
        return Reply(200, {"Cache-Control": "max-age=600"}, "page")

    origin.default = answer
    assert counts(warm(*(f"/{number}" for number in range(6)), "--concurrency", "3")) == (0, 6, 0, 0)


def test_a_rate_spreads_the_requests(warm: Warm) -> None:
    found = warm(*(f"/{number}" for number in range(5)), "--rate", "20")
    assert found["seconds"] >= 0.2


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ((), 2, "give URLs, --sitemap, --list or --log"),
        (("--edge", "nowhere", "/a"), 1, "must be the edge's address"),
        (("--edge", "http://127.0.0.1:9/path", "/a"), 1, "must be the edge's address"),
        (("--edge", "http://127.0.0.1:1", "/a"), 1, "Connection refused"),
        (("--list", "/does/not/exist"), 1, "No such file"),
        (("http://h/a b",), 1, "is no URL to ask for"),
        (("-H", "nonsense", "/a"), 2, "is not 'NAME: VALUE'"),
        (("--concurrency", "0", "/a"), 2, "--concurrency"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(arguments: tuple[str, ...], code: int, reason: str) -> None:
    done = run(*arguments)
    assert done.returncode == code and reason in done.stderr, done.stderr


def test_a_bad_line_of_a_list_is_told_with_its_number(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# these\n/a\nno url here\n/b\n")
    done = run("--list", str(tmp_path / "list.txt"))
    assert done.returncode == 1
    assert "list.txt: line 3: 'no url here' is no URL to ask for" in done.stderr
