"""The changelog lists differences from the last release, so before the first one there is nothing but additions."""

from __future__ import annotations

import re
from pathlib import Path

CHANGELOG = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()


def test_before_the_first_release_everything_is_added() -> None:
    released = re.findall(r"^## \[(\d[\w.]*)\]", CHANGELOG, re.MULTILINE)
    sections = re.findall(r"^### (\w+)", CHANGELOG, re.MULTILINE)
    assert released or sections == ["Added"]
