"""Expressions of locations become patterns that match the same paths, or none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerouter.importing.expressions import as_patterns

PATTERNS = {
    r"^/api/": ["/api/*"],
    r"^/api$": ["/api"],
    r"\.php$": ["/*.php"],
    r"\.(png|jpe?g)$": ["/*.png", "/*.jpg", "/*.jpeg"],
    r"^/(de|fr)/": ["/de/*", "/fr/*"],
    r"/\.": ["/.?*", "/*/.?*"],
    r"^/a/.*/b$": ["/a/*/b"],
    r"^/files/[^/]+\.zip$": ["/files/*.zip"],
    r"^/(?:x|y)?$": ["/", "/x", "/y"],
}


@pytest.mark.parametrize("expression", PATTERNS)
def test_an_expression_becomes_patterns(expression: str) -> None:
    assert as_patterns(expression) == PATTERNS[expression]


@pytest.mark.parametrize(
    "expression",
    [r"^/user/[0-9]+$", r"^/(a|b", r"(?<name>x)", r"^/a{2}$", r"\d", r"a|^b", "[", "^relative", r"^/(?!x)"],
)
def test_an_expression_that_says_more_has_none(expression: str) -> None:
    assert as_patterns(expression) is None


@given(
    st.sampled_from([it for it in PATTERNS if it != r"/\."]),
    st.from_regex(r"/[a-z./]{0,12}", fullmatch=True)
    | st.sampled_from(["/a/x/b", "/files/a.zip", "/de/x", "/api/x", "/x.jpeg"]),
)
def test_both_match_the_same_paths(expression: str, path: str) -> None:
    patterns = as_patterns(expression) or []
    found = any(re.fullmatch(re.escape(one).replace(r"\*", ".*").replace(r"\?", "."), path) for one in patterns)
    # [^/]+ and .+ become *, which may be empty or hold a slash.
    assert found or not re.search(expression, path)
    if "[^/]" not in expression:
        assert found == bool(re.search(expression, path))
