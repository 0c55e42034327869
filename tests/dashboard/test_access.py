"""The dashboard's login: who may look, who may change, and what a page of a stranger cannot do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, HeaderPolicy, Jwt, Secret
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import Running

from ..origins import wait_until
from .conftest import READER, TOKEN

DRY_RUN = {"everything": True, "dry_run": True}


def log_in(page: httpx.Client, token: str) -> dict[str, Any]:
    found = page.post("/dashboard/login", json={"token": token})
    assert found.status_code == 200, found.text
    return dict(found.json())


def test_the_page_needs_no_token_and_its_policy_allows_nothing_inline(page: httpx.Client) -> None:
    found = page.get("/dashboard")
    assert found.status_code == 200 and "<script type=" in found.text
    policy = found.headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "trusted-types 'none'"):
        assert part in policy
    assert "unsafe" not in policy and "style=" not in found.text and "<style" not in found.text
    assert page.get("/dashboard/main.js").headers["content-type"].startswith("text/javascript")
    assert page.get("/dashboard/nothing.js").status_code == 404


def test_a_login_is_a_cookie_that_scripts_and_other_sites_do_not_get(page: httpx.Client) -> None:
    assert page.get("/dashboard/session").json() == {"role": None, "csrf": None, "login": True}
    found = page.post("/dashboard/login", json={"token": TOKEN})
    cookie = found.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/dashboard;"):
        assert attribute in cookie
    assert TOKEN not in cookie and TOKEN not in found.text
    assert page.get("/dashboard/session").json()["role"] == "admin"
    assert page.get("/dashboard/api/v1/plan").json()["name"] == "shop"
    page.post("/dashboard/logout", json={})
    assert page.get("/dashboard/api/v1/plan").status_code == 401


def test_the_cookie_counts_for_the_page_only_and_the_token_for_programs_only(page: httpx.Client) -> None:
    log_in(page, TOKEN)
    cookies = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    assert page.get("/metrics", headers={"cookie": cookies}).status_code == 401
    page.cookies.clear()
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert page.get("/dashboard/api/metrics", headers=bearer).status_code == 401
    assert page.get("/metrics", headers=bearer).status_code == 200


def test_a_change_needs_the_secret_of_the_login(page: httpx.Client) -> None:
    session = log_in(page, TOKEN)
    for given in ({}, {"x-csrf-token": "0" * 48}):
        refused = page.post("/dashboard/api/v1/purges", json=DRY_RUN, headers=given)
        assert refused.status_code == 403 and refused.json()["error"]["field"] == "X-CSRF-Token"
    done = page.post("/dashboard/api/v1/purges", json=DRY_RUN, headers={"x-csrf-token": session["csrf"]})
    assert done.status_code == 200 and done.json()["matched"]["objects"] == 0
    strange = {"x-csrf-token": session["csrf"], "origin": "http://evil.example"}
    assert page.post("/dashboard/api/v1/purges", json=DRY_RUN, headers=strange).status_code == 403


@pytest.mark.parametrize("by_page", [True, False])
def test_a_reader_reads_and_changes_nothing(page: httpx.Client, by_page: bool) -> None:
    if by_page:
        session = log_in(page, READER)
        assert session["role"] == "reader"
        prefix, headers = "/dashboard/api", {"x-csrf-token": session["csrf"]}
    else:
        prefix, headers = "", {"authorization": f"Bearer {READER}"}
    assert page.get(f"{prefix}/v1/cache/stats", headers=headers).status_code == 200
    refused = page.post(f"{prefix}/v1/purges", json=DRY_RUN, headers=headers)
    assert refused.status_code == 403 and "may read" in refused.json()["error"]["message"]


def test_wrong_tokens_are_refused_and_soon_no_more_are_tried(page: httpx.Client) -> None:
    answers = [page.post("/dashboard/login", json={"token": f"guess {number}"}) for number in range(22)]
    assert [answers[0].status_code, answers[-1].status_code] == [403, 429]
    assert int(answers[-1].headers["retry-after"]) > 0
    # A program with its token is not kept out.
    assert page.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_reader_needs_somebody_who_may_change() -> None:
    with pytest.raises(ConfigError, match="needs admin_token"):
        Settings(admin_reader_token=READER)


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_stream_has_requests_that_meet_the_filter(guarded: Server, page: httpx.Client) -> None:
    log_in(page, READER)
    with page.stream("GET", "/dashboard/api/v1/requests?path=wanted") as stream:
        lines = stream.iter_lines()
        assert next(lines) == ": open"
        for path in ("/other", "/wanted?token=hidden"):
            httpx.get(guarded.urls[0] + path)
        name, data = next(events(lines))
    assert (name, data["lost"]) == ("requests", 0)
    (request,) = data["requests"]
    assert (request["url"], request["status"], request["bytes"]) == ("/wanted?token=***", 200, 1)


@pytest.mark.parametrize("query", ["status=abc", "slow=-1", "colour=red", "cache=hits"])
def test_a_wrong_filter_is_explained(page: httpx.Client, query: str) -> None:
    log_in(page, READER)
    refused = page.get(f"/dashboard/api/v1/requests?{query}")
    assert refused.status_code == 400 and refused.json()["error"]["field"] == query.partition("=")[0]


def test_streams_are_bounded_and_a_closed_one_makes_room(guarded: Server, page: httpx.Client) -> None:
    log_in(page, READER)

    def status() -> int:
        with page.stream("GET", "/dashboard/api/v1/live") as stream:
            return stream.status_code

    with ExitStack() as stack:
        # An iterator that is forgotten closes its stream.
        kept = []
        for _ in range(8):
            stream = stack.enter_context(page.stream("GET", "/dashboard/api/v1/live"))
            kept.append(events(stream.iter_lines()))
            assert next(kept[-1])[0] == "metrics"
        assert status() == 503
        # Health checks are answered meanwhile.
        assert page.get("/healthz").status_code == 200
    wait_until(lambda: status() == 200, what="room for a stream")


def test_the_plan_is_shown_without_secrets_and_with_the_one_before_it(serve: Any) -> None:
    def site(lifetime: str) -> Edge:
        edge = Edge("shop")
        origin = edge.origin("api", "http://127.0.0.1:9", headers={"X-Key": Secret.literal("s3cret-key")})
        policy = HeaderPolicy(request={"set": {"X-Other": "s3cret"}, "add": {"X-More": ["s3cret", "s3cret-2"]}})
        edge.route("/api/*", to=origin, auth=Jwt.hs256(Secret.literal("s3cret" * 8)), headers=policy)
        edge.route("/*", respond=lifetime)
        return edge

    edge: Running = serve(site("one"))
    first = httpx.get(f"{edge.admin_url}/v1/plan")
    assert first.json()["before"] is None
    edge.reload(site("two"))
    found = httpx.get(f"{edge.admin_url}/v1/plan")
    assert "s3cret" not in found.text
    for name in ("X-Key", "X-Other", "X-More"):
        assert name in found.text
    assert (found.json()["now"]["version"], found.json()["before"]["version"]) == (2, 1)
    assert "one" in json.dumps(found.json()["before"]) and "one" not in json.dumps(found.json()["now"])
