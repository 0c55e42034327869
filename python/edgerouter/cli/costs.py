"""``edgerouter cost``: what running edges cost by a price model, and the alarm of a budget."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from edgerouter.cli import show
from edgerouter.cli.admin import Admin, AdminError, Whose
from edgerouter.cli.running import refuse, say, warn
from edgerouter.costs import budget, ledger, prices, report
from edgerouter.costs.ledger import Alarm, Ledger
from edgerouter.costs.prices import Prices
from edgerouter.costs.tenants import Owners
from edgerouter.costs.usage import Usage
from edgerouter.costs.webhook import Webhook, WebhookError, retry_after
from edgerouter.errors import ConfigError, EdgeError, Problem

__all__ = ["app"]

app = typer.Typer(help="Costs of running edges by a price model, and the alarm of a budget.", no_args_is_help=True)

_PRICES = {"metavar": "FILE|NAME", "help": "A price model in TOML, or the name of an example."}
Model = Annotated[str, typer.Option("--prices", **_PRICES, show_default=False)]
#: The prices of a report without ``--prices``.
EXAMPLE = "cdn-by-volume"
Edges = Annotated[
    list[str] | None,
    typer.Option(
        "--admin",
        metavar="HOST:PORT",
        envvar="EDGEROUTER_ADMIN",
        help="An edge's admin listener; may be repeated.",
        show_default="127.0.0.1:9090",
    ),
]


@contextmanager
def _mistakes() -> Iterator[None]:
    try:
        yield
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command("prices")
def price_models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The example to print.", show_default=False)
    ] = None,
) -> None:
    """Print an example of a price model, to be edited; without NAME the names of all."""
    if name is None:
        for known in prices.examples():
            say(known)
        return
    if name not in prices.examples():
        raise typer.BadParameter(f"{name!r} is none of {', '.join(prices.examples())}", param_hint="'NAME'")
    say(prices.example(name).rstrip("\n"))


@app.command("report")
def cost_report(
    model: Annotated[str | None, typer.Option("--prices", **_PRICES, show_default=f"the example {EXAMPLE}")] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The ledger, which this call also updates.", show_default="since the start"),
    ] = None,
    admin: Edges = None,
    admin_token_env: Whose = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Print usage, costs, savings by cache and compression, and the month's projection.

    Without --state: since the start of the edges, and no projection.
    """
    with _mistakes():
        if model is None:
            warn(f"warning: there is no --prices: those of the example {EXAMPLE} are used, most of which are invented")
        chosen = Prices.load(EXAMPLE if model is None else model)
        listeners = _listeners(admin, admin_token_env)
        if state is None:
            usage, owned = Usage(), dict[str, Usage]()
            for listener in listeners.values():
                samples = listener.samples()
                usage = usage.plus(Usage.of(samples))
                for tenant, counted in Owners(chosen.tenants).usage(samples).items():
                    owned[tenant] = owned.get(tenant, Usage()).plus(counted)
            found = report.of_usage(chosen, usage, owned)
        else:
            with ledger.opened(state) as book:
                for name, listener in listeners.items():
                    _observe(book, name, listener, chosen)
                found = report.of_ledger(chosen, book, time.time())
    if as_json:
        show.as_json(found)
    else:
        _print(found)


@app.command()
def watch(
    model: Model,
    state: Annotated[Path, typer.Option(metavar="FILE", help="The ledger.", show_default=False)],
    admin: Edges = None,
    admin_token_env: Whose = None,
    interval: Annotated[float, typer.Option(min=1, max=3_600, help="Seconds between two scrapes.")] = 60.0,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Receives budget alarms, signed.", show_default=False)
    ] = None,
    webhook_secret_env: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The variable with its secret.", show_default=False),
    ] = None,
    textfile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Costs as metrics, for Prometheus' node exporter.", show_default=False),
    ] = None,
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="The report as JSON, for the dashboard of an edge.", show_default=False
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once and end, for a timer.")] = False,
) -> None:
    """Keep the ledger, and raise an alarm when the budget of the month is spent or will be.

    An alarm is a warning in the log and a request to the webhook, which is repeated until it is taken. The exit code
    of --once is 1 if an edge did not answer or an alarm was not taken.
    """
    with _mistakes():
        chosen = Prices.load(model)
        listeners = _listeners(admin, admin_token_env)
        target = _webhook(webhook, webhook_secret_env)
        if chosen.budget is None and target is not None:
            raise ConfigError([Problem("--webhook", None, f"does nothing: {model} has no budget.per_month")])
        while True:
            well = _look(chosen, state, listeners, target, interval, (textfile, report_file))
            if once:
                raise typer.Exit(0 if well else 1)
            time.sleep(interval)


def _look(
    chosen: Prices,
    state: Path,
    listeners: dict[str, Admin],
    target: Webhook | None,
    interval: float,
    files: tuple[Path | None, Path | None],
) -> bool:
    """One look at all edges; false if something is left to be done."""
    well = True
    with ledger.opened(state) as book:
        for name, listener in listeners.items():
            try:
                _observe(book, name, listener, chosen)
            except AdminError as error:
                warn(f"warning: {error}")
                well = False
        now = time.time()
        for event in budget.due(chosen, book, now):
            if book.raise_alarm(event):
                warn(f"warning: {budget.described(event)}")
    # The file has the usage by now, however the webhook behaves.
    with ledger.opened(state) as book:
        _deliver(book, target, now, interval)
        found = report.of_ledger(chosen, book, now)
    textfile, report_file = files
    if textfile is not None:
        _replace(textfile, report.textfile(found), "--textfile")
    if report_file is not None:
        _replace(report_file, json.dumps({**found, "at": now}), "--report")
    return well and not found["alarms_waiting"]


def _observe(book: Ledger, name: str, listener: Admin, chosen: Prices) -> None:
    samples = listener.samples()
    owners = Owners(chosen.tenants)
    keys = owners.keys()
    owned = {tenant: (keys[tenant], usage) for tenant, usage in owners.usage(samples).items()} if chosen.tenants else {}
    stored, started = samples.total("edgerouter_disk_bytes"), samples.total("edgerouter_start_time_seconds")
    book.observe(name, Usage.of(samples), samples.time, owned, stored, started)


def _deliver(book: Ledger, target: Webhook | None, now: float, interval: float) -> None:
    """Sends the alarms that are due. After the first failure the others wait as well, so that a look ends soon."""
    left: list[Alarm] = []
    failed = False
    for alarm in book.waiting:
        if target is None:
            continue
        if failed or now < alarm.not_before:
            left.append(alarm)
            continue
        try:
            target.send(alarm.event, now)
        except WebhookError as error:
            failed = True
            alarm.attempts += 1
            pause = retry_after(alarm.attempts, interval)
            alarm.not_before = now + pause
            left.append(alarm)
            warn(f"warning: {error}; the alarm {alarm.event['id']} is sent again in {pause:g} s")
    book.waiting = left


def _listeners(admin: list[str] | None, admin_token_env: str | None) -> dict[str, Admin]:
    listeners = (Admin(address, admin_token_env) for address in admin or ["127.0.0.1:9090"])
    return {listener.where: listener for listener in listeners}


def _webhook(url: str | None, secret_env: str | None) -> Webhook | None:
    if url is None:
        if secret_env is not None:
            raise ConfigError([Problem("--webhook-secret-env", repr(secret_env), "does nothing without --webhook")])
        return None
    if secret_env is None:
        raise ConfigError([Problem("--webhook", None, "needs --webhook-secret-env NAME: alarms are signed")])
    secret = os.environ.get(secret_env)
    if not secret:
        raise ConfigError([Problem("--webhook-secret-env", repr(secret_env), "this environment variable is not set")])
    return Webhook(url, secret.encode())


def _replace(file: Path, text: str, option: str) -> None:
    """Writes a file that others read at any time."""
    try:
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w") as written:
            written.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(file)
    except OSError as error:
        remedy = f"{error.strerror or error}; give a file in a folder that this user can write"
        raise ConfigError([Problem(option, repr(str(file)), remedy)]) from None


def _print(found: dict[str, Any]) -> None:
    console = show.console()
    currency = escape(found["currency"])
    console.print(f"[bold]{escape(found['span'])}[/bold], by {escape(found['prices'])}", soft_wrap=True)
    if found["source"]:
        console.print(f"prices: {escape(found['source'])}", soft_wrap=True)
    usage = found["usage"]
    shares = [
        f"{usage['requests']:,.0f} requests",
        f"{usage['bytes'] / 1e9:,.3f} GB to viewers",
        *([f"hit rate {found['hit_rate'] * 100:.1f} %"] if found["hit_rate"] is not None else []),
        *([f"compression at least {found['compression_saves'] * 100:.1f} %"] if found["compression_saves"] else []),
    ]
    console.print(", ".join(shares))
    for heading, lines, total in (("costs", "bill", "total"), ("saved", "savings", "saved")):
        grid = Table(box=None, pad_edge=False, header_style="bold")
        for name, justify in ((heading, "left"), ("amount", "right"), (currency, "right")):
            grid.add_column(name, justify=justify)  # type: ignore[arg-type]  # they are words of its Literal
        for line in found[lines]:
            grid.add_row(escape(line["item"]), f"{line['amount']:,.3f} {line['unit']}", f"{line['cost']:,.2f}")
        grid.add_row("[bold]total[/bold]", "", f"[bold]{found[total]:,.2f}[/bold]")
        console.print(grid)
    if found.get("unplaced_bytes"):
        remedy = "" if usage["countries"] else "; count_countries of Edge.geo has them counted"
        text = (
            f"{found['unplaced_bytes'] / 1e9:,.3f} GB to viewers of unknown countries are priced as all others{remedy}"
        )
        console.print(text, soft_wrap=True)
    if "tenants" in found:
        console.print(_tenants(found, currency))
    if "projected" not in found:
        return
    projected = found["projected"]
    console.print(
        f"whole month: {projected['expected']:,.2f} {currency}, in nine of ten months {projected['low']:,.2f} to"
        f" {projected['high']:,.2f} (from {projected['from']})"
        if projected
        else "whole month: unknown until the ledger has three complete hours"
    )
    if "budget" in found:
        spent = found["budget"]["spent_share"] * 100
        console.print(f"budget: {spent:.1f} % of {found['budget']['per_month']:,.2f} {currency} are spent")


def _tenants(found: dict[str, Any], currency: str) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("tenant")
    for name in ("requests", "GB to viewers", "hit rate", currency, "share"):
        grid.add_column(name, justify="right")
    for tenant in found["tenants"]:
        rates = [
            f"{share * 100:.1f} %" if share is not None else "-" for share in (tenant["hit_rate"], tenant["share"])
        ]
        amounts = (f"{tenant['requests']:,.0f}", f"{tenant['bytes'] / 1e9:,.3f}", rates[0], f"{tenant['cost']:,.2f}")
        grid.add_row(escape(tenant["name"]), *amounts, rates[1])
    return grid
