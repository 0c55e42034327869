"""Prose of the pages is wrapped at 120 columns (docs/style.md); tables, code and headings are as long as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
    if path.name != "CHANGELOG.md" and "decisions" not in path.parts
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_fits_120_columns(page: Path) -> None:
    code, long = False, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.strip().startswith("```"):
            code = not code
        elif len(line) > 120 and not code and not line.startswith(("|", "#")):
            long.append(number)
    assert not long, f"{page.relative_to(ROOT)} has longer lines: {long}"
