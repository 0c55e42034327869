"""nginx and Caddy with a configuration, and the edge with its import, answer the same requests in the same way."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from edgerouter import Edge
from edgerouter.application import FileApplication
from edgerouter.importing import read
from edgerouter.testing import Running

from ..origins import Origin, Reply, Seen, wait_until
from ..processes import free_port, reachable

NGINX = """
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        server_name _;
        root {folder}/site;
        location = /exact {{ return 200 "exact\\n"; }}
        location ^~ /firm/ {{ proxy_pass {origin}; }}
        location ~ \\.(png|jpe?g)$ {{ proxy_pass {origin}; }}
        location ~ ^/(de|fr)/ {{ proxy_pass {origin}; proxy_set_header X-Language yes; }}
        location /api/ {{ proxy_pass {origin}/; proxy_set_header Host $host; }}
        location /base/ {{ proxy_pass {origin}/other/; }}
        location /v1/ {{ rewrite ^/v1/(.*)$ /v2/$1 break; proxy_pass {origin}; }}
        location /moved {{ return 302 /elsewhere; }}
        location /blog/ {{ return 301 https://blog.example.com$request_uri; }}
        location /closed/ {{ deny all; }}
        location /files/ {{ add_header X-Files yes; }}
        location / {{ try_files $uri $uri/ =404; }}
    }}
}}
"""

CADDY = """
{{
	admin off
	auto_https off
	storage file_system {folder}/caddy
}}
http://127.0.0.1:{port} {{
	root * {folder}/site
	redir /moved /elsewhere
	redir /blog/* https://blog.example.com{{uri}} 301
	respond /exact "exact\\n" 200
	respond /closed/* 403
	header /files/* X-Files yes
	handle_path /api/* {{
		reverse_proxy {address}
	}}
	handle /firm/* {{
		reverse_proxy {address} {{
			header_up X-Language yes
		}}
	}}
	@images path *.png *.jpg
	handle @images {{
		reverse_proxy {address}
	}}
	handle {{
		file_server
	}}
}}
"""

COMMANDS = {
    "nginx": ["-c", "{file}", "-p", "{folder}"],
    "caddy": ["run", "--config", "{file}", "--adapter", "caddyfile"],
}
FILES = {"nginx": "nginx.conf", "caddy": "Caddyfile"}
TEXTS = {"nginx": NGINX, "caddy": CADDY}

PATHS = [
    "/exact",
    "/exactly",
    "/firm/x.png",
    "/firm/",
    "/a.png",
    "/x/b.jpg",
    "/c.jpg?size=2",
    "/api/users?page=2",
    "/api/",
    "/api/a/b.txt",
    "/moved",
    "/blog/post?x=1",
    "/closed/x",
    "/files/a.txt",
    "/",
    "/page.html",
    "/sub/",
    "/missing",
    "/missing/",
    "/a%20b.txt",
]
ONLY = {"nginx": ["/d.jpeg", "/de/x", "/fr/y?z=1", "/en/x", "/base/x", "/base/", "/v1/x", "/v1/a/b?q=1"], "caddy": []}


@pytest.fixture
def beside(
    tmp_path: Path, origin: Origin, serve: Callable[[Edge], Running]
) -> Iterator[Callable[[str], tuple[httpx.Client, httpx.Client]]]:
    """``beside(kind)`` gives a client of the source's own server, and one of the edge."""
    site = tmp_path / "site"
    for name, text in (
        ("index.html", "start\n"),
        ("page.html", "page\n"),
        ("sub/index.html", "below\n"),
        ("files/a.txt", "a\n"),
        ("a b.txt", "space\n"),
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    with ExitStack() as stack:

        def make(kind: str) -> tuple[httpx.Client, httpx.Client]:
            program = shutil.which(kind)
            assert program is not None, f"{kind} is not installed: scripts/install-packages"
            port = free_port()
            file = tmp_path / FILES[kind]
            address = origin.url.removeprefix("http://")
            file.write_text(TEXTS[kind].format(folder=tmp_path, port=port, origin=origin.url, address=address))
            arguments = [part.format(file=file, folder=tmp_path) for part in COMMANDS[kind]]
            process = subprocess.Popen(
                [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
            )
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            wait_until(lambda: reachable(port), 10, what=kind)
            app = tmp_path / "app" / "app.py"
            app.parent.mkdir()
            # The edge listens on a port of its own.
            lines = read(file).program.split("\n")
            app.write_text("\n".join(line for line in lines if not line.startswith("edge.listen(")))
            edge = serve(FileApplication(str(app)).load())
            urls = (f"http://127.0.0.1:{port}", edge.url)
            first, second = (stack.enter_context(httpx.Client(base_url=url, timeout=10.0)) for url in urls)
            return first, second

        yield make


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_edge_answers_as_the_server_that_it_takes_over_from(
    kind: str, beside: Callable[[str], tuple[httpx.Client, httpx.Client]], origin: Origin
) -> None:
    def echo(seen: Seen) -> Reply:
        return Reply(200, {"content-type": "text/plain"}, f"{seen.target} {seen.get('x-language')}\n")

    origin.default = echo
    differences = {}
    clients = beside(kind)
    for path in [*PATHS, *ONLY[kind]]:
        answers = []
        for client in clients:
            response = client.get(path)
            location = response.headers.get("location", "").removeprefix(str(client.base_url).rstrip("/"))
            body = response.text if response.status_code == 200 else ""
            answers.append((response.status_code, location, response.headers.get("x-files"), body))
        if answers[0] != answers[1]:
            differences[path] = answers
    assert differences == {}
