"""The edge whose cache is measured.

BENCH_ORIGIN  the port of the origin on 127.0.0.1
BENCH_MEMORY  bytes of the memory cache
BENCH_DISK    where the disk cache is, if there is one; BENCH_DISK_BYTES how large
"""

import os

from edgerouter import CacheLimits, DiskCache, Edge, Limits

disk = os.environ.get("BENCH_DISK")
edge = Edge(
    "bench",
    limits=Limits(cache=CacheLimits(memory_bytes=int(os.environ["BENCH_MEMORY"]), largest_object_bytes=1 << 20)),
    disk_cache=DiskCache(disk, size=int(os.environ["BENCH_DISK_BYTES"])) if disk else None,
)
origin = edge.origin("origin", f"http://127.0.0.1:{os.environ['BENCH_ORIGIN']}")
edge.route("/hit/*", to=origin)
