"""A site that takes its time: half a second for every answer but the health probe's. Standard library only.

python origin.py --port 9001
"""

from __future__ import annotations

import argparse
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html>
<link rel="stylesheet" href="/app.css">
<title>{title}</title>
<h1>{title}</h1>
<p><a href="/">home</a> <a href="/list">list</a> <a href="/product">product</a></p>
<pre id="popular"></pre>
<script>
  navigator.serviceWorker?.register("/sw.js");
  fetch("/api/popular").then((answer) => answer.text()).then((text) => (popular.textContent = text));
</script>
"""
OFFLINE = "<!doctype html><title>offline</title><h1>No network</h1><p>What you have seen is still there.</p>"
SITE = {
    "/": ("text/html", PAGE.format(title="Home")),
    "/list": ("text/html", PAGE.format(title="List")),
    "/product": ("text/html", PAGE.format(title="Product")),
    "/offline.html": ("text/html", OFFLINE),
    "/app.css": ("text/css", "body { font-family: sans-serif }"),
    "/api/popular": ("application/json", '["one", "two", "three"]'),
    "/api/config": ("application/json", '{"currency": "EUR"}'),
    "/healthz": ("text/plain", "well"),
}


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, text = SITE.get(self.path, ("text/plain", ""))
        if self.path != "/healthz":
            time.sleep(0.5)
        body = text.encode()
        self.send_response(200 if self.path in SITE else 404)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=60")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9001)
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Site)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
