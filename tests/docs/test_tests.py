"""Tests say what they show: each asserts something itself, and each row of a table has a name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

#: A call that fails the test where it does not hold: `pytest.raises`, and functions whose name says that they assert.
ASSERTS = re.compile(r"raises|fail|warns|assert_\w+")


def written() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"{file.relative_to(TESTS)}: {node.name}", node


def asserts(test: ast.AST) -> bool:
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if ASSERTS.fullmatch(called):
                return True
    return False


def test_each_test_has_an_assertion_of_its_own() -> None:
    assert [name for name, test in written() if not asserts(test)] == []


def test_no_test_file_imports_from_another() -> None:
    found = re.compile(r"^from \.[\w.]*\btest_\w+ import", re.MULTILINE)
    assert [str(file.relative_to(TESTS)) for file in TESTS.rglob("*.py") if found.search(file.read_text())] == []


def test_each_row_of_a_table_has_a_name(request: pytest.FixtureRequest) -> None:
    numbered = []
    for item in request.session.items:
        row = getattr(item, "callspec", None)
        if row is not None and any(re.search(rf"(^|-)({name}\d+|<lambda>)(-|$)", row.id) for name in row.params):
            numbered.append(item.nodeid)
    assert numbered == []
