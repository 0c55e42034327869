"""Every public name says what it is: in ``help()``, and so in an editor."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import edgerouter
from edgerouter import cache, functions, lambda_edge, server, serving, settings, testing

MODULES = [edgerouter, cache, functions, lambda_edge, server, serving, settings, testing]


def attribute_docstrings(kind: type) -> set[str]:
    """The attributes of a class that a string follows, as editors read it."""
    file = inspect.getsourcefile(kind)
    assert file is not None
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
            for here, following in zip(node.body, node.body[1:], strict=False):
                says = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                if says and isinstance(here, ast.AnnAssign) and isinstance(here.target, ast.Name):
                    found.add(here.target.id)
    return found


def explained(kind: type) -> str:
    """The docstrings of a class and of those it comes from, and of the method that they send the reader to."""
    texts = [base.__doc__ or "" for base in kind.__mro__ if base is not object]
    sends_to = re.findall(r"``Edge\.(\w+)``", " ".join(texts))
    return " ".join(texts + [getattr(edgerouter.Edge, name).__doc__ or "" for name in sends_to])


def undocumented(value: object, name: str) -> list[str]:
    if not inspect.isclass(value):
        # An alias of types has no docstring of its own at run time.
        return [] if not inspect.isroutine(value) or inspect.getdoc(value) else [name]
    missing = [] if inspect.getdoc(value) else [name]
    in_python = value.__module__ != "builtins" and hasattr(inspect.getmodule(value), "__file__")
    own = attribute_docstrings(value) if in_python and not is_from_core(value) else set()
    fields = {*getattr(value, "__struct_fields__", ()), *getattr(value, "_fields", ()), *own}
    text = explained(value)
    for attribute in fields | {name for name in vars(value) if not name.startswith("_")}:
        member = vars(value).get(attribute)
        if isinstance(member, (classmethod, staticmethod)):
            member = member.__func__
        if attribute in fields or member is None or not (callable(member) or inspect.isdatadescriptor(member)):
            said = f"``{attribute}``" in text or attribute in own
        else:
            said = bool(inspect.getdoc(member))
        if not said:
            missing.append(f"{name}.{attribute}")
    return missing


def is_from_core(kind: type) -> bool:
    return getattr(edgerouter._core, kind.__name__, None) is kind


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(module: ModuleType) -> None:
    missing = [
        line for name in module.__all__ for line in undocumented(getattr(module, name), f"{module.__name__}.{name}")
    ]
    assert sorted(missing) == []
