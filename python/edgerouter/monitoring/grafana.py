"""A dashboard for Grafana on the metrics of the edge, as the JSON that Grafana imports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgerouter.monitoring.alerts import ANSWERED_BY_CACHE, HIT_RATE

__all__ = ["Panel", "dashboard", "panels"]

#: Grafana replaces it by a range that is long enough for the interval of the scrapes.
RANGE = "$__rate_interval"
#: The edges that are chosen at the top of the dashboard.
CHOSEN = 'job=~"$job", instance=~"$instance"'
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """A chart, or a number if ``kind`` is ``stat``: each query with the legend of its lines."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    stacked: bool = False
    columns: int = 8
    least: float | None = 0
    most: float | None = None


def _rate(name: str, matchers: str = "") -> str:
    inside = f"{CHOSEN}, {matchers}" if matchers else CHOSEN
    return f"rate({name}{{{inside}}}[{RANGE}])"


def _by(label: str, name: str, matchers: str = "") -> str:
    return f"sum by ({label}) ({_rate(name, matchers)})"


def _total(name: str, matchers: str = "") -> str:
    return f"sum({_rate(name, matchers)})"


def _gauge(name: str) -> str:
    return f"{name}{{{CHOSEN}}}"


def _percentile(share: float, name: str, label: str = "le") -> str:
    return f"histogram_quantile({share}, {_by(label, f'{name}_bucket')})"


_REQUESTS = "edgerouter_requests_total"
_DURATION = "edgerouter_request_duration_seconds"
_HIT_RATE = (
    HIT_RATE.replace("sum by (job)", "sum").replace("{cache", f"{{{CHOSEN}, cache").replace("[5m]", f"[{RANGE}]")
)

#: Rows of the dashboard, each with its panels.
_ROWS: dict[str, tuple[Panel, ...]] = {
    "Traffic": (
        Panel("Requests a second", "reqps", ((_total(_REQUESTS), "requests"),), "stat", columns=4),
        Panel("Hit rate", "percentunit", ((_HIT_RATE, "hit rate"),), "stat", columns=4, most=1),
        Panel("Errors a second", "reqps", ((_total(_REQUESTS, 'status="5xx"'), "errors"),), "stat", columns=4),
        Panel("95th percentile", "s", ((_percentile(0.95, _DURATION), "p95"),), "stat", columns=4),
        Panel("To viewers", "Bps", ((_total("edgerouter_response_bytes_total"), "bytes"),), "stat", columns=4),
        Panel("Connections", "short", ((f"sum({_gauge('edgerouter_connections')})", "open"),), "stat", columns=4),
        Panel("Requests by status", "reqps", ((_by("status", _REQUESTS), "{{status}}"),), stacked=True),
        Panel("Requests by cache outcome", "reqps", ((_by("cache", _REQUESTS), "{{cache}}"),), stacked=True),
        Panel("Requests by route", "reqps", ((f"topk(10, {_by('route', _REQUESTS)})", "{{route}}"),)),
        Panel(
            "Time to the head of a response",
            "s",
            tuple((_percentile(share, _DURATION), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
        ),
        Panel(
            "95th percentile by cache outcome",
            "s",
            ((_percentile(0.95, _DURATION, "cache, le"), "{{cache}}"),),
        ),
        Panel("Refused before routing", "reqps", ((_by("reason", "edgerouter_refused_total"), "{{reason}}"),)),
        Panel(
            "To viewers by country, with count_countries",
            "Bps",
            ((f"topk(10, {_by('country', 'edgerouter_country_response_bytes_total')})", "{{country}}"),),
        ),
    ),
    "Cache": (
        Panel("Hit rate", "percentunit", ((_HIT_RATE, "hit rate"),), most=1),
        Panel(
            "Reasons for requests to origins",
            "reqps",
            ((_by("reason", "edgerouter_cache_forwarded_total"), "{{reason}}"),),
            stacked=True,
        ),
        Panel("Responses not stored", "reqps", ((_by("reason", "edgerouter_not_stored_total"), "{{reason}}"),)),
        Panel(
            "Answered by the cache",
            "reqps",
            ((_by("cache", _REQUESTS, f'cache=~"{ANSWERED_BY_CACHE}"'), "{{cache}}"),),
            stacked=True,
        ),
        Panel(
            "Memory cache",
            "bytes",
            (
                (_gauge("edgerouter_cache_bytes"), "{{instance}} used"),
                (_gauge("edgerouter_cache_capacity_bytes"), "{{instance}} capacity"),
            ),
        ),
        Panel("Evictions", "ops", ((_total("edgerouter_cache_evicted_total"), "memory"),)),
        Panel(
            "Disk cache",
            "bytes",
            (
                (_gauge("edgerouter_disk_bytes"), "{{instance}} used"),
                (_gauge("edgerouter_disk_capacity_bytes"), "{{instance}} capacity"),
            ),
        ),
        Panel("Disk cache fails", "bool", ((_gauge("edgerouter_disk_failing"), "{{instance}}"),), most=1),
        Panel(
            "Purges",
            "short",
            (
                (_gauge("edgerouter_purges_in_progress"), "{{instance}} in progress"),
                (_gauge("edgerouter_purges_not_durable"), "{{instance}} not on disk"),
            ),
        ),
    ),
    "Origins": (
        Panel(
            "Healthy",
            "bool",
            ((f"min by (origin) ({_gauge('edgerouter_origin_healthy')})", "{{origin}}"),),
            most=1,
        ),
        Panel(
            "Requests by result",
            "reqps",
            ((_by("origin, result", "edgerouter_origin_requests_total"), "{{origin}} {{result}}"),),
        ),
        Panel(
            "Time to the head of an origin's response",
            "s",
            tuple(
                (_percentile(share, "edgerouter_origin_duration_seconds"), f"p{share * 100:g}")
                for share in (0.5, 0.95, 0.99)
            ),
        ),
        Panel("Failovers", "reqps", ((_by("group", "edgerouter_failover_total"), "{{group}}"),), columns=12),
        Panel(
            "Shared fetches in progress",
            "short",
            ((_gauge("edgerouter_fetches_in_flight"), "{{instance}}"),),
            columns=12,
        ),
    ),
    "Python": (
        Panel(
            "Calls by result",
            "ops",
            ((_by("callable, result", "edgerouter_function_calls_total"), "{{callable}} {{result}}"),),
        ),
        Panel(
            "Calls waiting and running",
            "short",
            (
                (_gauge("edgerouter_function_calls_waiting"), "{{instance}} waiting"),
                (_gauge("edgerouter_function_calls_running"), "{{instance}} running"),
            ),
        ),
        Panel("Background tasks", "ops", ((_by("result", "edgerouter_background_tasks_total"), "{{result}}"),)),
    ),
    "The process": (
        Panel(
            "Memory of requests",
            "bytes",
            (
                (f"sum by (kind) ({_gauge('edgerouter_request_memory_bytes')})", "{{kind}}"),
                (f"sum({_gauge('edgerouter_request_memory_capacity_bytes')})", "capacity"),
            ),
        ),
        Panel(
            "Certificates: time left",
            "s",
            ((f"{_gauge('edgerouter_tls_certificate_expiry_timestamp_seconds')} - time()", "{{name}} {{instance}}"),),
            least=None,
        ),
        Panel(
            "TLS handshakes",
            "ops",
            ((_by("result, version", "edgerouter_tls_handshakes_total"), "{{result}} {{version}}"),),
        ),
        Panel(
            "Failed attempts to obtain certificates",
            "short",
            ((_gauge("edgerouter_acme_failures"), "{{name}} {{instance}}"),),
        ),
        Panel(
            "Compression",
            "Bps",
            ((_by("side", "edgerouter_compressed_bytes_total"), "{{side}}"),),
        ),
        Panel("Plan in service", "short", ((_gauge("edgerouter_plan_version"), "{{instance}}"),)),
        Panel(
            "Reloads",
            "short",
            ((f"sum by (result) (increase(edgerouter_reloads_total{{{CHOSEN}}}[{RANGE}]))", "{{result}}"),),
        ),
    ),
}


def panels() -> Iterator[Panel]:
    """All charts and numbers, in their order."""
    for row in _ROWS.values():
        yield from row


def dashboard() -> dict[str, Any]:
    """The dashboard. It names no data source: Grafana offers those that it has, and the edges that they know."""
    placed: list[dict[str, Any]] = []
    top = 0
    for title, row in _ROWS.items():
        placed.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, top, 24, 1)}
        )
        top, left, height = top + 1, 0, 0
        for panel in row:
            if left + panel.columns > _WIDTH:
                top, left = top + height, 0
            height = 4 if panel.kind == "stat" else 8
            placed.append({**_panel(panel), "gridPos": _place(left, top, panel.columns, height)})
            left += panel.columns
        top += height
    for number, panel_data in enumerate(placed, 1):
        panel_data["id"] = number
    return {
        "uid": "edgerouter",
        "title": "edgerouter",
        "tags": ["edgerouter", "cdn"],
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 38,
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"},
                _variable("job", "Job", "label_values(edgerouter_plan_version, job)"),
                _variable("instance", "Edge", 'label_values(edgerouter_plan_version{job=~"$job"}, instance)'),
            ]
        },
        "panels": placed,
    }


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(panel: Panel) -> dict[str, Any]:
    custom = {"fillOpacity": 20 if panel.stacked else 0, "stacking": {"mode": "normal" if panel.stacked else "none"}}
    bounds = {name: value for name, value in (("min", panel.least), ("max", panel.most)) if value is not None}
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, **bounds, **({"custom": custom} if panel.kind == "timeseries" else {})},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }
