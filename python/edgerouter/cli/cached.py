"""``edgerouter cache``: what a running edge has stored, why, and for how long still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from edgerouter.cli import show
from edgerouter.cli.admin import Admin, Where, Whose
from edgerouter.cli.refusals import refusals

__all__ = ["app"]

app = typer.Typer(help="Show what a running edge has stored, by which rule, and for how long.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Entry = Mapping[str, Any]

#: Entries that one answer of the admin listener holds at most.
PAGE = 1_000


@app.command()
def stats(admin: Where = "127.0.0.1:9090", admin_token_env: Whose = None, as_json: Json = False) -> None:
    """The store in numbers: bytes, entries, hosts, and by which rules responses are kept."""
    with refusals(as_json=as_json):
        found = Admin(admin, admin_token_env).get("/v1/cache/stats")
    if as_json:
        return show.as_json(found)
    console = show.console()
    memory = found["memory"]
    grid = Table(box=None, pad_edge=False, show_header=False)
    of = f"{size(memory['bytes'])} of {size(memory['capacity'])}"
    for name, value in (
        ("memory", f"{of} ({share(memory['bytes'], memory['capacity'])})"),
        ("responses", f"{found['responses']} ({found['fresh']} fresh, {found['stale']} stale)"),
        ("bodies", size(found["body_bytes"])),
        ("URLs with variants", found["urls_with_variants"]),
        ("slices of large ones", found["slices"]),
        ("not shareable, remembered", found["not_shareable"]),
        ("by functions", found["by_functions"]),
        ("evicted so far", memory["evicted"]),
        ("largest object", size(memory["largest_object"])),
        ("disk", _disk(found["disk"])),
        ("fetches going on", found["fetches_in_flight"]),
    ):
        grid.add_row(name, str(value))
    console.print(grid)
    if not found["complete"]:
        console.print("[yellow]the store is large: the counts include only a part of it[/yellow]")
    _counts("lifetime by", found["by_lifetime_rule"])
    _counts("status", found["by_status"])
    if found["hosts"]:
        grid = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("host", "responses", "bytes"):
            grid.add_column(heading, justify="left" if heading == "host" else "right")
        for host in found["hosts"]:
            grid.add_row(escape(host["host"]), str(host["responses"]), size(host["bytes"]))
        console.print(grid)
    return None


def _disk(disk: Mapping[str, Any] | None) -> str:
    if disk is None:
        return "none"
    taken = f"{size(disk['bytes'])} of {size(disk['capacity'])} ({share(disk['bytes'], disk['capacity'])})"
    failing = "; it cannot be written" if disk["failing"] else ""
    return f"{taken}, {disk['entries']} entries{failing}"


def _counts(heading: str, counts: Mapping[str, int]) -> None:
    if not counts:
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column(heading)
    grid.add_column("responses", justify="right")
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        grid.add_row(escape(name), str(count))
    show.console().print(grid)


@app.command("ls")
def entries(
    host: Annotated[str | None, typer.Option(metavar="HOST", help="Only this host.", show_default=False)] = None,
    prefix: Annotated[
        str | None, typer.Option(metavar="/PATH", help="Only paths with this prefix.", show_default=False)
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only this tag.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Entries, at most.")] = 50,
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
    as_json: Json = False,
) -> None:
    """The stored responses, in no particular order."""

    def question() -> dict[str, Any]:
        listener = Admin(admin, admin_token_env)
        wanted = [(name, value) for name, value in (("host", host), ("prefix", prefix), ("tag", tag)) if value]
        found: list[Entry] = []
        cursor = None
        while True:
            query = [*wanted, ("limit", str(min(PAGE, limit - len(found))))]
            answer = listener.get("/v1/cache/entries", [*query, ("cursor", cursor)] if cursor else query)
            found += answer["entries"]
            cursor = answer["next"]
            if cursor is None or len(found) >= limit:
                return {"entries": found, "more": cursor is not None}

    with refusals(as_json=as_json):
        answer = question()
    if as_json:
        return show.as_json(answer)
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("url", "variant", "status", "bytes", "age", "left", "why", "tags", "uses", "tier"):
        grid.add_column(heading, overflow="fold", justify="right" if heading in ("bytes", "age", "left") else "left")
    for entry in answer["entries"]:
        grid.add_row(*_row(entry))
    console = show.console()
    console.print(grid if answer["entries"] else "no stored response matches")
    if answer["more"]:
        console.print(f"there may be more; --limit is {limit}")
    return None


def _row(entry: Entry) -> tuple[str, ...]:
    function = entry["function"]
    kept = [f"cache {function['cache']}"] if function else []
    return (
        escape(entry["url"]),
        escape(", ".join([*kept, *entry["variant"]])) or "-",
        str(entry["status"]),
        size(entry["bytes"]),
        span(entry["age"]),
        span(entry["ttl"]) if entry["ttl"] >= 0 else f"[yellow]stale {span(-entry['ttl'])}[/yellow]",
        escape(entry["why"]),
        escape(", ".join(entry["tags"])) or "-",
        str(entry["uses"]),
        entry["tier"],
    )


@app.command("get")
def entry(
    url: Annotated[str, typer.Argument(metavar="URL", help="An absolute URL.", show_default=False)],
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="A request header; may be repeated."),
    ] = None,
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
    as_json: Json = False,
) -> None:
    """The response that a request for URL would find now, and all that is stored for it.

    The exit code is 1 when nothing is stored.
    """
    query = [("url", url), *(("header", line) for line in header or ())]
    with refusals(as_json=as_json):
        found = Admin(admin, admin_token_env).get("/v1/cache/entry", query)
    if as_json:
        show.as_json(found)
    else:
        _print(found)
    if not found["stored"]:
        raise typer.Exit(1)


def _print(found: Mapping[str, Any]) -> None:
    console = show.console()
    if found["key"] is None:
        console.print("the cache is not used for this request:")
        show.steps(found["steps"])
        return
    console.print(f"[bold]{escape(found['key'])}[/bold]: {escape(str(found['decision']))}", soft_wrap=True)
    chosen = found["found"]
    if chosen is not None:
        _details(chosen)
    others = [entry for entry in found["stored"] if entry != chosen]
    if others:
        console.print("stored for it as well:" if chosen else "stored for it, for other requests:")
        grid = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("url", "variant", "status", "bytes", "age", "left", "why", "tags", "uses", "tier"):
            grid.add_column(heading, overflow="fold")
        for entry in others:
            grid.add_row(*_row(entry))
        console.print(grid)
    if not found["complete"]:
        console.print("[yellow]the store is large: there may be more responses[/yellow]")
    if not found["stored"]:
        console.print("nothing is stored for it")


def _details(entry: Entry) -> None:
    grid = Table(box=None, pad_edge=False, show_header=False)
    left = f"{span(entry['ttl'])} left" if entry["ttl"] >= 0 else f"stale for {span(-entry['ttl'])}"
    flags = [name.replace("_", "-") for name in ("must_revalidate", "always_validate") if entry[name]]
    windows = [
        f"{name.replace('_', '-')} {span(entry[name])}"
        for name in ("stale_while_revalidate", "stale_if_error")
        if entry[name]
    ]
    for name, value in (
        ("status", entry["status"]),
        ("variant", ", ".join(entry["variant"]) or "-"),
        ("fresh", f"for {span(entry['lifetime'])} by {entry['why']}: age {span(entry['age'])}, {left}"),
        ("after that", ", ".join([*windows, *flags]) or "the origin is requested"),
        ("cache-control", entry["cache_control"]),
        ("expires", entry["expires"]),
        ("etag", entry["etag"]),
        ("last-modified", entry["last_modified"]),
        ("content", " ".join(part for part in (entry["content_type"], entry["content_encoding"]) if part)),
        ("body", f"{entry['length']} bytes"),
        ("costs", f"{size(entry['bytes'])} in {entry['tier']}"),
        ("tags", ", ".join(entry["tags"]) or "-"),
        ("uses", f"{entry['uses']} since the eviction last examined it"),
    ):
        if value not in (None, ""):
            grid.add_row(name, escape(str(value)))
    show.console().print(grid)


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def span(seconds: int) -> str:
    """Seconds for people."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
