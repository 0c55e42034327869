"""``edgerouter doctor``: checks of this machine, of an application on it, and of the edge that runs there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from edgerouter.checks import address_problem
from edgerouter.cli import show
from edgerouter.cli.admin import Admin, AdminError, Where, Whose
from edgerouter.cli.running import refuse
from edgerouter.doctor import findings
from edgerouter.doctor.certificates import valid_until
from edgerouter.doctor.findings import Finding
from edgerouter.doctor.machine import Machine, port_state
from edgerouter.errors import EdgeError
from edgerouter.monitoring.samples import Samples

__all__ = ["doctor"]

#: The largest file that is read as a certificate.
MOST_BYTES = 1 << 20
COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}


def doctor(
    application: Annotated[
        str | None,
        typer.Argument(
            metavar="APP", help="Also check its addresses, certificates and disk cache.", show_default=False
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="An address that the edge shall have; may be repeated."),
    ] = None,
    admin: Where = "127.0.0.1:9090",
    admin_token_env: Whose = None,
    strict: Annotated[bool, typer.Option("--strict", help="Also exit with 1 if there are warnings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Check limits, clock, ports, certificates, disk and kernel of this machine, and say what to do.

    The exit code is 1 if there are problems. Nothing is changed.
    """
    try:
        listener = Admin(admin, admin_token_env)
        samples, silence = _scrape(listener)
    except EdgeError as error:
        refuse(error)
        raise typer.Exit(1) from None
    plan, refused = _plan(application)
    found = [*_machine(), *refused, *_application(plan, listen or [], served=samples is not None)]
    found += _running(samples) if samples else [Finding("note", "the edge", silence)]
    if as_json:
        show.as_json({"findings": [finding._asdict() for finding in found]})
    else:
        _print(found)
    levels = {finding.level for finding in found}
    raise typer.Exit(1 if "problem" in levels or (strict and "warning" in levels) else 0)


def _scrape(listener: Admin) -> tuple[Samples | None, str]:
    """A scrape of the edge that runs; without one, the reason."""
    try:
        return listener.samples(), ""
    except AdminError as error:
        return None, str(error)


def _plan(application: str | None) -> tuple[Mapping[str, Any], list[Finding]]:
    """The data of the application, as far as it can be loaded, and its problems."""
    if application is None:
        return {}, []
    from edgerouter.application import FileApplication

    plan: Mapping[str, Any] = {}
    try:
        edge = FileApplication(application).load()
        plan = edge.to_dict()
        edge.compile()
    except EdgeError as error:
        lines = (line for line in str(error).splitlines() if not line.startswith(" "))
        return plan, [Finding("problem", "configuration", line) for line in lines]
    return plan, [Finding("ok", "configuration", "no problems; `edgerouter check` prints its advice")]


def _machine() -> Iterator[Finding]:
    machine = Machine.read()
    yield from findings.limits(machine)
    yield from findings.disk(machine)
    yield from findings.clock(machine)
    yield from findings.network(machine)


def _application(plan: Mapping[str, Any], listen: list[str], *, served: bool) -> Iterator[Finding]:
    from edgerouter import storage

    own = [listener["address"] for listener in plan.get("listeners") or ()]
    for address in listen:
        if not address.startswith("unix:") and (fault := address_problem(address)) is not None:
            yield Finding("problem", f"address {address!r}", fault)
    listen = [address for address in listen if address_problem(address) is None]
    addresses = [*listen, *own] or (["127.0.0.1:8080"] if plan else [])
    for address in dict.fromkeys(addresses):
        if not address.startswith("unix:"):
            yield findings.port(address, port_state(address), served=served)
    for file in dict.fromkeys(_chains(plan)):
        yield findings.certificate(file, _until(Path(file)), datetime.now(UTC))
    if plan.get("disk_cache"):
        subject = f"disk cache {plan['disk_cache']['path']}"
        if (problem := storage.problem(plan)) is not None:
            yield Finding("problem", subject, problem.message)
        elif (shortage := storage.shortage(plan)) is not None:
            yield Finding("warning", subject, shortage, "lower its size, or make room")
        else:
            yield Finding("ok", subject, "writable, and there is room for all of it")


def _chains(plan: Mapping[str, Any]) -> Iterator[str]:
    """The files of the listeners' certificates."""
    for listener in plan.get("listeners") or ():
        for tls in listener.get("tls") or ():
            for certificate in tls.get("certificates") or ():
                chain = certificate.get("chain") if isinstance(certificate, Mapping) else None
                if isinstance(chain, Mapping) and isinstance(chain.get("file"), str):
                    yield chain["file"]


def _until(file: Path) -> datetime | None:
    try:
        with file.open("rb") as opened:
            return valid_until(opened.read(MOST_BYTES))
    except OSError:
        return None


def _running(samples: Samples) -> Iterator[Finding]:
    """The state of the edge that runs."""
    yield Finding("ok", "the edge", f"plan {samples.total('edgerouter_plan_version'):.0f} is in service")
    for origin, healthy in sorted(samples.by("origin", "edgerouter_origin_healthy").items()):
        if not healthy or not samples.total("edgerouter_origin_up", origin=origin):
            remedy = "edgerouter origins shows the results of the requests to it"
            yield Finding("warning", f"origin {origin}", "it is unhealthy, or the last request to it failed", remedy)
    for name, until in sorted(samples.by("name", "edgerouter_tls_certificate_expiry_timestamp_seconds").items()):
        now, end = (datetime.fromtimestamp(at, UTC) for at in (time.time(), until))
        yield findings.certificate(f"in service for {name}", end, now)
    for name, subject, found, remedy in (
        (
            "edgerouter_disk_failing",
            "disk cache in service",
            "it cannot be written",
            "the log has the error of the system",
        ),
        (
            "edgerouter_acme_failures",
            "certificates by ACME",
            "attempts to obtain one have failed",
            "the log has the reason of each",
        ),
        (
            "edgerouter_function_threads_abandoned",
            "functions",
            "threads are blocked and were abandoned",
            "give what they wait for a time-out, then restart",
        ),
        (
            "edgerouter_purges_not_durable",
            "purges",
            "some are not on disk yet",
            "see the log, and the room on the disk",
        ),
    ):
        if samples.total(name):
            yield Finding("warning", subject, found, remedy)


def _print(found: list[Finding]) -> None:
    console = show.console()
    grid = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        grid.add_column(overflow="fold")
    for finding in found:
        colour = COLOURS[finding.level]
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        grid.add_row(
            f"[{colour}]{finding.level}[/{colour}]", escape(finding.subject), escape(f"{finding.found}{remedy}")
        )
    console.print(grid)
