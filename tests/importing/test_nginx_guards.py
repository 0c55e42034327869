"""Guards of nginx protect in the program of an import, or close what they protect."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgerouter import Edge
from edgerouter.importing import read
from edgerouter.testing import Client

PROXY = "proxy_pass http://127.0.0.1:9000;"
#: Ends a server, and begins one of another host that serves.
OTHER = f"}} server {{ listen 80; server_name b.example; location / {{ {PROXY} }}"


def statuses(tmp_path: Path, location: str, *requests: tuple[str, str]) -> list[int]:
    """The statuses of requests to the program for a server with these locations."""
    source = tmp_path / "nginx.conf"
    source.write_text(f"http {{ server {{ listen 80; {location} }} }}\n")
    names: dict[str, Edge] = {}
    exec(compile(read(source).program, "app.py", "exec"), names)
    with Client(names["edge"], origins={"app-9000": {"/*": "passed"}}) as http:
        return [http.request(method, path).status_code for method, path in requests]


@pytest.mark.parametrize(
    "guard",
    [
        'if ($http_x_key != "k") { return 403; }',
        "valid_referers none server_names; if ($invalid_referer) { return 403; }",
        "if ($arg_token = x) { return 401; }",
        'secure_link $arg_md5; secure_link_md5 "s$uri"; if ($secure_link = "") { return 410; }',
    ],
)
def test_a_condition_that_decides_who_may_pass_closes_its_location(tmp_path: Path, guard: str) -> None:
    location = f"location /a {{ {guard} {PROXY} }} location / {{ {PROXY} }}"
    assert statuses(tmp_path, location, ("GET", "/a"), ("GET", "/b")) == [403, 200]


@pytest.mark.parametrize(
    ("limit", "open_to"),
    [
        ("limit_except GET { deny all; }", {"GET", "HEAD"}),
        ("limit_except POST { deny all; }", {"POST"}),
        ("limit_except GET { allow 10.0.0.0/8; deny all; }", {"GET", "HEAD"}),
        ("limit_except GET { auth_basic x; }", {"GET", "HEAD"}),
    ],
)
def test_methods_that_are_guarded_are_closed(tmp_path: Path, limit: str, open_to: set[str]) -> None:
    location = f"location /a {{ {limit} {PROXY} }} location / {{ {PROXY} }}"
    methods = ("GET", "HEAD", "POST", "DELETE")
    found = dict(zip(methods, statuses(tmp_path, location, *((method, "/a") for method in methods)), strict=True))
    assert {method for method, status in found.items() if status == 200} == open_to
    assert {status for method, status in found.items() if method not in open_to} == {403}


def test_the_first_rule_that_fits_an_address_decides(tmp_path: Path) -> None:
    rules = {
        "/one": "allow 127.0.0.1; deny 127.0.0.0/8; allow all;",
        "/two": "allow 127.0.0.0/8; deny 127.0.0.1; deny all;",
        "/three": "deny 127.0.0.1; allow 127.0.0.0/8; allow all;",
        "/four": "allow 127.0.0.2; deny 127.0.0.0/8; allow all;",
    }
    locations = "".join(f"location {path} {{ {guard} {PROXY} }}" for path, guard in rules.items())
    found = statuses(tmp_path, locations, *(("GET", path) for path in rules))
    assert dict(zip(rules, found, strict=True)) == {"/one": 200, "/two": 200, "/three": 403, "/four": 403}


def test_a_server_that_answers_by_itself_has_no_locations(tmp_path: Path) -> None:
    location = f"return 403; location /a {{ {PROXY} }} location / {{ {PROXY} }} {OTHER}"
    assert statuses(tmp_path, location, ("GET", "/a"), ("GET", "/b")) == [403, 403]


def test_a_condition_of_a_server_that_decides_who_may_pass_closes_all_of_it(tmp_path: Path) -> None:
    location = f'if ($http_x_key != "k") {{ return 403; }} location /a {{ {PROXY} }} location / {{ {PROXY} }} {OTHER}'
    assert statuses(tmp_path, location, ("GET", "/a"), ("GET", "/b")) == [403, 403]


def test_an_expression_inside_of_a_location_is_for_paths_of_that_location(tmp_path: Path) -> None:
    inner = "location ~ \\.php$ { deny all; } location ~ /own { deny all; } location ~ ^/a/x { deny all; }"
    location = f"location /a/ {{ {PROXY} {inner} }} location / {{ {PROXY} }}"
    paths = {"/a/i.php": 403, "/a/b/i.php": 403, "/a/own": 403, "/a/b/own": 403, "/a/x": 403, "/a/b": 200}
    outside = {"/i.php": 200, "/own": 200, "/b/own": 200}
    found = statuses(tmp_path, location, *(("GET", path) for path in (paths | outside)))
    assert dict(zip(paths | outside, found, strict=True)) == paths | outside
