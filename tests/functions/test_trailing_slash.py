"""The policy of a function for the other spelling of its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edgerouter import ConfigError, Context, Edge, Jwt, Request, Secret
from edgerouter.testing import Client

#: For each policy: spelling, status, the path that the function got or the place of the redirect.
TABLE = [
    ("/strict/a", 200, "a /strict/a"),
    ("/strict/a/", 404, None),
    ("/redirect/a", 200, "a /redirect/a"),
    ("/redirect/a%20b%2Fc/?q=1&r=%20", 308, "/redirect/a%20b%2Fc?q=1&r=%20"),
    ("/redirect/%2Fevil.example/", 308, "/redirect/%2Fevil.example"),
    ("/ignore/a", 200, "a /ignore/a"),
    ("/ignore/a/", 200, "a /ignore/a/"),
    ("/folder/strict", 404, None),
    ("/folder/redirect", 308, "/folder/redirect/"),
    ("/folder/redirect/", 200, "/folder/redirect/"),
    ("/folder/ignore", 200, "/folder/ignore"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    edge = Edge("test")
    for policy in ("strict", "redirect", "ignore"):

        @edge.function(f"/{policy}/{{id}}", methods=["GET", "PUT"], trailing_slash=policy)
        def item(request: Request, ctx: Context, id: str) -> str:  # noqa: A002
            return f"{id} {request.path}"

        @edge.function(f"/folder/{policy}/", trailing_slash=policy)
        def folder(request: Request, ctx: Context) -> str:
            return request.path

    token = Jwt.hs256(Secret.literal("a secret of thirty-two bytes or more"))

    @edge.function("/private", auth=token, trailing_slash="redirect")
    def private(request: Request, ctx: Context) -> str:
        return "private"

    with Client(edge) as made:
        yield made


@pytest.mark.parametrize(("target", "status", "shown"), TABLE)
def test_the_other_spelling_is_treated_as_the_policy_says(
    client: Client, target: str, status: int, shown: str | None
) -> None:
    answer = client.get(target)
    assert answer.status_code == status
    assert shown in (None, answer.headers.get("location"), answer.text)


def test_the_other_spelling_has_the_methods_and_the_token_of_the_function(client: Client) -> None:
    assert client.put("/redirect/a/").status_code == 308 and client.post("/redirect/a/").status_code == 405
    assert client.get("/private/").status_code == 401


@pytest.mark.parametrize(
    ("pattern", "policy", "message"),
    [
        ("/", "redirect", "has no other spelling"),
        ("/files/*", "ignore", "has no other spelling"),
        ("/files/{rest:path}", "redirect", "has no other spelling"),
        ("/a", "remove", "must be strict, redirect or ignore"),
    ],
)
def test_a_policy_without_effect_is_refused(pattern: str, policy: Any, message: str) -> None:
    def function(request: Request, ctx: Context) -> str:
        return ""

    with pytest.raises(ConfigError, match=message):
        Edge("test").function(pattern, trailing_slash=policy)(function)
