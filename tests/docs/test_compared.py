"""The page that compares edgerouter with others is whole: each feature has a cell for each of them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "compared.md").read_text()
NAMES = ["edgerouter", "nginx", "Varnish", "Caddy", "CloudFront", "Workers"]


def rows() -> list[list[str]]:
    """The cells of each row of the tables that have a column for each product."""
    found: list[list[str]] = []
    wide = False
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        wide = cells[1:] == NAMES or (wide and bool(cells))
        if wide and cells[1:] != NAMES and set("".join(cells)) != {"-"}:
            found.append(cells)
    return found


def test_each_feature_has_a_cell_for_each_product() -> None:
    assert len(rows()) > 40
    assert [cells for cells in rows() if len(cells) != 7 or not all(cells)] == []


def test_the_page_says_where_edgerouter_has_nothing_as_it_does_for_others() -> None:
    lacking = [cells[0] for cells in rows() if cells[1].startswith("no")]
    assert len(lacking) >= 10
    assert {"HTTP/3 to viewers", "ESI", "a web application firewall"} <= set(lacking)
