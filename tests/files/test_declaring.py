"""Declaring a folder: mistakes are reported with field, value and remedy; `check`, `explain` and `run` know folders."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgerouter import ConfigError, Edge, Files

from ..processes import Process, command
from .conftest import put


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"prefix": "/assets/*"}, r'files\.prefix: "/assets/\*": must be the path of the folder'),
        ({"prefix": "assets"}, r'files\.prefix: "assets": must be the path of the folder'),
        ({"folder": ""}, r'Files\.folder: ""'),
        ({"index": "a/b.html"}, r'Files\.index: "a/b\.html": must be the name of a file'),
        ({"index": ".hidden"}, r'Files\.index: "\.hidden": must be the name of a file'),
        ({"fallback": "/index.html"}, r'Files\.fallback: "/index\.html": must be a file in the folder'),
        ({"fallback": "../x.html"}, r'Files\.fallback: "\.\./x\.html": must be a file in the folder'),
        ({"immutable": "a/*"}, r'Files\.immutable: "a/\*": is compared with the name of a file'),
        ({"listing": "yes"}, r'Files\.listing: "yes"'),
        ({"viewer": "never"}, r'routes\[0\]\.viewer: "never"'),
    ],
)
def test_a_mistake_is_refused_with_field_value_and_remedy(
    tmp_path: Path, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        Edge("test").files(**{"prefix": "/", "folder": tmp_path, **arguments})


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ({"pattern": "/a/*.js"}, r'pattern: "/a/\*\.js": must be a path as in /assets/\*'),
        ({"pattern": "/a/{name}"}, r'pattern: "/a/\{name\}": must be a path as in /assets/\*'),
        ({"methods": ["GET", "POST"]}, r'methods: "POST": has no effect on a route with files'),
        ({"index": "a.html"}, r"index: is for routes that go to an origin; this one has files: give files\.index"),
        ({"strip_prefix": "/a"}, r"strip_prefix: is for routes that go to an origin"),
        ({"headers": {"request": {"set": {"x": "1"}}}}, r"headers\.request: is for routes that go to an origin"),
        ({"files": {"folder": "dist"}}, r'files\.folder: "dist": must be an absolute path'),
        ({"files": {"folder": "/tmp", "index": ".."}}, r'files\.index: "\.\.": must be the name of a file'),
        ({"files": {"folder": "/tmp", "fallback": "a//b"}}, r'files\.fallback: "a//b": must be the path of a file'),
        ({"files": {"folder": "/tmp", "immutable": ""}}, r'files\.immutable: "": is compared with the name'),
        ({"files": {"folder": "/tmp", "colour": 1}}, r"files\.colour: is not a field"),
        ({"to": "x"}, r"has both to and files"),
    ],
)
def test_a_plan_with_an_option_that_does_nothing_or_names_no_file_is_refused(
    route: dict[str, Any], problem: str
) -> None:
    plan = {"name": "t", "routes": [{"pattern": "/a/*", "files": {"folder": "/tmp"}, **route}]}
    from edgerouter import _core

    with pytest.raises(ConfigError, match=problem):
        _core.compile(json.dumps({"version": 1, **plan}).encode())


def test_a_folder_that_is_not_there_is_reported_once(tmp_path: Path) -> None:
    edge = Edge("test")
    edge.files("/a", tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"routes\[0\]\.files\.folder: .*cannot be opened: No such file") as refused:
        edge.compile()
    assert len(refused.value.problems) == 1


def test_a_relative_folder_starts_at_the_declaring_file_and_must_not_hold_it(tmp_path: Path) -> None:
    put(tmp_path / "dist" / "index.html", "home")
    app = tmp_path / "app.py"
    app.write_text('from edgerouter import Edge\nedge = Edge("t")\nedge.files("/", "dist")\n')
    done = command("check", str(app), "--json")
    assert [it["target"] for it in json.loads(done.stdout)["routes"]] == [f"files {tmp_path}/dist"]
    app.write_text('from edgerouter import Edge\nedge = Edge("t")\nedge.files("/", ".")\n')
    refused = command("check", str(app))
    assert refused.returncode == 1
    assert "holds app.py, whose text would be served" in refused.stderr
    (tmp_path / "around").symlink_to("about")
    (tmp_path / "about").symlink_to("around")
    app.write_text('from edgerouter import Edge\nedge = Edge("t")\nedge.files("/", "around")\n')
    looped = command("check", str(app))
    assert looped.returncode == 1
    assert 'around": cannot be opened: Too many levels of symbolic links' in looped.stderr, looped.stderr


def test_a_plan_file_declares_files(tmp_path: Path) -> None:
    put(tmp_path / "dist" / "index.html", "home")
    plan = tmp_path / "site.toml"
    plan.write_text('version = 1\nname = "t"\n[[routes]]\npattern = "/*"\nfiles = { folder = "dist" }\n')
    assert Edge.from_file(plan).to_dict()["routes"][0]["files"]["folder"] == str(tmp_path / "dist")
    assert command("check", str(plan)).returncode == 0


def test_explain_names_the_file_and_the_reason_why_there_is_none(tmp_path: Path) -> None:
    edge = Edge("test")
    edge.files("/assets", tmp_path, listing=True, fallback="index.html")

    def said(path: str, method: str = "GET", *headers: tuple[str, str]) -> tuple[str, str]:
        step = edge.explain(method, f"http://a.example{path}", headers)[-1]
        assert step["phase"] == "files"
        return step["decision"], step["reason"]

    assert said("/assets/a.js", "GET", ("accept-encoding", "br, gzip;q=0.5")) == (
        str(tmp_path / "a.js"),
        "the first of br, gzip, identity that is there",
    )
    assert said("/assets/") == (str(tmp_path / "index.html"), "as it is; without it the list of the folder")
    assert said("/assets/x", "GET", ("accept", "text/html"))[1].endswith("; index.html if it is not there")
    assert said("/assets/.env") == ("404", "a name in the path begins with a dot; only .well-known may")
    assert said("/assets/a", "PUT") == ("405", "files answer GET and HEAD")


def test_the_route_that_is_returned_has_the_files(tmp_path: Path) -> None:
    edge = Edge("test")
    route = edge.files("a.example/assets/", tmp_path, immutable="*.min.*")
    assert [it.pattern for it in edge.routes] == ["a.example/assets/*", "a.example/assets"]
    assert route.pattern == "a.example/assets/*"
    assert route.files == Files(str(tmp_path), immutable="*.min.*")


def test_run_serves_a_folder(tmp_path: Path, run: Callable[..., Process]) -> None:
    put(tmp_path / "index.html", "<h1>home</h1>")
    put(tmp_path / ".env", "SECRET")
    process = run("run", str(tmp_path), "--listen", "127.0.0.1:0")
    url = process.wait_for(r"http://[\d.]+:\d+")[0]
    with httpx.Client(base_url=url) as client:
        assert client.get("/").text == "<h1>home</h1>"
        assert client.get("/.env").status_code == 404
    assert process.end() == 0


def test_run_refuses_a_folder_of_python_files(tmp_path: Path) -> None:
    put(tmp_path / "site.py", "edge = None\n")
    done = command("run", str(tmp_path), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert re.search(r"is a folder with Python files and no app\.py; name the file", done.stderr)
