"""Faults and attacks as clients notice them: memory, hits, purges, stale copies and health while something is wrong.

Start with ``python -m benchmarks.faults``. What each figure is, and what was seen: ``docs/benchmarks.md``, section
"Under faults". Each figure has a target; the table says whether it was met. Needs what ``benchmarks`` needs.
"""
