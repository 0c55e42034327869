"""Costs: prices as an editable file, usage by the metrics of an edge, and a ledger that survives restarts.

``prices`` and ``usage`` are values; ``projection`` and ``budget`` decide from them; ``ledger`` keeps usage in a file;
``webhook`` sends an alarm. Data flows from a scrape into the ledger and from there to a report. Nothing here prints.
"""

from __future__ import annotations
