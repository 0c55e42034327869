"""The alerts that an operator of an edge wants, each with its expression, its waiting time and its runbook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["ALERTS", "ANSWERED_BY_CACHE", "HIT_RATE", "LOOKED_UP", "Alert", "Severity"]

Severity: TypeAlias = Literal["warning", "critical"]

MINUTE = 60
HOUR = 3_600

#: Outcomes in which the cache was used, and those of them that a client got without waiting for an answer of its own.
ANSWERED_BY_CACHE = "hit|stale|coalesced|stale-on-error|disconnected"
LOOKED_UP = f"{ANSWERED_BY_CACHE}|revalidated|miss"

#: Made from the misses: a counter that was never counted is absent, and a cache without any hit would have no rate.
HIT_RATE = (
    '1 - sum by (job) (rate(edgerouter_requests_total{cache=~"miss|revalidated"}[5m]))'
    f' / sum by (job) (rate(edgerouter_requests_total{{cache=~"{LOOKED_UP}"}}[5m]))'
)


@dataclass(frozen=True)
class Alert:
    """A rule of Prometheus. ``wait`` is the time in seconds for which ``expression`` holds before it fires.

    ``summary`` and ``description`` are templates of Prometheus. ``runbook`` is the name of a page in docs/runbooks.
    """

    name: str
    expression: str
    wait: int
    severity: Severity
    summary: str
    description: str
    runbook: str


ALERTS = (
    Alert(
        "EdgeLatencyHigh",
        "histogram_quantile(0.95, sum by (job, instance, le)"
        " (rate(edgerouter_request_duration_seconds_bucket[5m]))) > 0.5",
        5 * MINUTE,
        "warning",
        "{{ $labels.instance }} answers slowly",
        "The 95th percentile of the time to the head of a response is {{ $value | humanizeDuration }}.",
        "latency",
    ),
    Alert(
        "EdgeHitRateLow",
        f"{HIT_RATE} < 0.7",
        10 * MINUTE,
        "warning",
        "The hit rate of {{ $labels.job }} is under 70 %",
        "{{ $value | humanizePercentage }} of the requests that used the cache were answered by it.",
        "hit-rate",
    ),
    Alert(
        "EdgeErrorsHigh",
        'sum by (job) (rate(edgerouter_requests_total{status="5xx"}[5m])) > 10',
        2 * MINUTE,
        "critical",
        "{{ $labels.job }} answers with errors",
        "{{ $value | humanize }} responses a second have a status of 500 or more.",
        "errors",
    ),
    Alert(
        "EdgeDown",
        "up == 0 and on (job, instance) max_over_time(edgerouter_plan_version[1d])",
        1 * MINUTE,
        "critical",
        "{{ $labels.instance }} does not answer a scrape",
        "Prometheus got no metrics from an edge that it has scraped before.",
        "edge-down",
    ),
    Alert(
        "EdgeOriginDown",
        "edgerouter_origin_healthy == 0 or edgerouter_origin_up == 0",
        1 * MINUTE,
        "critical",
        "{{ $labels.origin }} is down for {{ $labels.instance }}",
        "The origin is unhealthy, or the last request to it failed.",
        "origin-down",
    ),
    Alert(
        "EdgeCertificateExpiring",
        "edgerouter_tls_certificate_expiry_timestamp_seconds - time() < 14 * 86400",
        1 * HOUR,
        "warning",
        "The certificate of {{ $labels.name }} expires in less than 14 days",
        "Time left: {{ $value | humanizeDuration }}.",
        "certificate",
    ),
    Alert(
        "EdgeCertificateExpired",
        "edgerouter_tls_certificate_expiry_timestamp_seconds - time() < 2 * 86400",
        5 * MINUTE,
        "critical",
        "The certificate of {{ $labels.name }} has expired, or expires in less than two days",
        "Time left: {{ $value | humanizeDuration }}.",
        "certificate",
    ),
    Alert(
        "EdgeCertificateNotObtained",
        "edgerouter_acme_failures >= 3",
        10 * MINUTE,
        "warning",
        "{{ $labels.instance }} obtains no certificate for {{ $labels.name }}",
        "{{ $value }} attempts have failed since the last success; the log has the reason of each.",
        "certificate",
    ),
    Alert(
        "EdgePurgeBacklog",
        "edgerouter_purges_in_progress > 100 or edgerouter_purges_not_durable > 0",
        5 * MINUTE,
        "warning",
        "{{ $labels.instance }} does not complete its purges",
        "{{ $value | humanize }} purges are in effect and wait for the walk through the store, or for the disk.",
        "purge-backlog",
    ),
    Alert(
        "EdgeFunctionErrors",
        "sum by (job, callable, phase)"
        ' (rate(edgerouter_function_calls_total{result=~"raised|timeout|queue-full|wrong-type"}[5m]))'
        ' / sum by (job, callable, phase) (rate(edgerouter_function_calls_total{result!="gone"}[5m])) > 0.05',
        5 * MINUTE,
        "warning",
        "{{ $labels.callable }} fails",
        "{{ $value | humanizePercentage }} of its calls ({{ $labels.phase }}) raise an exception, return a wrong type,"
        " take too long or find a full queue.",
        "functions",
    ),
    Alert(
        "EdgeDiskFailing",
        "edgerouter_disk_failing == 1",
        2 * MINUTE,
        "warning",
        "The disk cache of {{ $labels.instance }} cannot be written",
        "The edge serves from memory; responses that it fetches now do not survive a restart.",
        "disk",
    ),
    Alert(
        "EdgeLogFailing",
        'increase(edgerouter_log_dropped_total{reason="failed"}[15m]) > 0',
        0,
        "warning",
        "The log {{ $labels.log }} of {{ $labels.instance }} cannot be written",
        "{{ $value | humanize }} lines were lost in 15 minutes. The edge's own log has the error of the system.",
        "disk",
    ),
    Alert(
        "EdgeConfigurationRefused",
        'increase(edgerouter_reloads_total{result="refused"}[15m]) > 0',
        0,
        "warning",
        "{{ $labels.instance }} has refused a configuration",
        "The last good configuration serves. The log has each problem.",
        "configuration",
    ),
    Alert(
        "EdgeMemoryNearBound",
        "sum by (job, instance) (edgerouter_request_memory_bytes)"
        " / sum by (job, instance) (edgerouter_request_memory_capacity_bytes) > 0.9"
        " or rate(edgerouter_request_memory_refused_total[5m]) > 0",
        5 * MINUTE,
        "critical",
        "{{ $labels.instance }} has no memory for more requests",
        "Requests take more than 90 % of the memory that they may draw, or some got none.",
        "memory",
    ),
    Alert(
        "EdgeBudgetExceeded",
        "edgerouter_cost_spent > edgerouter_cost_budget",
        0,
        "warning",
        "The budget of the month is spent",
        "{{ $value | humanize }} {{ $labels.currency }} are spent.",
        "budget",
    ),
)
