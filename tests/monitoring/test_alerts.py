"""Each alert fires and stays silent where it should, as ``promtool test rules`` computes it from made-up series."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from edgerouter.monitoring.alerts import ALERTS, Alert
from edgerouter.monitoring.rules import duration, scaled, written

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
#: One target, as Prometheus names it in each of its series.
TARGET = 'job="edge", instance="a:9090"'
EDGE = {"job": "edge", "instance": "a:9090"}


def promtool(*arguments: str) -> str:
    """The output of promtool, which finds nothing wrong."""
    program = shutil.which("promtool")
    assert program is not None, "promtool is needed for this test: run scripts/install-packages"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Case(NamedTuple):
    """Series with a sample each minute, the minutes in which the alert is silent and fires, and its labels then.

    The description is that of all minutes, or one for each.
    """

    series: dict[str, str]
    silent: list[int]
    firing: list[int]
    labels: dict[str, str]
    description: str | list[str]


def sample(name: str, labels: str = "") -> str:
    return f"edgerouter_{name}{{{TARGET}{labels and ', '}{labels}}}"


BUCKET = "request_duration_seconds_bucket"
CASES = {
    "EdgeLatencyHigh": Case(
        {
            # From the tenth minute on every tenth response takes up to a second; from the thirtieth none does.
            sample(BUCKET, 'cache="hit", le="0.25"'): "0+600x10 6600+540x20 18060+600x30",
            sample(BUCKET, 'cache="hit", le="0.5"'): "0+600x10 6600+540x20 18060+600x30",
            sample(BUCKET, 'cache="hit", le="1"'): "0+600x60",
            sample(BUCKET, 'cache="hit", le="+Inf"'): "0+600x60",
        },
        silent=[5, 10, 14, 45],
        firing=[22, 28],
        labels=EDGE,
        description="The 95th percentile of the time to the head of a response is 750ms.",
    ),
    "EdgeHitRateLow": Case(
        {
            # 31 % misses from the tenth to the fortieth minute, and 29 % otherwise. Passes do not count.
            sample("requests_total", 'route="/*", cache="hit", status="2xx"'): "0+710x10 7790+690x30 28510+710x40",
            sample("requests_total", 'route="/*", cache="miss", status="2xx"'): "0+290x10 3210+310x30 12490+290x40",
            sample("requests_total", 'route="/*", cache="pass", status="2xx"'): "0+5000x80",
        },
        silent=[9, 19, 50, 70],
        firing=[27, 39],
        labels={"job": "edge"},
        description="69% of the requests that used the cache were answered by it.",
    ),
    "EdgeErrorsHigh": Case(
        {
            # Two edges with 6 errors a second each.
            sample("requests_total", 'route="/*", cache="miss", status="5xx"'): "0x10 360+360x20 7560x20",
            'edgerouter_requests_total{job="edge", instance="b:9090", route="/*", cache="error", status="5xx"}': (
                "0x10 360+360x20 7560x20"
            ),
        },
        silent=[10, 13, 40],
        firing=[20, 28],
        labels={"job": "edge"},
        description="12 responses a second have a status of 500 or more.",
    ),
    "EdgeDown": Case(
        {
            f"up{{{TARGET}}}": "1x10 0x10 1x10",
            sample("plan_version"): "1x10 stale _x9 1x10",
            'up{job="database", instance="c"}': "0x30",
        },
        silent=[9, 11, 25],
        firing=[13, 20],
        labels=EDGE,
        description="Prometheus got no metrics from an edge that it has scraped before.",
    ),
    "EdgeOriginDown": Case(
        {
            sample("origin_healthy", 'origin="site"'): "1x10 0x10 1x10",
            sample("origin_up", 'origin="site"'): "1x8 0x2 1x20",
            sample("origin_healthy", 'origin="other"'): "1x30",
        },
        silent=[7, 9, 25],
        firing=[13, 20],
        labels={**EDGE, "origin": "site"},
        description="The origin is unhealthy, or the last request to it failed.",
    ),
    "EdgeCertificateExpiring": Case(
        # Time begins at 0 here: the certificate has 14 days and 30 minutes then, and is renewed after four hours.
        {
            sample("tls_certificate_expiry_timestamp_seconds", 'name="a.test"'): f"{14 * 86400 + 1800}x240 5184000x60",
        },
        silent=[20, 85, 260],
        firing=[95, 240],
        labels={**EDGE, "name": "a.test"},
        description=["Time left: 13d 22h 55m 0s.", "Time left: 13d 20h 30m 0s."],
    ),
    "EdgeCertificateExpired": Case(
        {sample("tls_certificate_expiry_timestamp_seconds", 'name="a.test"'): f"{2 * 86400 + 600}x60 5184000x60"},
        silent=[9, 14, 70],
        firing=[17, 60],
        labels={**EDGE, "name": "a.test"},
        description=["Time left: 1d 23h 53m 0s.", "Time left: 1d 23h 10m 0s."],
    ),
    "EdgeCertificateNotObtained": Case(
        {sample("acme_failures", 'name="a.test"'): "0x10 2x10 3x20 0x10"},
        silent=[10, 20, 30, 45],
        firing=[32, 40],
        labels={**EDGE, "name": "a.test"},
        description="3 attempts have failed since the last success; the log has the reason of each.",
    ),
    "EdgePurgeBacklog": Case(
        {
            sample("purges_in_progress"): "100x10 101x20 0x20",
            sample("purges_not_durable"): "0x50",
        },
        silent=[10, 14, 35],
        firing=[17, 30],
        labels=EDGE,
        description="101 purges are in effect and wait for the walk through the store, or for the disk.",
    ),
    "EdgeFunctionErrors": Case(
        {
            sample("function_calls_total", 'callable="cart", phase="function", result="ok"'): "0+940x60",
            sample(
                "function_calls_total", 'callable="cart", phase="function", result="raised"'
            ): "0+40x10 440+60x20 1600x30",
            sample("function_calls_total", 'callable="cart", phase="function", result="gone"'): "0+9000x60",
            sample("function_calls_total", 'callable="fine", phase="function", result="ok"'): "0+10x60",
        },
        silent=[9, 14, 50],
        firing=[25, 30],
        labels={"job": "edge", "callable": "cart", "phase": "function"},
        description=(
            "6% of its calls (function) raise an exception, return a wrong type, take too long or find a full queue."
        ),
    ),
    "EdgeDiskFailing": Case(
        {sample("disk_failing"): "0x10 1x10 0x10"},
        silent=[10, 12, 22],
        firing=[14, 20],
        labels=EDGE,
        description="The edge serves from memory; responses that it fetches now do not survive a restart.",
    ),
    "EdgeLogFailing": Case(
        {
            sample("log_dropped_total", 'log="access", reason="failed"'): "0x10 30x60",
            sample("log_dropped_total", 'log="access", reason="full"'): "0+100x70",
        },
        silent=[9, 40],
        firing=[12, 20],
        labels={**EDGE, "log": "access", "reason": "failed"},
        description="30 lines were lost in 15 minutes. The edge's own log has the error of the system.",
    ),
    "EdgeConfigurationRefused": Case(
        {
            sample("reloads_total", 'result="refused"'): "0x10 1x60",
            sample("reloads_total", 'result="ok"'): "0+1x70",
        },
        silent=[9, 40],
        firing=[12, 20],
        labels={**EDGE, "result": "refused"},
        description="The last good configuration serves. The log has each problem.",
    ),
    "EdgeMemoryNearBound": Case(
        {
            sample("request_memory_bytes", 'kind="heads"'): "40x10 50x20 40x20",
            sample("request_memory_bytes", 'kind="bodies"'): "41x50",
            sample("request_memory_capacity_bytes"): "100x50",
            sample("request_memory_refused_total"): "0x50",
        },
        silent=[10, 14, 35],
        firing=[17, 30],
        labels=EDGE,
        description="Requests take more than 90 % of the memory that they may draw, or some got none.",
    ),
    "EdgeBudgetExceeded": Case(
        {
            sample("cost_spent", 'currency="USD"'): "0+100x30",
            sample("cost_budget", 'currency="USD"'): "1000x30",
        },
        silent=[5, 10],
        firing=[11],
        labels={**EDGE, "currency": "USD"},
        description="1.1k USD are spent.",
    ),
}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_fires_after_its_time_and_clears(alert: Alert, tmp_path: Path) -> None:
    case = CASES[alert.name]
    rules = tmp_path / "rules.yml"
    rules.write_text(written([alert]))
    values = {f"$labels.{name}": value for name, value in case.labels.items()}

    def filled(template: str) -> str:
        return re.sub(r"\{\{ (\S+) \}\}", lambda found: values[found[1]], template)

    texts = case.description if isinstance(case.description, list) else [case.description] * len(case.firing)
    expected = [
        {
            "exp_labels": {**case.labels, "severity": alert.severity},
            "exp_annotations": {
                "summary": filled(alert.summary),
                "description": text,
                "runbook": f"docs/runbooks/{alert.runbook}.md",
            },
        }
        for text in texts
    ]
    made = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": alert.name, "exp_alerts": alerts}
                    for minute, alerts in [
                        *((minute, []) for minute in case.silent),
                        *((minute, [one]) for minute, one in zip(case.firing, expected, strict=True)),
                    ]
                ],
            }
        ],
    }
    test = tmp_path / "test.yml"
    test.write_text(json.dumps(made))
    assert "SUCCESS" in promtool("test", "rules", str(test))


def test_ranges_and_waiting_times_are_multiplied_and_the_rules_stay_valid(tmp_path: Path) -> None:
    assert [duration(seconds) for seconds in (0, 0.0001, 0.3, 36, 90, 300, 86_400)] == [
        "0s",
        "1ms",
        "300ms",
        "36s",
        "90s",
        "5m",
        "1d",
    ]
    assert scaled("rate(a[5m]) > 300 and b[1d]", 0.01) == "rate(a[3s]) > 300 and b[864s]"
    rules = tmp_path / "rules.yml"
    rules.write_text(written(ALERTS, scale=0.001, runbooks="https://example.com/runbooks/"))
    assert 'runbook_url: "https://example.com/runbooks/latency.md"' in rules.read_text()
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(rules))


def test_each_alert_has_a_page_that_names_it_and_each_page_an_alert() -> None:
    pages = {page.stem: page.read_text() for page in RUNBOOKS.glob("*.md") if page.stem != "README"}
    assert {alert.runbook for alert in ALERTS} == set(pages)
    assert [alert.name for alert in ALERTS if f"`{alert.name}`" not in pages[alert.runbook]] == []
