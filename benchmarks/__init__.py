"""edgerouter beside its peers, measured in one interleaved run on one machine.

Here live the harness, the peers' configurations and three small C programs (raw limit, origin, paced generator).
What the figures mean and how to reproduce them: ``docs/benchmarks.md``. Only the standard library is used,
so that the harness runs wherever the wheel does. Start with ``python -m benchmarks --quick``.
"""
