"""Views of a running edge by its metrics: alerting rules and dashboards for other programs, and samples for our own.

Nothing here fetches, prints or waits. ``alerts`` has the rules as values and ``rules`` writes them as Prometheus reads
them; ``grafana`` has the dashboard; ``samples`` reads a scrape and ``lines`` an access log, for the commands in
``edgerouter.cli``.
"""

from __future__ import annotations
