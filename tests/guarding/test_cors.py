"""Cross-origin requests (Fetch §3.2): preflights and responses, through the socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Context, Cors, Edge, Jwt, Request, Response, cache
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply
from ..responses import is_hit

APP = "https://app.example.com"
SHOP = "https://a.shop.example.com"
OTHER = "https://evil.example"
KEY = Jwt.hs256("0123456789abcdef0123456789abcdef")
POLICY = Cors(
    origins=[APP, "https://*.shop.example.com"],
    methods=["GET", "PUT"],
    headers=["Authorization", "X-Token"],
    expose=["X-Total"],
    credentials=True,
    max_age=300,
)
Make = Callable[..., httpx.Client]


@pytest.fixture
def make(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]) -> Make:
    def make(cors: Cors = POLICY, **route: Any) -> httpx.Client:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("api", origin.url), cors=cors, **route)
        return client_for(serve(edge))

    return make


def preflight(page: str, method: str = "PUT") -> dict[str, str]:
    return {"Origin": page, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-token"}


def allowed(response: httpx.Response) -> str | None:
    value: str | None = response.headers.get("access-control-allow-origin")
    return value


def test_a_preflight_is_answered_before_a_token_is_demanded(origin: Origin, make: Make) -> None:
    client = make(auth=KEY, methods=["GET", "PUT"], cache=cache.DISABLED)
    response = client.options("/x", headers=preflight(APP))
    assert (response.status_code, response.content) == (204, b"")
    assert allowed(response) == APP
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["access-control-allow-methods"] == "GET, PUT"
    assert response.headers["access-control-allow-headers"] == "Authorization, X-Token"
    assert response.headers["access-control-max-age"] == "300"
    assert response.headers["vary"] == "origin"
    refused = client.options("/x", headers=preflight(OTHER))
    assert (refused.status_code, allowed(refused)) == (403, None)
    # The refusal for the missing token is readable for the page that may use the API.
    unauthorized = client.get("/x", headers={"Origin": APP})
    assert (unauthorized.status_code, allowed(unauthorized)) == (401, APP)
    assert origin.count() == 0


def test_an_options_request_that_is_no_preflight_goes_to_the_origin(origin: Origin, make: Make) -> None:
    origin.default = Reply(200, {"allow": "GET"}, "")
    client = make()
    assert client.options("/x", headers={"Origin": APP}).headers["allow"] == "GET"
    assert client.options("/x", headers=preflight(APP)).status_code == 204
    assert origin.count() == 1


def test_one_stored_response_serves_pages_of_each_origin(origin: Origin, make: Make) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60", "access-control-allow-origin": "*"}, "content")
    client = make()
    responses = [
        client.get("/x", headers={} if page is None else {"Origin": page}) for page in (APP, SHOP, OTHER, None)
    ]
    assert [allowed(response) for response in responses] == [APP, SHOP, None, None]
    assert [response.headers.get("access-control-allow-credentials") for response in responses] == [
        "true",
        "true",
        None,
        None,
    ]
    assert [is_hit(response) for response in responses] == [False, True, True, True]
    assert {response.headers["vary"] for response in responses} == {"origin"}
    assert origin.count() == 1


def test_vary_of_the_origin_is_kept_and_origin_is_named_once(origin: Origin, make: Make) -> None:
    origin.default = Reply(200, {"cache-control": "max-age=60", "vary": "Accept-Language, Origin"}, "content")
    client = make()
    for page in (APP, APP, SHOP):
        assert client.get("/x", headers={"Origin": page}).headers.get_list("vary") == ["Accept-Language, Origin"]
    # The origin says that its responses differ by Origin, so they are stored apart.
    assert origin.count() == 2


def test_a_304_and_an_error_of_the_edge_are_readable_too(origin: Origin, make: Make) -> None:
    origin.on("/x", Reply(200, {"cache-control": "max-age=60", "etag": '"1"'}, "content"))
    client = make()
    client.get("/x")
    page = {"Origin": APP}
    not_modified = client.get("/x", headers=page | {"if-none-match": '"1"'})
    assert (not_modified.status_code, allowed(not_modified)) == (304, APP)
    origin.kill()
    failed = client.get("/y", headers=page)
    assert (failed.status_code, allowed(failed)) == (502, APP)


def test_a_star_is_the_same_for_every_page_and_never_varies(origin: Origin, make: Make) -> None:
    origin.default = Reply(200, {}, "content")
    client = make(Cors(origins="*", headers="*"))
    for headers in ({"Origin": OTHER}, {}):
        response = client.get("/x", headers=headers)
        assert (allowed(response), response.headers.get("vary")) == ("*", None)
        assert "access-control-allow-credentials" not in response.headers
    assert client.options("/x", headers=preflight(OTHER)).headers["access-control-allow-headers"] == "*"


def test_a_function_may_have_a_policy(serve: Serve, client_for: Callable[[Running], httpx.Client]) -> None:
    edge = Edge("test")

    @edge.function("/hello", cors=POLICY)
    def hello(request: Request, ctx: Context) -> Response:
        return Response.json({"hello": "world"})

    client = client_for(serve(edge))
    assert allowed(client.get("/hello", headers={"Origin": SHOP})) == SHOP
    assert client.options("/hello", headers=preflight(SHOP, "GET")).status_code == 204


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"origins": "*", "credentials": True}, r"Cors\.origins: .*credentials=True"),
        ({"origins": [APP], "headers": "*", "credentials": True}, r"Cors\.headers: .*credentials=True"),
        ({"origins": [APP], "methods": "*", "credentials": True}, r"Cors\.methods: .*credentials=True"),
        ({"origins": [APP], "expose": "*", "credentials": True}, r"Cors\.expose: .*credentials=True"),
        ({"origins": ["*", APP]}, 'must be "\\*" alone'),
        ({"origins": []}, "at least one origin"),
        ({"origins": ["https://app.example.com/"]}, "without a path"),
        ({"origins": "*", "methods": ["get"]}, "upper case"),
        ({"origins": "*", "headers": ["a b"]}, "name of a field"),
        ({"origins": "*", "max_age": -1}, "must be ≥ 0 seconds"),
    ],
)
def test_a_policy_that_browsers_would_not_accept_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cors(**fields)


def test_a_policy_leaves_nothing_to_preflight_origin() -> None:
    edge = Edge("test")
    with pytest.raises(ConfigError, match=r"routes\[0\]\.preflight: .*beside cors"):
        edge.route("/*", to=edge.origin("api", "http://x"), auth=KEY, preflight="origin", cors=POLICY)
