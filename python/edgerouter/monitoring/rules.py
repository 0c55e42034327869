"""The alerts as a file of Prometheus rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from edgerouter.monitoring.alerts import Alert

__all__ = ["duration", "scaled", "written"]

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_RANGE = re.compile(r"\[(\d+)([smhd])\]")


def duration(seconds: float) -> str:
    """Seconds as Prometheus writes them, in the largest unit that is exact; at least a millisecond unless zero."""
    milliseconds = max(round(seconds * 1_000), 1) if seconds else 0
    if milliseconds % 1_000:
        return f"{milliseconds}ms"
    whole = milliseconds // 1_000
    for unit, length in reversed(_UNITS.items()):
        if whole and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def scaled(expression: str, scale: float) -> str:
    """The expression with its ranges multiplied."""
    return _RANGE.sub(lambda found: f"[{duration(int(found[1]) * _UNITS[found[2]] * scale)}]", expression)


def written(alerts: Iterable[Alert], *, scale: float = 1.0, runbooks: str | None = None) -> str:
    """The file, in YAML. ``runbooks`` is the URL of the folder with the pages; each alert then links to its own."""
    lines = ["groups:", "  - name: edgerouter", "    rules:"]
    for alert in alerts:
        lines += _rule(alert, scale, runbooks)
    return "\n".join(lines) + "\n"


def _rule(alert: Alert, scale: float, runbooks: str | None) -> Iterator[str]:
    yield f"      - alert: {alert.name}"
    yield f"        expr: {_text(scaled(alert.expression, scale))}"
    if alert.wait:
        yield f"        for: {duration(alert.wait * scale)}"
    yield "        labels:"
    yield f"          severity: {alert.severity}"
    yield "        annotations:"
    page = f"{alert.runbook}.md"
    link = f"{runbooks.rstrip('/')}/{page}" if runbooks else None
    for name, value in (
        ("summary", alert.summary),
        ("description", alert.description),
        ("runbook", f"docs/runbooks/{page}"),
        ("runbook_url", link),
    ):
        if value is not None:
            yield f"          {name}: {_text(value)}"


def _text(value: str) -> str:
    """A text of JSON is one of YAML."""
    return json.dumps(value, ensure_ascii=False)
