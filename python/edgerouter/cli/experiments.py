"""``edgerouter experiments report``: the variants of an experiment by an access log."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.markup import escape
from rich.table import Table

from edgerouter.cli import show
from edgerouter.cli.running import refuse
from edgerouter.comparing.report import compare
from edgerouter.comparing.visitors import Conversion, Experience
from edgerouter.errors import ConfigError, EdgeError, Problem
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
        list[Path],
        typer.Argument(
            metavar="LOG...", help="Access logs, JSON or combined, the oldest first; also .gz.", show_default=False
        ),
    ],
    experiment: Annotated[str, typer.Option(metavar="NAME", help="The experiment.", show_default=False)],
    conversion: Annotated[
        str,
        typer.Option(
            metavar="REQUEST", help="The request that converts: a path with *, or METHOD PATH.", show_default=False
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(metavar="A=50,B=50", help="The intended shares.", show_default="the same for all"),
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
    try:
        experience = Experience(experiment, Conversion.read(conversion))
        found = compare(
            _lines(logs), experience, control=control, weights=_weights(weights), effect=effect, level=level
        )
        if not found["variants"]:
            message = "no line of the logs has a variant of it; is it on a route, and are these the edge's access logs?"
            raise ConfigError([Problem("--experiment", repr(experiment), message)])
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    if as_json:
        show.as_json(found)
    else:
        _print(found)
    if not found["split"]["as_intended"]:
        raise typer.Exit(1)


def _lines(logs: list[Path]) -> Iterator[LogLine]:
    for log in logs:
        try:
            with gzip.open(log) if log.suffix == ".gz" else log.open("rb") as file:
                yield from filter(None, map(read, _texts(file)))  # type: ignore[arg-type]
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError([Problem("LOG", str(log), reason)]) from None


def _texts(file: BinaryIO) -> Iterator[str]:
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
    for line in _words(found):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _words(found: dict[str, Any]) -> Iterator[str]:
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
        yield f"{found['mixed']:,} visitors met two variants and are left out."
    if found["left_out"]:
        yield f"{found['left_out']:,} lines are of further visitors than are kept in memory."


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.2f} %"


def _interval(pair: list[float], *, points: bool = False) -> str:
    return " to ".join(f"{100 * value:+.2f}" if points else f"{100 * value:.2f}" for value in pair)
