"""Files as clients get them: heads, methods, conditions, ranges, codings, pages of folders."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import os
import re
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge, ErrorPage, Experiment, Jwt, Limits
from edgerouter.limits import FileLimits
from edgerouter.testing import Running

from ..origins import Origin, wait_until
from .conftest import OLD, Served, put

SECRET = "0123456789abcdef0123456789abcdef"


def test_a_file_has_its_type_length_and_validators(served: Served) -> None:
    client = served("/assets")
    answer = client.get("/assets/app.3f2a9c1b.js")
    assert (answer.status_code, answer.text) == (200, "x = 1\n")
    assert {
        "content-type": "text/javascript; charset=utf-8",
        "content-length": "6",
        "etag": f'"{OLD:x}.0-6"',
        "last-modified": formatdate(OLD, usegmt=True),
        "accept-ranges": "bytes",
        "vary": "accept-encoding",
        "cache-status": "edgerouter; detail=file",
    }.items() <= dict(answer.headers).items()
    assert "cache-control" not in answer.headers


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "<h1>home</h1>"),
        ("/index.html", "<h1>home</h1>"),
        ("/docs/", "<h1>docs</h1>"),
        ("/docs/a%20b.txt", "spaces"),
        ("/docs/../docs/a%20%62.txt", "spaces"),
    ],
)
def test_the_path_names_the_file(served: Served, path: str, text: str) -> None:
    answer = served().get(path)
    assert (answer.status_code, answer.text) == (200, text)


def test_head_gives_the_head_of_get_and_other_methods_are_refused(served: Served) -> None:
    client = served()
    got, head = client.get("/large.bin"), client.head("/large.bin")
    assert head.content == b""
    assert {**got.headers, "date": ""} == {**head.headers, "date": ""}
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        refused = client.request(method, "/large.bin")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_a_large_file_arrives_as_it_is_and_its_descriptor_is_closed(
    folder: Path, serve: Callable[[Edge], Running]
) -> None:
    edge = Edge("test", limits=Limits(files=FileLimits(kept_files=0)))
    edge.files("/", folder)
    running = serve(edge)
    with httpx.Client(base_url=running.url) as client:
        for _ in range(3):
            assert client.get("/large.bin").content == (folder / "large.bin").read_bytes()
    # The kernel has given the last byte to the client before the worker closes the file.
    wait_until(lambda: "edgerouter_files_open 0" in running.server.metrics(), what="the end of the last")
    metrics = running.server.metrics()
    assert 'cache="file",status="2xx"} 3' in metrics
    # The kernel has the file in memory and sends it, but for its end, which is read when the file is still the same.
    read, sent = (
        int(re.findall(rf"^edgerouter_files_{name}_bytes_total (\d+)$", metrics, re.MULTILINE)[0])
        for name in ("read", "sent")
    )
    assert read + sent == 3 * 1_048_576
    assert sent > read


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-none-match": f'"{OLD:x}.0-100000"'}, 304),
        ({"if-none-match": f'W/"{OLD:x}.0-100000"'}, 304),
        ({"if-none-match": '"other"'}, 200),
        ({"if-modified-since": formatdate(OLD, usegmt=True)}, 304),
        ({"if-modified-since": formatdate(OLD - 1, usegmt=True)}, 200),
        ({"if-match": '"other"'}, 412),
        ({"if-match": f'"{OLD:x}.0-100000"'}, 200),
        ({"if-unmodified-since": formatdate(OLD - 1, usegmt=True)}, 412),
        ({"if-none-match": f'"{OLD:x}.0-100000"', "range": "bytes=0-1"}, 304),
    ],
)
def test_conditions_are_judged_by_the_validators_of_the_file(
    served: Served, headers: dict[str, str], status: int
) -> None:
    answer = served().get("/large.bin", headers=headers)
    assert answer.status_code == status
    assert (len(answer.content) == 1_048_576) == (status == 200)
    assert answer.headers["etag"] == f'"{OLD:x}.0-100000"'


@pytest.mark.parametrize(
    ("range_", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-70004", 5, 70_005),
        ("bytes=1048575-", 1_048_575, 1_048_576),
        ("bytes=-300000", 748_576, 1_048_576),
        ("bytes=1000000-9999999", 1_000_000, 1_048_576),
    ],
)
def test_a_range_gives_those_bytes(served: Served, folder: Path, range_: str, first: int, end: int) -> None:
    answer = served().get("/large.bin", headers={"range": range_})
    assert answer.status_code == 206
    assert answer.content == (folder / "large.bin").read_bytes()[first:end]
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/1048576"


def test_several_ranges_come_as_parts_and_one_beyond_the_end_is_refused(served: Served, folder: Path) -> None:
    client = served()
    whole = (folder / "large.bin").read_bytes()
    answer = client.get("/large.bin", headers={"range": "bytes=10-19, 500000-500099"})
    kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
    assert (answer.status_code, kind) == (206, "multipart/byteranges")
    parts = answer.content.split(b"\r\n--" + boundary.encode())
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:3]] == [whole[10:20], whole[500_000:500_100]]
    assert parts[3] == b"--\r\n"
    assert len(answer.content) == int(answer.headers["content-length"])
    refused = client.get("/large.bin", headers={"range": "bytes=1048576-"})
    assert (refused.status_code, refused.headers["content-range"]) == (416, "bytes */1048576")
    for if_range, status in [(f'"{OLD:x}.0-100000"', 206), ('"other"', 200)]:
        answer = client.get("/large.bin", headers={"range": "bytes=0-1", "if-range": if_range})
        assert answer.status_code == status


@pytest.mark.parametrize("second", ["bytes=0-1", "bytes=4-5", "4-5"])
def test_two_range_fields_are_none(served: Served, folder: Path, second: str) -> None:
    answer = served().get("/large.bin", headers=[("range", "bytes=0-1"), ("range", second)])
    assert (answer.status_code, answer.content) == (200, (folder / "large.bin").read_bytes())


def test_an_empty_file_is_a_response_without_bytes(served: Served, folder: Path) -> None:
    put(folder / "empty.txt", "")
    answer = served().get("/empty.txt")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "0", b"")


@pytest.mark.parametrize(
    ("accepts", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("zstd", "zstd"),
        ("br;q=0, *", "zstd"),
        ("identity, br;q=0.9", None),
        ("", None),
    ],
)
def test_a_file_in_a_coding_is_chosen_by_weight(served: Served, folder: Path, accepts: str, coding: str | None) -> None:
    for extension in ("br", "zst", "gz"):
        put(folder / f"app.3f2a9c1b.js.{extension}", f"in {extension}")
    # Clients of this library would decode it.
    with served().stream("GET", "/app.3f2a9c1b.js", headers={"accept-encoding": accepts}) as answer:
        content = b"".join(answer.iter_raw()).decode()
    assert content == {"br": "in br", "zstd": "in zst", "gzip": "in gz", None: "x = 1\n"}[coding]
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["etag"].endswith(f'-{coding}"' if coding else '-6"')


def test_codings_of_a_file_have_tags_and_ranges_of_their_own(served: Served, folder: Path) -> None:
    coded = gzip.compress(b"x = 1\n" * 100)
    put(folder / "app.3f2a9c1b.js.gz", coded)
    client = served()
    takes = {"accept-encoding": "gzip"}
    plain, zipped = client.get("/app.3f2a9c1b.js"), client.get("/app.3f2a9c1b.js", headers=takes)
    assert plain.headers["etag"] != zipped.headers["etag"]
    again = client.get("/app.3f2a9c1b.js", headers={**takes, "if-none-match": zipped.headers["etag"]})
    assert (again.status_code, again.headers["vary"]) == (304, "accept-encoding")
    other = client.get("/app.3f2a9c1b.js", headers={**takes, "if-none-match": plain.headers["etag"]})
    assert other.status_code == 200
    with client.stream("GET", "/app.3f2a9c1b.js", headers={**takes, "range": "bytes=2-9"}) as answer:
        assert b"".join(answer.iter_raw()) == coded[2:10]
    assert answer.headers["content-range"] == f"bytes 2-9/{len(coded)}"


def test_a_coding_that_is_older_than_its_file_or_of_a_type_that_does_not_shrink_is_not_sent(
    served: Served, folder: Path
) -> None:
    put(folder / "app.3f2a9c1b.js.br", "old", at=OLD - 1)
    put(folder / "large.bin.br", "odd")
    client = served()
    takes = {"accept-encoding": "br"}
    assert client.get("/app.3f2a9c1b.js", headers=takes).text == "x = 1\n"
    answer = client.get("/large.bin", headers=takes)
    assert len(answer.content) == 1_048_576
    assert "vary" not in answer.headers


@pytest.mark.parametrize("accepts", ["gzip, br", "identity", "br;q=1, *;q=0.5", "gzip, identity;q=0"])
@pytest.mark.parametrize("compress", [False, True])
def test_an_svgz_file_is_an_svg_in_gzip(served: Served, folder: Path, accepts: str, compress: bool) -> None:
    content = gzip.compress(b"<svg/>" * 200)
    put(folder / "a.SVGZ", content)
    put(folder / "a.SVGZ.br", b"not looked for")
    client = served(compress=compress)
    with client.stream("GET", "/a.SVGZ", headers={"accept-encoding": accepts}) as response:
        assert b"".join(response.iter_raw()) == content
    fields = response.headers
    assert (fields["content-type"], fields["content-encoding"]) == ("image/svg+xml", "gzip")
    assert fields["content-length"] == str(len(content))
    part = client.get("/a.SVGZ", headers={"accept-encoding": accepts, "range": "bytes=0-1"})
    assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 0-1/{len(content)}")


def test_without_a_coding_that_the_client_accepts_the_answer_is_406(served: Served, folder: Path) -> None:
    client = served()
    takes = {"accept-encoding": "br, identity;q=0"}
    refused = client.get("/app.3f2a9c1b.js", headers=takes)
    assert (refused.status_code, refused.headers["vary"]) == (406, "accept-encoding")
    assert client.get("/missing.js", headers=takes).status_code == 404
    put(folder / "app.3f2a9c1b.js.br", "coded")
    with client.stream("GET", "/app.3f2a9c1b.js", headers=takes) as answer:
        assert (answer.status_code, b"".join(answer.iter_raw())) == (200, b"coded")


def test_precompressed_false_looks_for_no_codings(served: Served, folder: Path) -> None:
    put(folder / "app.3f2a9c1b.js.br", "coded")
    answer = served(precompressed=False).get("/app.3f2a9c1b.js", headers={"accept-encoding": "br"})
    assert answer.text == "x = 1\n"
    assert "vary" not in answer.headers


def test_only_names_that_match_are_immutable(served: Served) -> None:
    client = served(immutable="*.????????.*")
    kept = client.get("/app.3f2a9c1b.js").headers["cache-control"]
    assert kept == "public, max-age=31536000, immutable"
    assert "cache-control" not in client.get("/index.html").headers


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/site/docs", "/site/docs/"),
        ("/site/docs?a=1&b", "/site/docs/?a=1&b"),
        ("/site", "/site/"),
        ("/site/%64ocs", "/site/docs/"),
    ],
)
def test_the_path_of_a_folder_gets_its_slash(served: Served, path: str, location: str) -> None:
    answer = served("/site").get(path)
    assert (answer.status_code, answer.headers["location"]) == (308, location)


def test_a_folder_without_index_is_listed_only_where_that_is_wanted(served: Served, folder: Path) -> None:
    put(folder / "sub" / "<b>.txt", "x")
    put(folder / "sub" / ".hidden", "x")
    (folder / "sub" / "deeper").mkdir()
    assert served().get("/sub/").status_code == 404
    client = served("/f", listing=True)
    page = client.get("/f/sub/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<a href="./deeper/">deeper/</a>' in page.text
    assert '<a href="./%3Cb%3E.txt">&lt;b&gt;.txt</a>' in page.text
    assert '<a href="../">' in page.text
    assert "hidden" not in page.text
    assert client.get("/f/sub/%3Cb%3E.txt").text == "x"
    head = client.head("/f/sub/")
    assert (head.headers["content-length"], head.content) == (str(len(page.content)), b"")
    assert client.get("/f/").text == "<h1>home</h1>"
    for missing in ("/f/none/", "/f/index.html/", "/f/.hidden/"):
        assert client.get(missing).status_code == 404


def test_a_list_has_only_names_that_are_served(served: Served, folder: Path) -> None:
    listed, other = folder / "listed", folder / "other"
    listed.mkdir()
    other.mkdir()
    put(listed / "a.txt", "x")
    put(listed / "two\nlines.txt", "x")
    os.mkfifo(listed / "pipe")
    for name, target in (
        ("to-file", "a.txt"),
        ("to-folder", "../other"),
        ("nowhere", "none"),
        ("out", "/etc/passwd"),
        ("up", "../../.."),
        ("round", "round"),
        ("to-pipe", "pipe"),
    ):
        (listed / name).symlink_to(target)
    client = served("/f", listing=True)
    names = re.findall(r'<a href="\./([^"]+)"', client.get("/f/listed/").text)
    assert names == ["to-folder/", "a.txt", "to-file"]
    for name in names:
        assert client.get(f"/f/listed/{name}").status_code == 200


def test_without_index_a_folder_has_no_page(served: Served) -> None:
    client = served(index=None)
    assert client.get("/").status_code == 404
    assert client.get("/docs").status_code == 308
    assert client.get("/index.html").status_code == 200


def test_the_fall_back_answers_navigations_and_nothing_else(served: Served) -> None:
    client = served("/app", fallback="index.html")
    page = {"accept": "text/html,application/xhtml+xml"}
    answer = client.get("/app/orders/7", headers=page)
    assert (answer.status_code, answer.text) == (200, "<h1>home</h1>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/app/missing.js", headers={"accept": "*/*"}).status_code == 404
    assert client.get("/app/orders/7", headers={"accept": "application/json, text/html;q=0"}).status_code == 404
    assert client.get("/app/app.3f2a9c1b.js", headers=page).text == "x = 1\n"
    assert client.post("/app/orders/7", headers=page).status_code == 405


def test_the_fall_back_varies_by_accept_and_a_file_does_not(served: Served) -> None:
    client = served("/app", fallback="index.html")
    page = {"accept": "text/html"}
    away = client.get("/app/orders/7", headers=page)
    unchanged = client.get("/app/orders/7", headers=page | {"if-none-match": away.headers["etag"]})
    home = client.get("/app/", headers=page)
    named = [response.headers.get_list("vary", split_commas=True) for response in (away, unchanged, home)]
    assert unchanged.status_code == 304
    assert ["accept" in names for names in named] == [True, True, False]
    assert all("accept-encoding" in names for names in named)


def test_an_error_page_comes_from_the_folder_or_from_the_edge(served: Served, folder: Path) -> None:
    put(folder / "404.html", "<h1>not here</h1>")
    answer = served(errors={404: "/404.html"}).get("/missing")
    assert (answer.status_code, answer.text) == (404, "<h1>not here</h1>")
    assert "etag" not in answer.headers
    held = served("/x", errors={404: ErrorPage(body="none")}).get("/x/missing")
    assert (held.status_code, held.text) == (404, "none")


def test_token_experiment_and_field_edits_are_those_of_any_route(served: Served) -> None:
    client = served(
        auth=Jwt.hs256(SECRET),
        experiment=Experiment("home", variants={"a": 1, "b": 1}),
        headers={"response": {"set": {"x-frame-options": "DENY"}}},
    )
    assert client.get("/index.html").status_code == 401

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = ".".join(part(json) for json in (b'{"alg":"HS256"}', b'{"exp":4102444800}'))
    signature = part(hmac.digest(SECRET.encode(), text.encode(), hashlib.sha256))
    answer = client.get("/index.html", headers={"authorization": f"Bearer {text}.{signature}"})
    assert (answer.status_code, answer.headers["x-frame-options"]) == (200, "DENY")
    assert "set-cookie" in answer.headers


def test_a_file_that_is_replaced_is_served_at_once(served: Served, folder: Path) -> None:
    client = served()
    before = client.get("/app.3f2a9c1b.js")
    put(folder / "new.js", "y = 2\n", at=OLD + 1)
    (folder / "new.js").replace(folder / "app.3f2a9c1b.js")
    after = client.get("/app.3f2a9c1b.js", headers={"if-none-match": before.headers["etag"]})
    assert (after.status_code, after.text) == (200, "y = 2\n")


def test_a_folder_that_is_switched_by_its_link_is_served_at_once(
    tmp_path: Path, serve: Callable[[Edge], Running]
) -> None:
    for release in ("1", "2"):
        put(tmp_path / release / "a.txt", release)
    (tmp_path / "current").symlink_to("1")
    edge = Edge("test")
    edge.files("/", tmp_path / "current")
    with httpx.Client(base_url=serve(edge).url) as client:
        assert client.get("/a.txt").text == "1"
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").replace(tmp_path / "current")
        assert client.get("/a.txt").text == "2"


def test_a_file_that_is_changed_while_it_is_sent_ends_the_connection_and_is_counted(
    folder: Path, serve: Callable[[Edge], Running]
) -> None:
    put(folder / "huge.bin", bytes(64 << 20))
    edge = Edge("test")
    edge.files("/", folder)
    running = serve(edge)
    with httpx.stream("GET", f"{running.url}/huge.bin") as answer:
        assert answer.headers["content-length"] == str(64 << 20)
        pieces = answer.iter_raw()
        next(pieces)
        put(folder / "huge.bin", bytes(64 << 20), at=OLD + 1)
        with pytest.raises(httpx.RemoteProtocolError, match="closed"):
            list(pieces)
    wait_until(lambda: 'edgerouter_files_failed_total{reason="changed"} 1' in running.server.metrics())


def test_files_and_an_origin_share_a_host(folder: Path, origin: Origin, serve: Callable[[Edge], Running]) -> None:
    edge = Edge("test")
    edge.route("/*", to=edge.origin("first", origin.url))
    edge.files("/assets", folder)
    with httpx.Client(base_url=serve(edge).url) as client:
        assert client.get("/assets/index.html").text == "<h1>home</h1>"
        assert client.get("/assetsx").headers["x-origin"] == "first"
        assert client.get("/assets/missing").status_code == 404
