"""Files that Caddy hides are not served by the program of an import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..processes import command


def imported(tmp_path: Path, root: str, hide: list[str]) -> tuple[str, str]:
    """The program and the report for a file server of Caddy."""
    handle = [{"handler": "vars", "root": root}, {"handler": "file_server", "hide": hide}]
    routes = [{"handle": handle}, {"match": [{"path": ["/ok"]}], "handle": [{"handler": "static_response"}]}]
    source = tmp_path / "caddy.json"
    source.write_text(json.dumps({"apps": {"http": {"servers": {"s": {"listen": [":8080"], "routes": routes[::-1]}}}}}))
    done = command("import", str(source), "-o", "-")
    assert done.returncode in (0, 3), done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    ("hide", "is_served"),
    [
        ([], True),
        (["./Caddyfile"], True),
        ([".git", ".*"], True),
        (["/etc/caddy/Caddyfile"], True),
        (["/srv/wwwroot/x"], True),
        (["*.bak"], False),
        ([".git", "secret.txt"], False),
        (["/srv/www/private"], False),
        (["/srv/www/../www/private"], False),
        (["/srv/www"], False),
    ],
)
def test_a_folder_with_hidden_files_is_served_only_if_the_edge_hides_them(
    tmp_path: Path, hide: list[str], is_served: bool
) -> None:
    program, report = imported(tmp_path, "/srv/www", hide)
    assert ("edge.files(" in program) is is_served
    assert ("names that begin with a dot" in report) is not is_served


def test_a_folder_without_a_name_is_a_choice(tmp_path: Path) -> None:
    program, report = imported(tmp_path, ".", ["./Caddyfile"])
    assert "edge.files(" in program
    assert "name a folder that holds them alone" in report
    program, _ = imported(tmp_path, ".", ["private"])
    assert "edge.files(" not in program
