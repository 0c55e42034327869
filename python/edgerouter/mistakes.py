"""All the mistakes of an application file, not just the first.

A value is checked when it is made, so the first mistake ends the file. Then it is run once more, a statement at a time,
going on after each that is refused; what it made in spite of them is compiled, for the mistakes that need the whole.
"""

from __future__ import annotations
import __future__

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeAlias

from edgerouter.checks import shown
from edgerouter.edge import Edge
from edgerouter.errors import ConfigError

__all__ = ["Refused", "statements", "whole"]

#: An argument that a method does not have is a ``TypeError``.
Refused: TypeAlias = tuple[ConfigError | TypeError, ast.stmt]


def statements(file: Path, module: ModuleType) -> Iterator[Refused]:
    """Runs the file in ``module`` and gives the statements that are refused.

    One that needs what a refused one did not make is passed over; whatever else it raises ends the run.
    """
    lost: set[str] = set()
    flags = 0
    for statement in ast.parse(file.read_bytes(), str(file)).body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            for name in statement.names:
                flags |= getattr(__future__, name.name).compiler_flag
        code = compile(ast.Module([statement], []), str(file), "exec", flags, dont_inherit=True)
        edge = _declares(statement, module)
        before = len(edge.routes) if edge else 0
        try:
            exec(code, vars(module))  # noqa: S102  # the user's own file
            continue
        except (ConfigError, TypeError) as error:
            yield error, statement
        except NameError as error:
            if error.name not in lost:
                return
        except Exception:  # noqa: BLE001  # a consequence of what went before
            return
        lost |= _bound(statement)
        if edge and len(edge.routes) == before:
            # The routes that follow keep the numbers that they have in the file.
            edge.route("/", respond="")


def whole(edge: Edge, refused: Collection[Refused]) -> ConfigError | None:
    """The problems of the edge as a whole, except those that follow from the refused statements."""
    try:
        edge.compile()
    except ConfigError as error:
        missing = {shown(name) for _, statement in refused for name in _named(statement)}
        problems = [problem for problem in error.problems if problem.value not in missing]
        return ConfigError(problems) if problems else None
    except Exception:  # noqa: BLE001  # what stands in for a refused value cannot always be written down
        return None
    return None


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement would have made."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _calls(statement: ast.stmt, *names: str) -> list[tuple[ast.expr, list[ast.expr]]]:
    """On what a statement calls methods of these names, and with what."""
    calls = (node for node in ast.walk(statement) if isinstance(node, ast.Call))
    return [(it.func.value, it.args) for it in calls if isinstance(it.func, ast.Attribute) and it.func.attr in names]


def _named(statement: ast.stmt) -> list[str]:
    """The names of the origins and groups that a statement would have declared."""
    first = (arguments[0] for _, arguments in _calls(statement, "origin", "group") if arguments)
    return [name.value for name in first if isinstance(name, ast.Constant) and isinstance(name.value, str)]


def _declares(statement: ast.stmt, module: ModuleType) -> Edge | None:
    """The edge on which a statement declares a route or a function."""
    for holder, _ in _calls(statement, "route", "function"):
        edge = vars(module).get(holder.id) if isinstance(holder, ast.Name) else None
        if isinstance(edge, Edge):
            return edge
    return None
