"""``edgerouter experiments report``: the variants of an experiment, by the counts of edges or by access logs."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from edgerouter.cli import show
from edgerouter.cli.admin import Admin, Whose
from edgerouter.cli.refusals import refusals
from edgerouter.comparing.counted import of_edges
from edgerouter.comparing.report import compare
from edgerouter.comparing.visitors import Conversion, Experience
from edgerouter.errors import ConfigError, Problem
from edgerouter.monitoring.lines import LogLine, read

__all__ = ["app"]

app = typer.Typer(name="experiments", help="Compare the variants of an experiment.", no_args_is_help=True)

MOST_LINE = 64 << 10


@app.callback()
def _experiments() -> None:
    """Compare the variants of an experiment."""


@app.command()
def report(
    logs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="LOG",
            help="Access logs, JSON or combined, the oldest first, also .gz. Without any: the counts of edges.",
            show_default=False,
        ),
    ] = None,
    admin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="EDGEROUTER_ADMIN",
            help="The admin listener of the edge; repeated for several edges.",
            show_default="127.0.0.1:9090",
        ),
    ] = None,
    token_env: Whose = None,
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="The experiment.", show_default="the only one")
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL", help="With counts of edges: the goal of ctx.convert, or request.", show_default="request"
        ),
    ] = None,
    conversion: Annotated[
        str | None,
        typer.Option(
            metavar="REQUEST",
            help="With logs: the request that converts, a path with * or METHOD PATH.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="A=50,B=50", help="The intended shares.", show_default="those of the plan; logs: equal"),
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="VARIANT", help="The variant to compare with.", show_default="control")
    ] = None,
    effect: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="A difference of rates that would be usual.")
    ] = 0.02,
    level: Annotated[float, typer.Option(min=0.0001, max=0.5, help="The probability of a false alarm.")] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Print visitors, conversions and their difference by variant, with a test that may be looked at at any time.

    The exit code is 1 if visitors were not split as intended: then no difference means anything.
    """
    with refusals(as_json=as_json):
        intended = _weights(weights)
        if logs:
            if experiment is None or conversion is None or goal is not None:
                raise ConfigError([_wrong_with_logs(experiment, conversion, goal)])
            experience = Experience(experiment, Conversion.read(conversion))
            found = compare(_lines(logs), experience, control=control, weights=intended, effect=effect, level=level)
            if not found["variants"]:
                message = (
                    "no line of the logs has a variant of it; is it on a route, and are these the edge's access logs?"
                )
                raise ConfigError([Problem("--experiment", repr(experiment), message)])
        else:
            if conversion is not None:
                message = "needs LOG: edges count Experiment(conversion=) and ctx.convert themselves"
                raise ConfigError([Problem("--conversion", repr(conversion), message)])
            listeners = (Admin(one, token_env) for one in admin or ["127.0.0.1:9090"])
            edges = {listener.where: listener for listener in listeners}
            answers = [edge.get("/v1/experiments") for edge in edges.values()]
            found = of_edges(answers, experiment, goal, control=control, weights=intended, effect=effect, level=level)
    if as_json:
        show.as_json(found)
    else:
        _print(found)
    if not found["split"]["as_intended"]:
        raise typer.Exit(1)


def _wrong_with_logs(experiment: str | None, conversion: str | None, goal: str | None) -> Problem:
    """The first option that does not go with logs."""
    if goal is not None:
        return Problem(
            "--goal", repr(goal), "is not in access logs; give --conversion, or no LOG to read the edge's counts"
        )
    if experiment is None:
        return Problem("--experiment", None, "must name the experiment in the logs")
    return Problem("--conversion", repr(conversion), "must name the request that converts, such as 'POST /checkout'")


def _lines(logs: list[Path]) -> Iterator[LogLine]:
    for log in logs:
        try:
            with gzip.open(log) if log.suffix == ".gz" else log.open("rb") as file:
                yield from filter(None, map(read, _texts(file)))
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError([Problem("LOG", str(log), reason)]) from None


def _texts(file: BufferedIOBase) -> Iterator[str]:
    """Lines; one that is longer than any of the edge's is left out."""
    while line := file.readline(MOST_LINE):
        if line.endswith(b"\n") or len(line) < MOST_LINE:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(MOST_LINE)


def _weights(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    found = {}
    for pair in text.split(","):
        name, _, weight = pair.partition("=")
        try:
            found[name.strip()] = float(weight)
        except ValueError:
            found[name.strip()] = -1.0
    if not all(name and 0 <= weight < 1e12 for name, weight in found.items()) or not any(found.values()):
        message = "must be variants and weights, such as control=50,treatment=50"
        raise ConfigError([Problem("--weights", repr(text), message)])
    return found


def _print(found: dict[str, Any]) -> None:
    console = show.console()
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("variant", "visitors", "conversions", "rate", "95 % interval", "difference", "at any time", "p"):
        grid.add_column(heading, justify="left" if heading == "variant" else "right")
    for row in found["variants"]:
        cells = [
            escape(row["variant"]),
            f"{row['visitors']:,}",
            f"{row['conversions']:,}",
            _share(row["rate"]),
            _interval(row["rate_interval"]),
        ]
        if "p_value" in row:
            style = "bold green" if row["differs"] and row["difference"] > 0 else "bold red" if row["differs"] else ""
            p = f"{row['p_value']:.4f}" if row["p_value"] >= 0.0001 else "< 0.0001"
            shown = f"[{style}]{p}[/]" if style else p
            cells += [_points(row["difference"]), _interval(row["difference_interval"], points=True), shown]
        else:
            cells += ["control", "", ""]
        grid.add_row(*cells)
    console.print(grid)
    console.print()
    if not found["variants"]:
        console.print("No visitor has got a variant yet.")
        return
    for line in _words(found):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _words(found: dict[str, Any]) -> Iterator[str]:
    if len(found.get("goals", ())) > 1:
        yield f"The goal is {found['goal']}; reached are {', '.join(found['goals'])} (--goal)."
    for row in found["variants"]:
        if "value_each" in row:
            low, high = row["value_interval"]
            interval = f"95 % interval {low:,.4f} to {high:,.4f}, one look"
            yield f"{row['variant']}: {row['value_each']:,.4f} a visitor ({interval})."
    different = [row for row in found["variants"] if row.get("differs")]
    for row in different:
        way = "more" if row["difference"] > 0 else "less"
        yield f"{row['variant']} converts {way} than {found['control']} ({found['level']:.0%} level, at any time)."
    if not different:
        yield "No variant differs from the control so far. Continue, or stop without a result."
    if not found["split"]["as_intended"]:
        yield (
            "warning: visitors were not split by the weights: do not trust a difference. Usual causes: redirects or"
            " errors in one variant, robots, changed weights."
        )
    if found["mixed"]:
        yield f"Visitors who met two variants, and are left out: {found['mixed']:,}."
    if found["left_out"]:
        yield f"{found['left_out']:,} lines or reports are of further visitors than are kept in memory, or were lost."
    if not found.get("kept", True):
        yield "The counts are those since the start of the edge: --experiments-file keeps them over a restart."


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.2f} %"


def _interval(pair: list[float], *, points: bool = False) -> str:
    return " to ".join(f"{100 * value:+.2f}" if points else f"{100 * value:.2f}" for value in pair)
