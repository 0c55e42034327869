"""Every test that the table of conformance names exists, in the file that its section names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"


def named(page: str) -> Iterator[tuple[str, str]]:
    """File and test of each name in the last column of a row, by the file that stands above the table."""
    file = ""
    for line in page.splitlines():
        if found := re.fullmatch(r"`(tests/[\w/]+\.py)`", line):
            file = found[1]
        elif line.startswith("| ") and not line.startswith("| behaviour "):
            for test in re.findall(r"`(\w+)`", line.rsplit("|", 2)[1]):
                yield file, test


def missing(page: str) -> list[tuple[str, str]]:
    def defined(file: str) -> set[str]:
        return set(re.findall(r"^(?:async )?def (test_\w+)", (ROOT / file).read_text(), re.MULTILINE))

    return [(file, test) for file, test in named(page) if not (ROOT / file).is_file() or test not in defined(file)]


def test_the_tests_that_the_table_names_exist() -> None:
    page = PAGE.read_text()
    assert missing(page) == []
    assert len(list(named(page))) > 100


def test_each_row_of_the_table_names_a_section_and_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    bare = [row for row in rows if not re.fullmatch(r"\| .+ \| .+ \| (`test_\w+`(, )?)+ \|", row)]
    assert set(bare) == {"| behaviour | section | test |"}


def test_a_name_that_no_test_has_is_noticed() -> None:
    page = PAGE.read_text()
    file, test = next(named(page))
    assert missing(page.replace(test, f"{test}_gone")) == [(file, f"{test}_gone")]
    moved = file.replace(".py", "_gone.py")
    assert (moved, test) in missing(page.replace(f"`{file}`", f"`{moved}`"))
