"""Tables and lists for people, JSON for programs. Colour only on a terminal, and never with ``NO_COLOR``."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from edgerouter import _core

__all__ = ["advice", "as_json", "console", "steps", "table", "tally"]


#: The usual width of a terminal.
_COLUMNS = 80
_LEAST_COLUMNS = 20


def as_json(value: object) -> None:
    whole = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not whole, default=str))


def console() -> Console:
    """On a pipe lines are as long as they need to be, so that ``grep`` sees whole ones."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=240)


def table(plan: _core.PlanTable) -> None:
    """The routes in the order they are matched."""
    screen = console()
    routes = plan.routes
    count = "1 route" if len(routes) == 1 else f"{len(routes)} routes, in the order they are matched"
    screen.print(f"[bold]{escape(plan.name)}[/bold]: {count}")
    bold = ("\033[1m", "\033[0m") if screen.is_terminal and screen.color_system else ("", "")
    lines: list[str] = []
    columns = _columns(screen)
    for number, route in enumerate(routes, 1):
        said = {
            "methods": _text(route.get("methods")),
            "to": _text(route.get("target")),
            "viewer": _text(route.get("viewer")),
            "auth": _text(route.get("auth")),
            "guards": _text(route.get("guards")),
            "experiments": _text(route.get("experiments")),
            "cache": _text(route.get("cache")),
            "python": _python(route),
        }
        lines.append(f"{number:>3}  {bold[0]}{route.get('label')}{bold[1]}")
        text = "; ".join(f"{name} {value}" for name, value in said.items() if value and value != "allow-all")
        lines += (f"     {line}" for line in _wrapped(text, columns - 5))
    # Rich takes 100 µs a line, which is a second for the routes of a large site.
    screen.file.write("".join(f"{line}\n" for line in lines))


def advice(items: Sequence[_core.Lint]) -> None:
    """Prints the advice."""
    screen = console()
    for item in items:
        word = "[yellow]warning[/yellow]" if item["level"] == "warning" else "[cyan]note[/cyan]"
        where = " ".join(part for part in (item["path"], item["route"]) if part)
        place = f" ({item['place']})" if "place" in item else ""
        text = f"{where}: {item['message']}; {item['remedy']} [{item['rule']}]{place}"
        # On a pipe a piece of advice is one line, for grep.
        width = _columns(screen) - 9 if screen.is_terminal else len(text) + 1
        for index, line in enumerate(textwrap.wrap(text, width, break_on_hyphens=False)):
            screen.print(f"{word}: {escape(line)}" if index == 0 else f"    {escape(line)}", soft_wrap=True)
    if not any(item["level"] == "warning" for item in items):
        screen.print("no problems, no warnings")


def steps(found: Sequence[Mapping[str, Any]]) -> None:
    """The decisions about one request."""
    screen = console()
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("phase", "decision", "reason"):
        grid.add_column(heading, overflow="fold")
    for step in found:
        grid.add_row(*(escape(_text(step.get(name))) for name in ("phase", "decision", "reason")))
    screen.print(grid)


def tally(found: Mapping[str, Any]) -> None:
    """Prints the results of many requests."""
    parts = [f"{found[name]} {name}" for name in ("hits", "misses", "passes", "errors")]
    state = "broken off: " if found["interrupted"] else ""
    console().print(f"{state}{found['urls']} URLs in {found['seconds']:.1f} s: {', '.join(parts)}")


def _python(route: Mapping[str, Any]) -> str:
    """The phases of a route that call Python, and whom."""
    parts = [f"{phase}: {_text(names)}" for phase, names in (route.get("hooks") or {}).items() if names]
    if route.get("touches_python") and not parts:
        parts = ["function"]
    return ", ".join(parts)


def _columns(screen: Console) -> int:
    """The usual width, or that of a narrower terminal."""
    return max(_LEAST_COLUMNS, min(_COLUMNS, screen.width)) if screen.is_terminal else _COLUMNS


def _wrapped(text: str, width: int) -> list[str]:
    return [text] if 0 < len(text) <= width else textwrap.wrap(text, width, break_on_hyphens=False)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
