"""Rules, dashboard and runbooks use only metrics and labels that an edge has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgerouter.monitoring.alerts import ALERTS, Alert
from edgerouter.monitoring.grafana import Panel, dashboard, panels

from ..metrics import COSTS, documented
from ..processes import command
from .expressions import unknown

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_uses_metrics_and_labels_of_the_page(alert: Alert) -> None:
    assert list(unknown(alert.expression)) == []
    allowed = {"job", "instance"} | set().union(
        *(labels for _, _, labels in (documented() | documented(COSTS)).values())
    )
    named = re.findall(r"\$labels\.(\w+)", alert.summary + alert.description)
    assert set(named) <= allowed


@pytest.mark.parametrize("panel", list(panels()), ids=lambda panel: panel.title)
def test_a_panel_uses_metrics_and_labels_of_the_page(panel: Panel) -> None:
    for query, legend in panel.queries:
        assert list(unknown(query)) == []
        # A legend names labels that the query keeps: those by which it adds up, or all of them.
        kept = re.findall(r"\bby \((.*?)\)", query)
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert any(label in group.split(", ") for group in kept) if kept else label in query + "instance name"


def test_what_is_wrong_in_an_expression_is_found() -> None:
    for wrong, found in {
        "edgerouter_request_total": "edgerouter_request_total",
        'edgerouter_requests_total{code="500"}': "edgerouter_requests_total{code}",
        'edgerouter_requests_total{cache=~"hit|stole"}': "edgerouter_requests_total{cache=stole}",
        "sum by (origin) (rate(edgerouter_requests_total[5m]))": "by origin",
        "rate(edgerouter_request_duration_seconds[5m])": "edgerouter_request_duration_seconds is a histogram",
        "cloudflare_errors == 0": "cloudflare_errors",
    }.items():
        assert list(unknown(wrong)) == [found]


def test_pages_name_metrics_and_commands_that_exist() -> None:
    pages = [*DOCS.glob("runbooks/*.md"), DOCS / "monitoring.md"]
    text = "\n".join(page.read_text() for page in pages)
    names = {re.sub(r"_bucket$", "", name) for name in re.findall(r"\bedgerouter_\w+", text)}
    assert names - set(documented() | documented(COSTS)) == set()
    commands = set(re.findall(r"\bedgerouter ([a-z]+)\b", re.sub(r"[^`]*?(`[^`]*`|```.*?```|$)", r"\1\n", text)))
    listed = command("--help").stdout
    assert commands and [name for name in commands if f" {name} " not in listed] == []


def test_the_dashboard_is_one_that_grafana_can_place() -> None:
    printed = command("dashboard", "--grafana")
    assert printed.returncode == 0, printed.stderr
    made = json.loads(printed.stdout)
    assert made == dashboard()
    places: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not covered & places, panel["title"]
        places |= covered
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])


def test_a_wrong_option_of_rules_or_dashboard_is_refused_with_its_remedy() -> None:
    for arguments, remedy in (
        (["dashboard"], "--grafana"),
        (["rules", "--runbooks", "docs/runbooks"], "not a URL"),
        (["rules", "--scale", "0"], "--scale"),
    ):
        refused = command(*arguments)
        assert (refused.returncode, remedy in refused.stderr) == (2, True), refused.stderr
