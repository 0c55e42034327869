"""A hook that sets a body: nothing that was said of the old content goes with the new (RFC 9110 §8.4, §8.8, §14.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import CachePolicy, Context, Edge, Request, Response, cache
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen

Made = Callable[..., httpx.Client]
OLD = {
    "Content-Encoding": "gzip",
    "ETag": '"old"',
    "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
    "Accept-Ranges": "bytes",
    "Digest": "sha-256=old",
    "Content-Digest": "sha-256=:old:",
    "Repr-Digest": "sha-256=:old:",
    "Content-MD5": "old",
    "Cache-Control": "max-age=60",
    "X-Kept": "1",
}
NEW = "0123456789"


@pytest.fixture
def made(origin: Origin, serve: Callable[[Edge], Running], client_for: Callable[[Running], httpx.Client]) -> Made:
    """``made(hook, phase, **route)``: an edge whose hook makes the responses of an origin that says ``OLD``."""
    origin.default = lambda seen: Reply(200, OLD, "the old content")

    def make(hook: Callable[..., Any], phase: Any = "origin_response", **route: Any) -> httpx.Client:
        edge = Edge("test")
        edge.on(phase, "/*")(hook)
        edge.route("/*", to=edge.origin("first", origin.url), **route)
        return client_for(serve(edge))

    return make


def sets(request: Request, response: Response, ctx: Context) -> None:
    response.body = NEW


@pytest.mark.parametrize("phase", ["origin_response", "viewer_response"])
@pytest.mark.parametrize("policy", [cache.STANDARD, cache.DISABLED])
def test_fields_of_the_old_content_go(made: Made, phase: str, policy: CachePolicy) -> None:
    client = made(sets, phase, cache=policy)
    for _ in range(2):
        response = client.get("/page")
        assert (response.status_code, response.text) == (200, NEW)
        assert response.headers["content-length"] == "10" and response.headers["x-kept"] == "1"
        for name in OLD:
            if name not in ("Cache-Control", "X-Kept"):
                assert name not in response.headers, name


@pytest.mark.parametrize("first", ["fields", "body"])
def test_fields_that_the_call_itself_set_stay_in_whatever_order(made: Made, first: str) -> None:
    def hook(request: Request, response: Response, ctx: Context) -> None:
        if first == "body":
            response.body = NEW
        response.headers["etag"] = '"old"'
        response.headers["content-encoding"] = "identity"
        if first == "fields":
            response.body = NEW

    client = made(hook)
    for _ in range(2):
        response = client.get("/page")
        assert (response.text, response.headers["etag"]) == (NEW, '"old"')
        assert response.headers["content-encoding"] == "identity" and "last-modified" not in response.headers


@pytest.mark.parametrize("policy", [cache.STANDARD, cache.DISABLED])
def test_the_origin_is_asked_for_the_whole_and_the_client_gets_its_part(
    made: Made, origin: Origin, policy: CachePolicy
) -> None:
    def hook(request: Request, response: Response, ctx: Context) -> None:
        response.body = NEW
        response.headers["etag"] = '"new"'

    client = made(hook, cache=policy)
    for _ in range(2):
        part = client.get("/page", headers={"range": "bytes=2-4", "if-range": '"new"'})
        assert (part.status_code, part.text) == (206, "234")
        assert part.headers["content-range"] == "bytes 2-4/10"
        whole = client.get("/page", headers={"range": "bytes=2-4", "if-range": '"old"'})
        assert (whole.status_code, whole.text) == (200, NEW)
        assert client.get("/page", headers={"range": "bytes=20-"}).status_code == 416
        assert client.get("/page", headers={"if-none-match": '"new"'}).status_code == 304
        assert client.get("/page", headers={"if-none-match": '"old"'}).text == NEW
        assert client.get("/page", headers={"if-match": '"old"'}).status_code == 412
    for name in ("range", "if-range", "if-none-match", "if-match"):
        assert all(seen.get(name) is None for seen in origin.requests), name


@pytest.mark.parametrize("policy", [cache.STANDARD, cache.DISABLED])
@pytest.mark.parametrize("wanted", [{"range": "bytes=4-6"}, {"range": "bytes=99-"}, {"if-none-match": '"old"'}])
def test_a_status_never_makes_a_whole_of_a_part_or_of_nothing(
    made: Made, origin: Origin, policy: CachePolicy, wanted: dict[str, str]
) -> None:
    def hook(request: Request, response: Response, ctx: Context) -> None:
        if status := request.query.get("status"):
            response.status = int(status)

    def answer(seen: Seen) -> Reply:
        fields = {"ETag": '"old"', "Cache-Control": "max-age=60"}
        if seen.get("if-none-match"):
            return Reply(304, fields)
        if seen.get("range") == "bytes=99-":
            return Reply(416, {"Content-Range": "bytes */15"})
        if seen.get("range"):
            return Reply(206, {**fields, "Content-Range": "bytes 4-6/15"}, "old")
        return Reply(200, fields, "the old content")

    client = made(hook, "viewer_response", cache=policy)
    origin.default = answer
    plain = client.get("/page", headers=wanted)
    assert plain.status_code in (206, 304, 416)
    same = client.get("/page?status=200", headers=wanted)
    assert (same.status_code, same.content) == (plain.status_code, plain.content)
    for status in (404, 503):
        other = client.get(f"/page?status={status}", headers=wanted)
        assert (other.status_code, other.content, other.headers["content-length"]) == (status, b"", "0")
        assert not {"content-range", "etag", "content-type"} & set(other.headers)


def test_a_status_set_on_the_304_of_a_validation_stores_no_empty_page(made: Made, origin: Origin) -> None:
    wanted = [200]

    def hook(request: Request, response: Response, ctx: Context) -> None:
        response.headers["x-status"] = str(response.status)
        response.status = wanted[-1]

    def answer(seen: Seen) -> Reply:
        fields = {"ETag": '"old"', "Cache-Control": "max-age=60"}
        return Reply(304, fields) if seen.get("if-none-match") else Reply(200, fields, "the old content")

    client = made(hook)
    origin.default = answer
    assert client.get("/page").text == "the old content"
    checked = client.get("/page", headers={"cache-control": "no-cache"})
    assert (checked.status_code, checked.text, checked.headers["x-status"]) == (200, "the old content", "304")
    assert client.get("/page").text == "the old content"
    wanted.append(503)
    denied = client.get("/page", headers={"cache-control": "no-cache"})
    assert (denied.status_code, denied.content, denied.headers["content-length"]) == (503, b"", "0")
    assert "etag" not in denied.headers


def test_a_replaced_hit_has_one_member_in_cache_status(made: Made) -> None:
    client = made(sets, "viewer_response")
    for _ in range(2):
        status = client.get("/page").headers["cache-status"]
        assert status.endswith("detail=hook") and "," not in status and "hit" not in status


def test_a_client_cannot_name_away_a_field_that_a_hook_sets(made: Made, origin: Origin) -> None:
    def hook(request: Request, ctx: Context) -> None:
        request.headers["x-mark"] = "of the hook"

    client = made(hook, "viewer_request", cache=cache.DISABLED)
    origin.default = Reply(200, {}, "x")
    client.get("/page", headers={"connection": "x-mark", "x-mark": "of the client"})
    assert origin.requests[-1].all("x-mark") == ["of the hook"]


def test_a_hook_that_leaves_the_body_alone_still_gives_parts(made: Made, origin: Origin) -> None:
    def hook(request: Request, response: Response, ctx: Context) -> None:
        response.headers["x-made"] = str(response.status)

    for policy in (cache.STANDARD, cache.DISABLED):
        client = made(hook, cache=policy)
        origin.default = Reply(200, {"Cache-Control": "max-age=60"}, "the old content")
        for _ in range(2):
            part = client.get("/page", headers={"range": "bytes=4-6"})
            assert (part.status_code, part.content, part.headers["x-made"]) == (206, b"old", "200")


def test_a_part_or_its_refusal_that_the_origin_sent_unasked_becomes_the_whole(made: Made, origin: Origin) -> None:
    client = made(sets)
    origin.on("/part", Reply(206, {"Content-Range": "bytes 0-3/100"}, "part"))
    origin.on("/none", Reply(416, {"Content-Range": "bytes */100"}, ""))
    origin.on("/lost", Reply(404, {}, "lost"))
    for path, status in (("/part", 200), ("/none", 200), ("/lost", 404)):
        response = client.get(path)
        assert (response.status_code, response.text) == (status, NEW), path
        assert "content-range" not in response.headers


def test_a_body_on_the_304_of_a_validation_is_an_error(made: Made, origin: Origin) -> None:
    def answer(seen: Seen) -> Reply:
        if seen.get("if-none-match"):
            return Reply(304, {"ETag": '"1"'})
        return Reply(200, {"ETag": '"1"', "Cache-Control": "max-age=0"}, "content")

    origin.default = answer

    def hook(request: Request, response: Response, ctx: Context) -> None:
        if response.status == 304:
            response.body = NEW

    client = made(hook)
    assert client.get("/page").text == "content"
    response = client.get("/page")
    assert (response.status_code, len(response.headers["x-error-id"])) == (502, 16)
    assert response.headers["x-error-id"] in response.text


def test_head_runs_the_hook_and_sends_no_body(made: Made, origin: Origin) -> None:
    for policy in (cache.STANDARD, cache.DISABLED):
        client = made(sets, cache=policy)
        response = client.head("/page")
        assert (response.status_code, response.content) == (200, b"")
        assert "etag" not in response.headers and response.headers["content-length"] == "10"
        assert client.get("/page").text == NEW
