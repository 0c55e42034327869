"""An unsafe request invalidates what it leaves out of date (RFC 9111 §4.4)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from edgerouter import Context, Edge, Request, Response
from edgerouter.testing import running

from ..origins import Origin, Reply, Seen
from .conftest import Cached

FRESH = {"Cache-Control": "max-age=600"}


def site(cached: Cached, path: str, status: int = 200, **fields: str) -> None:
    def answer(seen: Seen) -> Reply:
        if seen.method == "GET":
            return Reply(200, {**FRESH, "Vary": "Foo"}, "x")
        return Reply(status, {name.replace("_", "-"): value for name, value in fields.items()}, "done")

    cached.origin.on(path, answer)


def gets(cached: Cached, path: str) -> int:
    return sum(seen.method == "GET" and seen.path == path for seen in cached.origin.requests)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
def test_a_success_ends_every_stored_variant_of_the_url(cached: Cached, method: str) -> None:
    path = cached.path()
    site(cached, path)
    for foo in ("1", "2"):
        cached.get(path, foo=foo)
    cached.client.request(method, path, content=b"x")
    for foo in ("1", "2"):
        cached.get(path, foo=foo)
    assert gets(cached, path) == 4


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"])
def test_a_success_of_a_safe_method_leaves_what_is_stored(cached: Cached, method: str) -> None:
    path = cached.path()
    site(cached, path)
    cached.get(path)
    cached.client.request(method, path, content=b"x")
    cached.get(path)
    assert gets(cached, path) == 1


@pytest.mark.parametrize("status", [204, 303])
def test_a_redirection_or_an_empty_answer_is_a_success(cached: Cached, status: int) -> None:
    path = cached.path()
    site(cached, path, status)
    cached.get(path)
    cached.client.post(path)
    cached.get(path)
    assert gets(cached, path) == 2


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_failure_leaves_what_is_stored(cached: Cached, status: int) -> None:
    path = cached.path()
    site(cached, path, status)
    cached.get(path)
    cached.client.post(path)
    cached.get(path)
    assert gets(cached, path) == 1


def test_safe_methods_leave_what_is_stored(cached: Cached) -> None:
    path = cached.path()
    site(cached, path)
    cached.get(path)
    cached.client.options(path)
    cached.client.head(path)
    cached.get(path)
    assert gets(cached, path) == 1


@pytest.mark.parametrize("field", ["Location", "Content_Location"])
def test_urls_that_the_answer_names_on_the_same_host_are_ended_too(cached: Cached, field: str) -> None:
    host = cached.edge.url
    for reference, ends in (
        ("/named", True),
        ("named", True),
        ("./x/../named", True),
        (f"{host}/named", True),
        ("/named#part", True),
        (host.removeprefix("http:") + "/named", True),
        ("http://elsewhere.example/named", False),
        ("//elsewhere.example/named", False),
        ("/named?other=1", False),
        ("http://[bad", False),
    ):
        site(cached, "/named")
        site(cached, "/change", 201, **{field: reference})
        cached.get("/named")
        before = gets(cached, "/named")
        cached.client.post("/change")
        cached.get("/named")
        assert gets(cached, "/named") == before + ends, reference


def test_a_query_names_the_url_it_belongs_to(cached: Cached) -> None:
    site(cached, "/list")
    site(cached, "/list", 200, Content_Location="?page=2")
    for _ in range(2):
        cached.get("/list?page=2")
    assert gets(cached, "/list") == 1
    cached.client.post("/list")
    cached.get("/list?page=2")
    assert gets(cached, "/list") == 2


def test_a_url_in_a_query_makes_a_reference_no_other_sites(cached: Cached) -> None:
    site(cached, "/named")
    site(cached, "/change", 201, location="named?next=http://elsewhere.example/")
    for path in ("/named?next=http://elsewhere.example/", "/named"):
        cached.get(path)
    cached.client.post("/change")
    assert "; hit" in cached.get("/named").headers["cache-status"]
    assert "; hit" not in cached.get("/named?next=http://elsewhere.example/").headers["cache-status"]


def test_an_answer_that_was_asked_for_before_an_unsafe_request_succeeded_is_not_kept(cached: Cached) -> None:
    path = cached.path()
    state = {"now": "old"}
    goes_on = threading.Event()

    def answer(seen: Seen) -> Reply:
        if seen.method == "POST":
            state["now"] = "new"
            return Reply(200, {}, "done")
        told = state["now"]
        if told == "old":
            assert goes_on.wait(60)
        return Reply(200, FRESH, told)

    cached.origin.on(path, answer)
    with ThreadPoolExecutor() as pool:
        early = pool.submit(cached.get, path)
        cached.origin.wait_for(1, path)
        cached.client.post(path)
        # Nor does anybody who comes later wait for it.
        assert cached.get(path).text == "new"
        goes_on.set()
        assert early.result().text == "old"
    assert cached.get(path).text == "new"
    assert gets(cached, path) == 2


def test_an_answer_of_before_is_not_kept_where_nothing_newer_is_stored(cached: Cached) -> None:
    path = cached.path()
    goes_on = threading.Event()
    told: list[str] = []

    def answer(seen: Seen) -> Reply:
        if seen.method == "DELETE":
            return Reply(204)
        told.append(seen.method)
        assert goes_on.wait(60)
        return Reply(200, {**FRESH, "Vary": "Foo", "ETag": f'"{len(told)}"'}, str(len(told)))

    cached.origin.on(path, answer)
    with ThreadPoolExecutor() as pool:
        early = pool.submit(cached.get, path)
        cached.origin.wait_for(1, path)
        assert cached.client.delete(path).status_code == 204
        goes_on.set()
        assert early.result().text == "1"
    assert cached.get(path).text == "2"
    assert cached.get(path).text == "2"


@pytest.mark.parametrize(("status", "fetches"), [(200, 2), (303, 2), (403, 1)])
def test_a_hook_that_answers_an_unsafe_request_ends_what_is_stored(origin: Origin, status: int, fetches: int) -> None:
    edge = Edge("test")

    @edge.on("viewer_request", "/*")
    def form(request: Request, ctx: Context) -> Request | Response:
        return Response("done", status) if request.method == "POST" else request

    origin.on("/page", Reply(200, FRESH, "page"))
    edge.route("/*", to=edge.origin("first", origin.url))
    with running(edge) as served, httpx.Client(base_url=served.url) as client:
        client.get("/page")
        assert client.get("/page").headers["Cache-Status"].startswith("edgerouter; hit")
        assert client.post("/page").status_code == status
        assert client.get("/page").text == "page"
    assert len(origin.requests) == fetches
