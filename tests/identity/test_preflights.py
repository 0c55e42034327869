"""CORS preflights on routes that demand a token: they never have one (Fetch §4.8)."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from edgerouter import ConfigError, Edge, Jwt
from edgerouter.testing import Running

from ..conftest import Serve
from ..origins import Origin, Reply

KEY = Jwt.hs256("0123456789abcdef0123456789abcdef")
ASKS = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
Make = Callable[..., httpx.Client]


@pytest.fixture
def make(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]) -> Make:
    def make(**route: object) -> httpx.Client:
        origin.default = Reply(204, {"Access-Control-Allow-Origin": "https://app.example"})
        edge = Edge("test")
        edge.route("/*", to=edge.origin("api", origin.url), auth=KEY, **route)  # type: ignore[arg-type]
        return client_for(serve(edge))

    return make


def test_one_is_refused_like_any_request_without_a_token(origin: Origin, make: Make) -> None:
    assert make().options("/x", headers=ASKS).status_code == 401
    assert origin.count() == 0


def test_with_preflight_origin_it_goes_to_the_origin_without_identity(origin: Origin, make: Make) -> None:
    client = make(preflight="origin")
    forged = {
        "Authorization": "Bearer x.y.z",
        "Cookie": "session=1",
        "X-User-ID": "admin",
        "X-HTTP-Method-Override": "DELETE",
    }
    response = client.options("/x", headers={**ASKS, **forged})
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    (seen,) = origin.requests
    assert (seen.method, seen.get("origin")) == ("OPTIONS", "https://app.example")
    assert all(seen.get(name) is None for name in forged)


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("OPTIONS", {}, b""),
        ("OPTIONS", {"Origin": "https://app.example"}, b""),
        ("OPTIONS", {"Access-Control-Request-Method": "PUT"}, b""),
        ("OPTIONS", ASKS, b"content"),
        ("GET", ASKS, b""),
        ("PUT", ASKS, b""),
    ],
)
def test_whatever_is_no_preflight_needs_its_token(
    origin: Origin, make: Make, method: str, headers: dict[str, str], body: bytes
) -> None:
    client = make(preflight="origin")
    assert client.request(method, "/x", headers=headers, content=body).status_code == 401
    assert origin.count() == 0


def compiled(**route: object) -> None:
    edge = Edge("test")
    edge.origin("api", "http://x")
    edge.route("/*", preflight="origin", **route)  # type: ignore[arg-type]
    edge.compile()


def test_a_preflight_that_nothing_would_let_through_is_refused() -> None:
    for route, message in (
        ({"to": "api"}, "without auth"),
        ({"to": "api", "auth": KEY, "methods": ["GET"]}, "OPTIONS"),
        ({"respond": "x", "auth": KEY}, "go to an origin"),
    ):
        with pytest.raises(ConfigError, match=message):
            compiled(**route)
