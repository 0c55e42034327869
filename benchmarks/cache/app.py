"""The edge whose cache is measured.

BENCH_ORIGIN  the port of the origin on 127.0.0.1
BENCH_MEMORY  bytes of the memory cache
BENCH_DISK    where the disk cache is, if there is one; BENCH_DISK_BYTES how large
"""

import os

from edgerouter import Edge, Limits

edge = Edge(
    "bench",
    limits=Limits(memory_cache_bytes=int(os.environ["BENCH_MEMORY"]), largest_object_bytes=1 << 20),
)
origin = edge.origin("origin", f"http://127.0.0.1:{os.environ['BENCH_ORIGIN']}")
edge.route("/hit/*", to=origin)
