"""Files behind the guards of a route, and files that the edge compresses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt as pyjwt
import pytest

from edgerouter import (
    AddressPolicy,
    BasicAuth,
    ConfigError,
    Cors,
    Edge,
    Jwt,
    RateLimit,
    Secret,
    SecurityHeaders,
    SignedUrls,
)
from edgerouter.testing import Running

from ..codings import decoded
from .conftest import Served, put

PAGE = "".join(f"<p>Line {number} of the page.</p>\n" for number in range(400))
SECRET = "0123456789abcdef0123456789abcdef"
SIGNED = SignedUrls(secrets={"own": SECRET})
# The password is "open sesame".
USERS = "ann:$2b$04$UcMwPnTEz7mY2Q33a1S9duyA7bouDDVFKeg/0c/iQYXFEORXT6Zay"


@pytest.mark.parametrize(
    ("guard", "status"),
    [
        ({"addresses": AddressPolicy(deny=["127.0.0.0/8"])}, 403),
        ({"signed": SIGNED}, 403),
        ({"basic": BasicAuth(Secret.literal(USERS))}, 401),
        ({"rate_limit": RateLimit("files", 1, per=3_600)}, 429),
    ],
    ids=["addresses", "signed", "basic", "rate_limit"],
)
def test_a_folder_and_its_prefix_are_behind_the_guards_of_a_route(
    served: Served, guard: dict[str, Any], status: int
) -> None:
    client = served("/assets", **guard)
    if "rate_limit" in guard:
        assert client.get("/assets/index.html").status_code == 200
    for path in ("/assets/index.html", "/assets/", "/assets", "/assets/none"):
        assert client.get(path).status_code == status, path


def test_a_file_behind_a_guard_is_for_no_shared_cache_that_does_not_know_the_guard(served: Served) -> None:
    token = pyjwt.encode({"sub": "ann", "exp": 4_000_000_000}, SECRET, algorithm="HS256")
    for guard, headers in (
        ({"addresses": AddressPolicy(allow=["127.0.0.0/8"])}, {}),
        ({"auth": Jwt.hs256(SECRET, cookie="token")}, {"cookie": f"token={token}"}),
        ({"auth": Jwt.hs256(SECRET, shared=True)}, {"authorization": f"Bearer {token}"}),
    ):
        client = served(immutable="*.????????.*", **guard)
        kept = client.get("/app.3f2a9c1b.js", headers=headers)
        assert (kept.status_code, kept.headers["cache-control"]) == (200, "private, max-age=31536000, immutable")
        page = client.get("/index.html", headers=headers)
        assert (page.status_code, page.headers["cache-control"]) == (200, "private")
        same = client.get("/index.html", headers=headers | {"if-none-match": page.headers["etag"]})
        assert (same.status_code, same.headers["cache-control"]) == (304, "private")
    limited = served(immutable="*.????????.*", rate_limit=RateLimit("files", 9))
    assert limited.get("/app.3f2a9c1b.js").headers["cache-control"].startswith("public")


def test_a_signature_and_a_password_open_a_file(served: Served) -> None:
    client = served("/assets", signed=SIGNED)
    link = SIGNED.sign(
        f"{client.base_url}/assets/app.3f2a9c1b.js".replace("//assets", "/assets"), expires=timedelta(hours=1)
    )
    assert client.get(link).text == "x = 1\n"
    client = served("/assets", basic=BasicAuth(Secret.literal(USERS)))
    assert client.get("/assets/app.3f2a9c1b.js", auth=("ann", "open sesame")).text == "x = 1\n"


def test_pages_of_other_origins_and_browsers_are_told_what_they_may_do(served: Served) -> None:
    client = served(cors=Cors(origins=["https://app.example.com"]), security=SecurityHeaders(frame="DENY"))
    origin = {"origin": "https://app.example.com"}
    asked = client.options("/app.3f2a9c1b.js", headers=origin | {"access-control-request-method": "GET"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "https://app.example.com")
    answer = client.get("/app.3f2a9c1b.js", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
@pytest.mark.parametrize("length", [len(PAGE), 300_000])
def test_a_file_without_a_coded_one_is_compressed(served: Served, folder: Path, coding: str, length: int) -> None:
    text = (PAGE * (length // len(PAGE) + 1))[:length].encode()
    put(folder / "page.html", text)
    client = served(compress=True)
    plain = client.get("/page.html")
    takes = {"accept-encoding": coding}
    with client.stream("GET", "/page.html", headers=takes) as answer:
        content = b"".join(answer.iter_raw())
    assert decoded(coding, content) == text
    assert len(content) < len(text) / 5
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == (coding, "accept-encoding")
    assert answer.headers["etag"] == f"W/{plain.headers['etag']}"
    for tag in (plain.headers["etag"], answer.headers["etag"]):
        assert client.get("/page.html", headers={**takes, "if-none-match": tag}).status_code == 304
    part = client.get("/page.html", headers={**takes, "range": "bytes=3-9"})
    assert (part.status_code, part.content, part.headers.get("content-encoding")) == (206, text[3:10], None)
    head = client.head("/page.html", headers=takes)
    assert (head.headers["content-encoding"], head.headers["etag"]) == (coding, answer.headers["etag"])


@pytest.mark.parametrize("accepts", ["br", "gzip", "identity", "br;q=0.5, gzip"])
@pytest.mark.parametrize("name", ["page.html", "image.png", "short.html"])
def test_a_304_has_the_tag_and_vary_of_its_200(served: Served, folder: Path, name: str, accepts: str) -> None:
    put(folder / "page.html", PAGE)
    put(folder / "page.html.br", "in br")
    put(folder / "image.png", PAGE)
    put(folder / "short.html", "<p>")
    client = served(compress=True)
    takes = {"accept-encoding": accepts}
    whole = client.head(f"/{name}", headers=takes)
    for condition in ({"if-none-match": whole.headers["etag"]}, {"if-modified-since": whole.headers["last-modified"]}):
        again = client.get(f"/{name}", headers={**takes, **condition})
        assert (again.status_code, again.headers.get("content-encoding")) == (304, None)
        assert [again.headers.get(field) for field in ("etag", "vary")] == [
            whole.headers.get(field) for field in ("etag", "vary")
        ]


def test_a_coded_file_comes_before_compression(served: Served, folder: Path) -> None:
    put(folder / "page.html", PAGE)
    put(folder / "page.html.br", "in br")
    client = served(compress=True)
    for accepts, coding in (("br, gzip", "br"), ("gzip", "gzip"), ("identity;q=0, zstd", "zstd"), ("", None)):
        with client.stream("GET", "/page.html", headers={"accept-encoding": accepts}) as answer:
            content = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding") == coding, accepts
        assert (content if coding == "br" else decoded(coding, content)).startswith(
            b"in br" if coding == "br" else b"<p>"
        )


def test_short_files_and_types_that_do_not_shrink_are_sent_as_they_are(served: Served) -> None:
    client = served(compress=True)
    for path in ("/app.3f2a9c1b.js", "/large.bin"):
        answer = client.get(path, headers={"accept-encoding": "gzip, br"})
        assert "content-encoding" not in answer.headers, path


@pytest.mark.parametrize(
    "guard",
    [{"signed": SIGNED}, {"basic": BasicAuth(Secret.literal(USERS))}, {"auth": Jwt.hs256("0" * 32)}],
    ids=["signed", "basic", "auth"],
)
def test_files_that_only_some_clients_may_have_are_not_compressed(folder: Path, guard: dict[str, Any]) -> None:
    edge = Edge("test")
    edge.files("/", folder, compress=True, **guard)
    with pytest.raises(ConfigError, match=r"routes\[0\]\.compress: true: would betray secrets"):
        edge.compile()


def test_a_file_that_is_compressed_costs_a_client_that_leaves_nothing(
    folder: Path, serve: Callable[[Edge], Running]
) -> None:
    put(folder / "page.html", PAGE * 200)
    edge = Edge("test")
    edge.files("/", folder, compress=True)
    running = serve(edge)
    with (
        httpx.Client(base_url=running.url) as client,
        client.stream("GET", "/page.html", headers={"accept-encoding": "gzip"}) as answer,
    ):
        next(answer.iter_raw())
    with httpx.Client(base_url=running.url) as client, client.stream("GET", "/page.html") as answer:
        assert len(b"".join(answer.iter_bytes())) == len(PAGE) * 200
    assert "edgerouter_compression_failed_total 0" in running.server.metrics()
