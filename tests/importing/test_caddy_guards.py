"""Guards of Caddy without a counterpart close what they protect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgerouter import Edge
from edgerouter.importing import read
from edgerouter.testing import Client

PROXY = {"handler": "reverse_proxy", "upstreams": [{"dial": "127.0.0.1:9000"}]}
FORBID = {"handler": "static_response", "status_code": 403}
AUTH = {
    "handler": "reverse_proxy",
    "rewrite": {"method": "GET", "uri": "/auth"},
    "upstreams": [{"dial": "127.0.0.1:9001"}],
    "handle_response": [{"match": {"status_code": [2]}, "routes": [{"handle": [{"handler": "headers"}]}]}],
}


def status(tmp_path: Path, *routes: dict[str, Any], headers: dict[str, str] | None = None) -> int:
    """The status of a request to the program for these routes."""
    source = tmp_path / "caddy.json"
    server = {"listen": [":8080"], "routes": list(routes)}
    source.write_text(json.dumps({"apps": {"http": {"servers": {"s": server}}}}))
    names: dict[str, Edge] = {}
    exec(compile(read(source).program, "app.py", "exec"), names)
    replies = {"/*": "passed"}
    with Client(names["edge"], origins={"app-9000": replies}) as http:
        return http.get("/", headers=headers).status_code


@pytest.mark.parametrize(
    "match", [{"expression": {"expr": "{http.request.header.X} != 'k'"}}, {"not": [{"method": ["GET"]}]}]
)
@pytest.mark.parametrize(
    "answer", [FORBID, {"handler": "error", "status_code": 401}, {"handler": "static_response", "abort": True}]
)
def test_a_refusal_whose_condition_is_not_understood_is_one_for_all(
    tmp_path: Path, match: dict[str, Any], answer: dict[str, Any]
) -> None:
    assert status(tmp_path, {"match": [match], "handle": [answer]}, {"handle": [PROXY]}) == 403


def test_another_answer_whose_condition_is_not_understood_is_left_out(tmp_path: Path) -> None:
    answer = {"handler": "static_response", "status_code": 404}
    match = {"expression": {"expr": "{http.request.uri.query} == 'x'"}}
    assert status(tmp_path, {"match": [match], "handle": [answer]}, {"handle": [PROXY]}) == 200


def test_forward_auth_closes_what_follows(tmp_path: Path) -> None:
    assert status(tmp_path, {"handle": [AUTH, PROXY]}) == 403


@pytest.mark.parametrize(
    ("values", "without", "with_one"), [(None, 403, 200), ([], 200, 403), (["*"], 200, 403), (["k"], 200, 403)]
)
def test_a_field_that_must_not_be_there_is_not_one_that_must(
    tmp_path: Path, values: list[str] | None, without: int, with_one: int
) -> None:
    refusal = {"match": [{"header": {"X-Key": values}}], "handle": [FORBID]}
    assert status(tmp_path, refusal, {"handle": [PROXY]}) == without
    assert status(tmp_path, refusal, {"handle": [PROXY]}, headers={"X-Key": "k"}) == with_one


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ({"remote_ip": {"ranges": ["127.0.0.1"]}}, {"not": [{"remote_ip": {"ranges": ["127.0.0.0/8"]}}]}, 403),
        ({"not": [{"remote_ip": {"ranges": ["127.0.0.0/8"]}}]}, {"remote_ip": {"ranges": ["127.0.0.1"]}}, 403),
        ({"remote_ip": {"ranges": ["127.0.0.1"]}}, {"remote_ip": {"ranges": ["10.0.0.0/8"]}}, 403),
        (
            {"not": [{"remote_ip": {"ranges": ["10.0.0.0/8"]}}]},
            {"not": [{"remote_ip": {"ranges": ["127.0.0.0/8"]}}]},
            403,
        ),
        (
            {"not": [{"remote_ip": {"ranges": ["127.0.0.0/8", "::1"]}}]},
            {"not": [{"client_ip": {"ranges": ["127.0.0.1/32", "10.0.0.0/8"]}}]},
            200,
        ),
    ],
)
def test_a_client_passes_each_list_of_addresses(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], wanted: int
) -> None:
    refusals = [{"match": [match], "handle": [FORBID]} for match in (first, second)]
    assert status(tmp_path, *refusals, {"handle": [PROXY]}) == wanted
