"""Modules of the package use the public names of each other."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from edgerouter import Edge
from edgerouter.cli.running import Options, variable
from edgerouter.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "edgerouter"
#: Private by their spelling only: documented names of named tuples and of the standard library, and methods that the
#: core has for the package and not for its users.
DOCUMENTED = {
    "_core",
    "_asdict",
    "_replace",
    "sys._getframe",
    "sys._current_frames",
    "os._exit",
    "asyncio._get_running_loop",
    "self.ctx._answer",
    "self.ctx._when_gone",
    "self.request._whole",
}


def is_private(name: str, text: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and not {name, text} & DOCUMENTED


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_reads_no_private_name_of_another(file: Path) -> None:
    nodes = list(ast.walk(ast.parse(file.read_text())))
    defined = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own = [node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls")]
    defined |= {node.attr for node in own if isinstance(node.ctx, ast.Store)}
    read = [node for node in nodes if isinstance(node, ast.Attribute) and node not in own]
    imported = [name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names]
    assert not [
        *(text for node in read if is_private(node.attr, text := ast.unparse(node)) and node.attr not in defined),
        *(name for name in imported if is_private(name, name)),
    ]


def test_each_option_of_run_is_in_the_documentation_with_its_variable() -> None:
    documented = (ROOT / "docs" / "cli.md").read_text()
    missing = [
        flag
        for flag, option in Options.declared().items()
        if f"| `{flag}" not in documented or f"`{variable(option)}`" not in documented
    ]
    assert not missing


@pytest.mark.parametrize("method", [Edge.serve, Edge.start], ids=["serve", "start"])
def test_what_serves_an_edge_takes_the_fields_of_settings(method: object) -> None:
    assert list(inspect.signature(method).parameters)[1:] == list(inspect.signature(Settings).parameters)  # type: ignore[arg-type]
