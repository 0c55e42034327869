"""``edgerouter rules`` and ``edgerouter dashboard``: texts for Prometheus and Grafana."""

from __future__ import annotations

from typing import Annotated

import typer

from edgerouter.cli.running import say

__all__ = ["dashboard", "rules"]


def rules(
    scale: Annotated[
        float,
        typer.Option(
            metavar="FACTOR", min=0.001, max=100, help="Multiplies all ranges and waiting times, for a trial: 0.1."
        ),
    ] = 1.0,
    runbooks: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where docs/runbooks is published; each alert links to its page.", show_default=False
        ),
    ] = None,
) -> None:
    """Print alerting rules for Prometheus: edgerouter rules > edgerouter.yml, and its name under rule_files."""
    from edgerouter.monitoring.alerts import ALERTS
    from edgerouter.monitoring.rules import written

    if runbooks is not None and not runbooks.startswith(("https://", "http://")):
        raise typer.BadParameter(f"{runbooks!r} is not a URL of http or https", param_hint="'--runbooks'")
    say(written(ALERTS, scale=scale, runbooks=runbooks).rstrip("\n"))


def dashboard(
    grafana: Annotated[bool, typer.Option("--grafana", help="As Grafana imports it.", show_default=False)] = False,
) -> None:
    """Print a dashboard: edgerouter dashboard --grafana > edgerouter.json, for Grafana's Import."""
    from edgerouter.cli import show
    from edgerouter.monitoring import grafana as boards

    if not grafana:
        raise typer.BadParameter(
            "give --grafana to print Grafana's; the edge's own is a page at http://127.0.0.1:9090/dashboard, "
            "while edgerouter run app.py --admin 127.0.0.1:9090 serves"
        )
    show.as_json(boards.dashboard())
