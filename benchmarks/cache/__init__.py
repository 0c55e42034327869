"""The cache of edgerouter measured: hit ratio beside Varnish and nginx at the same bytes, memory, purges, disk.

Start with ``python -m benchmarks.cache --quick``. What each work does and what was seen: ``docs/benchmarks.md``,
section "Cache". Counts (hit ratio, bytes) are the same on a busy machine; times are not.
"""
