"""A key of nginx tells the same responses apart in the program of an import."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgerouter import Edge
from edgerouter.cache import Names
from edgerouter.importing import read
from edgerouter.importing.policies import extra_names
from edgerouter.testing import Client, Received, Reply

LIFE = {"Cache-Control": "max-age=600"}


def program(tmp_path: Path, key: str) -> Edge:
    source = tmp_path / "nginx.conf"
    location = f"location / {{ proxy_pass http://127.0.0.1:9000; proxy_cache z; proxy_cache_key {key}; }}"
    source.write_text(f"http {{ server {{ listen 80; {location} }} }}\n")
    names: dict[str, Edge] = {}
    exec(compile(read(source).program, "app.py", "exec"), names)
    return names["edge"]


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("$scheme$host$request_uri", ["/?page=1", "/?page=2", "/?page=2&x=1"]),
        ('"${scheme}${host}${request_uri}"', ["/?page=1", "/?page=2", "/?page=2&x=1"]),
        ("$uri$is_args$args", ["/?page=1", "/?page=2", "/?page=2&x=1"]),
        ("$host$uri$arg_page", ["/?page=1", "/?page=2", "/?page=2"]),
        ('"$host${uri}${arg_page}"', ["/?page=1", "/?page=2", "/?page=2"]),
        ("$host$uri", ["/", "/", "/"]),
    ],
)
def test_parameters_of_the_key_reach_the_origin_and_select_responses(
    tmp_path: Path, key: str, wanted: list[str]
) -> None:
    echo = {"/*": lambda request: Reply(200, LIFE, request.target)}
    with Client(program(tmp_path, key), origins={"app-9000": echo}) as http:
        for _ in range(2):
            assert [http.get(f"/{query}").text for query in ("?page=1", "?page=2", "?page=2&x=1")] == wanted


@pytest.mark.parametrize("key", ["$request_uri$cookie_plan$http_x_k", '"${request_uri}${cookie_plan}${http_x_k}"'])
def test_cookies_and_fields_of_the_key_select_responses(tmp_path: Path, key: str) -> None:
    def echo(request: Received) -> Reply:
        return Reply(200, LIFE, f"{request.get('cookie')} {request.get('x-k')}")

    with Client(program(tmp_path, key), origins={"app-9000": {"/*": echo}}) as http:
        found = [
            http.get("/", headers={"cookie": f"plan={plan}", "x-k": field}).text
            for plan, field in (("a", "1"), ("b", "1"), ("a", "2"))
        ]
    assert found == ["plan=a 1", "plan=b 1", "plan=a 2"]


@pytest.mark.parametrize(
    ("keyed", "sent", "extra"),
    [
        ("none", ["a"], ["a"]),
        ("all", ["a"], []),
        (["a"], ["a", "b"], ["b"]),
        (Names(exclude=["a", "b"]), ["a", "c"], ["a"]),
        (Names(exclude=["a"]), "all", None),
    ],
)
def test_what_is_sent_beside_the_key_is_what_the_key_leaves_out(
    keyed: object, sent: object, extra: list[str] | None
) -> None:
    assert extra_names(keyed, sent) == extra  # type: ignore[arg-type]
