"""Decision records are numbered without gaps, and the links between the documents lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs/decisions"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(file.name[:4]) for file in sorted(DECISIONS.glob("*.md"))]
    assert len(numbers) == len(set(numbers)), "a number stands for one decision"
    assert set(range(1, max(numbers) + 1)) - set(numbers) == set()


@pytest.mark.parametrize("file", sorted(DECISIONS.glob("*.md")), ids=lambda file: file.stem)
def test_a_decision_opens_with_its_number_and_stands_under_its_own_name(file: Path) -> None:
    assert re.fullmatch(r"\d{4}-[a-z0-9]+(-[a-z0-9]+)*", file.stem)
    assert file.read_text().startswith(f"# {file.stem[:4]}"), "the heading has the number of the file"


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that headings have on the usual hosts of Markdown."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^()\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_files_and_headings_that_exist(page: Path) -> None:
    assert list(broken(page)) == []


def test_a_decision_that_is_cited_by_number_exists() -> None:
    sources = [file for folder in ("rust", "python") for file in (ROOT / folder).rglob("*.[pr][ys]")]
    existing = {file.name[:4] for file in DECISIONS.glob("*.md")}
    cited = {
        (str(page.relative_to(ROOT)), number)
        for page in [*PAGES, *sources]
        for number in re.findall(r"\b(?:[Dd]ecisions? |decisions/)(\d{4})\b", page.read_text())
    }
    assert {(page, number) for page, number in cited if number not in existing} == set()
