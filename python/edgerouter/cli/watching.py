"""``edgerouter top`` and ``edgerouter origins``: a running edge by its metrics, in the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edgerouter.cli import show
from edgerouter.cli.admin import Admin, AdminError, Where, Whose
from edgerouter.cli.cached import size
from edgerouter.cli.refusals import refusals
from edgerouter.monitoring.alerts import ANSWERED_BY_CACHE, LOOKED_UP
from edgerouter.monitoring.samples import Samples, Span

__all__ = ["origins", "top"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]

REQUESTS = "edgerouter_requests_total"
#: Rows of each table: the busiest ones.
ROWS = 12
#: Results of requests to origins that are a response.
ANSWERED = ("1xx", "2xx", "3xx", "4xx", "5xx")
FAILED_CALLS = "raised|timeout|queue-full|wrong-type"


def origins(admin: Where = "127.0.0.1:9090", admin_token_env: Whose = None, as_json: Json = False) -> None:
    """Show the health of each origin of a running edge, and the results of all requests to it.

    The exit code is 1 if an origin is down.
    """
    with refusals(as_json=as_json):
        samples = Admin(admin, admin_token_env).samples()
    found = list(_origins(samples))
    if as_json:
        show.as_json({"origins": found})
    else:
        _print(found)
    if not all(origin["healthy"] and origin["up"] for origin in found):
        raise typer.Exit(1)


def _origins(samples: Samples) -> Iterable[dict[str, Any]]:
    healthy = samples.by("origin", "edgerouter_origin_healthy")
    up = samples.by("origin", "edgerouter_origin_up")
    for name in sorted(healthy):
        results = samples.by("result", "edgerouter_origin_requests_total", origin=name)
        yield {
            "origin": name,
            "healthy": healthy[name] == 1,
            "up": up.get(name) == 1,
            "requests": int(sum(results.values())),
            "results": {result: int(count) for result, count in sorted(results.items())},
        }


def _print(found: list[dict[str, Any]]) -> None:
    console = show.console()
    if not found:
        console.print("the plan has no origins")
        return
    grid = _grid("origin", "state", "requests", "answered", "5xx", "failed")
    for origin in found:
        results = origin["results"]
        failed = {result: count for result, count in results.items() if result not in ANSWERED}
        grid.add_row(
            escape(origin["origin"]),
            _state(origin["healthy"], origin["up"]),
            f"{origin['requests']:,}",
            f"{sum(results.get(status, 0) for status in ANSWERED):,}",
            f"{results.get('5xx', 0):,}",
            ", ".join(f"{escape(result)} {count:,}" for result, count in failed.items()) or "-",
        )
    console.print(grid)


def _state(healthy: bool, up: bool) -> str:
    if not healthy:
        return "[red]unhealthy: requested last[/red]"
    return "[green]healthy[/green]" if up else "[yellow]the last request failed[/yellow]"


def _grid(*headings: str) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        left = index == 0 or heading in ("state", "failed")
        grid.add_column(heading, justify="left" if left else "right", overflow="fold")
    return grid


def top(
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
    interval: Annotated[float, typer.Option(min=0.2, max=3_600, help="Seconds between two scrapes.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one interval and end, as it does without a terminal.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One interval as JSON, for programs.")] = False,
) -> None:
    """Show what a running edge does, and again every few seconds: requests, cache, routes, origins, functions.

    Ctrl-C ends it.
    """
    console = show.console()
    with refusals(as_json=as_json, interrupted=0):
        listener = Admin(admin, admin_token_env)
        first = listener.samples()
        if as_json or once or not console.is_terminal or console.is_dumb_terminal:
            time.sleep(interval)
            found = summary(Span(first, listener.samples()))
            if as_json:
                show.as_json(found)
            else:
                console.print(view(found, admin))
            return
        _follow(listener, first, admin, interval)


def _follow(listener: Admin, last: Samples, admin: str, interval: float) -> None:
    """Shows intervals until Ctrl-C. An edge that does not answer is tried again: it may be starting."""
    shown: Group | Text = Text(f"{admin}: the first {interval:g} s …")
    with Live(shown, console=show.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(shown, refresh=True)
            time.sleep(interval)
            try:
                scraped = listener.samples()
            except AdminError as error:
                shown = Text(f"{error}\ntrying again every {interval:g} s; Ctrl-C ends it")
                continue
            shown, last = view(summary(Span(last, scraped)), admin), scraped


def summary(span: Span) -> dict[str, Any]:
    """The numbers of an interval."""
    gauge = span.last.total
    looked_up = span.grown.total(REQUESTS, cache=LOOKED_UP)
    answered = span.grown.total(REQUESTS, cache=ANSWERED_BY_CACHE)
    return {
        "seconds": round(span.seconds, 3),
        "plan_version": int(gauge("edgerouter_plan_version")),
        "connections": int(gauge("edgerouter_connections")),
        "requests_per_second": span.rate(REQUESTS),
        "errors_per_second": span.rate(REQUESTS, status="5xx"),
        "refused_per_second": span.rate("edgerouter_refused_total"),
        "bytes_per_second": span.rate("edgerouter_response_bytes_total"),
        "hit_rate": answered / looked_up if looked_up else None,
        "seconds_to_head": {
            f"p{share * 100:g}": span.quantile(share, "edgerouter_request_duration_seconds")
            for share in (0.5, 0.95, 0.99)
        },
        "outcomes": dict(sorted(span.rates("cache", REQUESTS).items(), key=lambda item: -item[1])),
        "memory_cache": _tier(span.last, "cache"),
        "disk_cache": _tier(span.last, "disk"),
        "request_memory": {
            "bytes": int(gauge("edgerouter_request_memory_bytes")),
            "capacity": int(gauge("edgerouter_request_memory_capacity_bytes")),
        },
        "routes": [*_routes(span)],
        "origins": [*_requested(span)],
        "functions": [*_functions(span)],
    }


def _tier(samples: Samples, name: str) -> dict[str, int] | None:
    capacity = int(samples.total(f"edgerouter_{name}_capacity_bytes"))
    if not capacity:
        return None
    found = {"bytes": int(samples.total(f"edgerouter_{name}_bytes")), "capacity": capacity}
    return {**found, "entries": int(samples.total(f"edgerouter_{name}_entries"))}


def _routes(span: Span) -> Iterable[dict[str, Any]]:
    rates = span.rates("route", REQUESTS)
    for route in sorted(rates, key=lambda route: -rates[route]):
        looked_up = span.grown.total(REQUESTS, route=route, cache=LOOKED_UP)
        yield {
            "route": route,
            "requests_per_second": rates[route],
            "hit_rate": span.grown.total(REQUESTS, route=route, cache=ANSWERED_BY_CACHE) / looked_up
            if looked_up
            else None,
            "errors_per_second": span.rate(REQUESTS, route=route, status="5xx"),
        }


def _requested(span: Span) -> Iterable[dict[str, Any]]:
    name = "edgerouter_origin_requests_total"
    for origin in _origins(span.last):
        rates = span.rates("result", name, origin=origin["origin"])
        failed = sum(rate for result, rate in rates.items() if result not in ANSWERED[:-1])
        yield {
            "origin": origin["origin"],
            "healthy": origin["healthy"],
            "up": origin["up"],
            "requests_per_second": sum(rates.values()),
            "failed_per_second": failed,
        }


def _functions(span: Span) -> Iterable[dict[str, Any]]:
    name = "edgerouter_function_calls_total"
    rates = span.rates("callable", name)
    for callable_ in sorted(rates, key=lambda callable_: -rates[callable_]):
        yield {
            "callable": callable_,
            "calls_per_second": rates[callable_],
            "failed_per_second": span.rate(name, callable=callable_, result=FAILED_CALLS),
        }


def view(found: dict[str, Any], admin: str) -> Group:
    """An interval for people."""
    head = Table(box=None, pad_edge=False, show_header=False)
    times = found["seconds_to_head"]
    for name, text in (
        ("edge", f"{escape(admin)}, plan {found['plan_version']}, {found['connections']:,} connections"),
        (
            "requests",
            (
                f"{_rate(found['requests_per_second'])}, errors {_rate(found['errors_per_second'])}, refused"
                f" {_rate(found['refused_per_second'])}, {size(round(found['bytes_per_second']))}/s to viewers"
            ),
        ),
        ("hit rate", _share(found["hit_rate"])),
        ("to the head", ", ".join(f"{name} {_span(times[name])}" for name in times)),
        (
            "outcomes",
            ", ".join(f"{name} {_rate(rate)}" for name, rate in found["outcomes"].items() if rate > 0) or "-",
        ),
        ("memory cache", _filled(found["memory_cache"])),
        ("disk cache", _filled(found["disk_cache"])),
        ("requests take", _filled(found["request_memory"])),
    ):
        head.add_row(name, text)
    parts: list[Table | Text] = [head]
    for key, headings in (
        ("routes", ("route", "requests", "hit rate", "errors")),
        ("origins", ("origin", "requests", "failed", "state")),
        ("functions", ("function", "calls", "failed")),
    ):
        rows = found[key]
        if not rows:
            continue
        grid = _grid(*headings)
        for row in rows[:ROWS]:
            grid.add_row(*_row(key, row))
        parts += [Text(), grid]
        if len(rows) > ROWS:
            parts.append(Text(f"and {len(rows) - ROWS} more"))
    return Group(*parts)


def _row(key: str, row: dict[str, Any]) -> tuple[str, ...]:
    if key == "routes":
        return (
            escape(row["route"]) or "(none)",
            _rate(row["requests_per_second"]),
            _share(row["hit_rate"]),
            _rate(row["errors_per_second"]),
        )
    if key == "origins":
        return (
            escape(row["origin"]),
            _rate(row["requests_per_second"]),
            _rate(row["failed_per_second"]),
            _state(row["healthy"], row["up"]),
        )
    return escape(row["callable"]), _rate(row["calls_per_second"]), _rate(row["failed_per_second"])


def _rate(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 or not rate else f"{rate:.1f}/s"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1_000:.2f} ms"


def _filled(tier: dict[str, int] | None) -> str:
    if tier is None:
        return "none"
    entries = f", {tier['entries']:,} entries" if "entries" in tier else ""
    return f"{size(tier['bytes'])} of {size(tier['capacity'])}{entries}"
