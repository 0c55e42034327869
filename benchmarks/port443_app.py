"""The edge that ``benchmarks.port443`` measures: default configuration behind two listeners, one with TLS.

BENCH_ORIGIN            the port of the origin on 127.0.0.1
BENCH_PLAIN, BENCH_TLS  the ports of the listeners
BENCH_FOLDER            the folder of static files, with ``dynamic/``, ``cert.pem`` and ``key.pem`` beside it
"""

import os
from pathlib import Path

from edgerouter import Certificate, Edge, Tls

folder = Path(os.environ["BENCH_FOLDER"])
edge = Edge("bench")
edge.listen(f"127.0.0.1:{os.environ['BENCH_PLAIN']}")
edge.listen(
    f"127.0.0.1:{os.environ['BENCH_TLS']}",
    tls=Tls(Certificate(str(folder.parent / "cert.pem"), str(folder.parent / "key.pem"))),
)
edge.route("/hit/*", to=edge.origin("origin", f"http://127.0.0.1:{os.environ['BENCH_ORIGIN']}"))
edge.files("/static", folder)
edge.files("/kept", folder, immutable="*")
edge.files("/dynamic", folder.parent / "dynamic", precompressed=False, compress=True)
