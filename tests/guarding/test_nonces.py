"""Nonces of Content-Security-Policy: a placeholder in pages, stored ones too, and another nonce in each response."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, Response, Secret, SecurityHeaders, cache, env, secret_file
from edgerouter.testing import Running

from ..codings import decoded
from ..conftest import Serve
from ..origins import Origin, Reply, Seen
from ..responses import is_hit

Client = Callable[[Running], httpx.Client]

PLACEHOLDER = "Zm9yIHRoZSBlZGdlIGFuZCB0aGUgc2l0ZQ"
PAGE = f'<script nonce="{PLACEHOLDER}">a()</script><p>text</p><script nonce="{PLACEHOLDER}">b()</script>'
POLICY = SecurityHeaders(csp="script-src 'self' 'nonce-{nonce}'; img-src *", nonce=PLACEHOLDER)
HTML = {"content-type": "text/html; charset=utf-8", "cache-control": "max-age=60", "etag": '"1"'}
CSP = "content-security-policy"


@pytest.fixture
def make(origin: Origin, serve: Serve, client_for: Client) -> Callable[..., httpx.Client]:
    def make(**route: Any) -> httpx.Client:
        edge = Edge("test", security=POLICY)
        edge.route("/*", to=edge.origin("first", origin.url), **route)
        return client_for(serve(edge))

    return make


def nonce_of(response: httpx.Response) -> str:
    """The nonce of the policy, which is that of every script of the page."""
    found = re.fullmatch(r"script-src 'self' 'nonce-([\w-]+)'; img-src \*", response.headers[CSP])
    assert found, response.headers[CSP]
    assert re.findall(r'nonce="([^"]+)"', response.text) == [found[1]] * 2
    return found[1]


def test_each_response_has_a_nonce_of_its_own_hits_included(origin: Origin, make: Callable[..., httpx.Client]) -> None:
    origin.on("/page", Reply(200, HTML, PAGE))
    client = make()
    responses = [client.get("/page") for _ in range(4)]
    nonces = {nonce_of(response) for response in responses}
    assert len(nonces) == 4
    assert {len(nonce) for nonce in nonces} == {len(PLACEHOLDER)}
    assert all(is_hit(response) for response in responses[1:])
    assert origin.count() == 1
    for response in responses:
        assert int(response.headers["content-length"]) == len(PAGE)
        # The bytes differ each time.
        assert response.headers["etag"] == 'W/"1"'
        assert "accept-ranges" not in response.headers


def test_the_placeholder_is_found_wherever_the_content_is_cut(
    origin: Origin, make: Callable[..., httpx.Client]
) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (PAGE[at : at + 7].encode() for at in range(0, len(PAGE), 7))

    origin.on("/page", lambda _: Reply(200, HTML, chunks=pieces()))
    client = make(cache=cache.DISABLED)
    assert nonce_of(client.get("/page")) != nonce_of(client.get("/page"))


def test_a_304_has_no_policy_for_the_browser_has_the_page_with_its_nonce(
    origin: Origin, make: Callable[..., httpx.Client]
) -> None:
    origin.on("/page", Reply(200, HTML, PAGE))
    client = make()
    tag = client.get("/page").headers["etag"]
    unchanged = client.get("/page", headers={"if-none-match": tag})
    assert (unchanged.status_code, CSP in unchanged.headers) == (304, False)
    # A cache refreshes nothing by a strong tag that the page did not have (RFC 9111 §4.3.4).
    assert unchanged.headers["etag"] == tag == 'W/"1"'
    assert unchanged.headers["x-content-type-options"] == "nosniff"


def test_a_range_gets_the_whole_page(origin: Origin, make: Callable[..., httpx.Client]) -> None:
    origin.on("/page", Reply(200, HTML, PAGE))
    client = make()
    for _ in range(2):
        response = client.get("/page", headers={"range": "bytes=0-40"})
        assert (response.status_code, "content-range" in response.headers) == (200, False)
        assert response.text.replace(nonce_of(response), "NONCE") == PAGE.replace(PLACEHOLDER, "NONCE")


@pytest.mark.parametrize("compress", [False, True])
def test_the_origin_is_asked_for_content_that_is_not_coded_and_the_edge_codes_it(
    origin: Origin, make: Callable[..., httpx.Client], compress: bool
) -> None:
    page = PAGE + "<p>text</p>" * 200
    seen: list[str | None] = []

    def answer(request: Seen) -> Reply:
        seen.append(request.get("accept-encoding"))
        return Reply(200, HTML, page)

    origin.on("/page", answer)
    client = make(compress=compress)
    nonces = set()
    for _ in range(3):
        with client.stream("GET", "/page", headers={"accept-encoding": "br, gzip"}) as response:
            content = decoded(response.headers.get("content-encoding"), b"".join(response.iter_raw())).decode()
        assert response.headers.get("content-encoding") == ("br" if compress else None)
        found = set(re.findall(r'nonce="([^"]+)"', content))
        assert len(found) == 1 and f"'nonce-{found.copy().pop()}'" in response.headers[CSP]
        nonces |= found
    assert len(nonces) == 3
    assert PLACEHOLDER not in nonces
    assert seen == ["identity"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"content-type": "text/css"}, id="no page"),
        pytest.param({"content-encoding": "gzip"}, id="coded"),
    ],
)
def test_content_that_can_have_no_nonce_is_left_alone_and_its_policy_names_none(
    origin: Origin, make: Callable[..., httpx.Client], fields: dict[str, str]
) -> None:
    origin.on("/page", Reply(200, HTML | fields, PAGE))
    with make().stream("GET", "/page") as response:
        assert b"".join(response.iter_raw()).decode() == PAGE
    assert response.headers[CSP] == "script-src 'self'; img-src *"
    assert response.headers["etag"] == '"1"'


def test_pages_of_functions_files_and_fixed_responses_have_nonces(
    serve: Serve, client_for: Client, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "index.html.gz").write_text("in gzip")
    edge = Edge("test", security=SecurityHeaders(csp=POLICY.csp, nonce=Secret.literal(PLACEHOLDER)))
    edge.route("/fixed", respond={"status": 404, "headers": {"content-type": "text/html"}, "body": PAGE})
    edge.files("/files", tmp_path)

    @edge.function("/function")
    def page(request: Any, ctx: Any) -> Response:
        return Response.html(PAGE)

    client = client_for(serve(edge))
    for path in ("/fixed", "/function", "/files/"):
        assert nonce_of(client.get(path)) != nonce_of(client.get(path)), path
    head = client.head("/files/")
    assert (head.headers["content-length"], "nonce-" in head.headers[CSP]) == (str(len(PAGE)), True)


def test_the_placeholder_of_a_site_and_of_a_route_is_read_from_the_environment_or_a_file(
    serve: Serve, client_for: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSP_PLACEHOLDER", PLACEHOLDER)
    (tmp_path / "placeholder").write_text(f"{PLACEHOLDER}\n")
    page = {"headers": {"content-type": "text/html"}, "body": PAGE}
    edge = Edge("test", security=SecurityHeaders(csp=POLICY.csp, nonce=env("CSP_PLACEHOLDER")))
    edge.route("/site", respond=page)
    edge.route(
        "/route",
        respond=page,
        security=SecurityHeaders(csp=POLICY.csp, nonce=secret_file(tmp_path / "placeholder")),
    )
    client = client_for(serve(edge))
    nonces = {nonce_of(client.get(path)) for path in ("/site", "/site", "/route")}
    assert len(nonces) == 3 and PLACEHOLDER not in nonces


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"csp": "script-src 'nonce-{nonce}'"}, "nonce: is required"),
        ({"csp": "script-src 'self'", "nonce": PLACEHOLDER}, "nonce: has no effect"),
        ({"nonce": PLACEHOLDER}, "nonce: has no effect"),
        ({"csp": "script-src 'nonce-{nonce}'", "nonce": 7}, "nonce: must be a secret or a text"),
    ],
)
def test_a_nonce_without_a_place_and_a_place_without_a_nonce_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SecurityHeaders(**fields)


@pytest.mark.parametrize("placeholder", ["short", "a" * 65, 'Zm9yIHRoZSBlZGdlIGFuZCB0"x'])
def test_a_placeholder_that_could_be_guessed_or_ends_an_attribute_is_refused_and_not_shown(placeholder: str) -> None:
    edge = Edge("test", security=SecurityHeaders(csp=POLICY.csp, nonce=placeholder))
    edge.route("/*", respond="x")
    with pytest.raises(ConfigError, match=r"security\.nonce: must be 24 to 64") as refused:
        edge.compile()
    assert placeholder not in str(refused.value)
