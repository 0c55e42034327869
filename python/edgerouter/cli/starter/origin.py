"""A tiny origin to put behind the edge: python origin.py [PORT]"""

import contextlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STATIC = {
    "/static/site.css": ("text/css", b"body { font: 18px/1.5 sans-serif; margin: 3rem auto; max-width: 40rem }\n")
}
PAGE = b"""<!doctype html><title>starter</title><link rel="stylesheet" href="/static/site.css">
<h1>It works</h1><p>This page is cached at the edge for a minute. Reload and look at Age and Cache-Status.</p>
"""


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self.answer(200, "text/html; charset=utf-8", PAGE, "max-age=60")
        elif path in STATIC:
            self.answer(200, *STATIC[path], "max-age=3600")
        elif path == "/api/time":
            self.answer(200, "application/json", json.dumps({"time": time.time()}).encode(), "no-store")
        elif path == "/healthz":
            self.answer(200, "text/plain", b"ok\n", "no-store")
        else:
            self.answer(404, "text/plain", b"not found\n", "no-store")

    do_HEAD = do_GET  # noqa: N815  # the name that http.server requires

    def answer(self, status: int, kind: str, body: bytes, caching: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", caching)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    print(f"origin on http://127.0.0.1:{port}")
    with contextlib.suppress(KeyboardInterrupt):
        ThreadingHTTPServer(("127.0.0.1", port), Site).serve_forever()
