"""The page on caching explains each word that ``Cache-Status`` may give as its detail, and no other."""

from __future__ import annotations

import re

from .imports import ROOT


def test_the_page_on_caching_has_a_row_for_each_detail() -> None:
    source = (ROOT / "rust/core/src/outcome.rs").read_text()
    declared = re.search(r"pub enum Detail \{(.*?)\n    \}", source, re.DOTALL)
    assert declared
    words = set(re.findall(r'= "([\w-]+)"', declared[1]))
    page = (ROOT / "docs/caching.md").read_text()
    section = page.split("## What does Cache-Status say?")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    listed = set(re.findall(r"`([\w-]+)`", " ".join(cells)))
    assert listed - {"detail", "fwd"} == words
