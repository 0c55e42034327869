"""``edgerouter replay``: what the cache of an application would do with the traffic of an access log."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from edgerouter import _core
from edgerouter.application import FileApplication
from edgerouter.cli import show
from edgerouter.cli.cached import size
from edgerouter.cli.running import refuse
from edgerouter.costs.prices import Prices
from edgerouter.errors import ConfigError, EdgeError, Problem
from edgerouter.replaying import prediction
from edgerouter.replaying.order import FORMATS, Assumption, Order, read_tiers, tiers_around

__all__ = ["replay"]

#: Seconds between two looks at the progress.
LOOK = 0.2
#: Columns of the plot's bars.
BARS = 40


class ReplayError(EdgeError):
    """The logs give no prediction."""


def replay(
    logs: Annotated[
        list[Path],
        typer.Argument(metavar="LOG", help="Access logs in the order of their times, plain or by gzip."),
    ],
    application: Annotated[
        str, typer.Option("--app", metavar="APP", help="The application, as for run.", show_default=False)
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(FORMATS), help="The form of the logs.", show_default="by a line"),
    ] = None,
    memory: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE",
            help="A size of the memory cache, such as 512MiB; may be repeated.",
            show_default="that of APP here, with smaller and larger ones",
        ),
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'/PATTERN=CACHE-CONTROL'",
            help="The Cache-Control of responses, or seconds, where the log has none; the first pattern counts.",
            show_default="300 seconds",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="The host of requests without one in the log.", show_default="localhost"),
    ] = None,
    scheme: Annotated[
        str, typer.Option(metavar="http|https", help="The scheme of requests without one in the log.")
    ] = "https",
    model: Annotated[
        str | None,
        typer.Option(
            "--prices", metavar="FILE|NAME", help="A price model, for the costs of a month.", show_default=False
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(metavar="N", min=1, max=10_000, help="Replay one in N URLs, in tiers of an Nth.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a plot.")] = False,
) -> None:
    """Predict hit ratio, bytes and costs for the traffic of LOG, by APP's own decisions.

    Nothing is sent, and no hook or function is called. Facts that the log does not have are assumed, and printed.
    """
    try:
        if form is not None and form not in FORMATS:
            raise ConfigError([Problem("--format", repr(form), f"must be one of {', '.join(FORMATS)}")])
        if scheme not in ("http", "https"):
            raise ConfigError([Problem("--scheme", repr(scheme), "must be http or https")])
        prices = None if model is None else Prices.load(model)
        assumptions = [Assumption.read(given) for given in assume or ()]
        edge = FileApplication(application).load()
        own = _core.Replay.memory(edge.encode())
        order = Order(
            files=logs,
            tiers=read_tiers(memory) if memory else tiers_around(own),
            format=form,
            host=host or "localhost",
            scheme=scheme,
            assumptions=assumptions,
            sample=sample,
        )
        found = prediction.made(_run(order.replay(edge), logs), order, prices)
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        show.as_json(found)
    else:
        _print(found, own)


def _run(run: _core.Replay, logs: list[Path]) -> Mapping[str, Any]:
    """Runs beside the terminal, which shows how far it has come."""
    results: list[Mapping[str, Any]] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(run.run())
        except Exception as error:  # noqa: BLE001 - it is raised again in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=work, name="edgerouter-replay", daemon=True)
    with _bar() as bar:
        task = bar.add_task("replay", total=sum(log.stat().st_size for log in logs if log.is_file()) or None)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(LOOK)
                read, lines = run.progress()
                bar.update(task, completed=read, description=f"{lines:,} lines")
        except KeyboardInterrupt:
            run.stop()
            thread.join()
            raise
    for failure in failures:
        if isinstance(failure, ValueError):
            printable = "".join(sign if sign.isprintable() else "�" for sign in str(failure))
            raise ReplayError(printable)
        raise failure
    return results[0]


def _bar() -> Progress:
    """On standard error, and only on a terminal: what is piped has the result alone."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _print(found: Mapping[str, Any], own: int) -> None:
    console = show.console()
    hours = found["seconds"] / 3_600
    console.print(
        f"[bold]{found['requests']:,} requests[/bold] in {hours:,.1f} hours ({escape(found['format'])})", soft_wrap=True
    )
    for sentence in (*(f"assumed: {one}" for one in found["assumptions"]), *_notes(found)):
        console.print(escape(sentence), soft_wrap=True)
    console.print(_grid(found, own, console))
    if "prices" in found:
        console.print(f"costs of a month by {escape(found['prices'])}, at the pace of the log", soft_wrap=True)


def _notes(found: Mapping[str, Any]) -> list[str]:
    """The parts of the log that the prediction does not, or not quite, have."""
    unlike = found["unlike"]
    notes = [
        (found["assumed_lifetimes"], "of the responses have a lifetime that is assumed"),
        (found["not_understood"], "lines were not understood"),
        (found["unusable"], "requests are none that a client can send"),
        (found["out_of_order"], "lines are more than a minute older than one before them, and count at its time"),
        (found["partial"], "requests of a part (206): the log does not say which one, and they store nothing"),
        (found["not_modified"], "answers of 304 stand for a response of the mean size"),
        (found["hooked"], "requests are on routes with hooks, which are not called"),
    ]
    lines = [f"note: {count:,} {text}" for count, text in notes if count]
    for name, text in (
        ("credentials", "requests pass the cache: a token, password or signature opened them that is not in the log"),
        ("refused", "requests succeeded in the log, and the application refuses them"),
    ):
        if name in unlike:
            examples = ", ".join(unlike[name]["examples"])
            lines.append(f"note: {unlike[name]['requests']:,} {text}: {examples}")
    if found["sample"] > 1:
        lines.append(f"note: one in {found['sample']:,} URLs was replayed, and the counts are multiplied")
    return lines


def _grid(found: Mapping[str, Any], own: int, console: Console) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("memory", justify="right")
    grid.add_column("hit ratio", min_width=BARS)
    for heading in ("", "of bytes", "to origins", "from origins", "evicted"):
        grid.add_column(heading, justify="right")
    costly = "prices" in found
    if costly:
        grid.add_column(f"{escape(found['currency'])} a month", justify="right")
    for tier in found["tiers"]:
        grid.add_row(
            f"{size(tier['capacity'])}{' *' if tier['capacity'] == own else '  '}",
            _drawn(tier["hit_ratio"], console),
            _percent(tier["hit_ratio"]),
            _percent(tier["byte_hit_ratio"]),
            f"{tier['origin_requests']:,}",
            size(tier["origin_bytes"]),
            f"{tier['evicted']:,}",
            *([f"{tier['month']['total']:,.2f}"] if costly else []),
        )
    if any(tier["capacity"] == own for tier in found["tiers"]):
        grid.caption = "* the size that the application has on this machine"
        grid.caption_justify = "left"
    return grid


def _drawn(share: float | None, console: Console) -> str:
    """A bar, to the eighth of a column where the terminal has the characters."""
    if share is None:
        return ""
    if not console.encoding.lower().startswith("utf"):
        return "#" * round(share * BARS)
    whole, eighths = divmod(round(share * BARS * 8), 8)
    return f"[green]{'█' * whole}{' ▏▎▍▌▋▊▉'[eighths].strip()}[/green]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"
