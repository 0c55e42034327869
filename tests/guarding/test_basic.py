"""Basic authentication with hashed passwords (RFC 7617), through the socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import BasicAuth, ConfigError, Edge, Jwt, Secret
from edgerouter.testing import Running

from ..conftest import Serve
from ..metrics import metric
from ..origins import Origin, Reply
from ..responses import is_hit

#: bcrypt of "open sesame" and argon2id of "friend", as `htpasswd -B` and `argon2` make them.
USERS = """\
# staff
ann:$2b$04$UcMwPnTEz7mY2Q33a1S9duyA7bouDDVFKeg/0c/iQYXFEORXT6Zay
bob:$argon2id$v=19$m=1024,t=2,p=2$fhSHPDigV9WMqF+O0qw56Q$vsZwVwqWcIN+8Iu7GS4AdEfH0BDRnAwWLG+rKCmIA+Q
"""
Make = Callable[..., tuple[Running, httpx.Client]]


@pytest.fixture
def make(origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client], tmp_path: Path) -> Make:
    def make(**route: Any) -> tuple[Running, httpx.Client]:
        origin.default = Reply(200, {"cache-control": "max-age=60"}, "content")
        file = tmp_path / "staff.htpasswd"
        file.write_text(USERS)
        edge = Edge("test", trusted_proxies=["127.0.0.1"])
        edge.route("/*", to=edge.origin("first", origin.url), basic=BasicAuth(file, realm="Staff"), **route)
        served = serve(edge)
        return served, client_for(served)

    return make


def test_a_password_opens_the_route_and_does_not_reach_the_origin(origin: Origin, make: Make) -> None:
    served, client = make()
    refused = client.get("/x")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Basic realm="Staff", charset="UTF-8"'
    first = client.get("/x", auth=("ann", "open sesame"))
    assert (first.status_code, is_hit(first)) == (200, False)
    # Stored as without the field, and shared among all users; a hit needs a password as well.
    second = client.get("/x", auth=("bob", "friend"))
    assert (second.status_code, is_hit(second)) == (200, True)
    assert client.get("/x").status_code == 401
    (seen,) = origin.requests
    assert seen.get("authorization") is None
    for auth in (("ann", "friend"), ("eve", "open sesame"), ("ann", "")):
        assert client.get("/x", auth=auth).status_code == 401
    name = "edgerouter_passwords_total"
    counted = {result: metric(served, name, f'{{result="{result}"}}') for result in ("verified", "wrong", "absent")}
    assert counted == {"verified": 2, "wrong": 3, "absent": 2}


def test_a_verified_password_is_remembered_for_five_minutes(make: Make) -> None:
    served, client = make()

    def verified() -> float:
        assert client.get("/x", auth=("ann", "open sesame")).status_code == 200
        return metric(served, "edgerouter_passwords_total", '{result="verified"}')

    assert [verified() for _ in range(3)] == [1, 1, 1]
    served.set_clock(301)
    assert [verified() for _ in range(2)] == [2, 2]


def test_a_client_may_be_wrong_five_times_a_minute(make: Make) -> None:
    served, client = make()

    def tries(address: str, password: str, times: int = 1) -> list[int]:
        headers = {"x-forwarded-for": address}
        return [client.get("/x", auth=("ann", password), headers=headers).status_code for _ in range(times)]

    assert tries("192.0.2.1", "wrong", 6) == [401] * 5 + [429]
    # No more guesses: the right password counts only once it is due. Other clients are not held up.
    assert tries("192.0.2.1", "open sesame") == [429]
    assert tries("192.0.2.2", "open sesame") == [200]
    # It is remembered now, and needs no guess.
    assert tries("192.0.2.1", "open sesame") == [200]
    served.set_clock(13)
    assert tries("192.0.2.1", "wrong", 2) == [401, 429]
    # Right passwords are no guesses.
    assert tries("192.0.2.3", "open sesame", 10) == [200] * 10


def test_another_plan_forgets_the_passwords_of_the_last_one(
    origin: Origin, serve: Serve, client_for: Callable[[Running], httpx.Client]
) -> None:
    origin.default = Reply(200, {}, "content")

    def edge(users: str) -> Edge:
        edge = Edge("test")
        edge.route("/*", to=edge.origin("first", origin.url), basic=BasicAuth(Secret.literal(users)))
        return edge

    served = serve(edge(USERS))
    client = client_for(served)
    assert client.get("/x", auth=("bob", "friend")).status_code == 200
    served.reload(edge(USERS.splitlines()[1]))
    assert client.get("/x", auth=("bob", "friend")).status_code == 401
    assert client.get("/x", auth=("ann", "open sesame")).status_code == 200


def test_explain_names_the_user() -> None:
    edge = Edge("test")
    edge.route("/*", respond="x", basic=BasicAuth(Secret.literal(USERS)))
    field = httpx.BasicAuth("ann", "open sesame")._build_auth_header("ann", "open sesame")
    steps = edge.explain("GET", "http://h/", [("authorization", field)])
    assert any(step["decision"] == "user ann" for step in steps)
    assert any("absent" in step["reason"] for step in edge.explain("GET", "http://h/"))


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ("ann:plain-text", "line 1: the password is neither"),
        ("ann:$apr1$x$y", "line 1: the password is neither"),
        (USERS.replace("$04$", "$03$"), "line 2: the password has a cost below 4"),
        ("\nann", "line 2: is not USER:HASH"),
        ("# nobody\n", "must have 1 to 10000 users"),
    ],
)
def test_a_file_that_protects_nothing_is_refused_without_being_shown(users: str, message: str) -> None:
    edge = Edge("test")
    edge.route("/*", respond="x", basic=BasicAuth(Secret.literal(users)))
    with pytest.raises(ConfigError, match=message) as refused:
        edge.compile()
    assert "plain-text" not in str(refused.value)


def test_a_missing_file_and_a_second_policy_for_the_field_are_refused() -> None:
    edge = Edge("test")
    edge.route("/*", respond="x", basic=BasicAuth("none.htpasswd"))
    with pytest.raises(ConfigError, match=r"routes\[0\]\.basic\.users: file none\.htpasswd: cannot be read"):
        edge.compile()
    with pytest.raises(ConfigError, match="cannot be combined with auth"):
        edge.route("/a", respond="x", basic=BasicAuth("none.htpasswd"), auth=Jwt.hs256("0" * 32))
    with pytest.raises(ConfigError, match="must be a path, or a secret"):
        BasicAuth(7)  # type: ignore[arg-type]
