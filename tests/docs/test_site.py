"""The documentation as a site, and in the terminal."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgerouter import manual
from edgerouter.cli.commands import app

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "site"
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts/make-site"), str(folder)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder


def test_each_page_is_in_the_site_and_in_its_search(site: Path) -> None:
    pages = {file.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for file in ROOT.glob("docs/**/*.md")}
    assert pages <= {file.relative_to(site).as_posix() for file in site.rglob("*.html")}
    found = {item["location"].split("#")[0] for item in json.loads((site / "search.json").read_text())["items"]}
    assert {page for page in pages if not page.startswith("decisions/")} <= found


def test_the_reference_has_every_public_name(site: Path) -> None:
    import edgerouter

    headings = set(re.findall(r'<h[23] id="([^"]+)"', (site / "reference.html").read_text()))
    assert {name.lower() for name in edgerouter.__all__} <= headings


def test_a_link_to_a_page_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    for folder in ("docs", "scripts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "python").symlink_to(ROOT / "python")
    shutil.copy(ROOT / "scripts/make-site", tmp_path / "scripts")
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_text("# Page\n")
    (tmp_path / "README.md").write_text("# Site\n\n## Documentation\n\nGuides: [One](docs/one.md)\n")
    (tmp_path / "docs/one.md").write_text("# One\n\n[gone](../README.md#no-such-heading)\n")
    made = subprocess.run(
        [sys.executable, str(tmp_path / "scripts/make-site")], capture_output=True, text=True, check=False
    )
    assert made.returncode == 1
    assert "no-such-heading" in made.stderr


@pytest.mark.parametrize(
    ("word", "page", "title"),
    [
        ("caching", "caching", None),
        ("edgerouter warm", "cli", "`edgerouter warm [URL]...`"),
        ("Grace", "latency", "Grace"),
        ("runbooks/budget", "runbooks/budget", None),
        ("stale_when_disconnected", "caching", None),
        ("cache", "caching", None),
        ("log", "logging", None),
        ("cors", "guarding", None),
        ("hook", "functions", "Hooks and functions"),
        ("streaming", "functions", "Streams"),
    ],
)
def test_a_word_finds_its_page_or_section(word: str, page: str, title: str | None) -> None:
    best = manual.find(word)[0]
    assert best.page == page
    assert title is None or best.title == title


def test_the_command_lists_pages_and_prints_the_best_place() -> None:
    def docs(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["docs", *arguments])
        return done.exit_code, done.output

    listed = docs()[1]
    assert all(page.page in listed for page in manual.pages())
    assert docs("caching", "--path") == (0, f"{manual.PAGES / 'caching.md'}\n")
    code, text = docs("purge", "by", "tag")
    assert code == 0 and text.startswith("#") and "(docs/" in text
    code, text = docs("no-such-word-anywhere")
    assert code == 1 and "no page has" in text


def test_headings_in_blocks_of_code_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.md").write_text("# One\n\n```\n# not a heading\n```\n\n## Two\ntext\n### Three\nmore\n## Four\n")
    monkeypatch.setattr(manual, "PAGES", tmp_path)
    assert [page.title for page in manual.pages()] == ["One"]
    assert manual.find("two")[0].text == "## Two\ntext\n### Three\nmore\n"
    assert manual.find("not a heading")[0].title == "One"
    assert manual.find(" ") == []
