"""Alerting rules and dashboards, made from the metrics of docs/metrics.md, for other people's programs.

Texts only: nothing here reads a metric or evaluates a rule; Prometheus and Grafana do. ``alerts`` has the rules as
values and ``rules`` writes them as Prometheus reads them; ``grafana`` has the dashboard.
"""

from __future__ import annotations
