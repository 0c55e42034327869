"""The admin listener: who may use it, and its answers to a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from edgerouter import ConfigError, Edge
from edgerouter.server import Server
from edgerouter.settings import Settings
from edgerouter.testing import running

from ..raw import connect


@pytest.fixture
def admin() -> Iterator[str]:
    edge = Edge("test")
    edge.route("/*", respond="x")
    with running(edge) as served:
        yield served.admin_url


@pytest.fixture
def guarded() -> Iterator[str]:
    edge = Edge("test")
    edge.route("/*", respond="x")
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", admin_token="open sesame", workers=1)
    with Server.start(edge, settings) as server:
        yield server.admin_url or ""


@pytest.mark.parametrize("field", ["admin_token", "admin_reader_token"])
@pytest.mark.parametrize("token", ["sesame\n", " sesame", "ses\tame", "sésame"])
def test_a_token_that_no_client_can_send_is_refused_at_the_start(field: str, token: str) -> None:
    edge = Edge("test")
    edge.route("/*", respond="x")
    settings = Settings(listen="127.0.0.1:0", admin="127.0.0.1:0", admin_token="sesame")
    with pytest.raises(ConfigError) as refused:
        Server.start(edge, msgspec.structs.replace(settings, **{field: token}))
    assert str(refused.value).startswith(f"{field}: must be printable ASCII")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param({"admin_keys": {"AK": "sesame"}}, "Settings.admin_keys: needs admin: CloudFront's", id="keys"),
        pytest.param(
            {"access_log_format": "json"}, 'Settings.access_log_format: "json": needs access_log, the file', id="format"
        ),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused_without_its_secret(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings(**given)
    assert problem in str(refused.value) and "sesame" not in str(refused.value)


def test_an_unknown_endpoint_and_a_wrong_method_are_explained(admin: str) -> None:
    unknown = httpx.get(f"{admin}/v1/nothing")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["field"] == "path"
    wrong = httpx.delete(f"{admin}/metrics")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert wrong.json()["error"] == {"field": "method", "message": "must be one of GET, HEAD"}
    assert httpx.head(f"{admin}/metrics").text == ""


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        ("GET", "/v1/purges/I1?limit=1", "limit"),
        ("POST", "/v1/purges?dry_run=true", "dry_run"),
        ("GET", "/v1/plan?x=1", "x"),
        ("GET", "/v1/experiments?name=home", "name"),
        ("GET", "/v1/costs?%78=1", "x"),
        ("GET", "/v1/events?before=1", "before"),
        ("GET", "/v1/events?after=abc", "after"),
        ("GET", "/v1/live?after=-1", "after"),
        ("GET", "/v1/requests?path=a&path=b", "path"),
    ],
)
def test_a_parameter_that_would_be_ignored_is_refused(admin: str, method: str, target: str, field: str) -> None:
    answer = httpx.request(method, f"{admin}{target}", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def test_probes_and_scrapers_may_append_parameters(admin: str) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/dashboard"):
        assert httpx.get(f"{admin}{path}?at=1&at=2").status_code == 200


def test_the_index_names_each_endpoint_once(admin: str) -> None:
    paths = httpx.get(f"{admin}/").text.split()[1:]
    assert "/v1/purges" in paths and len(set(paths)) == len(paths)


def test_a_token_opens_what_it_guards_and_only_the_whole_token_does(guarded: str) -> None:
    # The probes of load balancers have no token.
    assert httpx.get(f"{guarded}/healthz").status_code == 200
    assert httpx.get(f"{guarded}/readyz").json() == {"ready": True}
    for given in (None, "Bearer", "Bearer open", "Bearer open sesame!", "Basic open sesame"):
        refused = httpx.get(f"{guarded}/metrics", headers={"authorization": given} if given else {})
        assert refused.status_code == 401, given
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert "sesame" not in refused.text
    assert httpx.get(f"{guarded}/metrics", headers={"authorization": "bearer open sesame"}).status_code == 200


def test_names_and_pages_of_strangers_are_not_answered(admin: str) -> None:
    assert httpx.get(f"{admin}/healthz", headers={"host": "evil.example"}).status_code == 421
    assert httpx.get(f"{admin}/healthz", headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.get(f"{admin}/healthz", headers={"origin": "null"}).status_code == 403
    assert httpx.get(f"{admin}/healthz", headers={"origin": admin}).status_code == 200


@pytest.mark.parametrize("name", ["Host", "Origin", "Authorization"])
def test_a_field_that_says_who_asks_is_given_once(admin: str, name: str) -> None:
    """A proxy in front may look at the other one."""
    authority = httpx.URL(admin).netloc.decode()
    fields = [("Host", authority), (name, "evil.example")]
    if name != "Host":
        fields.append((name, f"http://{authority}"))
    with connect(admin) as sock:
        lines = "".join(f"{field}: {value}\r\n" for field, value in fields)
        sock.sendall(f"GET /healthz HTTP/1.1\r\n{lines}\r\n".encode())
        answer = sock.recv(65_536).decode()
    assert answer.startswith("HTTP/1.1 400 ")
    assert f'"field":"{name}"' in answer and "must be given once" in answer


def test_healthz_answers_whatever_silent_connections_do(admin: str) -> None:
    silent = [connect(admin) for _ in range(80)]
    for number, sock in enumerate(silent):
        if number % 3 == 1:
            sock.sendall(b"GET /healthz HTTP/1.1\r\n")
    try:
        for path in ("/healthz", "/readyz", "/metrics") * 5:
            assert httpx.get(f"{admin}{path}", timeout=20).status_code == 200
    finally:
        for sock in silent:
            sock.close()
